"""Protected records of DTLS 1.3: against a second implementation that shares no code, and every form of the header."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.dtls import CipherSuite, DtlsError, DtlsStatistics
from voicegate.dtls import record as record_module
from voicegate.dtls.cipher_suites import CipherProfile
from voicegate.dtls.code_points import ContentType
from voicegate.dtls.dtls13.header import UnifiedHeader
from voicegate.dtls.dtls13.key_schedule import TrafficKeys
from voicegate.dtls.dtls13.protection import Protection13
from voicegate.dtls.limits import MAXIMUM_RECORDS_PER_KEY
from voicegate.dtls.record import Record, RecordLayer
from voicegate.errors import LocalError

AES = CipherProfile(CipherSuite.TLS_AES_128_GCM_SHA256)
CHACHA20 = CipherProfile(CipherSuite.TLS_CHACHA20_POLY1305_SHA256)
EVERY_SUITE = pytest.mark.parametrize("profile", [AES, CHACHA20], ids=lambda profile: profile.suite.name)
SECRET = bytes(range(32))


def protection(profile: CipherProfile, epoch: int = 3) -> Protection13:
    return Protection13(epoch, TrafficKeys.of(SECRET, profile.key_bytes), profile)


def layer(profile: CipherProfile, epoch: int = 3) -> RecordLayer:
    records = RecordLayer(DtlsStatistics())
    records.install_read(epoch, protection(profile, epoch))
    return records


def received(records: RecordLayer, datagram: bytes) -> list[tuple[int, int, int, bytes]]:
    return [(r.content_type, r.epoch, r.sequence_number, r.payload) for r in records.receive(datagram)]


def second_opinion(  # noqa: PLR0913 - everything that makes a record
    profile: CipherProfile, epoch: int, number: int, inner: bytes, *, long: bool = True, length: bool = True
) -> bytes:
    """A record made from the words of RFC 9147 §4 with the library's own HKDF."""

    def expand(label: bytes, size: int) -> bytes:
        info = size.to_bytes(2, "big") + bytes([6 + len(label)]) + b"dtls13" + label + b"\x00"
        return HKDFExpand(SHA256(), size, info).derive(SECRET)

    key_bytes = 32 if profile is CHACHA20 else 16
    key, iv, sn = expand(b"key", key_bytes), expand(b"iv", 12), expand(b"sn", key_bytes)
    flags = 0x20 | (8 if long else 0) | (4 if length else 0) | epoch % 4
    shown = (number & (0xFFFF if long else 0xFF)).to_bytes(2 if long else 1, "big")
    tail = (len(inner) + 16).to_bytes(2, "big") if length else b""
    nonce = bytes(a ^ b for a, b in zip(iv, bytes(4) + number.to_bytes(8, "big"), strict=True))
    cipher = ChaCha20Poly1305(key) if profile is CHACHA20 else AESGCM(key)
    sealed = cipher.encrypt(nonce, inner, bytes([flags]) + shown + tail)
    if profile is CHACHA20:
        mask = Cipher(algorithms.ChaCha20(sn, sealed[:16]), None).encryptor().update(bytes(2))
    else:
        mask = Cipher(algorithms.AES(sn), modes.ECB()).encryptor().update(sealed[:16])  # noqa: S305 - one block
    masked = bytes(a ^ b for a, b in zip(shown, mask, strict=False))
    return bytes([flags]) + masked + tail + sealed


VECTORS = {
    CipherSuite.TLS_AES_128_GCM_SHA256: "2ffc38001a9f94401fd353f472afb74bfae0f633edec28eb59b0b660f06d30",
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256: "2f9580001ad8eda427798df0494ef0fe350bd815fe36b5469a4f2bf451a05d",
}


@EVERY_SUITE
def test_the_committed_vector(profile: CipherProfile) -> None:
    """Secret 00…1f, epoch 3, number 0x12345, type 23, content `voicegate`."""
    writer = protection(profile)
    writer.next_sequence_number = 0x12345
    sealed = writer.seal(ContentType.APPLICATION_DATA, b"voicegate")
    assert sealed.hex() == VECTORS[profile.suite]
    assert sealed == second_opinion(profile, 3, 0x12345, b"voicegate\x17")


@EVERY_SUITE
@pytest.mark.parametrize("long", [True, False])
@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("padding", [0, 1, 500])
@pytest.mark.rfc("9147", "4")
def test_every_form_of_the_header_is_read(profile: CipherProfile, long: bool, length: bool, padding: int) -> None:
    records = layer(profile)
    for number in (0, 1, 5, 100, 130, 255, 256, 300):
        record = second_opinion(profile, 3, number, b"words\x17" + bytes(padding), long=long, length=length)
        assert received(records, record) == [(23, 3, number, b"words")]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**40), st.integers(-100, 30_000))
