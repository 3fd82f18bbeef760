"""Signaling: how a client asks for a call, and hears what becomes of it.

Two doors onto the same `CallHost`: the WebSocket `voicegate.v1` (spec/signaling.md), which is what our page speaks, and
OpenAI's Realtime API, over HTTP and WebSockets. Reading order: `host.py` (the seam to whoever owns the calls);
`messages.py`, `connection.py`, `websocket.py` for the first; `http.py`, `application.py`, `api.py` with `access.py` and
`tokens.py`, then `realtime_sockets.py`, `event_socket.py` and `wire_audio.py` for the second.

`peer.py` passes a request on to the transceiver that has the call.
`steering.py` chooses the relay that a call comes in through, from the `Origin` that `origin.py` reads off the request.
"""

from voicegate.signaling.access import Access, ApiKeys, parse_api_keys
from voicegate.signaling.application import Application, Asset, Site
from voicegate.signaling.counters import SignalingCounters
from voicegate.signaling.host import (
    HUNG_UP,
    PEER_BYE,
    Attachment,
    CallHandle,
    CallHost,
    CallNotFoundError,
    CapacityError,
    EventSink,
    NobodyListens,
    OwnerUnreachableError,
    RequestContext,
    TooManyCallsError,
    TooManyControllersError,
)
from voicegate.signaling.http import HttpServer
from voicegate.signaling.messages import SUBPROTOCOL
from voicegate.signaling.origin import Networks, origin_of, parse_networks
from voicegate.signaling.peer import PeerKeys
from voicegate.signaling.peer_client import PeerClient
from voicegate.signaling.peer_server import PeerApplication, PeerSockets
from voicegate.signaling.realtime_sockets import RealtimeSockets
from voicegate.signaling.steering import Choice, Ingress, Location, Origin, Steering, parse_ingresses
from voicegate.signaling.templates import CompletedCall, Completion, TemplateRequest, Withdrawal
from voicegate.signaling.tokens import TokenMint
from voicegate.signaling.websocket import SignalingServer
from voicegate.signaling.wire_call import WireCall

__all__ = [
    "HUNG_UP",
    "PEER_BYE",
    "SUBPROTOCOL",
    "Access",
    "ApiKeys",
    "Application",
    "Asset",
    "Attachment",
    "CallHandle",
    "CallHost",
    "CallNotFoundError",
    "CapacityError",
    "Choice",
    "CompletedCall",
    "Completion",
    "EventSink",
    "HttpServer",
    "Ingress",
    "Location",
    "Networks",
    "NobodyListens",
    "Origin",
    "OwnerUnreachableError",
    "PeerApplication",
    "PeerClient",
    "PeerKeys",
    "PeerSockets",
    "RealtimeSockets",
    "RequestContext",
    "SignalingCounters",
    "SignalingServer",
    "Site",
    "Steering",
    "TemplateRequest",
    "TokenMint",
    "TooManyCallsError",
    "TooManyControllersError",
    "WireCall",
    "Withdrawal",
    "origin_of",
    "parse_api_keys",
    "parse_ingresses",
    "parse_networks",
]
