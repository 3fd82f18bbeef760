"""Records of the registry as they lie in Redis: JSON after a tag, `<32 hexadecimal digits> {…}`, so that nobody without
the fleet's keys can add one. Where a record may lie follows from what it says, so a copy elsewhere is worth nothing.
"""

import json
from collections.abc import Mapping
from hashlib import blake2s
from hmac import compare_digest
from typing import Any

from voicegate.routing import ConfigurationError, RelayRecord, TransceiverRecord
from voicegate.store.limits import BLOCK_SLOTS, MAX_RECORD_OCTETS

Keys = Mapping[int, bytes]

SINCE = "since_ms"
"""Member of a relay's record beside those of the registry: when it began to announce itself, Unix time in ms."""


def lease_name(cluster: int, block: int) -> str:
    """Where the record of a block's holder lies for as long as it is renewed."""
    return f"voicegate:lease:{cluster}:{block}"


def holder_name(cluster: int, block: int) -> str:
    """Where the record of a block's last holder stays."""
    return f"voicegate:holder:{cluster}:{block}"


def relay_name(ingress: int) -> str:
    """Where the record of a relay lies for as long as it announces itself."""
    return f"voicegate:relay:{ingress}"


def block_slots(block: int) -> tuple[int, int]:
    """The first and the last slot of a block."""
    return block * BLOCK_SLOTS, block * BLOCK_SLOTS + BLOCK_SLOTS - 1


def pack_record(fields: Mapping[str, Any], keys: Keys, current: int) -> bytes:
    """A record as it lies in Redis. Raises ConfigurationError if it is longer than anybody would read."""
    text = json.dumps(fields, separators=(",", ":"), sort_keys=True).encode()
    value = _tag(text, keys[current]) + b" " + text
    if len(value) > MAX_RECORD_OCTETS:
        raise ConfigurationError(f"a registry record of {len(value)} octets is longer than {MAX_RECORD_OCTETS}")
    return value


def open_record_untrusted(value: bytes, keys: Keys) -> Any:
    """What a record says, or None if it was not made with one of the keys. Never raises."""
    tag, _, text = value.partition(b" ")
    if len(value) > MAX_RECORD_OCTETS or not any(compare_digest(tag, _tag(text, key)) for key in keys.values()):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def open_transceiver_untrusted(value: bytes, keys: Keys, cluster: int, block: int) -> TransceiverRecord | None:
    """The holder of a block, or None if the value is no such record: not one of ours, or of another block. Never
    raises."""
    try:
        record = TransceiverRecord.from_json(open_record_untrusted(value, keys), is_from_peer=True)
    except ConfigurationError:
        return None
    return record if (record.cluster, record.slots) == (cluster, (block_slots(block),)) else None


def open_relay_untrusted(value: bytes, keys: Keys, ingress: int) -> tuple[RelayRecord, int] | None:
    """The relay of a number and since when it announces itself, or None if the value is no such record. Never
    raises."""
    fields = open_record_untrusted(value, keys)
    since_ms = fields.pop(SINCE, None) if isinstance(fields, dict) else None
    try:
        record = RelayRecord.from_json(fields, is_from_peer=True)
    except ConfigurationError:
        return None
    return (record, since_ms) if isinstance(since_ms, int) and record.ingress == ingress else None


def _tag(text: bytes, key: bytes) -> bytes:
    # The purpose keeps a flow's tag from being one of a record: both use the flow keys.
    return blake2s(text, key=key, digest_size=16, person=b"registry").hexdigest().encode("ascii")
