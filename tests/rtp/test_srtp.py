"""SRTP in use: what is refused, how it is counted, and that a refused packet changes nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.errors import LocalError
from voicegate.rtp import (
    ReceiverReport,
    RtpPacket,
    SrtpError,
    SrtpErrorReason,
    SrtpReceiver,
    SrtpSender,
)
from voicegate.rtp.limits import MAX_SRTP_STREAMS, SRTP_REPLAY_WINDOW

PROFILES = {0x0001: (16, 14), 0x0007: (16, 12), 0x0008: (32, 12)}
KEY = bytes(range(16))


def pair(profile: int = 0x0007) -> tuple[SrtpSender, SrtpReceiver]:
    key_octets, salt_octets = PROFILES[profile]
    key, salt = bytes(range(key_octets)), bytes(range(100, 100 + salt_octets))
    return SrtpSender(profile, key, salt), SrtpReceiver(profile, key, salt)


def packet(sequence_number: int, ssrc: int = 5) -> bytes:
    return RtpPacket(111, sequence_number & 0xFFFF, 0, ssrc, b"voice").serialize()


def refused(receiver: SrtpReceiver, data: bytes) -> SrtpErrorReason:
    with pytest.raises(SrtpError) as refusal:
        receiver.unprotect_rtp(data)
    reason = refusal.value.reason
    assert isinstance(reason, SrtpErrorReason)
    return reason


@pytest.mark.parametrize("profile", PROFILES)
@settings(deadline=None, max_examples=50)
@given(payload=st.binary(max_size=1200), sequence_number=st.integers(0, 0xFFFF), ssrc=st.integers(0, 0xFFFFFFFF))
def test_what_is_protected_can_be_opened(profile: int, payload: bytes, sequence_number: int, ssrc: int) -> None:
    sender, receiver = pair(profile)
    plain = RtpPacket(111, sequence_number, 0, ssrc, payload).serialize()
    protected = sender.protect_rtp(plain)
    assert receiver.unprotect_rtp(protected) == plain
    assert payload not in protected or len(payload) < 4


@pytest.mark.parametrize("profile", PROFILES)
def test_rtcp_can_be_opened_once(profile: int) -> None:
    sender, receiver = pair(profile)
    report = ReceiverReport(5).serialize()
    protected = sender.protect_rtcp(report)
    assert receiver.unprotect_rtcp(protected) == report
    with pytest.raises(SrtpError) as refusal:
        receiver.unprotect_rtcp(protected)
    assert refusal.value.reason is SrtpErrorReason.REPLAYED


def test_replay_is_refused_and_counted() -> None:
    sender, receiver = pair()
    protected = sender.protect_rtp(packet(1))
    receiver.unprotect_rtp(protected)
    assert refused(receiver, protected) is SrtpErrorReason.REPLAYED
    assert receiver.failures[SrtpErrorReason.REPLAYED] == 1


@pytest.mark.rfc("3711", "3.3.2")
def test_reordering_within_the_window_is_accepted_and_beyond_it_refused() -> None:
    sender, receiver = pair()
    protected = [sender.protect_rtp(packet(number)) for number in range(SRTP_REPLAY_WINDOW + 2)]
    receiver.unprotect_rtp(protected[-1])
    assert receiver.unprotect_rtp(protected[2]) == packet(2)
    assert refused(receiver, protected[0]) is SrtpErrorReason.TOO_OLD


@pytest.mark.rfc("3711", "3.3.1")
def test_forgery_does_not_move_the_index() -> None:
    sender, receiver = pair()
    receiver.unprotect_rtp(sender.protect_rtp(packet(0xFFFE)))
    forged = packet(3) + bytes(16)  # a number that would roll over
    assert refused(receiver, forged) is SrtpErrorReason.AUTHENTICATION_FAILED
    for number in (0xFFFF, 0x10000):
        assert receiver.unprotect_rtp(sender.protect_rtp(packet(number))) == packet(number)


@pytest.mark.rfc("3711", "3.3.1")
def test_late_packet_from_before_the_rollover_keeps_the_counter() -> None:
    sender, receiver = pair()
    numbers = (0xFFFE, 0x10000, 0x10001, 0xFFFF, 0x10002)
    protected = {number: sender.protect_rtp(packet(number)) for number in sorted(numbers)}
    for number in numbers:
        assert receiver.unprotect_rtp(protected[number]) == packet(number)


def test_wrong_key_is_refused() -> None:
    sender, _ = pair()
    stranger = SrtpReceiver(0x0007, bytes(16), bytes(12))
    assert refused(stranger, sender.protect_rtp(packet(1))) is SrtpErrorReason.AUTHENTICATION_FAILED


def test_sources_of_one_peer_are_bounded() -> None:
    sender, receiver = pair()
    for ssrc in range(MAX_SRTP_STREAMS):
        receiver.unprotect_rtp(sender.protect_rtp(packet(1, ssrc)))
    assert refused(receiver, sender.protect_rtp(packet(1, 99))) is SrtpErrorReason.TOO_MANY_STREAMS
    with pytest.raises(SrtpError):
        receiver.unprotect_rtcp(sender.protect_rtcp(ReceiverReport(99).serialize()))
    assert receiver.unprotect_rtp(sender.protect_rtp(packet(2, 3))) == packet(2, 3)
    assert receiver.unprotect_rtcp(sender.protect_rtcp(ReceiverReport(3).serialize()))


def test_sources_that_send_rtcp_alone_are_bounded_too() -> None:
    sender, receiver = pair()
    for ssrc in range(MAX_SRTP_STREAMS):
        receiver.unprotect_rtcp(sender.protect_rtcp(ReceiverReport(ssrc).serialize()))
    assert refused(receiver, sender.protect_rtp(packet(1, 99))) is SrtpErrorReason.TOO_MANY_STREAMS
    assert receiver.unprotect_rtp(sender.protect_rtp(packet(1, 3))) == packet(1, 3)


def test_misuse_is_a_local_error() -> None:
    with pytest.raises(LocalError):
        SrtpSender(0x0002, KEY, bytes(14))
    with pytest.raises(LocalError):
        SrtpSender(0x0007, KEY, bytes(14))
    with pytest.raises(LocalError):
        SrtpSender(0x0008, KEY, bytes(12))
    sender, _ = pair()
    sender.protect_rtp(packet(1))
    with pytest.raises(LocalError):  # the same number twice would reveal both payloads
        sender.protect_rtp(packet(1))
    with pytest.raises(LocalError):
        sender.protect_rtp(packet(2) + bytes(1500))
    with pytest.raises(LocalError):
        sender.protect_rtcp(bytes(2000))


def test_packet_too_long_for_libsrtp_is_refused() -> None:
    _, receiver = pair()
    assert refused(receiver, packet(1) + bytes(3000)) is SrtpErrorReason.TOO_LONG


@pytest.mark.parametrize("profile", PROFILES)
@settings(deadline=None, max_examples=200)
@given(data=st.binary(max_size=200) | st.binary(max_size=100).map(lambda rest: b"\x80\x6f" + rest))
def test_any_bytes_are_refused_by_name(profile: int, data: bytes) -> None:
    sender, receiver = pair(profile)
    for open_it in (receiver.unprotect_rtp, receiver.unprotect_rtcp):
        with pytest.raises(SrtpError):
            open_it(data)
    assert sum(receiver.failures.values()) == 2
    assert receiver.unprotect_rtp(sender.protect_rtp(packet(1))) == packet(1)
