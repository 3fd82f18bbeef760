"""Between transceivers: a request about a call that another one owns is passed on to it (spec/peer.md).

    POST /peer/v1/calls/{id}/hangup            200, or 404
    GET  /peer/v1/calls/{id}/events            a WebSocket: the events of the call, both ways
    POST /peer/v1/templates                    an offer for a session of Instant Connect: 200, or 404
    POST /peer/v1/templates/withdraw           … which its client was told to forget: 200

Each request carries a MAC under a key of the fleet:

    X-Voicegate-Peer: <key configuration>.<Unix time, ms>.<nonce>.<MAC over method, target, time, nonce, body>

It is good once, and for as long as the clocks of two transceivers may differ. What arrives here is answered from the
calls of this process and never passed on again. `peer_client.py` asks, `peer_server.py` is asked.
"""

import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from enum import Enum
from hashlib import blake2s, sha256
from hmac import compare_digest

from voicegate.errors import PeerError
from voicegate.signaling.limits import MAX_PEER_REQUESTS, PEER_WINDOW_S

HEADER = "X-Voicegate-Peer"
TEMPLATES_TARGET = "/peer/v1/templates"
WITHDRAW_TARGET = f"{TEMPLATES_TARGET}/withdraw"

_HEADER_VALUE = re.compile(r"([0-6])\.([0-9]{1,16})\.([0-9a-f]{16})\.([0-9a-f]{32})")


class PeerRefusal(Enum):
    """Why a request of another transceiver is not served."""

    NO_MAC = "no MAC"
    UNKNOWN_KEY = "unknown key configuration"
    FORGED = "wrong MAC"
    STALE = "clocks differ, or a request from long ago"
    REPLAYED = "seen before"
    TOO_MANY = "too many requests"


class PeerRequestError(PeerError):
    """A request that did not come from this fleet, or not now."""


class PeerKeys:
    """Signs requests with the current key of the fleet and checks them with all of them. `clock` gives Unix time."""

    def __init__(self, keys: Mapping[int, bytes], current: int, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._seen: OrderedDict[str, float] = OrderedDict()
        self.use_keys(keys, current)

    def use_keys(self, keys: Mapping[int, bytes], current: int) -> None:
        """Use these keys from now on."""
        self._keys = dict(keys)
        self._current = current

    def sign(self, method: str, target: str, body: bytes = b"") -> str:
        """The value of `HEADER` for a request that is sent now."""
        now_ms, nonce = int(self._clock() * 1000), secrets.token_hex(8)
        mac = _mac(self._keys[self._current], (method, target, str(now_ms), nonce), body)
        return f"{self._current}.{now_ms}.{nonce}.{mac}"

    def check(self, value: str, method: str, target: str, body: bytes = b"") -> None:
        """Raise PeerRequestError unless this header came with this request, once and now."""
        matched = _HEADER_VALUE.fullmatch(value)
        if matched is None:
            raise PeerRequestError(PeerRefusal.NO_MAC)
        configuration, time_ms, nonce, mac = matched.groups()
        key = self._keys.get(int(configuration))
        if key is None:
            raise PeerRequestError(PeerRefusal.UNKNOWN_KEY)
        if not compare_digest(mac, _mac(key, (method, target, time_ms, nonce), body)):
            raise PeerRequestError(PeerRefusal.FORGED)
        now = self._clock()
        if abs(now - int(time_ms) / 1000) > PEER_WINDOW_S:
            raise PeerRequestError(PeerRefusal.STALE)
        while self._seen and next(iter(self._seen.values())) < now - 2 * PEER_WINDOW_S:
            self._seen.popitem(last=False)
        if nonce in self._seen:
            raise PeerRequestError(PeerRefusal.REPLAYED)
        if len(self._seen) >= MAX_PEER_REQUESTS:
            raise PeerRequestError(PeerRefusal.TOO_MANY)
        self._seen[nonce] = now


def _mac(key: bytes, fields: tuple[str, ...], body: bytes) -> str:
    text = "\n".join((*fields, sha256(body).hexdigest())).encode()
    return blake2s(text, key=key, digest_size=16, person=b"peer").hexdigest()
