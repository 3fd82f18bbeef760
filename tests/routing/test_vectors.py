"""The vectors in `spec/` are up to date, and this implementation does what they say."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from voicegate.routing import (
    REFUSED,
    DeferredCodec,
    FleetKeys,
    FlowRecord,
    FlowRefusal,
    HintCodec,
    HintRefusal,
    HopReceiver,
    HopRefusal,
    HopSender,
    open_flow_untrusted,
    pack_entry,
    unpack_entry,
)

SPEC = Path(__file__).parents[2] / "spec"
HINT, HOP, FLOW = (json.loads((SPEC / name).read_text()) for name in ("hint.json", "hop.json", "flow-cache.json"))
PEER = ("192.0.2.1", 5000)


def load_generator() -> ModuleType:
    module_spec = importlib.util.spec_from_file_location("make_vectors", SPEC / "make_vectors.py")
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module


def test_the_files_are_what_the_generator_writes() -> None:
    for name, content in load_generator().files().items():
        assert (SPEC / name).read_text() == content, f"run python spec/make_vectors.py: {name} is out of date"


def keys_of_the_vectors() -> FleetKeys:
    secrets = {vector["configuration"]: bytes.fromhex(vector["secret"]) for vector in HINT["derivation"]}
    return FleetKeys.from_secrets(secrets, current=0)


@pytest.mark.parametrize("vector", HINT["derivation"])
def test_derivation(vector: dict[str, Any]) -> None:
    keys, configuration = keys_of_the_vectors(), vector["configuration"]
    assert keys.hint_keys[configuration].hex() == vector["hint_key"]
    assert keys.pwd_keys[configuration].hex() == vector["pwd_key"]
    assert keys.hop_keys[configuration].hex() == vector["hop_key"]
    assert keys.flow_keys[configuration].hex() == vector["flow_key"]
    assert keys.template_keys[configuration].hex() == vector["template_key"]


def test_quic_lb_single_pass() -> None:
    vector = HINT["quic_lb_single_pass"]
    encryptor = Cipher(AES(bytes.fromhex(vector["key"])), ECB()).encryptor()  # noqa: S305 - one block
    assert encryptor.update(bytes.fromhex(vector["block"])).hex() == vector["encrypted"]


@pytest.mark.parametrize("vector", HINT["valid"])
def test_hint(vector: dict[str, Any]) -> None:
    keys = keys_of_the_vectors()
    codec = HintCodec(keys.hint_keys, vector["configuration"])
    hint = codec.open_untrusted(vector["ufrag"].encode())
    assert not isinstance(hint, HintRefusal)
    assert (hint.kind, hint.cluster, hint.slot, hint.generation, hint.nonce.hex()) == (
        vector["kind"],
        vector["cluster"],
        vector["slot"],
        vector["generation"],
        vector["nonce"],
    )
    assert codec.route_untrusted(vector["ufrag"].encode()) == vector["route"]
    assert codec.mint(hint) == vector["ufrag"]
    assert keys.ice_pwd(vector["ufrag"]) == vector["ice_pwd"]


@pytest.mark.parametrize("vector", HINT["deferred"]["valid"])
def test_deferred_hint(vector: dict[str, Any]) -> None:
    keys, ufrag = keys_of_the_vectors(), vector["ufrag"].encode()
    configuration = vector["configuration"]
    codec = DeferredCodec(HintCodec(keys.hint_keys, configuration), keys.template_keys, configuration)
    deferred = codec.open_untrusted(ufrag)
    assert not isinstance(deferred, HintRefusal)
    hint = deferred.hint
    names = ("cluster", "slot", "generation", "nonce", "expires_at", "is_passive", "binding", "route")
    assert [vector[name] for name in names] == [
        hint.cluster,
        hint.slot,
        hint.generation,
        hint.nonce.hex(),
        deferred.expires_at,
        deferred.is_passive,
        deferred.binding.hex(),
        HintCodec(keys.hint_keys, 0).route_untrusted(ufrag),
    ]
    assert codec.mint(deferred) == vector["ufrag"]
    assert keys.ice_pwd(vector["ufrag"]) == vector["ice_pwd"]


@pytest.mark.parametrize("vector", HINT["deferred"]["refused"])
def test_refused_deferred_hint(vector: dict[str, Any]) -> None:
    keys, ufrag = keys_of_the_vectors(), vector["ufrag"].encode()
    assert keys.deferred_codec().open_untrusted(ufrag) is HintRefusal[vector["reason"]]
    assert (keys.hint_codec().route_untrusted(ufrag) != REFUSED) == vector["relay"]


@pytest.mark.parametrize("vector", HINT["refused"])
def test_refused_hint(vector: dict[str, Any]) -> None:
    refusal = keys_of_the_vectors().hint_codec().open_untrusted(vector["ufrag"].encode())
    assert refusal is HintRefusal[vector["reason"]]


@pytest.mark.parametrize("vector", HOP["valid"])
def test_bundle(vector: dict[str, Any]) -> None:
    packets = HopReceiver({HOP["key_id"]: bytes.fromhex(HOP["key"])}).open_untrusted(
        bytes.fromhex(vector["bundle"]), PEER
    )
    assert not isinstance(packets, HopRefusal)
    opened = []
    for entry, payload in packets:
        fields = unpack_entry(entry)
        names = ("host", "port", "vip", "ingress", "worker", "flags")
        opened.append({**{name: getattr(fields, name) for name in names}, "payload": payload.hex()})
    assert opened == vector["entries"]


@pytest.mark.parametrize("vector", HOP["refused"], ids=lambda vector: str(vector["what"]))
def test_refused_bundle(vector: dict[str, Any]) -> None:
    receiver = HopReceiver({HOP["key_id"]: bytes.fromhex(HOP["key"])})
    assert receiver.open_untrusted(bytes.fromhex(vector["bundle"]), PEER) is HopRefusal[vector["reason"]]


def test_replay() -> None:
    key_id, key = HOP["key_id"], bytes.fromhex(HOP["key"])
    receiver = HopReceiver({key_id: key})
    packets = [(pack_entry("192.0.2.7", 1, 0, 0, 0, 0), b"")]
    for step in HOP["replay"]:
        sender: HopSender[None] = HopSender(key_id, key, HOP["sender_id"], step["boot_epoch_ms"])
        sender._sequence = step["sequence"] - 1
        opened = receiver.open_untrusted(sender.bundle(packets), PEER)
        assert (opened.name if isinstance(opened, HopRefusal) else "accepted") == step["verdict"], step


@pytest.mark.parametrize("vector", FLOW["valid"])
def test_flow_record(vector: dict[str, Any]) -> None:
    record = FlowRecord(vector["cluster"], vector["slot"], vector["generation"], vector["expiry_ms"])
    flow, key = bytes.fromhex(vector["flow_key"]), bytes.fromhex(vector["key"])
    assert record.pack(flow, vector["key_id"], key).hex() == vector["value"]
    assert open_flow_untrusted(flow, bytes.fromhex(vector["value"]), {vector["key_id"]: key}, 0) == record


@pytest.mark.parametrize("vector", FLOW["refused"], ids=lambda vector: str(vector["what"]))
def test_refused_flow_record(vector: dict[str, Any]) -> None:
    keys = {valid["key_id"]: bytes.fromhex(valid["key"]) for valid in FLOW["valid"]}
    flow, value = bytes.fromhex(vector["flow_key"]), bytes.fromhex(vector["value"])
    refusal = open_flow_untrusted(flow, value, keys, vector["now_ms"])
    assert refusal is FlowRefusal[vector["reason"]]
