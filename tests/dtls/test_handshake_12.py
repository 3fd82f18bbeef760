"""DTLS 1.2: whole handshakes of our client with our server, and each way in which one is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from voicegate.dtls import (
    CLASSICAL_GROUPS,
    ApplicationData,
    Certificate,
    CipherSuite,
    ConnectionFailed,
    ConnectionState,
    DtlsConnection,
    DtlsReason,
    DtlsRole,
    DtlsVersion,
    Event,
    Fingerprint,
    HandshakeComplete,
    NamedGroup,
    SrtpProfile,
)
from voicegate.dtls.code_points import DTLS_1_2, ContentType, ExtensionType, HandshakeType
from voicegate.dtls.dtls12 import server as server_12
from voicegate.dtls.messages import (
    CertificateMessage,
    CertificateRequest,
    ClientHello,
    HelloVerifyRequest,
    ServerHello,
    ServerKeyExchange,
)
from voicegate.dtls.messages import extensions as ext
from voicegate.dtls.reassembly import HandshakeFragment
from voicegate.dtls.record import Record
from voicegate.errors import LocalError

if TYPE_CHECKING:
    from tests.dtls.conftest import MakePair, Pair, Wire


@pytest.fixture
def version() -> DtlsVersion:
    return DtlsVersion.DTLS_1_2


GCM, SHA1_80 = SrtpProfile.AEAD_AES_128_GCM, SrtpProfile.AES128_CM_SHA1_80


def completion(events: list[Event]) -> HandshakeComplete:
    (event,) = events
    assert isinstance(event, HandshakeComplete)
    return event


def failure(events: list[Event]) -> DtlsReason:
    (event,) = events
    assert isinstance(event, ConnectionFailed)
    return event.error.dtls_reason


def change_client_hello(change: Callable[[ClientHello], None]) -> Callable[[bytes], bytes]:
    def apply(body: bytes) -> bytes:
        hello = ClientHello.parse(body)
        change(hello)
        return hello.serialize()

    return apply


def change_server_hello(change: Callable[[ServerHello], None]) -> Callable[[bytes], bytes]:
    def apply(body: bytes) -> bytes:
        hello = ServerHello.parse(body)
        change(hello)
        return hello.serialize()

    return apply


# Success --------------------------------------------------------------------------------------------------------------


def test_two_round_trips_and_four_datagrams(pair: Pair) -> None:
    pair.client.start(0.0)
    flights = []
    for _ in range(2):
        flights.append(pair.from_client())
        pair.to_server(flights[-1])
        flights.append(pair.from_server())
        pair.to_client(flights[-1])
    assert [len(flight) for flight in flights] == [1, 1, 1, 1]
    assert all(len(datagram) <= 700 for flight in flights for datagram in flight)
    for connection in (pair.client, pair.server):
        assert connection.state is ConnectionState.CONNECTED
        assert connection.next_timeout() is None


@pytest.mark.parametrize(
    ("client_profiles", "server_profiles", "chosen"),
    [
        ((GCM, SHA1_80), (GCM, SHA1_80), GCM),
        ((SHA1_80, GCM), (GCM, SHA1_80), GCM),
        ((GCM, SHA1_80), (SHA1_80, GCM), SHA1_80),
        ((SHA1_80,), (GCM, SHA1_80), SHA1_80),
    ],
)
@pytest.mark.rfc("5764", "4.1.1")
def test_the_server_chooses_the_srtp_profile_by_its_own_order(
    make_pair: MakePair, client_profiles: list[SrtpProfile], server_profiles: list[SrtpProfile], chosen: SrtpProfile
) -> None:
    pair = make_pair({"srtp_profiles": client_profiles}, {"srtp_profiles": server_profiles})
    pair.client.start(0.0)
    pair.settle()
    client, server = completion(pair.client_events), completion(pair.server_events)
    assert (client.version, client.cipher_suite) == ("DTLS 1.2", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256")
    assert client.srtp is not None
    assert server.srtp is not None
    assert client.srtp.profile is server.srtp.profile is chosen
    assert (client.srtp.local_key, client.srtp.local_salt) == (server.srtp.remote_key, server.srtp.remote_salt)
    assert (server.srtp.local_key, server.srtp.local_salt) == (client.srtp.remote_key, client.srtp.remote_salt)
    assert len({client.srtp.local_key, client.srtp.remote_key}) == 2
    assert (len(client.srtp.local_key), len(client.srtp.local_salt)) == (16, 12 if chosen is GCM else 14)
    assert client.srtp.local_key.hex() not in repr(client)


def test_without_media_no_srtp_is_negotiated(make_pair: MakePair) -> None:
    pair = make_pair(srtp_profiles=())
    pair.client.start(0.0)
    pair.settle()
    assert completion(pair.client_events).srtp is None
    assert completion(pair.server_events).srtp is None


@pytest.mark.parametrize("group", CLASSICAL_GROUPS, ids=lambda group: group.name)
def test_any_group_serves_a_peer_that_has_no_other(make_pair: MakePair, wire: Wire, group: NamedGroup) -> None:
    pair = make_pair({"groups": [NamedGroup.X25519MLKEM768, group]})
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    flight = pair.from_server()
    exchange = next(piece for piece in wire.fragments(flight) if piece.msg_type == HandshakeType.SERVER_KEY_EXCHANGE)
    assert ServerKeyExchange.parse(exchange.data).group == group
    pair.to_client(flight)
    pair.settle()
    assert completion(pair.client_events).key_exchange == completion(pair.server_events).key_exchange == group.name


def test_chacha20_serves_a_peer_without_aes(make_pair: MakePair) -> None:
    suite = CipherSuite.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
    pair = make_pair({"cipher_suites": [suite]})
    pair.client.start(0.0)
    pair.settle()
    assert completion(pair.client_events).cipher_suite == completion(pair.server_events).cipher_suite == suite.name
    pair.client_events.clear()
    for words in (b"some", b"more", b"words"):
        pair.server.send(words)
    pair.settle()
    assert pair.client_events == [ApplicationData(words) for words in (b"some", b"more", b"words")]


def test_both_sides_know_the_others_certificate(connected: Pair) -> None:
    client, server = connected.client, connected.server
    assert client.peer_certificate is not None
    assert server.peer_certificate is not None
    assert client.peer_certificate != server.peer_certificate


def test_the_same_seed_gives_the_same_keys(make_pair: MakePair) -> None:
    """Randomness is an argument; only ECDSA draws its own, and the keys do not hang on that."""
    offers = []
    for _ in range(2):
        pair = make_pair(seed=5)
        pair.client.start(0.0)
        offers.append(pair.from_client())
    assert offers[0] == offers[1]


def test_the_client_has_srtp_keys_one_round_trip_early(pair: Pair) -> None:
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    before = pair.client.srtp
    pair.to_client(pair.from_server())
    early = pair.client.srtp
    assert before is None
    assert early is not None
    assert pair.client_events == []
    pair.settle()
    assert completion(pair.client_events).srtp == early
    assert pair.server.srtp == completion(pair.server_events).srtp


@pytest.mark.parametrize("mtu", [128, 200, 300, 576, 1200])
def test_no_datagram_is_longer_than_the_mtu(make_pair: MakePair, mtu: int) -> None:
    pair = make_pair(mtu=mtu)
    pair.client.start(0.0)
    sizes: list[int] = []
    for _ in range(3):
        for take, give in ((pair.from_client, pair.to_server), (pair.from_server, pair.to_client)):
            datagrams = take()
            sizes += map(len, datagrams)
            give(datagrams)
    assert max(sizes) <= mtu
    assert pair.client.state is pair.server.state is ConnectionState.CONNECTED
    pair.client.send(bytes(pair.client.maximum_data_bytes))
    assert [len(datagram) for datagram in pair.from_client()] == [mtu]
    with pytest.raises(LocalError):
        pair.client.send(bytes(pair.client.maximum_data_bytes + 1))


@pytest.mark.parametrize("size", [7, 50])
def test_flights_cut_into_crumbs_are_put_together(pair: Pair, wire: Wire, size: int) -> None:
    pair.client.start(0.0)
    pair.to_server(reversed(wire.cut(pair.from_client(), size)))
    pair.to_client(wire.cut(pair.from_server(), size))
    pair.settle()
    assert completion(pair.client_events)
    assert completion(pair.server_events)


# HelloVerifyRequest ---------------------------------------------------------------------------------------------------


@pytest.mark.rfc("6347", "4.2.1")
def test_the_client_follows_one_hello_verify_request(pair: Pair, wire: Wire) -> None:
    pair.client.start(0.0)
    first = ClientHello.parse(wire.fragments(pair.from_client())[0].data)
    pair.to_client([wire.datagram(verify_request(b"a cookie", 0))])
    (again,) = wire.fragments(pair.from_client())
    second = ClientHello.parse(again.data)
    assert (again.message_seq, second.cookie) == (1, b"a cookie")
    second.cookie = b""
    assert second == first
    pair.to_client([wire.datagram(verify_request(b"another", 1))])
    assert failure(pair.client_events) is DtlsReason.UNEXPECTED_MESSAGE


def test_a_hello_verify_request_without_a_cookie_is_refused(pair: Pair, wire: Wire) -> None:
    """Following it would send the same hello again, as often as anybody asks."""
    pair.client.start(0.0)
    pair.to_client([wire.datagram(verify_request(b"", 0))])
    assert failure(pair.client_events) is DtlsReason.UNEXPECTED_MESSAGE


def test_a_repeated_hello_verify_request_is_no_second_one(pair: Pair, wire: Wire) -> None:
    pair.client.start(0.0)
    pair.from_client()
    pair.to_client([wire.datagram(verify_request(b"a cookie", 0))] * 3)
    assert len(pair.from_client()) == 1
    assert pair.client_events == []


def verify_request(cookie: bytes, message_seq: int) -> HandshakeFragment:
    body = HelloVerifyRequest(cookie).serialize()
    return HandshakeFragment(HandshakeType.HELLO_VERIFY_REQUEST, len(body), message_seq, 0, body)


# Fingerprints ---------------------------------------------------------------------------------------------------------

STRANGER = Certificate.generate().fingerprint


@pytest.mark.rfc("8122", "6.2")
def test_the_client_refuses_a_stranger(make_pair: MakePair) -> None:
    pair = make_pair(client={"peer_fingerprints": [STRANGER]})
    pair.client.start(0.0)
    pair.settle()
    assert failure(pair.client_events) is DtlsReason.FINGERPRINT_MISMATCH
    # Its alert is in plaintext, a rumour to the server, which believes it when nothing else comes.
    assert pair.server_events == []
    pair.server.handle_timeout(2.5)
    pair.collect()
    assert failure(pair.server_events) is DtlsReason.PEER_ALERT


@pytest.mark.rfc("8122", "6.2")
def test_the_server_refuses_a_stranger_and_says_bad_certificate(make_pair: MakePair) -> None:
    pair = make_pair(server={"peer_fingerprints": [STRANGER]})
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.to_server(pair.from_client())
    assert failure(pair.server_events) is DtlsReason.FINGERPRINT_MISMATCH
    record, _ = Record.parse(pair.from_server()[0])
    assert (record.content_type, record.payload.hex()) == (ContentType.ALERT, "022a")


def test_a_fingerprint_may_be_told_after_the_handshake(make_pair: MakePair, connected: Pair) -> None:
    pair = make_pair(server={"peer_fingerprints": []})
    pair.client.start(0.0)
    pair.settle()
    assert completion(pair.client_events)
    pair.client.send(b"early")
    pair.settle()
    assert pair.server_events == []
    assert pair.server.srtp is None
    assert pair.server.next_timeout() is None
    with pytest.raises(LocalError):
        pair.server.send(b"not yet")
    assert pair.server.peer_certificate is not None
    pair.server.set_peer_fingerprints([Fingerprint.of(pair.server.peer_certificate)])
    pair.collect()
    complete, early = pair.server_events
    assert isinstance(complete, HandshakeComplete)
    assert early == ApplicationData(b"early")


def test_a_fingerprint_that_comes_late_and_is_wrong_ends_the_connection(make_pair: MakePair) -> None:
    pair = make_pair(server={"peer_fingerprints": []})
    pair.client.start(0.0)
    pair.settle()
    pair.server.set_peer_fingerprints([STRANGER])
    pair.collect()
    assert failure(pair.server_events) is DtlsReason.FINGERPRINT_MISMATCH
    assert pair.server.srtp is None
    pair.client_events.clear()
    pair.settle()
    assert failure(pair.client_events) is DtlsReason.PEER_ALERT


def test_a_fingerprint_may_come_in_the_middle_of_the_handshake(make_pair: MakePair) -> None:
    pair = make_pair(client={"peer_fingerprints": []})
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    before = pair.client.srtp
    assert pair.client.peer_certificate is not None
    pair.client.set_peer_fingerprints([Fingerprint.of(pair.client.peer_certificate)])
    after = pair.client.srtp
    assert before is None
    assert after is not None
    pair.settle()
    assert completion(pair.client_events)


def test_data_before_trust_is_bounded(make_pair: MakePair) -> None:
    pair = make_pair(server={"peer_fingerprints": []})
    pair.client.start(0.0)
    pair.settle()
    for number in range(40):
        pair.client.send(bytes([number]))
    pair.settle()
    assert pair.server.statistics.held_data_overflow == 24


# Refusals by the server -----------------------------------------------------------------------------------------------


def drop(kind: int) -> Callable[[ClientHello], None]:
    def change(hello: ClientHello) -> None:
        del hello.extensions[kind]

    return change


def put(kind: int, content: bytes) -> Callable[[ClientHello], None]:
    def change(hello: ClientHello) -> None:
        hello.extensions[kind] = content

    return change


def set_field(name: str, value: object) -> Callable[[ClientHello], None]:
    def change(hello: ClientHello) -> None:
        setattr(hello, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "reason", "alert"),
    [
        (drop(ExtensionType.EXTENDED_MASTER_SECRET), DtlsReason.MISSING_EXTENDED_MASTER_SECRET, 40),
        (put(ExtensionType.EXTENDED_MASTER_SECRET, b"x"), DtlsReason.MALFORMED, 50),
        (drop(ExtensionType.USE_SRTP), DtlsReason.MISSING_USE_SRTP, 40),
        (put(ExtensionType.USE_SRTP, ext.UseSrtp([2, 8]).serialize()), DtlsReason.NO_COMMON_SRTP_PROFILE, 40),
        (put(ExtensionType.USE_SRTP, b"\x00"), DtlsReason.MALFORMED, 50),
        (set_field("cipher_suites", [0x1301, 0xC02F, 0x009C]), DtlsReason.NO_COMMON_CIPHER_SUITE, 40),
        (set_field("compression_methods", [1]), DtlsReason.ILLEGAL_PARAMETER, 47),
        (set_field("version", 0xFEFF), DtlsReason.UNSUPPORTED_VERSION, 70),
        (set_field("version", 0x0303), DtlsReason.UNSUPPORTED_VERSION, 70),
        (put(ExtensionType.SUPPORTED_GROUPS, ext.serialize_supported_groups([25, 30])), DtlsReason.NO_COMMON_GROUP, 40),
        (put(ExtensionType.SUPPORTED_GROUPS, b"\x00\x03\x00\x1d\x00"), DtlsReason.MALFORMED, 50),
        (drop(ExtensionType.SIGNATURE_ALGORITHMS), DtlsReason.NO_COMMON_SIGNATURE_ALGORITHM, 40),
        (
            put(ExtensionType.SIGNATURE_ALGORITHMS, ext.serialize_signature_algorithms([0x0804])),
            DtlsReason.NO_COMMON_SIGNATURE_ALGORITHM,
            40,
        ),
        (put(ExtensionType.EC_POINT_FORMATS, b"\x01\x01"), DtlsReason.ILLEGAL_PARAMETER, 47),
        (put(ExtensionType.RENEGOTIATION_INFO, b"\x01x"), DtlsReason.ILLEGAL_PARAMETER, 40),
    ],
)
def test_a_hello_that_cannot_be_served(
    pair: Pair, wire: Wire, change: Callable[[ClientHello], None], reason: DtlsReason, alert: int
) -> None:
    pair.client.start(0.0)
    pair.to_server(wire.rewrite(pair.from_client(), HandshakeType.CLIENT_HELLO, change_client_hello(change)))
    assert failure(pair.server_events) is reason
    (answer,) = pair.from_server()
    assert Record.parse(answer)[0].payload == bytes([2, alert])
    assert pair.server.next_timeout() is None


@pytest.mark.parametrize(
    ("change", "answered"),
    [
        (lambda hello: None, {ExtensionType.EC_POINT_FORMATS, ExtensionType.RENEGOTIATION_INFO}),
        (drop(ExtensionType.EC_POINT_FORMATS), {ExtensionType.RENEGOTIATION_INFO}),
        (drop(ExtensionType.RENEGOTIATION_INFO), {ExtensionType.EC_POINT_FORMATS}),
    ],
)
def test_a_server_answers_only_what_was_asked(
    pair: Pair, wire: Wire, change: Callable[[ClientHello], None], answered: set[int]
) -> None:
    pair.client.start(0.0)
    pair.to_server(wire.rewrite(pair.from_client(), HandshakeType.CLIENT_HELLO, change_client_hello(change)))
    hello = ServerHello.parse(wire.fragments(pair.from_server())[0].data)
    assert hello.extensions.keys() == answered | {ExtensionType.EXTENDED_MASTER_SECRET, ExtensionType.USE_SRTP}


@pytest.mark.rfc("5746", "3.6")
def test_a_suite_that_is_none_asks_for_renegotiation_info_too(pair: Pair, wire: Wire) -> None:
    def change(hello: ClientHello) -> None:
        del hello.extensions[ExtensionType.RENEGOTIATION_INFO]
        hello.cipher_suites.append(0x00FF)

    pair.client.start(0.0)
    pair.to_server(wire.rewrite(pair.from_client(), HandshakeType.CLIENT_HELLO, change_client_hello(change)))
    hello = ServerHello.parse(wire.fragments(pair.from_server())[0].data)
    assert hello.extensions[ExtensionType.RENEGOTIATION_INFO] == b"\x00"


@pytest.mark.rfc("8422", "4")
def test_a_client_that_names_no_groups_gets_the_one_that_all_have(pair: Pair, wire: Wire) -> None:
    pair.client.start(0.0)
    change = change_client_hello(drop(ExtensionType.SUPPORTED_GROUPS))
    pair.to_server(wire.rewrite(pair.from_client(), HandshakeType.CLIENT_HELLO, change))
    [exchange] = [part for part in wire.fragments(pair.from_server()) if part.msg_type == 12]
    assert ServerKeyExchange.parse(exchange.data).group == NamedGroup.SECP256R1


def test_an_empty_answer_to_the_certificate_request(pair: Pair, wire: Wire) -> None:
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    nothing = CertificateMessage([]).serialize()
    pair.to_server(wire.rewrite(pair.from_client(), HandshakeType.CERTIFICATE, lambda _: nothing))
    assert failure(pair.server_events) is DtlsReason.MISSING_CERTIFICATE


@pytest.mark.parametrize(
    ("msg_type", "change", "reason"),
    [
        (HandshakeType.CERTIFICATE_VERIFY, lambda body: body[:-1] + bytes([body[-1] ^ 1]), DtlsReason.BAD_SIGNATURE),
        (HandshakeType.CERTIFICATE_VERIFY, lambda body: b"\x08\x04" + body[2:], DtlsReason.ILLEGAL_PARAMETER),
        (HandshakeType.CLIENT_KEY_EXCHANGE, lambda _: b"\x20" + bytes(32), DtlsReason.ILLEGAL_PARAMETER),
        (HandshakeType.CLIENT_KEY_EXCHANGE, lambda _: b"\x02ab", DtlsReason.ILLEGAL_PARAMETER),
        (HandshakeType.CLIENT_KEY_EXCHANGE, lambda _: b"\x20ab", DtlsReason.MALFORMED),
        # Another key that is fine in itself changes the transcript, which the signature covers.
        (HandshakeType.CLIENT_KEY_EXCHANGE, lambda _: b"\x20" + b"\x09" * 32, DtlsReason.BAD_SIGNATURE),
    ],
)
def test_a_client_that_cannot_prove_itself(
    pair: Pair, wire: Wire, msg_type: int, change: Callable[[bytes], bytes], reason: DtlsReason
) -> None:
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.to_server(wire.rewrite(pair.from_client(), msg_type, change))
    assert failure(pair.server_events) is reason


@pytest.mark.rfc("5246", "7.4.9")
def test_a_finished_that_does_not_verify_is_refused_by_the_server(pair: Pair, wire: Wire) -> None:
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.to_server(map(wire.datagram, wire.fragments(pair.from_client())))
    assert pair.server.srtp is None
    pair.to_server([sealed_finished(pair.client, 4)])
    assert failure(pair.server_events) is DtlsReason.BAD_FINISHED
    assert pair.server.srtp is None


@pytest.mark.rfc("5246", "7.4.9")
def test_a_finished_that_does_not_verify_is_refused_by_the_client(pair: Pair) -> None:
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(pair.from_server())
    pair.to_server(pair.from_client())
    pair.from_server()
    early = pair.client.srtp
    pair.to_client([sealed_finished(pair.server, 5)])
    assert failure(pair.client_events) is DtlsReason.BAD_FINISHED
    assert early is not None
    assert pair.client.srtp is None


def sealed_finished(sender: DtlsConnection, message_seq: int) -> bytes:
    """A Finished under the right keys with the wrong content."""
    fragment = HandshakeFragment(HandshakeType.FINISHED, 12, message_seq, 0, bytes(12))
    return sender._records.seal(1, ContentType.HANDSHAKE, fragment.serialize())


def test_messages_out_of_order_are_refused(pair: Pair, wire: Wire) -> None:
    pair.client.start(0.0)
    pair.from_client()
    pair.to_server([wire.datagram(HandshakeFragment(HandshakeType.FINISHED, 12, 0, 0, bytes(12)))])
    assert failure(pair.server_events) is DtlsReason.UNEXPECTED_MESSAGE
    pair.to_client([wire.datagram(HandshakeFragment(HandshakeType.CERTIFICATE, 3, 0, 0, bytes(3)))])
    assert failure(pair.client_events) is DtlsReason.UNEXPECTED_MESSAGE


def test_a_state_refuses_what_it_has_no_use_for(pair: Pair, wire: Wire) -> None:
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.from_server()
    pair.to_server([wire.datagram(HandshakeFragment(HandshakeType.CLIENT_KEY_EXCHANGE, 1, 1, 0, b"\x00"))])
    assert failure(pair.server_events) is DtlsReason.UNEXPECTED_MESSAGE


# Refusals by the client -----------------------------------------------------------------------------------------------


def server_drop(kind: int) -> Callable[[bytes], bytes]:
    return change_server_hello(lambda hello: hello.extensions.__delitem__(kind))


def server_put(kind: int, content: bytes) -> Callable[[bytes], bytes]:
    return change_server_hello(lambda hello: hello.extensions.update({kind: content}))


def server_set(name: str, value: object) -> Callable[[bytes], bytes]:
    return change_server_hello(lambda hello: setattr(hello, name, value))


def other_group(body: bytes) -> bytes:
    return body[:1] + b"\x00\x19" + body[3:]


REQUEST_RSA = CertificateRequest([1], [0x0804]).serialize()


@pytest.mark.parametrize(
    ("msg_type", "change", "reason"),
    [
        (2, server_drop(ExtensionType.EXTENDED_MASTER_SECRET), DtlsReason.MISSING_EXTENDED_MASTER_SECRET),
        (2, server_drop(ExtensionType.USE_SRTP), DtlsReason.MISSING_USE_SRTP),
        (2, server_put(ExtensionType.USE_SRTP, ext.UseSrtp([2]).serialize()), DtlsReason.ILLEGAL_PARAMETER),
        (2, server_put(ExtensionType.USE_SRTP, ext.UseSrtp([7, 1]).serialize()), DtlsReason.ILLEGAL_PARAMETER),
        (2, server_put(ExtensionType.USE_SRTP, ext.UseSrtp([7], b"m").serialize()), DtlsReason.ILLEGAL_PARAMETER),
        (2, server_put(ExtensionType.RENEGOTIATION_INFO, b"\x01x"), DtlsReason.ILLEGAL_PARAMETER),
        (2, server_put(ExtensionType.EC_POINT_FORMATS, b"\x01\x01"), DtlsReason.ILLEGAL_PARAMETER),
        (2, server_put(35, b""), DtlsReason.UNREQUESTED_EXTENSION),
        (2, server_put(ExtensionType.SUPPORTED_VERSIONS, b"\xfe\xfc"), DtlsReason.UNREQUESTED_EXTENSION),
        (2, server_set("version", 0xFEFF), DtlsReason.UNSUPPORTED_VERSION),
        (2, server_set("cipher_suite", 0xC02F), DtlsReason.ILLEGAL_PARAMETER),
        (2, server_set("compression_method", 1), DtlsReason.ILLEGAL_PARAMETER),
        (11, lambda _: CertificateMessage([]).serialize(), DtlsReason.MISSING_CERTIFICATE),
        (12, lambda body: body[:-1] + bytes([body[-1] ^ 1]), DtlsReason.BAD_SIGNATURE),
        (12, other_group, DtlsReason.BAD_SIGNATURE),
        (2, server_put(ExtensionType.EXTENDED_MASTER_SECRET, b"x"), DtlsReason.MALFORMED),
        (13, lambda _: REQUEST_RSA, DtlsReason.NO_COMMON_SIGNATURE_ALGORITHM),
        (13, lambda _: CertificateRequest([64], [0x0804]).serialize(), DtlsReason.NO_COMMON_SIGNATURE_ALGORITHM),
        (13, lambda _: CertificateRequest([1], [0x0403]).serialize(), DtlsReason.NO_COMMON_SIGNATURE_ALGORITHM),
        (14, lambda _: b"x", DtlsReason.MALFORMED),
    ],
)
def test_a_server_that_the_client_does_not_accept(
    pair: Pair, wire: Wire, msg_type: int, change: Callable[[bytes], bytes], reason: DtlsReason
) -> None:
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    pair.to_client(wire.rewrite(pair.from_server(), msg_type, change))
    assert failure(pair.client_events) is reason


def test_a_server_that_chooses_a_group_of_its_own_is_refused(
    make_pair: MakePair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_12, "_choose_group", lambda hello, ours: NamedGroup.SECP256R1)
    pair = make_pair({"groups": [NamedGroup.X25519]})
    pair.client.start(0.0)
    pair.settle()
    assert failure(pair.client_events) is DtlsReason.ILLEGAL_PARAMETER


@pytest.mark.rfc("6347", "4.1")
@pytest.mark.parametrize("versions", [[DtlsVersion.DTLS_1_2], list(DtlsVersion)])
def test_a_client_that_names_a_later_version_in_the_old_field_gets_1_2(
    make_pair: MakePair, wire: Wire, versions: list[DtlsVersion]
) -> None:
    pair = make_pair(server={"versions": versions})
    pair.client.start(0.0)
    later = wire.rewrite(
        pair.from_client(), HandshakeType.CLIENT_HELLO, change_client_hello(set_field("version", 0xFEFC))
    )
    pair.to_server(later)
    hello = ServerHello.parse(wire.fragments(pair.from_server())[0].data)
    assert hello.version == DTLS_1_2
    assert ExtensionType.SUPPORTED_VERSIONS not in hello.extensions


@pytest.mark.rfc("8827", "6.5")
def test_a_server_that_does_not_ask_for_our_certificate_is_refused(pair: Pair, wire: Wire) -> None:
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    *flight, _request, done = wire.fragments(pair.from_server())
    done.message_seq -= 1
    pair.to_client(map(wire.datagram, [*flight, done]))
    assert failure(pair.client_events) is DtlsReason.UNEXPECTED_MESSAGE


def test_a_changed_handshake_does_not_complete(pair: Pair, wire: Wire) -> None:
    """Whatever the client accepts but the server never said makes their keys differ (RFC 7627)."""
    pair.client.start(0.0)
    pair.to_server(pair.from_client())
    flight = wire.rewrite(pair.from_server(), 2, server_put(ExtensionType.USE_SRTP, ext.UseSrtp([1]).serialize()))
    pair.to_client(flight)
    assert pair.client_events == []
    pair.settle()
    assert pair.client_events == []
    assert [type(event) for event in pair.server_events] == [ConnectionFailed]


# Misuse ---------------------------------------------------------------------------------------------------------------


@pytest.mark.rfc("5246", "6.2.3.3")
def test_nobody_changes_the_version_over_a_protected_record(connected: Pair) -> None:
    connected.client.send(b"data")
    [record] = connected.from_client()
    connected.to_server([record[:1] + b"\xfe\xff" + record[3:]])
    assert connected.server.statistics.undecryptable_records == 1
    assert connected.server_events == []
    connected.to_server([record])
    assert connected.server_events == [ApplicationData(b"data")]


def test_misuse_is_told_to_the_caller(make_pair: MakePair, pair: Pair) -> None:
    pair.client.start(0.0)
    with pytest.raises(LocalError):
        pair.client.start(0.0)
    with pytest.raises(LocalError):
        pair.client.send(b"too early")
    with pytest.raises(LocalError):
        make_pair(mtu=100)


def test_a_server_has_nothing_to_start(pair: Pair) -> None:
    pair.server.start(0.0)
    assert pair.server.role is DtlsRole.SERVER
    assert pair.from_server() == []
    assert pair.server.next_timeout() is None


def test_a_client_that_was_not_started_hears_nothing(pair: Pair, wire: Wire) -> None:
    pair.to_client([wire.datagram(verify_request(b"a cookie", 0)), Record(22, DTLS_1_2, 0, 0, b"x").serialize()])
    assert pair.from_client() == []
    assert pair.client.statistics.unexpected_records == 2
