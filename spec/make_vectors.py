"""Writes the test vectors of the routing contracts beside their pages: `python spec/make_vectors.py`.

Every input is fixed, so the files change only when a contract does. `tests/routing/test_vectors.py` proves that they
are up to date.
"""

import json
from pathlib import Path
from typing import Any

from voicegate.routing import DeferredCodec, DeferredHint, FleetKeys, FlowRecord, Hint, HintKind, HopSender, pack_entry
from voicegate.routing.hint import HintCodec

Json = dict[str, Any]

SECRET = bytes(range(32))
NEXT_SECRET = bytes(range(32, 64))
KEYS = FleetKeys.from_secrets({0: SECRET, 5: NEXT_SECRET}, current=0)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def hint_vectors() -> Json:
    hints = [
        (0, Hint(HintKind.PINNED, 0, 0, 0, bytes(5))),
        (0, Hint(HintKind.PINNED, 1, 2, 3, bytes.fromhex("0102030405"))),
        (0, Hint(HintKind.PINNED, 0xFFFF, 0xFFFF, 0xFF, bytes.fromhex("ffffffffff"))),
        (5, Hint(HintKind.PINNED, 7, 4095, 1, bytes.fromhex("deadbeef00"))),
    ]
    return {
        "derivation": [_derived(0, SECRET), _derived(5, NEXT_SECRET)],
        "quic_lb_single_pass": {
            "source": "draft-ietf-quic-load-balancers, test vector 2 (server id and nonce fill one block)",
            "key": "8f95f09245765f80256934e50c66207f",
            "block": "ed793a51d49b8f5fee080dbf48c0d1e5",
            "encrypted": "4dd2d05a7b0de9b2b9907afb5ecf8cc3",
        },
        "valid": [_valid_hint(configuration, hint) for configuration, hint in hints],
        "refused": _refused_hints(),
        "deferred": {
            "valid": [_valid_deferred(configuration, deferred) for configuration, deferred in DEFERRED],
            "refused": _refused_deferred(),
        },
    }


DEFERRED = [
    (0, DeferredHint(Hint(HintKind.DEFERRED, 1, 2, 3, bytes.fromhex("0102030405")), 1_700_000_120)),
    (5, DeferredHint(Hint(HintKind.DEFERRED, 7, 4095, 1, bytes(5)), 2**32 - 1, True, bytes(range(15)))),
]


def _deferred_codec(configuration: int) -> DeferredCodec:
    return DeferredCodec(HintCodec(KEYS.hint_keys, configuration), KEYS.template_keys, configuration)


def _valid_deferred(configuration: int, deferred: DeferredHint) -> Json:
    hint = deferred.hint
    ufrag = _deferred_codec(configuration).mint(deferred)
    return {
        "configuration": configuration,
        "cluster": hint.cluster,
        "slot": hint.slot,
        "generation": hint.generation,
        "nonce": hint.nonce.hex(),
        "expires_at": deferred.expires_at,
        "is_passive": deferred.is_passive,
        "binding": deferred.binding.hex(),
        "route": hint.route,
        "ufrag": ufrag,
        "ice_pwd": KEYS.ice_pwd(ufrag),
    }


def _refused_deferred() -> list[Json]:
    """`relay` says whether a relay, which does not read the second part, routes it."""
    good = _deferred_codec(0).mint(DEFERRED[0][1])
    other = _deferred_codec(0).mint(DeferredHint(Hint(HintKind.DEFERRED, 1, 2, 3, bytes(5)), 1_700_000_120))
    pinned = HintCodec(KEYS.hint_keys, 0).mint(Hint(HintKind.PINNED, 1, 2, 3, bytes.fromhex("0102030405")))
    last = ALPHABET[ALPHABET.index(good[-1]) ^ 1]
    spare_bit = good[:22] + ALPHABET[ALPHABET.index(good[22]) | 1] + good[23:]
    return [
        {"ufrag": good[:-1] + last, "reason": "SEAL", "relay": True},
        {"ufrag": good[:23] + other[23:], "reason": "SEAL", "relay": True},
        {"ufrag": good[:23], "reason": "KIND", "relay": False},
        {"ufrag": pinned + good[23:], "reason": "KIND", "relay": False},
        {"ufrag": good[:-1], "reason": "LENGTH", "relay": False},
        {"ufrag": good + "A", "reason": "LENGTH", "relay": False},
        {"ufrag": good[:-1] + "-", "reason": "ALPHABET", "relay": False},
        {"ufrag": spare_bit, "reason": "NOT_CANONICAL", "relay": False},
    ]


