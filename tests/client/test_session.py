"""The caller's session against the server's cores, in virtual time."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.client import CallError, CallFailure
from voicegate.client.events import AudioReceived, MediaReady, PathFound, SessionFailed
from voicegate.client.limits import CONNECT_LIMIT_S, EARLY_DATAGRAMS
from voicegate.client.session import SessionState
from voicegate.dtls import Certificate
from voicegate.sdp import Setup


def kinds(conversation: Any) -> list[str]:
    return [type(event).__name__ for event in conversation.events]


def failures(conversation: Any) -> list[CallFailure]:
    return [event.failure for event in conversation.events if isinstance(event, SessionFailed)]


@pytest.mark.parametrize("setup", [Setup.ACTIVE, Setup.PASSIVE])
def test_audio_goes_round(converse: Any, setup: Setup) -> None:
    conversation = converse()
    conversation.connect(setup=setup)
    conversation.talk(50)
    assert len(conversation.server.received) >= 49
    assert kinds(conversation)[:3] == ["PathFound", "MediaReady", "AudioReceived"]
    assert kinds(conversation).count("AudioReceived") >= 48


@pytest.mark.rfc("5763", "5")
def test_with_an_active_server_keys_exist_two_round_trips_after_the_answer(converse: Any) -> None:
    conversation = converse(delay_s=0.050)
    conversation.connect(setup=Setup.ACTIVE)
    started = 100.0
    [ready_at] = [
        at
        for event, at in zip(conversation.events, conversation.event_times, strict=True)
        if isinstance(event, MediaReady)
    ]
    # Check and answer: one round trip. The server's hello follows its STUN answer; two more flights of ours and one
    # of its.
    assert ready_at - started == pytest.approx(0.200, abs=0.001)


def test_dtls_does_not_wait_for_nomination(converse: Any) -> None:
    conversation = converse()
    # Checks that nominate never arrive.
    conversation.blocked = lambda data, destination: b"\x00\x25\x00\x00" in data and data[0] < 4
    conversation.connect()
    assert conversation.client.state is SessionState.TALKING


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("setup", [Setup.ACTIVE, Setup.PASSIVE])
def test_a_bad_network_only_takes_longer(converse: Any, seed: int, setup: Setup) -> None:
    conversation = converse(seed, loss=0.2, duplicate=0.2, reorder=0.3)
    conversation.connect(setup=setup)
    assert conversation.client.state is SessionState.TALKING
    conversation.talk(100)
    assert failures(conversation) == []
    assert kinds(conversation).count("AudioReceived") > 40


def test_datagrams_that_overtake_the_stun_answer_are_kept(converse: Any) -> None:
    conversation = converse()
    sdp = conversation.server.answer(conversation.client.offer(), conversation.now)
    conversation.client.apply_answer(sdp, conversation.now)
    now, server = conversation.now, conversation.server
    for data, _ in conversation.client.datagrams_to_send(now):
        server.receive_datagram(data, ("192.0.2.10", 40_000), now)
    # The server answered the check and said its ClientHello; they arrive the other way round.
    for data, _ in reversed(server.datagrams_to_send(now)):
        conversation.client.receive_datagram(data, ("192.0.2.20", 3478), now)
    sent = [data for data, _ in conversation.client.datagrams_to_send(now)]
    assert any(20 <= data[0] < 64 for data in sent), "the ClientHello was answered at once"
    assert conversation.client.statistics.dropped_early == 0


def test_early_datagrams_are_bounded(converse: Any) -> None:
    conversation = converse()
    sdp = conversation.server.answer(conversation.client.offer(), conversation.now)
    conversation.client.apply_answer(sdp, conversation.now)
    for _ in range(EARLY_DATAGRAMS + 3):
        conversation.client.receive_datagram(b"\x16" + bytes(40), ("198.51.100.1", 9), conversation.now)
    assert conversation.client.statistics.dropped_early == 3


def test_round_trip_is_measured(converse: Any) -> None:
    conversation = converse(delay_s=0.040)
    conversation.connect()
    assert conversation.client.round_trip_s == pytest.approx(0.080, abs=0.005), "by ICE"
    conversation.talk(300)
    assert conversation.client.rtp.round_trip_s == pytest.approx(0.080, abs=0.005), "by RTCP"


def test_counts_agree_with_the_wire(converse: Any) -> None:
    conversation = converse()
    conversation.connect()
    conversation.talk(20)
    drop_every_third = iter(range(10**6))
    conversation.blocked = lambda data, destination: (
        destination[0] == "192.0.2.10"
        and data[0] >= 128
        and not 192 <= data[1] <= 223
        and next(drop_every_third) % 3 == 0
    )
    conversation.talk(30)
    conversation.blocked = lambda data, destination: False
    conversation.talk(5)
    heard = kinds(conversation).count("AudioReceived")
    assert conversation.client.rtp.sent_packets == 55
    assert conversation.client.rtp.received_packets == heard
    assert conversation.client.rtp.lost_packets == 10


# Failures, each with its name.


def test_ice_failed_when_nothing_answers(converse: Any) -> None:
    conversation = converse()
    conversation.blocked = lambda data, destination: True
    conversation.connect(limit_s=2 * CONNECT_LIMIT_S)
    assert failures(conversation) == [CallFailure.ICE_FAILED]
    assert conversation.client.next_timeout() is None


def test_ice_failed_when_the_password_is_wrong(converse: Any) -> None:
    conversation = converse()
    sdp = conversation.server.answer(conversation.client.offer(), conversation.now)
    wrong = sdp.replace(conversation.server.credentials.pwd, "0123456789012345678901234")
    conversation.client.apply_answer(wrong, conversation.now)
    conversation.run(limit_s=2 * CONNECT_LIMIT_S)
    assert failures(conversation) == [CallFailure.ICE_FAILED]


def test_dtls_failed_when_the_fingerprint_is_another(converse: Any) -> None:
    conversation = converse()
    sdp = conversation.server.answer(conversation.client.offer(), conversation.now)
    other = Certificate.generate().fingerprint.to_sdp()
    wrong = sdp.replace(conversation.server.certificate.fingerprint.to_sdp(), other)
    conversation.client.apply_answer(wrong, conversation.now)
    conversation.run(limit_s=5.0)
    assert failures(conversation) == [CallFailure.DTLS_FAILED]
    assert conversation.client.rtp is None


def test_dtls_failed_when_the_handshake_is_swallowed(converse: Any) -> None:
    conversation = converse()
    conversation.blocked = lambda data, destination: 20 <= data[0] < 64
    conversation.connect(limit_s=2 * CONNECT_LIMIT_S)
    assert failures(conversation) == [CallFailure.DTLS_FAILED]


def test_path_lost_when_the_server_goes_silent(converse: Any) -> None:
    conversation = converse()
    conversation.connect()
    conversation.talk(10)
    conversation.blocked = lambda data, destination: True
    conversation.run(limit_s=60.0)
    assert failures(conversation) == [CallFailure.PATH_LOST]


def test_ended_by_server_when_it_closes_dtls(converse: Any) -> None:
    conversation = converse()
    conversation.connect()
    conversation.server.close(conversation.now)
    conversation.run(limit_s=1.0)
    assert failures(conversation) == [CallFailure.ENDED_BY_SERVER]


@pytest.mark.parametrize("sdp", ["", "v=0\r\n", "hello", "v=0\r\nm=audio 9 RTP/AVP 0\r\n", "\0" * 50])
def test_bad_answer(converse: Any, sdp: str) -> None:
    conversation = converse()
    conversation.client.offer()
    with pytest.raises(CallError) as caught:
        conversation.client.apply_answer(sdp, conversation.now)
    assert caught.value.reason is CallFailure.BAD_ANSWER
    assert "\n" not in str(caught.value)


def test_close_says_goodbye(converse: Any) -> None:
    conversation = converse()
    conversation.connect()
    conversation.talk(5)
    conversation.client.close(conversation.now)
    kinds_sent = [data[1] for data, _ in conversation.client.datagrams_to_send(conversation.now) if data[0] >= 128]
    assert kinds_sent, "an RTCP goodbye"
    assert all(192 <= kind <= 223 for kind in kinds_sent)
    assert conversation.client.state is SessionState.ENDED
    assert conversation.client.next_timeout() is None


@settings(deadline=None, max_examples=150)
@given(
    noise=st.lists(st.tuples(st.sampled_from([0, 1, 20, 22, 63, 128, 191, 255]), st.binary(max_size=80)), max_size=6)
)
@pytest.mark.parametrize("stage", ["offered", "checking", "talking"])
def test_noise_is_dropped_in_every_state(converse: Any, stage: str, noise: list[tuple[int, bytes]]) -> None:
    conversation = converse()
    if stage == "checking":
        sdp = conversation.server.answer(conversation.client.offer(), conversation.now)
        conversation.client.apply_answer(sdp, conversation.now)
    elif stage == "talking":
        conversation.connect()
    for first, rest in noise:
        conversation.client.receive_datagram(bytes([first]) + rest, ("192.0.2.20", 3478), conversation.now)
    conversation.client.receive_datagram(b"", ("192.0.2.20", 3478), conversation.now)
    if stage != "offered":
        conversation.run(limit_s=0.2)
    heard = [event for event in conversation.events if isinstance(event, AudioReceived)]
    assert heard == []
    assert failures(conversation) == []
    assert stage != "talking" or isinstance(conversation.events[0], PathFound)
