"""The flow cache record: where a client address was routed, for a relay that has forgotten it (spec/flow-cache.md).

    key    the first 19 octets of a hop entry: client address, port, local VIP
    value  0         1         2          4       6            7       8           16      24
          ┌─────────┬─────────┬──────────┬───────┬────────────┬───────┬───────────┬───────┐
          │ ver. 1  │ key     │ cluster  │ slot  │ generation │ zero  │ expiry    │ tag   │   network order
          └─────────┴─────────┴──────────┴───────┴────────────┴───────┴───────────┴───────┘

The tag binds the value to its key, so a record that someone copied to another address is worth nothing. What a record
says is still only a route: the slot must be in the registry, and the transceiver decides what it does with the packets.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2s
from hmac import compare_digest
from struct import Struct
from struct import error as StructError

from voicegate.errors import LocalError
from voicegate.routing.hint import pack_route
from voicegate.routing.hop import FLOW_KEY_LENGTH

FLOW_RECORD_VERSION = 1
FLOW_RECORD_LENGTH = 24
FLOW_TAG_LENGTH = 8
"""64 bits: each guess costs a write to the cache and a packet to a relay, so it cannot be searched."""


@dataclass(slots=True)
class FlowRecord:
    """A remembered route. `expiry_ms` is Unix time in milliseconds."""

    cluster: int
    slot: int
    generation: int
    expiry_ms: int

    @property
    def route(self) -> int:
        """The same integer as `Hint.route`."""
        return pack_route(self.cluster, self.slot, self.generation)

    def pack(self, flow_key: bytes, key_id: int, key: bytes) -> bytes:
        """The value to store under the 19-octet `flow_key`, authenticated with `key`. Raises LocalError."""
        if len(flow_key) != FLOW_KEY_LENGTH:
            raise LocalError(f"a flow key has {FLOW_KEY_LENGTH} octets, not {len(flow_key)}")
        try:
            value = _VALUE.pack(FLOW_RECORD_VERSION, key_id, self.cluster, self.slot, self.generation, self.expiry_ms)
        except StructError as error:
            raise LocalError(f"a flow record does not fit its layout: {error}") from error
        return value + _tag(flow_key, value, key)


class FlowRefusal(Enum):
    """Why a cached value is not believed, in the order in which it is looked at."""

    MALFORMED = "not 24 octets of this version"
    UNKNOWN_KEY = "no key of this id"
    TAG = "the tag does not match this flow"
    EXPIRED = "past its expiry"


def open_flow_untrusted(
    flow_key: bytes, value: bytes, keys: Mapping[int, bytes], now_ms: float
) -> FlowRecord | FlowRefusal:
    """The record in a cached value, or why it is not believed. Never raises. `now_ms` is Unix time in milliseconds."""
    if len(value) != FLOW_RECORD_LENGTH:
        return FlowRefusal.MALFORMED
    version, key_id, cluster, slot, generation, expiry_ms = _VALUE.unpack_from(value)
    if version != FLOW_RECORD_VERSION:
        return FlowRefusal.MALFORMED
    key = keys.get(key_id)
    if key is None:
        return FlowRefusal.UNKNOWN_KEY
    if not compare_digest(_tag(flow_key, value[: _VALUE.size], key), value[_VALUE.size :]):
        return FlowRefusal.TAG
    if expiry_ms <= now_ms:
        return FlowRefusal.EXPIRED
    return FlowRecord(cluster, slot, generation, expiry_ms)


_VALUE = Struct("!B B H H B x Q")


def _tag(flow_key: bytes, value: bytes, key: bytes) -> bytes:
    return blake2s(flow_key + value, key=key, digest_size=FLOW_TAG_LENGTH).digest()
