"""Every handshake message: what it writes it can read, and no bytes make it raise anything but DtlsError."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Protocol

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.dtls.alert import Alert
from voicegate.dtls.dtls13.acknowledgement import Acknowledgement, RecordNumber
from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.messages import (
    CertificateMessage,
    CertificateMessage13,
    CertificateRequest,
    CertificateRequest13,
    CertificateVerify,
    ClientHello,
    ClientKeyExchange,
    EncryptedExtensions,
    Finished,
    HelloVerifyRequest,
    KeyUpdate,
    ServerHello,
    ServerHelloDone,
    ServerKeyExchange,
)
from voicegate.dtls.messages import extensions as ext
from voicegate.dtls.reassembly import HandshakeFragment
from voicegate.dtls.record import Record


class Message(Protocol):
    def serialize(self) -> bytes: ...


u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u64 = st.integers(0, 2**64 - 1)
octets_255 = st.binary(max_size=255)
session_ids = st.binary(max_size=32)
points = st.binary(min_size=1, max_size=255)
chains = st.lists(st.binary(min_size=1, max_size=400), max_size=4)
extension_lists = st.dictionaries(u16, st.binary(max_size=60), max_size=8)

STRATEGIES: dict[type[Any], st.SearchStrategy[Any]] = {
    ClientHello: st.builds(
        ClientHello,
        random=st.binary(min_size=32, max_size=32),
        cipher_suites=st.lists(u16, min_size=1, max_size=40),
        extensions=extension_lists,
        cookie=octets_255,
        session_id=session_ids,
        compression_methods=st.lists(u8, min_size=1, max_size=4),
        version=u16,
    ),
    ServerHello: st.builds(
        ServerHello,
        random=st.binary(min_size=32, max_size=32),
        cipher_suite=u16,
        extensions=extension_lists,
        session_id=session_ids,
        compression_method=u8,
        version=u16,
    ),
    HelloVerifyRequest: st.builds(HelloVerifyRequest, cookie=octets_255, version=u16),
    CertificateMessage: st.builds(CertificateMessage, chains),
    ServerKeyExchange: st.builds(ServerKeyExchange, u16, points, u16, st.binary(max_size=300)),
    CertificateRequest: st.builds(
        CertificateRequest,
        st.lists(u8, min_size=1, max_size=255),
        st.lists(u16, min_size=1, max_size=50),
        st.lists(st.binary(min_size=1, max_size=99), max_size=5),
    ),
    ServerHelloDone: st.builds(ServerHelloDone),
    ClientKeyExchange: st.builds(ClientKeyExchange, points),
    CertificateVerify: st.builds(CertificateVerify, u16, st.binary(max_size=300)),
    Finished: st.builds(Finished, st.binary(max_size=64)),
    Alert: st.builds(Alert, u8, u8),
    CertificateMessage13: st.builds(CertificateMessage13, chains, octets_255),
    CertificateRequest13: st.builds(CertificateRequest13, extension_lists, octets_255),
    EncryptedExtensions: st.builds(EncryptedExtensions, extension_lists),
    KeyUpdate: st.builds(KeyUpdate, st.booleans()),
    Acknowledgement: st.builds(Acknowledgement, st.lists(st.builds(RecordNumber, u64, u64), max_size=20)),
    ext.KeyShareEntry: st.builds(ext.KeyShareEntry, u16, st.binary(min_size=1, max_size=1300)),
    ext.UseSrtp: st.builds(ext.UseSrtp, st.lists(u16, min_size=1, max_size=30), octets_255),
}

PARSERS: list[Callable[[bytes], object]] = [
    *(kind.parse for kind in STRATEGIES),
    ext.parse_supported_groups,
    ext.parse_signature_algorithms,
    ext.parse_ec_point_formats,
    ext.parse_supported_versions,
    ext.parse_chosen_version,
    ext.parse_key_shares,
    ext.parse_requested_group,
    ext.parse_cookie,
    ext.parse_renegotiation_info,
    HandshakeFragment.parse_all,
    Record.parse,
]

every_kind = pytest.mark.parametrize("kind", STRATEGIES, ids=lambda kind: kind.__name__)


@every_kind
def test_what_is_written_can_be_read(kind: type[Any]) -> None:
    @settings(deadline=None, max_examples=40)
    @given(STRATEGIES[kind])
    def round_trip(message: Message) -> None:
        assert kind.parse(message.serialize()) == message

    round_trip()


@every_kind
def test_every_byte_counts(kind: type[Any]) -> None:
    """A message that lost its tail, or gained one, is either refused or another message."""

    @settings(deadline=None, max_examples=25)
    @given(STRATEGIES[kind], st.data())
    def truncate(message: Message, data: st.DataObject) -> None:
        body = message.serialize()
        shorter = body[: data.draw(st.integers(0, max(len(body) - 1, 0)))]
        for changed in {shorter, body + b"\x00"} - {body}:
            with contextlib.suppress(DtlsError):
                assert kind.parse(changed) != message

    truncate()


@pytest.mark.parametrize("parse", PARSERS, ids=lambda parse: parse.__qualname__)
def test_no_bytes_raise_anything_but_dtls_error(parse: Callable[[bytes], object]) -> None:
    @settings(deadline=None, max_examples=60)
    @given(st.binary(max_size=200))
    def fuzz(data: bytes) -> None:
        with contextlib.suppress(DtlsError):
            parse(data)

    fuzz()


@pytest.mark.parametrize(
    ("parse", "serialize"),
    [
        (ext.parse_supported_groups, ext.serialize_supported_groups),
        (ext.parse_signature_algorithms, ext.serialize_signature_algorithms),
        (ext.parse_supported_versions, ext.serialize_supported_versions),
    ],
)
def test_number_lists_survive(parse: Callable[[bytes], list[int]], serialize: Callable[[list[int]], bytes]) -> None:
    assert parse(serialize([29, 23, 0xFFFF])) == [29, 23, 0xFFFF]


def test_small_extensions_survive() -> None:
    assert ext.parse_ec_point_formats(ext.serialize_ec_point_formats([0, 2])) == [0, 2]
    assert ext.parse_chosen_version(ext.serialize_chosen_version(0xFEFC)) == 0xFEFC
    assert ext.parse_requested_group(ext.serialize_requested_group(29)) == 29
    assert ext.parse_cookie(ext.serialize_cookie(b"cookie")) == b"cookie"
    shares = [ext.KeyShareEntry(29, b"a"), ext.KeyShareEntry(0x11EC, b"b")]
    assert ext.parse_key_shares(ext.serialize_key_shares(shares)) == shares
    assert ext.parse_renegotiation_info(ext.serialize_renegotiation_info(b"proof")) == b"proof"


@pytest.mark.rfc("5246", "4.3")
@pytest.mark.parametrize(
    ("parse", "data"),
    [
        (ClientHello.parse, ClientHello(bytes(32), [0xC02B], session_id=bytes(33)).serialize()),
        (ClientHello.parse, ClientHello(bytes(32), []).serialize()),
        (ClientHello.parse, ClientHello(bytes(32), [0xC02B], compression_methods=[]).serialize()),
        (ServerHello.parse, ServerHello(bytes(32), 0xC02B, session_id=bytes(33)).serialize()),
        (CertificateMessage.parse, CertificateMessage([b""]).serialize()),
        (CertificateMessage13.parse, CertificateMessage13([b""]).serialize()),
        (ServerKeyExchange.parse, ServerKeyExchange(29, b"").serialize()),
        (CertificateRequest.parse, CertificateRequest([], [0x0403]).serialize()),
        (CertificateRequest.parse, CertificateRequest([64], []).serialize()),
        (CertificateRequest.parse, CertificateRequest([64], [0x0403], [b""]).serialize()),
        (ClientKeyExchange.parse, ClientKeyExchange(b"").serialize()),
        (ext.KeyShareEntry.parse, ext.KeyShareEntry(29, b"").serialize()),
        (ext.UseSrtp.parse, ext.UseSrtp([]).serialize()),
        (ext.parse_supported_groups, b"\x00\x00"),
        (ext.parse_signature_algorithms, b"\x00\x00"),
        (ext.parse_supported_versions, b"\x00"),
        (ext.parse_ec_point_formats, b"\x00"),
        (ext.parse_cookie, b"\x00\x00"),
        (Acknowledgement.parse, b"\x00\x18" + bytes(24)),
    ],
)
def test_a_vector_outside_of_its_bounds_is_malformed(parse: Callable[[bytes], object], data: bytes) -> None:
    with pytest.raises(DtlsError) as caught:
        parse(data)
    assert caught.value.reason is DtlsReason.MALFORMED


@pytest.mark.rfc("5246", "7.4.1.4")
def test_an_extension_that_comes_twice_is_refused() -> None:
    twice = ServerHello(bytes(32), 0xC02B).serialize() + bytes.fromhex("0008 0017 0000 0017 0000")
    with pytest.raises(DtlsError) as caught:
        ServerHello.parse(twice)
    assert caught.value.reason is DtlsReason.ILLEGAL_PARAMETER


@pytest.mark.rfc("5246", "7.4.1.2")
def test_a_hello_may_end_without_extensions() -> None:
    hello = ClientHello(bytes(32), [0xC02B])
    assert ClientHello.parse(hello.serialize()).extensions == {}


@pytest.mark.rfc("8422", "5.4")
def test_explicit_curves_are_refused() -> None:
    with pytest.raises(DtlsError) as caught:
        ServerKeyExchange.parse(b"\x01" + bytes(80))
    assert caught.value.reason is DtlsReason.ILLEGAL_PARAMETER


@settings(deadline=None, max_examples=60)
@given(u8, u16, st.binary(max_size=300), st.data())
def test_fragments_survive(msg_type: int, message_seq: int, body: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, len(body)))
    fragment = HandshakeFragment(msg_type, len(body), message_seq, start, body[start:end])
    assert HandshakeFragment.parse_all(fragment.serialize() * 2) == [fragment, fragment]
    assert fragment.is_last == (end == len(body))


def test_large_fragment_fields_use_all_24_bits() -> None:
    fragment = HandshakeFragment(11, 0x123456, 7, 0x0FEDCB, b"abc")
    assert fragment.serialize()[:12].hex() == "0b12345600070fedcb000003"
    assert HandshakeFragment.parse_all(fragment.serialize()) == [fragment]
