"""DTLS 1.3: whole handshakes of our client with our server, and each way in which one is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from voicegate.dtls import (
    CLASSICAL_GROUPS,
    POST_QUANTUM_GROUPS,
    ApplicationData,
    Certificate,
    CipherSuite,
    CloseReason,
    ConnectionClosed,
    ConnectionFailed,
    ConnectionState,
    DtlsReason,
    DtlsVersion,
    Event,
    Fingerprint,
    HandshakeComplete,
    NamedGroup,
    SrtpProfile,
)
from voicegate.dtls.certificate import parse_peer_public_key
from voicegate.dtls.code_points import DTLS_1_2, ContentType, ExtensionType, HandshakeType
from voicegate.dtls.dtls13.acknowledgement import Acknowledgement, ReceivedRecords, RecordNumber
from voicegate.dtls.handshake import Handshake
from voicegate.dtls.key_exchange import KeyShare, available_groups
from voicegate.dtls.limits import CLOSE_AFTER_RECORDS, KEY_UPDATE_AFTER_RECORDS
from voicegate.dtls.messages import (
    CertificateMessage13,
    CertificateRequest13,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    ServerHello,
)
from voicegate.dtls.messages import extensions as ext
from voicegate.dtls.messages.server_hello import HELLO_RETRY_REQUEST_RANDOM
from voicegate.dtls.reassembly import HandshakeFragment, HandshakeMessage
from voicegate.dtls.record import Record
from voicegate.dtls.signatures import verify
from voicegate.dtls.transport import HandshakeTransport
from voicegate.errors import LocalError

if TYPE_CHECKING:
    from tests.dtls.conftest import MakePair, Pair, Wire

GCM, SHA1_80 = SrtpProfile.AEAD_AES_128_GCM, SrtpProfile.AES128_CM_SHA1_80
BOTH = list(DtlsVersion)
STRANGER = Certificate.generate().fingerprint


@pytest.fixture
def version() -> DtlsVersion:
    return DtlsVersion.DTLS_1_3


def completion(events: list[Event]) -> HandshakeComplete:
    (event,) = events
    assert isinstance(event, HandshakeComplete)
    return event


def failure(events: list[Event]) -> tuple[DtlsReason, str]:
    (event,) = events
    assert isinstance(event, ConnectionFailed)
    return event.error.dtls_reason, event.error.alert.name.lower() if event.error.alert is not None else ""


def run(pair: Pair) -> tuple[HandshakeComplete, HandshakeComplete]:
    pair.client.start(0.0)
    pair.settle()
    return completion(pair.client_events), completion(pair.server_events)


# Success --------------------------------------------------------------------------------------------------------------


def test_one_round_trip_and_a_half_in_three_datagrams_and_an_acknowledgement(pair: Pair) -> None:
    pair.client.start(0.0)
    hello = pair.from_client()
    pair.to_server(hello)
    answer = pair.from_server()
    pair.to_client(answer)
    assert completion(pair.client_events).version == "DTLS 1.3"
    assert pair.server_events == []
    finished = pair.from_client()
    pair.to_server(finished)
    assert completion(pair.server_events).version == "DTLS 1.3"
    acknowledgement = pair.from_server()
    assert [len(flight) for flight in (hello, answer, finished, acknowledgement)] == [1, 1, 1, 1]
    assert len(hello[0]) < 240
    assert pair.client.next_timeout() is not None
    pair.to_client(acknowledgement)
    assert pair.client.next_timeout() is None
    assert pair.server.next_timeout() is None


@pytest.mark.parametrize("suite", [0x1301, 0x1303])
@pytest.mark.parametrize("group", available_groups(POST_QUANTUM_GROUPS), ids=lambda group: group.name)
@pytest.mark.parametrize("profile", list(SrtpProfile), ids=lambda profile: profile.name)
@pytest.mark.parametrize("mtu", [128, 300, 1200])
def test_every_choice_leads_to_common_keys(
    make_pair: MakePair, suite: int, group: NamedGroup, profile: SrtpProfile, mtu: int
) -> None:
    pair = make_pair(cipher_suites=[CipherSuite(suite)], groups=[group], srtp_profiles=[profile], mtu=mtu)
    client, server = run(pair)
    assert (client.cipher_suite, client.key_exchange) == (CipherSuite(suite).name, group.name)
    assert (server.cipher_suite, server.key_exchange) == (CipherSuite(suite).name, group.name)
    assert client.srtp is not None
    assert server.srtp is not None
    assert client.srtp.profile is server.srtp.profile is profile
    assert (client.srtp.local_key, client.srtp.local_salt) == (server.srtp.remote_key, server.srtp.remote_salt)
    assert (server.srtp.local_key, server.srtp.local_salt) == (client.srtp.remote_key, client.srtp.remote_salt)
    assert client.srtp.local_key != client.srtp.remote_key
    pair.client_events.clear()
    pair.client.send(b"there")
    pair.server.send(b"and back")
    pair.settle()
    assert pair.client_events == [ApplicationData(b"and back")]
    assert pair.server_events[1:] == [ApplicationData(b"there")]


def test_data_of_full_size_fits_the_mtu(connected: Pair) -> None:
    connected.client.send(bytes(connected.client.maximum_data_bytes))
    assert [len(datagram) for datagram in connected.from_client()] == [1200]
    with pytest.raises(LocalError):
        connected.client.send(bytes(connected.client.maximum_data_bytes + 1))


@pytest.mark.parametrize(
    ("client", "server", "expected"),
    [
        (BOTH, BOTH, DtlsVersion.DTLS_1_3),
        ([DtlsVersion.DTLS_1_2], BOTH, DtlsVersion.DTLS_1_2),
        (BOTH, [DtlsVersion.DTLS_1_2], DtlsVersion.DTLS_1_2),
        ([DtlsVersion.DTLS_1_3], BOTH, DtlsVersion.DTLS_1_3),
        (BOTH, [DtlsVersion.DTLS_1_3], DtlsVersion.DTLS_1_3),
        (BOTH, BOTH[::-1], DtlsVersion.DTLS_1_3),
        (BOTH[::-1], BOTH, DtlsVersion.DTLS_1_3),
    ],
)
def test_the_best_common_version_is_chosen(
    make_pair: MakePair, client: list[DtlsVersion], server: list[DtlsVersion], expected: DtlsVersion
) -> None:
    pair = make_pair({"versions": client}, {"versions": server})
    assert {complete.version for complete in run(pair)} == {expected.value}


@pytest.mark.parametrize(("client", "server"), [(0, 1), (1, 0)])
def test_without_a_common_version_the_hello_is_refused(make_pair: MakePair, client: int, server: int) -> None:
    pair = make_pair({"versions": [BOTH[client]]}, {"versions": [BOTH[server]]})
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    assert failure(pair.server_events) == (DtlsReason.UNSUPPORTED_VERSION, "protocol_version")


def test_half_rtt_keys_are_flagged_and_are_the_final_ones(pair: Pair) -> None:
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    early = pair.server.half_rtt_srtp
    assert early is not None
    assert pair.server.srtp is None
    assert pair.client.half_rtt_srtp is None
    with pytest.raises(LocalError):
        pair.server.send(b"not before the client is known")
    pair.to_client(pair.from_server())
    assert pair.client.srtp is not None
    assert pair.client.srtp.remote_key == early.local_key
    pair.settle()
    assert pair.server.srtp == early == completion(pair.server_events).srtp


@pytest.mark.rfc("9147", "4.2.1")
def test_data_that_overtakes_the_clients_finished_is_held_by_the_server(pair: Pair) -> None:
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    finished = pair.from_client()
    pair.client.send(b"first words")
    pair.to_server(pair.from_client())
    assert pair.server_events == []
    pair.to_server(finished)
    assert [type(event).__name__ for event in pair.server_events] == ["HandshakeComplete", "ApplicationData"]


def test_records_that_overtake_the_server_hello_are_kept(make_pair: MakePair) -> None:
    pair = make_pair(mtu=300)
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(reversed(pair.from_server()))
    assert completion(pair.client_events)


def test_a_fingerprint_may_be_told_after_the_handshake(make_pair: MakePair) -> None:
    pair = make_pair(server={"peer_fingerprints": []})
    pair.client.start(0.0)
    pair.settle()
    assert pair.server_events == []
    assert pair.server.srtp is None
    assert pair.server.peer_certificate is not None
    pair.server.set_peer_fingerprints([Fingerprint.of(pair.server.peer_certificate)])
    pair.collect()
    assert completion(pair.server_events)


# HelloRetryRequest ----------------------------------------------------------------------------------------------------


@pytest.mark.rfc("8446", "4.1.4")
@pytest.mark.parametrize("mtu", [128, 1200])
def test_a_server_asks_for_another_share(make_pair: MakePair, wire: Wire, mtu: int) -> None:
    pair = make_pair({"groups": CLASSICAL_GROUPS}, {"groups": [NamedGroup.SECP256R1]}, mtu=mtu)
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    request = pair.from_server()
    if mtu == 1200:
        (piece,) = wire.fragments(request)
        hello = ServerHello.parse(piece.data)
        assert hello.is_hello_retry_request
        assert ext.parse_requested_group(hello.extensions[ExtensionType.KEY_SHARE]) == 23
    pair.to_client(request)
    pair.settle()
    assert completion(pair.client_events).key_exchange == "SECP256R1"
    assert completion(pair.server_events).srtp is not None


def retry_request(wire: Wire, seq: int = 0, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "random": HELLO_RETRY_REQUEST_RANDOM,
        "cipher_suite": 0x1301,
        "extensions": {ExtensionType.SUPPORTED_VERSIONS: b"\xfe\xfc", ExtensionType.KEY_SHARE: b"\x00\x17"},
    }
    body = ServerHello(**(fields | changes)).serialize()
    return wire.datagram(HandshakeFragment(HandshakeType.SERVER_HELLO, len(body), seq, 0, body))


@pytest.mark.rfc("8446", "4.2.2")
def test_a_cookie_is_given_back(pair: Pair, wire: Wire) -> None:
    pair.client.start(0.0)
    first = ClientHello.parse(wire.fragments(pair.from_client())[0].data)
    extensions = {ExtensionType.SUPPORTED_VERSIONS: b"\xfe\xfc", ExtensionType.COOKIE: b"\x00\x03abc"}
    pair.to_client([retry_request(wire, extensions=extensions)])
    second = ClientHello.parse(wire.fragments(pair.from_client())[0].data)
    assert second.extensions.pop(ExtensionType.COOKIE) == b"\x00\x03abc"
    assert second == first


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"extensions": {ExtensionType.SUPPORTED_VERSIONS: b"\xfe\xfc"}}, DtlsReason.ILLEGAL_PARAMETER),
        # A share that was there already, and a group that was not offered.
        (
            {"extensions": {ExtensionType.SUPPORTED_VERSIONS: b"\xfe\xfc", ExtensionType.KEY_SHARE: b"\x00\x1d"}},
            DtlsReason.ILLEGAL_PARAMETER,
        ),
        (
            {"extensions": {ExtensionType.SUPPORTED_VERSIONS: b"\xfe\xfc", ExtensionType.KEY_SHARE: b"\x00\x19"}},
            DtlsReason.ILLEGAL_PARAMETER,
        ),
        # It chooses no SRTP profile yet.
        (
            {
                "extensions": {
                    ExtensionType.SUPPORTED_VERSIONS: b"\xfe\xfc",
                    ExtensionType.KEY_SHARE: b"\x00\x17",
                    ExtensionType.USE_SRTP: b"\x00\x02\x00\x07\x00",
                }
            },
            DtlsReason.ILLEGAL_PARAMETER,
        ),
        ({"cipher_suite": 0x1302}, DtlsReason.ILLEGAL_PARAMETER),
        ({"session_id": b"x"}, DtlsReason.ILLEGAL_PARAMETER),
    ],
)
def test_a_retry_request_that_cannot_be_followed(
    pair: Pair, wire: Wire, changes: dict[str, Any], reason: DtlsReason
) -> None:
    pair.client.start(0.0)
    pair.to_client([retry_request(wire, **changes)])
    assert failure(pair.client_events)[0] is reason


@pytest.mark.rfc("8446", "4.1.4")
@pytest.mark.parametrize(("suite", "group"), [(0x1303, 23), (0x1301, 29)], ids=["another suite", "the first share"])
def test_the_server_hello_after_a_retry_keeps_to_it(pair: Pair, wire: Wire, suite: int, group: int) -> None:
    pair.client.start(0.0)
    pair.to_client([retry_request(wire)])
    extensions = {
        ExtensionType.SUPPORTED_VERSIONS: b"\xfe\xfc",
        ExtensionType.KEY_SHARE: ext.KeyShareEntry(group, P256 if group == 23 else SHARE.public).serialize(),
    }
    pair.to_client([retry_request(wire, 1, random=b"r" * 32, cipher_suite=suite, extensions=extensions)])
    assert failure(pair.client_events) == (DtlsReason.ILLEGAL_PARAMETER, "illegal_parameter")


@pytest.mark.rfc("8446", "4.1.4")
def test_a_retry_of_dtls_1_3_is_not_followed_by_dtls_1_2(make_pair: MakePair, wire: Wire) -> None:
    pair = make_pair({"versions": BOTH})
    pair.client.start(0.0)
    pair.to_client([retry_request(wire)])
    assert pair.client_events == []
    extensions = {ExtensionType.KEY_SHARE: ext.KeyShareEntry(23, P256).serialize()}
    pair.to_client([retry_request(wire, 1, random=b"r" * 32, extensions=extensions)])
    assert failure(pair.client_events) == (DtlsReason.ILLEGAL_PARAMETER, "illegal_parameter")


@pytest.mark.rfc("9147", "7.1")
def test_a_server_hello_after_a_retry_is_acknowledged_by_its_number(make_pair: MakePair) -> None:
    """The rest of its flight is lost: the acknowledgement has to say that this part came."""
    pair = make_pair(server={"groups": [NamedGroup.SECP256R1]}, mtu=200, round_trip_s=0.1)
    pair.client.start(0.0)
    for _ in range(2):
        pair.to_server(pair.from_client())
        answer = pair.from_server()
        # The first datagram is the HelloRetryRequest, the first of the second flight the ServerHello.
        pair.to_client(answer[:1])
    now = pair.client.next_timeout()
    assert now is not None
    pair.to_server(pair.from_client(now), now)
    repeated = pair.from_server(now)
    assert pair.server.statistics.partly_repeated_flights == 1
    assert len(repeated) == len(answer) - 1
    pair.to_client(repeated, now)
    pair.settle(now)
    assert completion(pair.server_events)


def test_there_is_only_one_retry(pair: Pair, wire: Wire) -> None:
    pair.client.start(0.0)
    pair.to_client([retry_request(wire), retry_request(wire, 1)])
    assert failure(pair.client_events)[0] is DtlsReason.UNEXPECTED_MESSAGE


# Refusals by the server -----------------------------------------------------------------------------------------------


def change_hello(change: Callable[[ClientHello], None]) -> Callable[[bytes], bytes]:
    def apply(body: bytes) -> bytes:
        hello = ClientHello.parse(body)
        change(hello)
        return hello.serialize()

    return apply


def put(kind: int, content: bytes | None) -> Callable[[bytes], bytes]:
    def change(hello: ClientHello) -> None:
        if content is None:
            del hello.extensions[kind]
        else:
            hello.extensions[kind] = content

    return change_hello(change)


def set_field(name: str, value: object) -> Callable[[bytes], bytes]:
    return change_hello(lambda hello: setattr(hello, name, value))


SHARE = ext.KeyShareEntry(29, b"\x09" + bytes(31))
P256 = KeyShare.generate(NamedGroup.SECP256R1, random.Random(0).randbytes).public


@pytest.mark.parametrize(
    ("change", "reason", "alert"),
    [
        (set_field("cookie", b"x"), DtlsReason.ILLEGAL_PARAMETER, "illegal_parameter"),
        (set_field("compression_methods", [0, 1]), DtlsReason.ILLEGAL_PARAMETER, "illegal_parameter"),
        (set_field("cipher_suites", [0x1302, 0xC02B]), DtlsReason.NO_COMMON_CIPHER_SUITE, "handshake_failure"),
        (put(ExtensionType.KEY_SHARE, None), DtlsReason.MISSING_EXTENSION, "missing_extension"),
        (put(ExtensionType.SUPPORTED_GROUPS, None), DtlsReason.MISSING_EXTENSION, "missing_extension"),
        (put(ExtensionType.SIGNATURE_ALGORITHMS, None), DtlsReason.MISSING_EXTENSION, "missing_extension"),
        (
            put(ExtensionType.SIGNATURE_ALGORITHMS, b"\x00\x02\x08\x04"),
            DtlsReason.NO_COMMON_SIGNATURE_ALGORITHM,
            "handshake_failure",
        ),
        (put(ExtensionType.USE_SRTP, None), DtlsReason.MISSING_USE_SRTP, "handshake_failure"),
        (put(ExtensionType.USE_SRTP, b"\x00\x02\x00\x02\x00"), DtlsReason.NO_COMMON_SRTP_PROFILE, "handshake_failure"),
        (put(ExtensionType.SUPPORTED_VERSIONS, b"\x02\xfe\xfb"), DtlsReason.UNSUPPORTED_VERSION, "protocol_version"),
        (
            put(ExtensionType.KEY_SHARE, ext.serialize_key_shares([SHARE, SHARE])),
            DtlsReason.ILLEGAL_PARAMETER,
            "illegal_parameter",
        ),
        (
            put(ExtensionType.KEY_SHARE, ext.serialize_key_shares([ext.KeyShareEntry(30, b"x")])),
            DtlsReason.ILLEGAL_PARAMETER,
            "illegal_parameter",
        ),
        (
            put(ExtensionType.KEY_SHARE, ext.serialize_key_shares([ext.KeyShareEntry(29, bytes(32))])),
            DtlsReason.ILLEGAL_PARAMETER,
            "illegal_parameter",
        ),
        (put(ExtensionType.KEY_SHARE, b"\x00\x07\x00\x1d\x00\x20x"), DtlsReason.MALFORMED, "decode_error"),
        (
            change_hello(
                lambda hello: hello.extensions.update(
                    {
                        ExtensionType.KEY_SHARE: ext.serialize_key_shares([]),
                        ExtensionType.SUPPORTED_GROUPS: ext.serialize_supported_groups([25]),
                    }
                )
            ),
            DtlsReason.NO_COMMON_GROUP,
            "handshake_failure",
        ),
    ],
)
def test_a_hello_that_cannot_be_served(
    pair: Pair, wire: Wire, change: Callable[[bytes], bytes], reason: DtlsReason, alert: str
) -> None:
    pair.client.start(0.0)
    pair.to_server(wire.rewrite(pair.from_client(), HandshakeType.CLIENT_HELLO, change))
    assert failure(pair.server_events) == (reason, alert)
    (answer,) = pair.from_server()
    assert Record.parse(answer)[0].content_type == ContentType.ALERT
    assert pair.server.next_timeout() is None


def test_a_second_hello_must_be_the_first_with_the_share_asked_for(make_pair: MakePair, wire: Wire) -> None:
    two_shares = [SHARE, ext.KeyShareEntry(23, P256)]
    for change in (
        set_field("random", b"?" * 32),
        put(ExtensionType.USE_SRTP, b"\x00\x02\x00\x01\x00"),
        put(ExtensionType.KEY_SHARE, ext.serialize_key_shares(two_shares[:1])),
        put(ExtensionType.KEY_SHARE, ext.serialize_key_shares(two_shares[::-1])),
    ):
        pair = make_pair(server={"groups": [NamedGroup.SECP256R1]})
        pair.client.start(0.0)
        pair.to_server(pair.from_client())
        pair.to_client(pair.from_server())
        pair.to_server(wire.rewrite(pair.from_client(), HandshakeType.CLIENT_HELLO, change))
        assert failure(pair.server_events)[0] is DtlsReason.ILLEGAL_PARAMETER


# What only an insider can get wrong: the messages are changed before they are protected. ------------------------------


def lie(monkeypatch: pytest.MonkeyPatch, is_client: bool, msg_type: int, change: Callable[[bytes], bytes]) -> None:
    honest = Handshake.say

    def say(self: Handshake, kind: HandshakeType, body: bytes, epoch: int = 0) -> None:
        honest(self, kind, change(body) if self.is_client is is_client and kind == msg_type else body, epoch)

    monkeypatch.setattr(Handshake, "say", say)


def flip(body: bytes) -> bytes:
    return body[:-1] + bytes([body[-1] ^ 1])


NO_CERTIFICATE = CertificateMessage13([]).serialize()


@pytest.mark.parametrize(
    ("msg_type", "change", "reason", "alert"),
    [
        (11, lambda _: NO_CERTIFICATE, DtlsReason.MISSING_CERTIFICATE, "certificate_required"),
        (11, lambda body: b"\x01x" + body[1:], DtlsReason.ILLEGAL_PARAMETER, "illegal_parameter"),
        (11, lambda _: CertificateMessage13([b"x"]).serialize(), DtlsReason.BAD_CERTIFICATE, "bad_certificate"),
        (11, lambda body: body[:-1], DtlsReason.MALFORMED, "decode_error"),
        (15, flip, DtlsReason.BAD_SIGNATURE, "decrypt_error"),
        (15, lambda body: b"\x05\x03" + body[2:], DtlsReason.ILLEGAL_PARAMETER, "illegal_parameter"),
        (15, lambda body: b"\x08\x04" + body[2:], DtlsReason.ILLEGAL_PARAMETER, "illegal_parameter"),
        (20, flip, DtlsReason.BAD_FINISHED, "decrypt_error"),
        (20, lambda body: body[:-1], DtlsReason.BAD_FINISHED, "decrypt_error"),
    ],
)
def test_a_client_that_cannot_prove_itself(  # noqa: PLR0913, PLR0917 - one row of the table
    pair: Pair,
    monkeypatch: pytest.MonkeyPatch,
    msg_type: int,
    change: Callable[[bytes], bytes],
    reason: DtlsReason,
    alert: str,
) -> None:
    lie(monkeypatch, True, msg_type, change)
    pair.client.start(0.0)
    pair.settle()
    assert failure(pair.server_events) == (reason, alert)
    assert pair.server.srtp is None
    assert pair.server.half_rtt_srtp is None
    # The client believed itself connected, and hears of its mistake under the keys of the connection.
    assert isinstance(pair.client_events[0], HandshakeComplete)
    assert isinstance(pair.client_events[1], ConnectionFailed)
    assert pair.client_events[1].error.reason is DtlsReason.PEER_ALERT


def encrypted(extensions: dict[int, bytes]) -> Callable[[bytes], bytes]:
    return lambda _: EncryptedExtensions(extensions).serialize()


def server_hello(change: Callable[[ServerHello], object]) -> Callable[[bytes], bytes]:
    def apply(body: bytes) -> bytes:
        hello = ServerHello.parse(body)
        change(hello)
        return hello.serialize()

    return apply


def answers(kind: int, content: bytes) -> Callable[[bytes], bytes]:
    return server_hello(lambda hello: hello.extensions.update({kind: content}))


@pytest.mark.parametrize(
    ("change", "reason", "alert"),
    [
        (server_hello(lambda hello: setattr(hello, "version", 0xFEFF)), DtlsReason.ILLEGAL_PARAMETER, "illegal"),
        (server_hello(lambda hello: setattr(hello, "session_id", b"x")), DtlsReason.ILLEGAL_PARAMETER, "illegal"),
        (server_hello(lambda hello: setattr(hello, "session_id", bytes(33))), DtlsReason.MALFORMED, "decode"),
        (server_hello(lambda hello: setattr(hello, "compression_method", 1)), DtlsReason.ILLEGAL_PARAMETER, "illegal"),
        (server_hello(lambda hello: setattr(hello, "cipher_suite", 0x1302)), DtlsReason.ILLEGAL_PARAMETER, "illegal"),
        (server_hello(lambda hello: setattr(hello, "cipher_suite", 0xC02B)), DtlsReason.ILLEGAL_PARAMETER, "illegal"),
        (server_hello(lambda hello: hello.extensions.pop(51)), DtlsReason.MISSING_EXTENSION, "missing"),
        (answers(51, ext.KeyShareEntry(23, b"\x04" + bytes(64)).serialize()), DtlsReason.ILLEGAL_PARAMETER, "illegal"),
        (answers(51, ext.KeyShareEntry(29, b"\x09" * 31).serialize()), DtlsReason.ILLEGAL_PARAMETER, "illegal"),
        (answers(51, ext.KeyShareEntry(29, bytes(32)).serialize()), DtlsReason.ILLEGAL_PARAMETER, "illegal"),
        (answers(43, b"\xfe\xfd"), DtlsReason.ILLEGAL_PARAMETER, "illegal"),
        (answers(14, b"\x00\x02\x00\x07\x00"), DtlsReason.ILLEGAL_PARAMETER, "illegal"),
        (answers(16, b""), DtlsReason.UNREQUESTED_EXTENSION, "unsupported"),
        (answers(44, b"\x00\x01x"), DtlsReason.UNREQUESTED_EXTENSION, "unsupported"),
    ],
)
def test_a_server_hello_that_answers_something_else(
    pair: Pair, wire: Wire, change: Callable[[bytes], bytes], reason: DtlsReason, alert: str
) -> None:
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(wire.rewrite(pair.from_server(), HandshakeType.SERVER_HELLO, change))
    got, told = failure(pair.client_events)
    assert (got, told.partition("_")[0]) == (reason, alert)


@pytest.mark.rfc("8446", "4.4.3")
def test_a_certificate_verify_signs_these_words(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second opinion: both signatures over what the standard says, put together from what was said."""
    said: list[tuple[HandshakeType, bytes]] = []
    honest = HandshakeTransport.number

    def number(self: HandshakeTransport, kind: HandshakeType, body: bytes) -> HandshakeMessage:
        said.append((kind, body))
        return honest(self, kind, body)

    monkeypatch.setattr(HandshakeTransport, "number", number)
    run(pair)
    signers = [("server", pair.client.peer_certificate), ("client", pair.server.peer_certificate)]
    transcript = sha256()
    for kind, body in said:
        if kind == HandshakeType.CERTIFICATE_VERIFY:
            name, der = signers.pop(0)
            signed = 64 * b" " + f"TLS 1.3, {name} CertificateVerify\0".encode() + transcript.digest()
            proof = CertificateVerify.parse(body)
            verify(parse_peer_public_key(der or b""), proof.scheme, proof.signature, signed)
        transcript.update(bytes([kind]) + len(body).to_bytes(3, "big") + body)
    assert signers == []


