"""The relay: one public UDP port for a fleet. It routes by the hint in a check's USERNAME, and after that by the flow.

Read `flow` (who may speak to a client address), then `router` (where a packet goes), then `worker` (the sockets) and
`express` (the same for most packets, fast). Around the workers: `process` (what a process of a relay is told), `fleet`
(who keeps the processes), `memory` and `misses` (how a lost flow comes back), `host` (all of it). The wire contracts
are in `voicegate.routing`.
"""

from voicegate.relay.config import RECOVERIES, RelayConfig
from voicegate.relay.fleet import WorkerSockets
from voicegate.relay.flow import Flow, FlowState, FlowTable, LearningRefusal
from voicegate.relay.host import RelayHost, RelayIdentity
from voicegate.relay.router import Drop, Router
from voicegate.relay.worker import RelayWorker

__all__ = [
    "RECOVERIES",
    "Drop",
    "Flow",
    "FlowState",
    "FlowTable",
    "LearningRefusal",
    "RelayConfig",
    "RelayHost",
    "RelayIdentity",
    "RelayWorker",
    "Router",
    "WorkerSockets",
]
