"""Any bytes in any state: an event, a drop, or a documented end. Never an exception, never unbounded memory."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.sctp import AssociationState, SctpAssociation, SctpSettings
from voicegate.sctp.packet import chunk, packet_start, serialize_packet, split_chunks

if TYPE_CHECKING:
    from tests.sctp.conftest import MakeChannels, MakeForger, MakeLine

KINDS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 130, 192, 77, 255]
SMALL = b"".join(number.to_bytes(4, "big") for number in (1, 2, 1000, 1001, 0, 0x00010002, 0x000D0010, 0x00100008))

values = st.one_of(
    st.binary(max_size=60),
    st.lists(st.sampled_from([SMALL[at : at + 2] for at in range(0, 32, 2)]), max_size=20).map(b"".join),
)
chunks = st.builds(chunk, st.sampled_from(KINDS), st.integers(0, 15), values)
noise = st.lists(st.lists(chunks, min_size=1, max_size=4), max_size=12)


def check(association: SctpAssociation) -> None:
    inbound, outbound = association._inbound, association._outbound
    if inbound is not None:
        assert inbound.held <= 3 * association._settings.receive_window
    assert outbound.flight >= 0
    assert outbound.flight == sum(item.size for item in outbound._chunks.values() if item.in_flight)
    if association.state is AssociationState.ENDED:
        assert association.next_timeout() is None


@pytest.mark.parametrize("state", ["closed", "init", "echoed", "up", "sending", "shutdown", "ended"])
def test_any_chunks_in_any_state(make_forger: MakeForger, state: str) -> None:
    @settings(deadline=None, max_examples=150)
    @given(noise, st.booleans())
    def fuzz(packets: list[list[bytes]], as_init: bool) -> None:
        forger = make_forger(initial_tsn=1000)
        victim = forger.victim
        if state in ("init", "echoed"):
            victim.start(0.0)
            forger.victim_tag = victim._local_tag
            forger.hear()
            if state == "echoed":
                forger.say(forger.init(cookie=b"cookie").serialize(2))  # type: ignore[arg-type]
        elif state != "closed":
            forger.connect()
        if state in ("sending", "shutdown"):
            victim.send(0, 51, bytes(8000))
            forger.hear()
        if state == "shutdown":
            victim.shutdown(0.0)
        if state == "ended":
            victim.abort()
        for number, packet in enumerate(packets):
            forger.now = number * 0.3
            forger.say(*packet, tag=0 if as_init else None)
            victim.handle_timeout(forger.now)
            forger.events()
            check(victim)

    fuzz()


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=100))
def test_any_bytes(data: bytes) -> None:
    association = SctpAssociation(SctpSettings(), random.Random(0).randbytes)
    association.receive_datagram(data, 0.0)
    association.receive_datagram(serialize_packet(packet_start(5000, 5000, association._local_tag), [data]), 0.0)
    assert association.state is AssociationState.CLOSED


def mutated(packet: bytes, rng: random.Random) -> bytes:
    """The packet with something changed behind its header, and a right checksum."""
    body = bytearray(packet[12:])
    for _ in range(rng.choice((1, 1, 2, 4))):
        position = rng.randrange(len(body)) if body else 0
        match rng.randrange(4):
            case 0 if body:
                body[position] ^= 1 << rng.randrange(8)
            case 1:
                del body[position : position + 4 * rng.randrange(3)]
            case 2:
                body[position:position] = rng.randbytes(4)
            case _ if body:
                body[position] = rng.choice((0, 1, 0x7F, 0xFF))
    return serialize_packet(packet[:8], [bytes(body)])


@pytest.mark.parametrize("seed", range(150))
def test_a_mutated_conversation_is_survived_or_ends(
    make_channels: MakeChannels, make_line: MakeLine, seed: int
) -> None:
    rng = random.Random(seed)
    client, server = make_channels(seed, packet=rng.choice((300, 1160)))
    line = make_line((client, server), seed, loss=0.05, jitter_s=0.02)
    client.start(0.0)
    channel = client.open("x")

    def drop(sender: int, number: int, packet: bytes) -> bool:
        if rng.random() < 0.2:
            bad = mutated(packet, rng)
            (client, server)[1 - sender].receive_datagram(bad, line.now)
            return rng.random() < 0.5
        return False

    line.drop = drop
    for number in range(30):
        if client.state is AssociationState.ENDED:
            break
        if channel in client._channels and not client._channels[channel].closing:
            client.send(channel, "x" * rng.choice((1, 100, 5000)))
        if number == 20:
            client.close(channel)
        line.run(limit_s=0.1)
        check(client._association)
        check(server._association)
    line.run(limit_s=5)
    assert all(len(split_chunks(packet)) > 0 for _, _, packet in line.sent)
    longest = client._association._settings.packet
    assert max(len(packet) for _, _, packet in line.sent) <= longest
