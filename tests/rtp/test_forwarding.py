"""Frames that go back as they came: the peer's payload, gaps and order under our own numbers and times."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicegate.rtp import RtpPacket, RtpSession
from voicegate.rtp.srtp import SrtpReceiver

FRAME = 960
PROFILE = 0x0001
KEY, SALT = b"l" * 16, b"s" * 14


@dataclass(frozen=True)
class Keys:
    local_key: bytes = KEY
    remote_key: bytes = b"r" * 16
    local_salt: bytes = SALT
    remote_salt: bytes = SALT
    profile: int = PROFILE


@dataclass
class Loop:
    """A session that sends back, and whoever hears it."""

    first: int = 1000
    session: RtpSession = field(init=False)
    listener: SrtpReceiver = field(default_factory=lambda: SrtpReceiver(PROFILE, KEY, SALT))
    heard: list[RtpPacket] = field(default_factory=list)

    def __post_init__(self) -> None:
        numbers = {"first_sequence_number": self.first & 0xFFFF, "first_timestamp": 0xFFFF_FF00}
        self.session = RtpSession(Keys(), ssrc=7, payload_type=111, cname="x", now=0.0, **numbers)

    def hear(self, datagram: bytes | None) -> tuple[int, int] | None:
        """Sequence number and timestamp, both from the first of ours; the listener takes no number twice."""
        if datagram is None:
            return None
        packet = RtpPacket.parse(self.listener.unprotect_rtp(datagram))
        assert (packet.ssrc, packet.payload_type) == (7, 111)
        self.heard.append(packet)
        return (packet.sequence_number - self.first) & 0xFFFF, (packet.timestamp - 0xFFFF_FF00) & 0xFFFF_FFFF

    def forward(self, number: int, ssrc: int = 5, payload: bytes = b"\x68x") -> tuple[int, int] | None:
        """The peer's packet `number`, and what of it is heard."""
        packet = RtpPacket(111, number & 0xFFFF, number * FRAME & 0xFFFF_FFFF, ssrc, payload, marker=number % 2 == 0)
        return self.hear(self.session.forward_frame(packet, 0.0))

    def say(self) -> tuple[int, int] | None:
        """A frame of our own."""
        return self.hear(self.session.send_frame(b"\x68own", FRAME, False, 0.0))


@pytest.mark.parametrize("first", [0, 1000, 65_530])
@pytest.mark.parametrize("theirs", [0, 5, 65_530, 40_000])
def test_gaps_and_order_stay_as_they_were(first: int, theirs: int) -> None:
    loop = Loop(first)
    order = [0, 1, 3, 2, 7, 5, 8, 20]
    assert [loop.forward(theirs + number) for number in order] == [(number, number * FRAME) for number in order]
    assert [packet.marker for packet in loop.heard] == [(theirs + number) % 2 == 0 for number in order]


def test_what_we_say_follows_the_newest_that_was_forwarded() -> None:
    loop = Loop()
    assert [loop.say(), loop.forward(500), loop.forward(503), loop.forward(501)] == [
        (0, 0),
        (1, FRAME),
        (4, 4 * FRAME),
        (2, 2 * FRAME),
    ]
    assert loop.say() == (5, 5 * FRAME)


def test_forwarding_goes_on_behind_a_frame_of_our_own() -> None:
    """Numbers that we gave to a frame of our own are never given to the peer's next one."""
    loop = Loop()
    assert [loop.forward(500), loop.say(), loop.forward(501), loop.forward(502)] == [
        (number, number * FRAME) for number in range(4)
    ]


def test_a_source_that_begins_anew_goes_on_where_the_old_one_was() -> None:
    loop = Loop()
    assert [loop.forward(10), loop.forward(11), loop.forward(60_000, ssrc=6), loop.forward(60_001, ssrc=6)] == [
        (number, number * FRAME) for number in range(4)
    ]
    assert loop.forward(60_001 + 5000, ssrc=6) == (4, 4 * FRAME), "a leap that large is a new beginning, too"


def test_a_frame_from_before_the_first_is_not_forwarded() -> None:
    loop = Loop()
    assert loop.forward(10) == (0, 0)
    assert loop.forward(9) is None
    assert loop.forward(11) == (1, FRAME)


def test_a_frame_that_is_too_late_to_be_numbered_is_not_forwarded() -> None:
    loop = Loop()
    assert loop.forward(0) == (0, 0)
    assert loop.forward(1000) == (1000, 1000 * FRAME)
    assert loop.forward(1000 - 511) == (489, 489 * FRAME)
    assert loop.forward(1000 - 512) is None


@given(
    st.lists(
        st.one_of(
            st.just(None),
            st.just((1, 1)),
            st.tuples(st.integers(1, 3), st.integers(-40, 40)),
            st.tuples(st.integers(1, 3), st.integers(0, 0xFFFF)),
        ),
        max_size=80,
    )
)
def test_no_number_is_ever_given_twice(script: list[tuple[int, int] | None]) -> None:
    loop, numbers = Loop(), {1: 0, 2: 30_000, 3: 65_500}
    seen: set[tuple[int, int]] = set()
    for step in script:
        if step is None:
            loop.say()
            continue
        ssrc, move = step
        numbers[ssrc] += move
        # SRTP lets no packet of the peer through twice.
        if (ssrc, numbers[ssrc] & 0xFFFF) not in seen:
            seen.add((ssrc, numbers[ssrc] & 0xFFFF))
            loop.forward(numbers[ssrc], ssrc)
