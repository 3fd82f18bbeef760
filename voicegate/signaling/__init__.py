"""Signaling: how a client asks for a call, and hears what becomes of it.

Two doors onto the same `CallHost`: the WebSocket `voicegate.v1` (spec/signaling.md), for clients that want to see what
happens during the call, and plain HTTP in the shape of OpenAI's `/v1/realtime/calls`. Reading order: `host.py` (the
seam to whoever owns the calls), `messages.py`, `connection.py`, `websocket.py`, then `application.py` and `http.py`.

`steering.py` chooses the relay that a call comes in through, from the `Origin` that `origin.py` reads off the request.
"""

from voicegate.signaling.application import Application, Asset, Site
from voicegate.signaling.counters import SignalingCounters
from voicegate.signaling.host import (
    HUNG_UP,
    PEER_BYE,
    CallHandle,
    CallHost,
    CapacityError,
    EventSink,
    NobodyListens,
    RequestContext,
)
from voicegate.signaling.http import HttpServer
from voicegate.signaling.messages import SUBPROTOCOL
from voicegate.signaling.origin import Networks, origin_of, parse_networks
from voicegate.signaling.steering import Choice, Ingress, Location, Origin, Steering, parse_ingresses
from voicegate.signaling.websocket import SignalingServer

__all__ = [
    "HUNG_UP",
    "PEER_BYE",
    "SUBPROTOCOL",
    "Application",
    "Asset",
    "CallHandle",
    "CallHost",
    "CapacityError",
    "Choice",
    "EventSink",
    "HttpServer",
    "Ingress",
    "Location",
    "Networks",
    "NobodyListens",
    "Origin",
    "RequestContext",
    "SignalingCounters",
    "SignalingServer",
    "Site",
    "Steering",
    "origin_of",
    "parse_ingresses",
    "parse_networks",
]