@pytest.mark.parametrize(
    ("msg_type", "change", "reason", "alert"),
    [
        (8, encrypted({}), DtlsReason.MISSING_USE_SRTP, "handshake_failure"),
        (8, encrypted({14: b"\x00\x02\x00\x02\x00"}), DtlsReason.ILLEGAL_PARAMETER, "illegal_parameter"),
        (8, encrypted({14: b"\x00\x02\x00\x07\x01m"}), DtlsReason.ILLEGAL_PARAMETER, "illegal_parameter"),
        (8, encrypted({16: b""}), DtlsReason.UNREQUESTED_EXTENSION, "unsupported_extension"),
        (8, encrypted({51: b""}), DtlsReason.ILLEGAL_PARAMETER, "illegal_parameter"),
        (8, lambda _: b"", DtlsReason.MALFORMED, "decode_error"),
        (13, lambda _: CertificateRequest13({}).serialize(), DtlsReason.MISSING_EXTENSION, "missing_extension"),
        (
            13,
            lambda _: CertificateRequest13({13: b"\x00\x02\x08\x04"}).serialize(),
            DtlsReason.NO_COMMON_SIGNATURE_ALGORITHM,
            "handshake_failure",
        ),
        (
            13,
            lambda _: CertificateRequest13({13: b"\x00\x02\x04\x03"}, b"context").serialize(),
            DtlsReason.ILLEGAL_PARAMETER,
            "illegal_parameter",
        ),
        (11, lambda _: NO_CERTIFICATE, DtlsReason.MISSING_CERTIFICATE, "decode_error"),
        (15, flip, DtlsReason.BAD_SIGNATURE, "decrypt_error"),
        (20, flip, DtlsReason.BAD_FINISHED, "decrypt_error"),
        (2, lambda body: body[:34] + b"\x01x" + body[35:], DtlsReason.ILLEGAL_PARAMETER, "illegal_parameter"),
        (2, lambda body: flip(body)[:-34] + bytes(34), DtlsReason.MALFORMED, "decode_error"),
    ],
)
def test_a_server_that_the_client_does_not_accept(  # noqa: PLR0913, PLR0917 - one row of the table
    pair: Pair,
    monkeypatch: pytest.MonkeyPatch,
    msg_type: int,
    change: Callable[[bytes], bytes],
    reason: DtlsReason,
    alert: str,
) -> None:
    lie(monkeypatch, False, msg_type, change)
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    assert failure(pair.client_events) == (reason, alert)
    assert pair.client.srtp is None