def test_the_sequence_number_is_the_nearest_one(expected: int, ahead: int) -> None:
    number = max(expected + ahead, 0)
    header = UnifiedHeader(b"\x2f\x00\x00\x00\x10", 3, 2)
    assert header.nearest(number & 0xFFFF, expected) == number
    if abs(ahead) < 128:
        assert UnifiedHeader(b"\x27\x00\x00\x10", 3, 1).nearest(number & 0xFF, expected) == number


@pytest.mark.rfc("9147", "4.2.2")
def test_epochs_are_told_apart_by_two_bits() -> None:
    records = layer(AES, 3)
    records.install_read(4, protection(AES, 4))
    assert received(records, second_opinion(AES, 4, 0, b"new\x17") + second_opinion(AES, 3, 0, b"old\x17")) == [
        (23, 4, 0, b"new"),
        (23, 3, 0, b"old"),
    ]
    assert received(records, second_opinion(AES, 2, 0, b"gone\x17")) == []


@EVERY_SUITE
def test_every_octet_is_authenticated(profile: CipherProfile) -> None:
    good = protection(profile).seal(ContentType.APPLICATION_DATA, b"some words")
    for position in range(len(good)):
        for bit in (0x01, 0x80):
            bad = bytearray(good)
            bad[position] ^= bit
            records = layer(profile)
            assert received(records, bytes(bad)) == []
    assert len(received(layer(profile), good)) == 1


def test_replays_are_dropped_and_counted() -> None:
    records = layer(AES)
    record = protection(AES).seal(ContentType.APPLICATION_DATA, b"once")
    assert len(received(records, record * 3)) == 1
    assert records.statistics.replayed_records == 2


@pytest.mark.rfc("8446", "5.4")
def test_nothing_but_padding_is_dropped() -> None:
    records = layer(AES)
    assert received(records, second_opinion(AES, 3, 0, bytes(20))) == []
    assert records.statistics.undecryptable_records == 1


@pytest.mark.parametrize(
    "record", ["2f0000000f" + "00" * 15, "3f0000001000", "2c00", "2f000000ff00", "3f00000020" + "00" * 40]
)
def test_records_that_cannot_be(record: str) -> None:
    """Too short for the mask, a connection id that nobody agreed on, cut off."""
    with pytest.raises(DtlsError):
        Record.parse(bytes.fromhex(record))


@pytest.mark.rfc("9147", "4.2.1")
def test_records_that_overtook_their_keys_wait_for_them() -> None:
    records = RecordLayer(DtlsStatistics())
    assert received(records, second_opinion(AES, 2, 0, b"two\x16") + second_opinion(AES, 3, 0, b"three\x17")) == []
    records.install_read(2, protection(AES, 2))
    plain = records.seal(0, ContentType.HANDSHAKE, b"what brought the keys")
    assert received(records, plain)[1:] == [(22, 2, 0, b"two")]
    records.install_read(3, protection(AES, 3))
    assert received(records, plain)[1:] == [(23, 3, 0, b"three")]


@pytest.mark.rfc("9147", "4.5.3")
def test_a_key_that_met_too_many_forgeries_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_module, "MAXIMUM_FORGERIES_PER_KEY", 3)
    records, writer = layer(AES), protection(AES)
    records.forget_plaintext()
    for _ in range(5):
        forged = bytearray(writer.seal(ContentType.APPLICATION_DATA, b"forged"))
        forged[-1] ^= 1
        assert received(records, bytes(forged)) == []
    assert received(records, writer.seal(ContentType.APPLICATION_DATA, b"too late")) == []
    assert (records.statistics.undecryptable_records, records.statistics.unknown_epoch_records) == (3, 3)


def test_once_the_handshake_is_over_nothing_waits_for_keys() -> None:
    records = layer(AES)
    assert received(records, second_opinion(AES, 2, 0, b"early\x16")) == []
    assert len(records._future) == 1
    records.forget_plaintext()
    assert received(records, second_opinion(AES, 2, 1, b"late\x16")) == []
    assert (records._future, records.statistics.unknown_epoch_records) == ([], 1)


def test_a_record_of_the_other_version_is_not_opened() -> None:
    records = layer(AES, 1)
    assert received(records, Record(23, 0xFEFD, 1, 0, bytes(40)).serialize()) == []
    assert records.statistics.unknown_epoch_records == 1


@pytest.mark.rfc("9147", "4.5.3")
def test_a_key_is_not_used_beyond_its_limit() -> None:
    writer = protection(AES)
    writer.next_sequence_number = MAXIMUM_RECORDS_PER_KEY
    with pytest.raises(LocalError):
        writer.seal(ContentType.APPLICATION_DATA, b"one too many")
