"""SPED without its surroundings: what is attached, what is acknowledged, when it ends, and what harm cannot be done."""

from __future__ import annotations

import random
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ice.conftest import CLIENT, SERVER
from voicegate.ice import (
    Candidate,
    DtlsAcknowledged,
    DtlsCarried,
    DtlsInStun,
    IceAgent,
    IceLiteAgent,
    SpedState,
    StunMessage,
)
from voicegate.ice.limits import MAX_SPED_ACKNOWLEDGEMENTS, MAX_SPED_BODY_BYTES
from voicegate.ice.stun import BINDING_REQUEST, BINDING_SUCCESS, DTLS_IN_STUN, DTLS_IN_STUN_ACK, USERNAME

HERE, THERE = ("192.0.2.1", 1000), ("192.0.2.2", 2000)
ID = bytes(12)
HELLO = b"\x16\xfe\xff" + bytes(10) + b"hello"
ENCRYPTED = b"\x2e" + b"finished" * 4
DATA = b"\x2f" + b"sctp" * 8
ALERT = b"\x15\xfe\xfd" + bytes(12)


def message(kind: int = BINDING_REQUEST, /, **attributes: bytes) -> StunMessage:
    names = {"ack": DTLS_IN_STUN_ACK, "data": DTLS_IN_STUN}
    return StunMessage(kind, ID, {names[name]: value for name, value in attributes.items()})


def crc(*datagrams: bytes) -> bytes:
    return b"".join(crc32(data).to_bytes(4) for data in datagrams)


def attached(sped: DtlsInStun, addr: tuple[str, int] = THERE, request: StunMessage | None = None) -> dict[int, bytes]:
    out = message()
    sped.attach(out, addr, request)
    return out.attributes


def test_the_first_request_carries_the_hello_and_an_empty_acknowledgement() -> None:
    sped = DtlsInStun()
    assert sped.take_flight([HELLO]) == [HELLO]
    # ACK comes first (libwebrtc's order).
    assert list(attached(sped).items()) == [(DTLS_IN_STUN_ACK, b""), (DTLS_IN_STUN, HELLO)]


def test_a_response_carries_the_flight_and_names_what_came() -> None:
    sped = DtlsInStun()
    request = message(ack=b"", data=HELLO)
    sped.receive(request, THERE)
    assert sped.next_event() == DtlsCarried(HELLO, THERE)
    # What DTLS did not take is not acknowledged.
    assert attached(sped, request=request) == {DTLS_IN_STUN_ACK: b""}
    sped.note_received(HELLO)
    assert sped.take_flight([HELLO, ENCRYPTED, DATA], THERE, answering=True) == [ENCRYPTED, DATA]
    assert attached(sped, request=request) == {DTLS_IN_STUN_ACK: crc(HELLO), DTLS_IN_STUN: HELLO}
    assert attached(sped, request=request)[DTLS_IN_STUN] == ENCRYPTED
    assert attached(sped, request=request)[DTLS_IN_STUN] == HELLO


def test_only_handshake_records_make_a_flight() -> None:
    sped = DtlsInStun()
    sped.take_flight([HELLO])
    assert sped.take_flight([DATA, ALERT]) == [DATA, ALERT]
    assert sped.unacknowledged() == [HELLO]
    sped.take_flight([ENCRYPTED])
    assert sped.unacknowledged() == [ENCRYPTED]


def test_a_flight_goes_only_to_whom_the_handshake_is_with() -> None:
    sped = DtlsInStun()
    sped.receive(message(ack=b""), THERE)
    sped.take_flight([ENCRYPTED], THERE)
    assert DTLS_IN_STUN not in attached(sped, HERE)
    assert DTLS_IN_STUN in attached(sped, THERE)


def test_an_acknowledgement_proves_only_the_address_that_the_datagram_went_to() -> None:
    sped = DtlsInStun()
    sped.take_flight([HELLO, ENCRYPTED])
    attached(sped, THERE)
    attached(sped, THERE)
    sped.receive(message(ack=crc(HELLO)), THERE)
    assert sped.next_event() == DtlsAcknowledged(THERE)
    sped.receive(message(ack=crc(ENCRYPTED)), HERE)
    assert sped.next_event() is None
    assert sped.unacknowledged() == []


def test_an_acknowledgement_in_a_response_counts_for_what_the_request_carried() -> None:
    sped = DtlsInStun()
    sped.take_flight([HELLO])
    carried = sped.attach(message(), THERE)
    sped.receive(message(BINDING_SUCCESS, ack=b""), THERE, carried)
    assert sped.unacknowledged() == []


def test_a_peer_that_says_nothing_of_it_turns_it_off() -> None:
    sped = DtlsInStun()
    sped.take_flight([HELLO])
    sped.receive(message(), THERE)
    assert sped.state is SpedState.OFF
    # What was carried in vain goes by itself, once.
    assert (sped.unacknowledged(), sped.unacknowledged()) == ([HELLO], [])
    assert attached(sped) == {}
    sped.receive(message(ack=b"", data=HELLO), THERE)
    assert sped.next_event() is None


def test_the_last_flight_is_carried_until_it_is_acknowledged_and_acknowledged_as_long_as_it_comes() -> None:
    sped = DtlsInStun()
    sped.receive(message(ack=b"", data=HELLO), THERE)
    sped.note_received(HELLO)
    sped.take_flight([ENCRYPTED])
    sped.complete()
    assert DTLS_IN_STUN in attached(sped)
    sped.receive(message(ack=crc(ENCRYPTED)), THERE)
    assert sped.state is SpedState.DONE
    assert attached(sped) == {}
    assert attached(sped, request=message()) == {}
    assert attached(sped, request=message(ack=b"")) == {DTLS_IN_STUN_ACK: crc(HELLO)}


