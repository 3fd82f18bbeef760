"""Channels of every kind opened, used and closed by both sides at random on a bad line: what was promised is kept."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from voicegate.sctp import AssociationLost, DataChannels, MessageReceived, SendBufferFullError

if TYPE_CHECKING:
    from tests.sctp.conftest import Line, MakeChannels, MakeLine

STEPS = 120

# Runs that found something: an id used again before our side knew that it was free, a FORWARD-TSN that came again, a
# reset whose answers were lost eleven times.
TELLING = (93, 101, 119, 170, 219, 317, 359, 1240, 1283)


@dataclass
class Spoken:
    """One channel in one life, as its opener sees it."""

    ordered: bool
    is_reliable: bool
    messages: list[bytes] = field(default_factory=list)


@dataclass
class Speaker:
    """One side: opens, says, closes."""

    end: DataChannels
    dice: random.Random
    open: dict[int, Spoken] = field(default_factory=dict)
    ever: list[Spoken] = field(default_factory=list)

    def act(self, step: int) -> None:
        choice = self.dice.random()
        if choice < 0.1 and len(self.open) < 8:
            limits: list[dict[str, Any]] = [
                {},
                {"maximum_retransmissions": self.dice.randrange(3)},
                {"maximum_lifetime_ms": self.dice.choice([1, 50, 500])},
            ]
            limit, ordered = self.dice.choice(limits), self.dice.random() < 0.6
            spoken = self.open[self.end.open("x", ordered=ordered, **limit)] = Spoken(ordered, not limit)
            self.ever.append(spoken)
        elif choice < 0.8 and self.open:
            self.say(step, self.dice.choice(list(self.open)))
        elif choice < 0.86 and self.open:
            channel = self.dice.choice(list(self.open))
            del self.open[channel]
            self.end.close(channel)

    def say(self, step: int, channel: int) -> None:
        message = f"{step}:".encode() + self.dice.randbytes(self.dice.choice([0, 1, 50, 1000, 7000]))
        try:
            self.end.send(channel, message)
        except SendBufferFullError:
            return
        self.open[channel].messages.append(message)


def check_what_was_heard(speaker: Speaker, heard: list[bytes]) -> None:
    assert max(Counter(heard).values(), default=1) == 1, "once"
    places = {message: place for place, message in enumerate(heard)}
    for spoken in speaker.ever:
        arrived = [places[message] for message in spoken.messages if message in places]
        if spoken.is_reliable:
            assert len(arrived) == len(spoken.messages)
        if spoken.ordered:
            assert arrived == sorted(arrived)


@pytest.mark.parametrize("seed", [*range(15), *TELLING])
def test_what_was_promised_is_kept(make_channels: MakeChannels, make_line: MakeLine, seed: int) -> None:
    dice = random.Random(seed)
    window = dice.choice([8000, 50_000, 1 << 20])
    settings = {"packet": dice.choice([256, 400, 1160]), "receive_window": window}
    ends = make_channels(seed, **settings, maximum_inbound_message=min(window, 262_144))
    line: Line = make_line(
        ends,
        seed,
        loss=dice.choice([0.0, 0.05, 0.2, 0.3]),
        duplication=dice.choice([0.0, 0.1]),
        delay_s=dice.choice([0.001, 0.05, 0.3]),
        jitter_s=dice.choice([0.0, 0.02, 0.3]),
    )
    for end in dice.choice([ends[:1], ends[1:], ends]):
        end.start(0.0)
    speakers = [Speaker(end, dice) for end in ends]
    for step in range(STEPS):
        dice.choice(speakers).act(step)
        line.run(limit_s=dice.choice([0.0, 0.01, 0.1, 0.5]))
    line.loss = line.jitter_s = 0.0
    line.run(limit_s=120)
    for side in (0, 1):
        assert line.told(side, AssociationLost) == []
        association = ends[side]._association
        assert association._outbound.is_idle
        assert association._inbound is not None
        assert association._inbound.held == 0
        heard = [event.data for event in line.told(1 - side, MessageReceived)]
        check_what_was_heard(speakers[side], heard)
    assert max(len(packet) for _, _, packet in line.sent) <= settings["packet"]