@pytest.mark.rfc("8446", "4.2")
@pytest.mark.parametrize("kind", [11, 13, 23, 43, 44, 51, 0xFF01])
def test_what_was_offered_may_still_have_no_place_in_encrypted_extensions(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    pair = make_pair({"versions": BOTH})
    lie(monkeypatch, False, 8, encrypted({14: b"\x00\x02\x00\x07\x00", kind: b""}))
    pair.client.start(0.0)
    offer = pair.client._offer
    assert offer is not None
    # A hello that follows a HelloRetryRequest may have a cookie too.
    offer.hello.extensions.setdefault(ExtensionType.COOKIE, b"")
    assert kind in offer.hello.extensions
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    assert failure(pair.client_events) == (DtlsReason.ILLEGAL_PARAMETER, "illegal_parameter")


@pytest.mark.parametrize(
    ("liar_is_client", "msg_type"),
    [(True, 1), (True, 11), (True, 15), (True, 20), *((False, kind) for kind in (2, 8, 11, 13, 15, 20))],
)
def test_any_damage_under_protection_is_survived_or_reported(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch, msg_type: int, liar_is_client: bool
) -> None:
    rng = random.Random(msg_type)

    def damage(body: bytes) -> bytes:
        changed = bytearray(body)
        while changed == body:
            start = rng.randrange(len(changed))
            changed[start : start + rng.randrange(20)] = rng.randbytes(rng.randrange(20))
        return bytes(changed)

    lie(monkeypatch, liar_is_client, msg_type, damage)
    for seed in range(40):
        pair = make_pair(seed=seed)
        pair.client.start(0.0)
        pair.settle()
        honest = pair.server_events if liar_is_client else pair.client_events
        # Other parameters may be as good as the right ones; a proof of identity may not.
        if msg_type in {11, 15, 20}:
            assert all(isinstance(event, ConnectionFailed) for event in honest)
        for events in (pair.client_events, pair.server_events):
            assert sum(isinstance(event, ConnectionFailed) for event in events) <= 1


@pytest.mark.rfc("8827", "6.5")
def test_a_server_that_does_not_ask_for_our_certificate_is_refused(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Handshake.say

    def say(self: Handshake, kind: HandshakeType, body: bytes, epoch: int = 0) -> None:
        if kind != HandshakeType.CERTIFICATE_REQUEST:
            honest(self, kind, body, epoch)

    monkeypatch.setattr(Handshake, "say", say)
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    assert failure(pair.client_events) == (DtlsReason.UNEXPECTED_MESSAGE, "unexpected_message")


@pytest.mark.rfc("8122", "6.2")
@pytest.mark.parametrize("side", ["client", "server"])
def test_a_stranger_is_refused(make_pair: MakePair, side: str) -> None:
    pair = make_pair(**{side: {"peer_fingerprints": [STRANGER]}})
    pair.client.start(0.0)
    pair.settle()
    here, there = pair.client_events, pair.server_events
    if side == "server":
        here, there = there, here
    assert failure(here) == (DtlsReason.FINGERPRINT_MISMATCH, "bad_certificate")
    # Unlike in DTLS 1.2 the alert is protected, and believed at once.
    assert isinstance(there[-1], ConnectionFailed)
    assert there[-1].error.detail == "bad_certificate"


# Downgrades -----------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("8446", "4.1.3")
def test_a_hello_robbed_of_dtls_1_3_is_noticed_by_the_client(make_pair: MakePair, wire: Wire) -> None:
    pair = make_pair(versions=BOTH)
    pair.client.start(0.0)
    robbed = wire.rewrite(pair.from_client(), HandshakeType.CLIENT_HELLO, put(ExtensionType.SUPPORTED_VERSIONS, None))
    pair.to_server(robbed)
    pair.to_client(pair.from_server())
    assert failure(pair.client_events) == (DtlsReason.DOWNGRADE, "illegal_parameter")


@pytest.mark.rfc("8446", "4.1.3")
@pytest.mark.parametrize("mark", [b"DOWNGRD\x00", b"DOWNGRD\x01"])
def test_either_mark_counts_and_only_for_a_client_that_offered_more(
    make_pair: MakePair, wire: Wire, mark: bytes
) -> None:
    for versions, state in ((BOTH, ConnectionState.CLOSED), ([DtlsVersion.DTLS_1_2], ConnectionState.HANDSHAKE)):
        pair = make_pair({"versions": versions}, {"versions": [DtlsVersion.DTLS_1_2]})
        pair.client.start(0.0)
        pair.to_server(pair.from_client())
        marked = server_hello(lambda hello: setattr(hello, "random", hello.random[:-8] + mark))
        pair.to_client(wire.rewrite(pair.from_server(), HandshakeType.SERVER_HELLO, marked)[:1])
        assert pair.client.state is state


@pytest.mark.rfc("8446", "4.1.3")
def test_the_mark_is_for_servers_that_could_do_more(make_pair: MakePair, wire: Wire) -> None:
    for versions, marked in ((BOTH, True), ([DtlsVersion.DTLS_1_2], False)):
        pair = make_pair({"versions": [DtlsVersion.DTLS_1_2]}, {"versions": versions})
        pair.client.start(0.0)
        pair.to_server(pair.from_client())
        hello = ServerHello.parse(wire.fragments(pair.from_server())[0].data)
        assert hello.random.endswith(b"DOWNGRD\x01") is marked


def test_dtls_1_3_after_a_hello_verify_request_is_refused(make_pair: MakePair, wire: Wire) -> None:
    pair = make_pair(versions=BOTH)
    pair.client.start(0.0)
    verify = HandshakeFragment(HandshakeType.HELLO_VERIFY_REQUEST, 4, 0, 0, b"\xfe\xff\x01c")
    pair.to_client([wire.datagram(verify), retry_request(wire, 1)])
    assert failure(pair.client_events)[0] is DtlsReason.ILLEGAL_PARAMETER


# Acknowledgements -----------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9147", "7.2")
def test_only_what_was_lost_is_said_again(make_pair: MakePair) -> None:
    pair = make_pair(mtu=200, round_trip_s=0.1)
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    flight = pair.from_server()
    pair.to_client([*flight[:2], *flight[3:]])
    assert pair.from_client() == []
    timeout = pair.client.next_timeout()
    assert timeout == pytest.approx(0.05)
    (acknowledgement,) = pair.from_client(0.05)
    pair.to_server([acknowledgement], 0.05)
    repeated = pair.from_server(0.05)
    assert len(repeated) == 1
    assert pair.server.statistics.partly_repeated_flights == 1
    pair.to_client(repeated, 0.05)
    assert completion(pair.client_events)


@pytest.mark.parametrize("pieces", [1, 2], ids=["ServerHello alone", "a little more"])
def test_a_client_that_waits_for_the_rest_asks_again_and_again(make_pair: MakePair, pieces: int) -> None:
    pair = make_pair(mtu=200, round_trip_s=0.1)
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    answer, *_ = flight = pair.from_server()
    _, end = Record.parse(answer)
    pair.to_client(flight[:2] if pieces == 2 else [answer[:end]])
    times = []
    for _ in range(4):
        timeout = pair.client.next_timeout()
        assert timeout is not None
        times.append(round(timeout * 1000))
        pair.client.handle_timeout(timeout)
        assert len(pair.from_client(timeout)) == 1
    assert times == [50, 150, 350, 750]
    # What came of the answer says that the hello arrived.
    assert pair.client.statistics.retransmitted_flights == 0


def acknowledged(pair: Pair, datagrams: list[bytes]) -> list[RecordNumber]:
    """What an acknowledgement of the server names, read with the client's keys."""
    (record,) = (record for datagram in datagrams for record in pair.client._records.receive(datagram))
    assert record.content_type == ContentType.ACK
    return Acknowledgement.parse(record.payload).numbers


@pytest.mark.rfc("9147", "7.1")
def test_a_server_that_holds_a_piece_of_the_last_flight_asks_for_the_rest_alone(make_pair: MakePair) -> None:
    pair = make_pair(mtu=200, round_trip_s=0.1)
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.to_server(pair.from_client()[:1])
    # Any number of forged plaintext records keep nothing out of the list.
    for number in range(200):
        forged = HandshakeFragment(HandshakeType.CERTIFICATE, 200, 1, number, b"?")
        pair.to_server([Record(ContentType.HANDSHAKE, DTLS_1_2, 0, number, forged.serialize()).serialize()])
    assert pair.from_server(0.049) == []
    assert acknowledged(pair, pair.from_server(0.05)) == [RecordNumber(2, 0)]
    pair.server.handle_timeout(0.2)
    assert pair.server.statistics.retransmitted_flights == 0


@pytest.mark.rfc("9147", "7")
def test_a_record_of_which_anything_was_thrown_away_is_not_acknowledged(connected: Pair) -> None:
    client = connected.client
    update = HandshakeFragment(HandshakeType.NEW_SESSION_TICKET, 40, 6, 0, bytes(4))
    too_far_ahead = HandshakeFragment(HandshakeType.NEW_SESSION_TICKET, 4, 30, 0, bytes(4))
    for fragments, is_named in (([update, too_far_ahead], False), ([update], True)):
        payload = b"".join(fragment.serialize() for fragment in fragments)
        number = RecordNumber(3, client._records.next_sequence_number(3))
        connected.to_server([client._records.seal(3, ContentType.HANDSHAKE, payload)])
        answer = connected.from_server()
        assert (number in acknowledged(connected, answer) if answer else False) is is_named


@pytest.mark.rfc("9147", "7")
def test_an_acknowledgement_fits_its_room_and_names_the_newest_in_order() -> None:
    received = ReceivedRecords()
    for number in (5, 1, 4, 2, 3):
        received.note(2, number)
    content = received.take(0.0, 2 + 3 * 16 + 15, again=False)
    assert Acknowledgement.parse(content).numbers == [RecordNumber(2, number) for number in (2, 3, 4)]


@pytest.mark.rfc("9147", "7.2")
def test_an_empty_acknowledgement_brings_the_whole_flight(make_pair: MakePair) -> None:
    pair = make_pair(mtu=200, round_trip_s=0.1)
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    flight = pair.from_server()
    pair.to_client(flight[:1])
    empty = pair.client._records.seal(2, ContentType.ACK, Acknowledgement([]).serialize())
    pair.to_server([empty], 0.15)
    assert len(pair.from_server(0.15)) == len(flight)


def test_a_malformed_acknowledgement_is_dropped_and_counted(make_pair: MakePair) -> None:
    pair = make_pair(mtu=200)
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server()[:1])
    pair.to_server([pair.client._records.seal(2, ContentType.ACK, b"\x00\x08" + bytes(8))])
    assert pair.server.statistics.unexpected_records == 1
    assert pair.server_events == []
    assert pair.from_server() == []


@pytest.mark.rfc("9147", "7.1")
def test_a_finished_that_comes_again_is_acknowledged_again(pair: Pair) -> None:
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.to_server(pair.from_client())
    assert len(pair.from_server()) == 1
    now = 0.0
    for _ in range(3):
        now = pair.client.next_timeout() or now
        pair.client.handle_timeout(now)
        pair.to_server(pair.from_client(now), now)
        (acknowledgement,) = pair.from_server(now)
    pair.to_client([acknowledgement], now)
    assert pair.client.next_timeout() is None
    assert [type(event) for event in pair.server_events] == [HandshakeComplete]


def test_a_plaintext_acknowledgement_brings_the_flight_again_and_proves_nothing(pair: Pair) -> None:
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    flight = pair.from_server()
    everything = Acknowledgement([RecordNumber(epoch, 0) for epoch in (0, 2)]).serialize()
    forged = Record(ContentType.ACK, DTLS_1_2, 0, 7, everything).serialize()
    pair.to_server([forged] * 5, 0.020)
    assert len(pair.from_server(0.020)) == len(flight)
    assert pair.server.next_timeout() is not None
    assert pair.server.statistics.unauthenticated_acknowledgements == 5


def test_an_unacknowledged_finished_ends_in_a_timeout(pair: Pair) -> None:
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    assert completion(pair.client_events)
    pair.client_events.clear()
    now = 0.0
    for _ in range(100):
        timeout = pair.client.next_timeout()
        if timeout is None:
            break
        now = timeout
        pair.client.handle_timeout(now)
        pair.client.datagrams_to_send(now)
    pair.collect()
    assert now <= 10.0
    assert failure(pair.client_events)[0] is DtlsReason.TIMEOUT


# After the handshake --------------------------------------------------------------------------------------------------


@pytest.mark.rfc("9147", "8")
@pytest.mark.parametrize("request_", [False, True], ids=["ours", "both"])
def test_keys_are_changed_and_data_goes_on(connected: Pair, request_: bool) -> None:
    client, server = connected.client, connected.server
    for round_ in range(1, 6):
        client.send(b"under the old keys")
        client.update_keys(0.0, request=request_)
        client.send(b"not acknowledged yet")
        connected.settle()
        client.send(b"under the new keys")
        server.send(b"answer")
        connected.settle()
        assert len(connected.server_events) == 3
        assert connected.client_events == [ApplicationData(b"answer")]
        connected.server_events.clear()
        connected.client_events.clear()
        assert client._transport.write_epoch == 3 + round_
        assert server._transport.write_epoch == (3 + round_ if request_ else 3)
        assert len(server._records._read) <= 2
        assert list(client._records._write) == [3 + round_]
    assert client.next_timeout() is None
    assert server.statistics.key_updates == 5


@pytest.mark.rfc("9147", "4.5.3")
def test_a_key_that_was_used_much_is_changed_by_itself(connected: Pair) -> None:
    protection = connected.client._records._write[3]
    protection.next_sequence_number = KEY_UPDATE_AFTER_RECORDS - 1
    window = connected.server._records._read[3].window
    assert window is not None
    window.highest = KEY_UPDATE_AFTER_RECORDS - 2
    for _ in range(3):
        connected.client.send(b"on and on")
    connected.settle()
    assert connected.server_events == [ApplicationData(b"on and on")] * 3
    assert (connected.client._transport.write_epoch, connected.server.statistics.key_updates) == (4, 1)


@pytest.mark.rfc("9147", "4.5.3")
@pytest.mark.parametrize("version", BOTH, ids=lambda version: version.value)
def test_a_peer_that_takes_no_new_keys_is_left_before_the_old_ones_are_worn(connected: Pair) -> None:
    client = connected.client
    client._records._write[client._transport.write_epoch].next_sequence_number = CLOSE_AFTER_RECORDS - 1
    client.send(b"the last words")
    assert len(client.datagrams_to_send(0.0)) == 2
    connected.collect()
    assert failure(connected.client_events) == (DtlsReason.KEY_WORN_OUT, "internal_error")
    assert client.next_timeout() is None
    assert client.datagrams_to_send(1.0) == []
    client.close(1.0)


def test_a_peer_cannot_wear_our_keys_by_asking_for_acknowledgements(connected: Pair) -> None:
    client, server = connected.client, connected.server
    server._records._write[3].next_sequence_number = KEY_UPDATE_AFTER_RECORDS
    window = client._records._read[3].window
    assert window is not None
    window.highest = KEY_UPDATE_AFTER_RECORDS - 1
    client.update_keys(0.0)
    connected.settle()
    # The acknowledgement was one record too many, so the server changed its keys with it.
    assert (server._transport.write_epoch, client.statistics.key_updates) == (4, 1)


@pytest.mark.rfc("9147", "8")
def test_what_the_peer_says_between_its_key_update_and_the_acknowledgement_counts(connected: Pair) -> None:
    client, server = connected.client, connected.server
    for epoch in (4, 5):
        server.update_keys(0.0)
        connected.to_client(connected.from_server())
        insider(connected, "server", HandshakeType.NEW_SESSION_TICKET, bytes(80))
        connected.settle()
        server.send(b"under the new keys")
        connected.settle()
        assert server._transport.write_epoch == epoch
        assert connected.client_events == [ApplicationData(b"under the new keys")]
        assert client._transport._reassembler.buffered_bytes == 0
        connected.client_events.clear()


def test_a_lost_acknowledgement_of_a_key_update_is_repaired(connected: Pair) -> None:
    client, server = connected.client, connected.server
    client.update_keys(0.0)
    connected.to_server(connected.from_client())
    connected.from_server()
    timeout = client.next_timeout()
    assert timeout is not None
    client.handle_timeout(timeout)
    client.send(b"still under the old keys")
    connected.settle(timeout)
    assert connected.server_events == [ApplicationData(b"still under the old keys")]
    assert (client._transport.write_epoch, server.statistics.key_updates) == (4, 1)


def test_a_change_of_keys_waits_for_the_finished_to_be_acknowledged(pair: Pair) -> None:
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.client.update_keys(0.0, request=True)
    pair.client.update_keys(0.0)
    pair.settle()
    assert (pair.client._transport.write_epoch, pair.server._transport.write_epoch) == (4, 4)
    assert pair.client.statistics.key_updates == pair.server.statistics.key_updates == 1


def test_both_sides_may_change_keys_at_once(connected: Pair) -> None:
    connected.client.update_keys(0.0, request=True)
    connected.server.update_keys(0.0, request=True)
    connected.settle()
    connected.client.send(b"there")
    connected.server.send(b"and back")
    connected.settle()
    assert connected.server_events == [ApplicationData(b"there")]
    assert connected.client_events == [ApplicationData(b"and back")]


def insider(pair: Pair, sender: str, msg_type: int, body: bytes) -> None:
    connection = getattr(pair, sender)
    transport = connection._transport
    message = transport.number(msg_type, body)
    fragment = HandshakeFragment(msg_type, len(body), message.message_seq, 0, body)
    datagram = connection._records.seal(transport.write_epoch, ContentType.HANDSHAKE, fragment.serialize())
    (pair.to_server if sender == "client" else pair.to_client)([datagram])


@pytest.mark.rfc("8446", "4.6.1")
def test_a_session_ticket_is_acknowledged_and_forgotten(connected: Pair) -> None:
    insider(connected, "server", HandshakeType.NEW_SESSION_TICKET, bytes(80))
    assert connected.client_events == []
    assert len(connected.from_client()) == 1


@pytest.mark.parametrize("sender", ["client", "server"])
@pytest.mark.parametrize(
    ("msg_type", "body", "reason"),
    [
        (HandshakeType.KEY_UPDATE, b"\x02", DtlsReason.ILLEGAL_PARAMETER),
        (HandshakeType.KEY_UPDATE, b"", DtlsReason.MALFORMED),
        (HandshakeType.CLIENT_HELLO, bytes(50), DtlsReason.UNEXPECTED_MESSAGE),
        (HandshakeType.FINISHED, bytes(32), DtlsReason.UNEXPECTED_MESSAGE),
        (HandshakeType.CERTIFICATE_REQUEST, b"\x00\x00\x00", DtlsReason.UNEXPECTED_MESSAGE),
    ],
)
def test_what_has_no_place_after_the_handshake(
    connected: Pair, sender: str, msg_type: HandshakeType, body: bytes, reason: DtlsReason
) -> None:
    insider(connected, sender, msg_type, body)
    events = connected.server_events if sender == "client" else connected.client_events
    assert failure(events)[0] is reason


def test_a_client_may_not_send_tickets(connected: Pair) -> None:
    insider(connected, "client", HandshakeType.NEW_SESSION_TICKET, bytes(80))
    assert failure(connected.server_events)[0] is DtlsReason.UNEXPECTED_MESSAGE


@pytest.mark.rfc("9147", "8")
def test_a_key_update_under_the_keys_of_the_handshake_is_none(connected: Pair) -> None:
    connected.client._transport.write_epoch = 2
    insider(connected, "client", HandshakeType.KEY_UPDATE, b"\x00")
    assert connected.server.statistics.key_updates == 0
    assert connected.server_events == []


def test_data_under_the_keys_of_the_handshake_is_dropped(connected: Pair) -> None:
    datagram = connected.client._records.seal(2, ContentType.APPLICATION_DATA, b"wrong epoch")
    connected.to_server([datagram])
    assert connected.server_events == []
    assert connected.server.statistics.unexpected_records == 1


def test_goodbye_is_said_and_answered(connected: Pair) -> None:
    connected.client.close(1.0)
    connected.settle()
    assert connected.client_events == [ConnectionClosed(CloseReason.LOCAL)]
    assert connected.server_events == [ConnectionClosed(CloseReason.PEER)]
    assert connected.client.state is connected.server.state is ConnectionState.CLOSED


@pytest.mark.rfc("8446", "6")
def test_every_alert_but_two_is_fatal_whatever_its_level(connected: Pair) -> None:
    connected.to_client([connected.server._records.seal(3, ContentType.ALERT, b"\x01\x28")])
    assert failure(connected.client_events)[0] is DtlsReason.PEER_ALERT
