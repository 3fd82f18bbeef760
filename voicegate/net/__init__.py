"""The network floor: ports, timers, the simulated network, child processes, metrics.

| module | what it is |
|---|---|
| `port` | a UDP socket that many sessions share: batched receive, immediate send |
| `mmsg` | many datagrams in one system call, where the machine has it |
| `timers` | one heap and one task for all deadlines |
| `alarm` | sleep that ends in time, where a millisecond counts |
| `simnet` | the same ports over a lossy network in virtual time |
| `control`, `processes`, `child` | child processes, their sockets and the channel to them |
| `collector` | Python's cycle collector, kept off the packet path |
| `metrics` | Prometheus text from several processes |
"""

from voicegate.net.alarm import Alarm
from voicegate.net.child import ControlChannel, run_child
from voicegate.net.collector import LITTLE_AT_A_TIME, keep_collector_off
from voicegate.net.control import ChannelClosedError, ControlError, ControlRefusal
from voicegate.net.metrics import Counter, Gauge, Histogram, MetricsRegistry, Snapshot, merge, render
from voicegate.net.mmsg import Memory, ReceiveBatch, SendBatch, pack_name, unpack_name
from voicegate.net.port import (
    Address,
    DatagramEndpoint,
    DatagramPort,
    DatagramReceiver,
    PortStatistics,
    open_datagram_socket,
    receive_drops,
)
from voicegate.net.processes import Child, ChildDied, spawn
from voicegate.net.simnet import LinkConditions, SimNet, SimPort
from voicegate.net.timers import TimerHeap, TimerOwner

__all__ = [
    "LITTLE_AT_A_TIME",
    "Address",
    "Alarm",
    "ChannelClosedError",
    "Child",
    "ChildDied",
    "ControlChannel",
    "ControlError",
    "ControlRefusal",
    "Counter",
    "DatagramEndpoint",
    "DatagramPort",
    "DatagramReceiver",
    "Gauge",
    "Histogram",
    "LinkConditions",
    "Memory",
    "MetricsRegistry",
    "PortStatistics",
    "ReceiveBatch",
    "SendBatch",
    "SimNet",
    "SimPort",
    "Snapshot",
    "TimerHeap",
    "TimerOwner",
    "keep_collector_off",
    "merge",
    "open_datagram_socket",
    "pack_name",
    "receive_drops",
    "render",
    "run_child",
    "spawn",
    "unpack_name",
]