def _derived(configuration: int, secret: bytes) -> Json:
    return {
        "configuration": configuration,
        "secret": secret.hex(),
        "hint_key": KEYS.hint_keys[configuration].hex(),
        "pwd_key": KEYS.pwd_keys[configuration].hex(),
        "hop_key": KEYS.hop_keys[configuration].hex(),
        "flow_key": KEYS.flow_keys[configuration].hex(),
        "template_key": KEYS.template_keys[configuration].hex(),
    }


def _valid_hint(configuration: int, hint: Hint) -> Json:
    ufrag = HintCodec(KEYS.hint_keys, configuration).mint(hint)
    return {
        "configuration": configuration,
        "kind": hint.kind,
        "cluster": hint.cluster,
        "slot": hint.slot,
        "generation": hint.generation,
        "nonce": hint.nonce.hex(),
        "route": hint.route,
        "ufrag": ufrag,
        "ice_pwd": KEYS.ice_pwd(ufrag),
    }


def _refused_hints() -> list[Json]:
    codec = HintCodec(KEYS.hint_keys, 0)
    good = codec.mint(Hint(HintKind.PINNED, 1, 2, 3, bytes.fromhex("0102030405")))
    deferred = codec.mint(Hint(HintKind.DEFERRED, 1, 2, 3, bytes.fromhex("0102030405")))
    unknown = HintCodec({3: bytes(16)}, 3).mint(Hint(HintKind.PINNED, 1, 2, 3, bytes(5)))
    other_key = HintCodec({0: bytes(16)}, 0).mint(Hint(HintKind.PINNED, 1, 2, 3, bytes(5)))
    # The last character carries four bits of the block and two spare ones.
    spare_bit = good[:-1] + ALPHABET[ALPHABET.index(good[-1]) | 1]
    return [
        {"ufrag": "", "reason": "LENGTH"},
        {"ufrag": good[:-1], "reason": "LENGTH"},
        {"ufrag": good + "=", "reason": "LENGTH"},
        {"ufrag": good[:-1] + "=", "reason": "ALPHABET"},
        {"ufrag": "-" + good[1:], "reason": "ALPHABET"},
        {"ufrag": good[:10] + "\n" + good[11:], "reason": "ALPHABET"},
        {"ufrag": spare_bit, "reason": "NOT_CANONICAL"},
        {"ufrag": "B" + good[1:], "reason": "NOT_CANONICAL"},
        {"ufrag": unknown, "reason": "UNKNOWN_KEY_CONFIGURATION"},
        {"ufrag": "4AAAAAAAAAAAAAAAAAAAAAA", "reason": "UNKNOWN_KEY_CONFIGURATION"},
        {"ufrag": other_key, "reason": "REDUNDANCY"},
        {"ufrag": "AAAAAAAAAAAAAAAAAAAAAAA", "reason": "REDUNDANCY"},
        {"ufrag": deferred, "reason": "KIND"},
    ]


def hop_vectors() -> Json:
    key_id, sender_id, boot_epoch_ms = 5, 258, 1_700_000_000_123
    sender: HopSender[str] = HopSender(key_id, KEYS.hop_keys[key_id], sender_id, boot_epoch_ms)
    v4 = {"host": "192.0.2.7", "port": 50_000, "vip": 0, "ingress": 1, "worker": 2, "flags": 0x00}
    v6 = {"host": "2001:db8::7", "port": 443, "vip": 3, "ingress": 255, "worker": 0, "flags": 0x13}
    released = {**v4, "flags": 0x04}
    bundles: list[list[Json]] = [
        [{**v4, "payload": "0001000c2112a442"}],
        [{**v4, "payload": "80"}, {**v6, "payload": ""}, {**v6, "payload": "16fefd0000"}],
        [{**released, "payload": ""}],
    ]
    valid = []
    for sequence, entries in enumerate(bundles, start=1):
        packets = [(_entry(entry), bytes.fromhex(entry["payload"])) for entry in entries]
        valid.append({"sequence": sequence, "entries": entries, "bundle": sender.bundle(packets).hex()})
    return {
        "key_id": key_id,
        "key": KEYS.hop_keys[key_id].hex(),
        "sender_id": sender_id,
        "boot_epoch_ms": boot_epoch_ms,
        "valid": valid,
        "refused": _refused_bundles(bytes.fromhex(str(valid[1]["bundle"]))),
        "replay": [
            {"boot_epoch_ms": 1000, "sequence": 1, "verdict": "accepted"},
            {"boot_epoch_ms": 1000, "sequence": 1, "verdict": "REPLAYED"},
            {"boot_epoch_ms": 1000, "sequence": 3, "verdict": "accepted"},
            {"boot_epoch_ms": 1000, "sequence": 2, "verdict": "accepted"},
            {"boot_epoch_ms": 1000, "sequence": 0, "verdict": "REPLAYED"},
            {"boot_epoch_ms": 999, "sequence": 4, "verdict": "OLD_BOOT_EPOCH"},
            {"boot_epoch_ms": 1001, "sequence": 1, "verdict": "accepted"},
            {"boot_epoch_ms": 1000, "sequence": 5, "verdict": "OLD_BOOT_EPOCH"},
        ],
    }