def test_the_newest_four_are_named_each_once() -> None:
    sped = DtlsInStun()
    datagrams = [HELLO + bytes((number,)) for number in range(6)]
    for data in [*datagrams, *datagrams[-4:]]:
        sped.note_received(data)
    assert attached(sped)[DTLS_IN_STUN_ACK] == crc(*datagrams[-MAX_SPED_ACKNOWLEDGEMENTS:])


@pytest.mark.parametrize("size", [900, 1100, 1140, 1160, 1500])
def test_no_message_grows_beyond_its_bound(size: int) -> None:
    sped = DtlsInStun()
    sped.receive(message(ack=b""), THERE)
    big = b"\x16" + bytes(size - 1)
    beside = sped.take_flight([big], THERE, answering=True)
    out = StunMessage(BINDING_SUCCESS, ID, {USERNAME: b"x" * 20})
    sped.attach(out, THERE, message(ack=b""))
    # Whatever does not ride goes by itself, and the other way round.
    assert (DTLS_IN_STUN in out.attributes) is (beside == [])
    assert len(out.serialize(b"key")) <= 20 + MAX_SPED_BODY_BYTES + 32
    long_name = StunMessage(BINDING_REQUEST, ID, {USERNAME: b"x" * MAX_SPED_BODY_BYTES})
    assert sped.attach(long_name, THERE) is None
    assert list(long_name.attributes) == [USERNAME]


@pytest.mark.parametrize(
    ("attributes", "counter"),
    [
        ({"ack": b"abc"}, "malformed_acknowledgements"),
        ({"ack": bytes(20)}, "malformed_acknowledgements"),
        ({"data": HELLO[:12]}, "malformed_data"),
        ({"data": b"\x80" + bytes(40)}, "malformed_data"),
    ],
)
def test_malformed_attributes_are_counted_drops(attributes: dict[str, bytes], counter: str) -> None:
    sped = DtlsInStun()
    sped.take_flight([HELLO])
    sped.receive(message(BINDING_REQUEST, **attributes), THERE)
    assert getattr(sped.statistics, counter) == 1
    assert sped.next_event() is None
    assert sped.unacknowledged() == [HELLO]


anything = st.one_of(
    st.tuples(
        st.just("receive"), st.one_of(st.none(), st.binary(max_size=40)), st.one_of(st.none(), st.binary(max_size=60))
    ),
    st.tuples(st.just("real"), st.sampled_from([HELLO, ENCRYPTED]), st.sampled_from([HELLO, ENCRYPTED, DATA])),
    st.tuples(st.just("flight"), st.lists(st.binary(min_size=1, max_size=1400), max_size=12), st.booleans()),
    st.tuples(st.just("complete"), st.none(), st.none()),
    st.tuples(st.just("drop"), st.none(), st.none()),
)


@given(st.lists(anything, max_size=40))
@settings(max_examples=300, deadline=None)
def test_anything_in_any_order_is_bounded_and_never_raises(steps: list[tuple[str, object, object]]) -> None:
    sped = DtlsInStun()
    for name, first, second in steps:
        if name in {"receive", "real"}:
            ack = crc(first) if name == "real" and isinstance(first, bytes) else first
            pairs = {"ack": ack, "data": second}
            present = {key: value for key, value in pairs.items() if isinstance(value, bytes)}
            request = message(BINDING_REQUEST, **present)
            sped.receive(request, THERE)
            out = message(BINDING_SUCCESS)
            sped.attach(out, THERE, request)
            assert len(out.serialize(b"key")) <= 20 + MAX_SPED_BODY_BYTES + 32
        elif name == "flight":
            assert isinstance(first, list)
            assert set(sped.take_flight(list(first), THERE, answering=bool(second))) <= set(first)
        elif name == "complete":
            sped.complete()
        else:
            sped.drop_flight()
        while (event := sped.next_event()) is not None:
            if isinstance(event, DtlsCarried):
                sped.note_received(event.data)
        assert len(sped._flight) <= 8
        assert len(sped._seen) <= MAX_SPED_ACKNOWLEDGEMENTS


def test_both_agents_carry_it_in_one_round_trip() -> None:
    dice = random.Random(1)
    of_client, of_server = DtlsInStun(), DtlsInStun()
    of_client.take_flight([HELLO])
    client = IceAgent(
        CLIENT,
        SERVER,
        controlling=True,
        tie_breaker=1,
        random_bytes=dice.randbytes,
        local_candidates=[Candidate.host_candidate(*HERE)],
        remote_is_lite=True,
        dtls_in_stun=of_client,
    )
    server = IceLiteAgent(SERVER, CLIENT.ufrag, now=0.0, dtls_in_stun=of_server)
    client.add_remote_candidate(Candidate.host_candidate(*THERE), 0.0)
    ((request, _),) = client.datagrams_to_send(0.0)
    server.receive_datagram(request, HERE, 0.05)
    assert of_server.next_event() == DtlsCarried(HELLO, HERE)
    of_server.note_received(HELLO)
    of_server.take_flight([ENCRYPTED], HERE, answering=True)
    ((response, _),) = server.datagrams_to_send(0.05)
    client.receive_datagram(response, THERE, 0.1)
    assert of_client.next_event() == DtlsAcknowledged(THERE)
    assert of_client.next_event() == DtlsCarried(ENCRYPTED, THERE)
    assert of_client.state is of_server.state is SpedState.ON
