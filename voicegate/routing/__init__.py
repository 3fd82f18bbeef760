"""Our own wire contracts: what a ufrag means, what relays and transceivers say to each other, what a relay remembers.

Read `hint` (the ufrag) and `deferred` (one for a session that does not exist yet), then `hop` (the bundle), then
`keys`, `flow` and `registry`. The pages in `spec/` say the same for implementers in other languages, with test vectors.
"""

from voicegate.routing.deferred import BINDING_LENGTH, DeferredCodec, DeferredHint
from voicegate.routing.flow import FlowRecord, FlowRefusal, open_flow_untrusted
from voicegate.routing.hint import (
    DEFERRED_UFRAG_LENGTH,
    REFUSED,
    UFRAG_LENGTH,
    Hint,
    HintCodec,
    HintKind,
    HintRefusal,
    key_configuration,
    pack_route,
)
from voicegate.routing.hop import (
    ANSWERED,
    FLOW_KEY_LENGTH,
    RELEASED,
    VALIDATED,
    HopEntry,
    HopReceiver,
    HopRefusal,
    HopSender,
    pack_entry,
    unpack_entry,
    with_flags,
)
from voicegate.routing.keys import ConfigurationError, FleetKeys, derive_ice_pwd, parse_key
from voicegate.routing.registry import (
    HopAddress,
    Registry,
    RelayRecord,
    SlotTable,
    TransceiverRecord,
    parse_address,
    parse_registry,
)

__all__ = [
    "ANSWERED",
    "BINDING_LENGTH",
    "DEFERRED_UFRAG_LENGTH",
    "FLOW_KEY_LENGTH",
    "REFUSED",
    "RELEASED",
    "UFRAG_LENGTH",
    "VALIDATED",
    "ConfigurationError",
    "DeferredCodec",
    "DeferredHint",
    "FleetKeys",
    "FlowRecord",
    "FlowRefusal",
    "Hint",
    "HintCodec",
    "HintKind",
    "HintRefusal",
    "HopAddress",
    "HopEntry",
    "HopReceiver",
    "HopRefusal",
    "HopSender",
    "Registry",
    "RelayRecord",
    "SlotTable",
    "TransceiverRecord",
    "derive_ice_pwd",
    "key_configuration",
    "open_flow_untrusted",
    "pack_entry",
    "pack_route",
    "parse_address",
    "parse_key",
    "parse_registry",
    "unpack_entry",
    "with_flags",
]