def _entry(entry: Json) -> bytes:
    return pack_entry(entry["host"], entry["port"], entry["vip"], entry["ingress"], entry["worker"], entry["flags"])


def _refused_bundles(good: bytes) -> list[Json]:
    def changed(offset: int, value: int) -> bytes:
        return good[:offset] + bytes([value]) + good[offset + 1 :]

    tag_offset = 24 + 3 * 24
    cases = [
        ("empty", b"", "MALFORMED"),
        ("shorter than one entry and a tag", good[:63], "MALFORMED"),
        ("magic", changed(0, 0x16), "MALFORMED"),
        ("version", changed(1, 2), "MALFORMED"),
        ("no entries", changed(3, 0), "MALFORMED"),
        ("more entries than the datagram holds", changed(3, 64), "MALFORMED"),
        ("an octet that must be zero", changed(6, 1), "MALFORMED"),
        ("key id", changed(2, 6), "UNKNOWN_KEY"),
        ("one bit of the sequence", changed(16, good[16] ^ 1), "TAG"),
        ("one bit of a client address", changed(24 + 12, good[24 + 12] ^ 1), "TAG"),
        ("one bit of the tag", changed(tag_offset, good[tag_offset] ^ 1), "TAG"),
        ("one payload octet too few", good[:-1], "LENGTH"),
        ("one payload octet too many", good + b"\0", "LENGTH"),
    ]
    return [{"what": what, "bundle": bundle.hex(), "reason": reason} for what, bundle, reason in cases]


def flow_cache_vectors() -> Json:
    v4 = pack_entry("192.0.2.7", 50_000, 0, 0, 0, 0)[:19]
    v6 = pack_entry("2001:db8::7", 443, 3, 0, 0, 0)[:19]
    records = [
        (0, v4, FlowRecord(cluster=1, slot=2, generation=3, expiry_ms=1_700_000_060_000)),
        (5, v6, FlowRecord(cluster=0xFFFF, slot=0xFFFF, generation=0xFF, expiry_ms=2**64 - 1)),
    ]
    valid = [
        {
            "key_id": key_id,
            "key": KEYS.flow_keys[key_id].hex(),
            "flow_key": flow_key.hex(),
            "cluster": record.cluster,
            "slot": record.slot,
            "generation": record.generation,
            "expiry_ms": record.expiry_ms,
            "value": record.pack(flow_key, key_id, KEYS.flow_keys[key_id]).hex(),
        }
        for key_id, flow_key, record in records
    ]
    good = records[0][2].pack(v4, 0, KEYS.flow_keys[0])
    now_ms = 1_700_000_000_000
    refused = [
        ("one octet short", v4, good[:-1], now_ms, "MALFORMED"),
        ("version 2", v4, b"\x02" + good[1:], now_ms, "MALFORMED"),
        ("key id 6", v4, good[:1] + b"\x06" + good[2:], now_ms, "UNKNOWN_KEY"),
        ("the value of another flow", v6, good, now_ms, "TAG"),
        ("another slot", v4, good[:5] + b"\x03" + good[6:], now_ms, "TAG"),
        ("the moment of expiry", v4, good, 1_700_000_060_000, "EXPIRED"),
    ]
    return {
        "valid": valid,
        "refused": [
            {"what": what, "flow_key": flow_key.hex(), "value": value.hex(), "now_ms": now_ms, "reason": reason}
            for what, flow_key, value, now_ms, reason in refused
        ],
    }


def files() -> dict[str, str]:
    """File name to content."""
    vectors = {"hint.json": hint_vectors(), "hop.json": hop_vectors(), "flow-cache.json": flow_cache_vectors()}
    return {name: json.dumps(content, indent=2) + "\n" for name, content in vectors.items()}


if __name__ == "__main__":
    for name, content in files().items():
        Path(__file__).with_name(name).write_text(content)
