"""The relay: one public UDP port for a fleet. It routes by the hint in a check's USERNAME, and after that by the flow.

Read `flow` (who may speak to a client address), then `router` (where a packet goes), then `worker` (the sockets). The
wire contracts are in `voicegate.routing`.
"""

from voicegate.relay.config import RelayConfig
from voicegate.relay.flow import Flow, FlowState, FlowTable, LearningRefusal
from voicegate.relay.router import Drop, Router
from voicegate.relay.worker import RelayWorker

__all__ = ["Drop", "Flow", "FlowState", "FlowTable", "LearningRefusal", "RelayConfig", "RelayWorker", "Router"]
