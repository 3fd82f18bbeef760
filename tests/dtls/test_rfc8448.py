"""The key schedule against the trace of RFC 8448 §3, which is TLS 1.3: the same but for the prefix of the labels."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from voicegate.dtls.dtls13 import key_schedule
from voicegate.dtls.dtls13.key_schedule import expand_label, extract

TLS = b"tls13 "
ZEROS = bytes(32)
EMPTY = hashlib.sha256(b"").digest()

SHARED = "8bd4054fb55b9d63fdfbacf9f04b9f0d35e6d63f537563efd46272900f89492d"
HELLO_HASH = bytes.fromhex("860c06edc07858ee8e78f0e7428c58edd6b43f2ca3e6e95f02ed063cf0e1cad8")
FINISHED_HASH = bytes.fromhex("9608102a0f1ccc6db6250b7b7e417b1a000eaada3daae4777a7686c9ff83df13")


def derive(secret: bytes, label: bytes, context: bytes) -> bytes:
    return expand_label(secret, label, context, 32, prefix=TLS)


@pytest.mark.rfc("8448", "3")
def test_secrets_of_the_simple_handshake() -> None:
    early = extract(ZEROS, ZEROS)
    assert early.hex() == "33ad0a1c607ec03b09e6cd9893680ce210adf300aa1f2660e1b22e10f170f92a"
    salt = derive(early, b"derived", EMPTY)
    assert salt.hex() == "6f2615a108c702c5678f54fc9dbab69716c076189c48250cebeac3576c3611ba"
    handshake = extract(salt, bytes.fromhex(SHARED))
    assert handshake.hex() == "1dc826e93606aa6fdc0aadc12f741b01046aa6b99f691ed221a9f0ca043fbeac"
    client = derive(handshake, b"c hs traffic", HELLO_HASH)
    server = derive(handshake, b"s hs traffic", HELLO_HASH)
    assert client.hex() == "b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55a21"
    assert server.hex() == "b67b7d690cc16c4e75e54213cb2d37b4e9c912bcded9105d42befd59d391ad38"
    assert expand_label(server, b"key", b"", 16, prefix=TLS).hex() == "3fce516009c21727d0f2e4e86ee403bc"
    assert expand_label(server, b"iv", b"", 12, prefix=TLS).hex() == "5d313eb2671276ee13000b30"
    master = extract(derive(handshake, b"derived", EMPTY), ZEROS)
    assert master.hex() == "18df06843d13a08bf2a449844c5f8a478001bc4d4c627984d5a41da8d0402919"
    for label, expected in (
        (b"c ap traffic", "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"),
        (b"s ap traffic", "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643"),
        (b"exp master", "fe22f881176eda18eb8f44529e6792c50c9a3f89452f68d8ae311b4309d3cf50"),
    ):
        assert derive(master, label, FINISHED_HASH).hex() == expected


@pytest.mark.rfc("9147", "5.9")
def test_our_schedule_is_that_one_with_another_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    """`HandshakeSecrets` under the prefix of TLS yields the published secrets; under its own it yields others."""
    shared = bytes.fromhex(SHARED)
    ours = key_schedule.HandshakeSecrets.of(shared, HELLO_HASH)
    defaults = expand_label.__defaults__
    salt = derive(extract(ZEROS, ZEROS), b"derived", EMPTY)
    monkeypatch.setattr(key_schedule, "_HANDSHAKE_SALT", salt)
    monkeypatch.setattr(expand_label, "__defaults__", (TLS,))
    tls = key_schedule.HandshakeSecrets.of(shared, HELLO_HASH)
    assert tls.client.hex() == "b3eddb126e067f35a780b3abf45e2d8f3b1a950738f52e9600746a0e27a55a21"
    secrets = tls.application(FINISHED_HASH)
    assert secrets.client.hex() == "9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5"
    assert secrets.server.hex() == "a11af9f05531f856ad47116b45a950328204b4f44bfb6b3a4b4f1f3fcb631643"
    assert secrets._exporter_master.hex() == "fe22f881176eda18eb8f44529e6792c50c9a3f89452f68d8ae311b4309d3cf50"
    assert ours.client != tls.client
    assert defaults == (b"dtls13",)


@pytest.mark.rfc("9147", "5.9")
def test_the_layout_of_a_label() -> None:
    """Length, `dtls13` and the label with no space between them, and the context; then HKDF-Expand (RFC 5869 §2.3)."""
    info = b"\x00\x28" + b"\x09dtls13key" + b"\x03ctx"
    first = hmac.digest(b"s" * 32, info + b"\x01", "sha256")
    second = hmac.digest(b"s" * 32, first + info + b"\x02", "sha256")
    assert expand_label(b"s" * 32, b"key", b"ctx", 40) == (first + second)[:40]


def expand(secret: bytes, info: bytes, length: int) -> bytes:
    """A second opinion: HKDF-Expand of a library, and `info` octet by octet."""
    return HKDFExpand(hashes.SHA256(), length, info).derive(secret)


@pytest.mark.rfc("8446", "7.5")
def test_what_is_exported() -> None:
    """Once under the label of the protocol that wants it, once more under `exporter`; no context is an empty one."""
    master = b"e" * 32
    of_label = expand(master, b"\x00\x20" + b"\x19dtls13EXTRACTOR-dtls_srtp" + b"\x20" + EMPTY, 32)
    expected = expand(of_label, b"\x00\x38" + b"\x0edtls13exporter" + b"\x20" + EMPTY, 56)
    secrets = key_schedule.ApplicationSecrets(b"c" * 32, b"s" * 32, master)
    assert secrets.export(b"EXTRACTOR-dtls_srtp", 56) == expected


@pytest.mark.rfc("8446", "7.2")
def test_the_secret_after_a_key_update() -> None:
    expected = expand(b"s" * 32, b"\x00\x20" + b"\x11dtls13traffic upd" + b"\x00", 32)
    assert key_schedule.next_traffic_secret(b"s" * 32) == expected


@pytest.mark.rfc("8446", "4.4.4")
def test_the_content_of_a_finished() -> None:
    key = expand(b"s" * 32, b"\x00\x20" + b"\x0edtls13finished" + b"\x00", 32)
    expected = hmac.digest(key, FINISHED_HASH, "sha256")
    assert key_schedule.finished_verify_data(b"s" * 32, FINISHED_HASH) == expected


@pytest.mark.rfc("9147", "4.2.3")
def test_the_keys_of_an_epoch() -> None:
    keys = key_schedule.TrafficKeys.of(b"s" * 32, 16)
    assert keys.key == expand(b"s" * 32, b"\x00\x10" + b"\x09dtls13key" + b"\x00", 16)
    assert keys.iv == expand(b"s" * 32, b"\x00\x0c" + b"\x08dtls13iv" + b"\x00", 12)
    assert keys.sequence_number_key == expand(b"s" * 32, b"\x00\x10" + b"\x08dtls13sn" + b"\x00", 16)
