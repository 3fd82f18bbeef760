"""What comes from the network raises nothing, and a defect of ours ends one session."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voicegate.agents import Call
from voicegate.agents.echo import echo
from voicegate.routing import FleetKeys, HopSender, pack_entry
from voicegate.transceiver.ends import EndReason

if TYPE_CHECKING:
    from tests.transceiver.conftest import OpenHouse


async def listen(call: Call) -> None:
    async for _ in call:
        pass


def faulty(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError("a defect")


@pytest.mark.parametrize("where", ["media", "dtls", "stun", "tick", "tock", "timer"])
async def test_a_defect_ends_the_session_it_shows_in(
    autojump_clock: trio.testing.MockClock,
    open_house: OpenHouse,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_house(listen) as house:
        caller, session = house.call()
        other, other_session = house.call(41_000)
        await house.pass_time(1.0, caller, other)
        assert session.rtp is not None
        assert session.audio is not None
        assert session._handshakes.connection is not None
        owner, name = {
            "media": (session.rtp, "receive_rtp"),
            "dtls": (session._handshakes.connection, "receive_datagram"),
            "stun": (session._ice, "receive_datagram"),
            "tick": (session.audio, "speak"),
            "tock": (session.audio, "listen"),
            "timer": (session._ice, "handle_timeout"),
        }[where]
        monkeypatch.setattr(type(owner), name, _for_one(owner, getattr(type(owner), name)))
        if where == "dtls":
            house.line.from_client(caller.address, b"\x16\xfe\xfd" + bytes(30))
        await house.pass_time(35.0, caller, other)
        assert await session.wait_ended() == "internal error"
        assert session.end_detail == "ZeroDivisionError"
        assert "session failed" in caplog.text
        assert other_session.end_reason is None
        assert await house.audio_in(1.0, other) > 45
        assert house.transceiver.ends == {"internal error": 1}


@pytest.mark.parametrize("what", ["goodbye", "close"])
async def test_a_defect_in_the_farewell_leaves_nothing_behind(
    autojump_clock: trio.testing.MockClock,
    open_house: OpenHouse,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_house(listen) as house:
        caller, session = house.call()
        other, other_session = house.call(41_000)
        await house.pass_time(1.0, caller, other)
        owner = {"goodbye": session.rtp, "close": session._handshakes.connection}[what]
        monkeypatch.setattr(type(owner), what, _for_one(owner, getattr(type(owner), what)))
        session.end(EndReason.HUNG_UP)
        with trio.fail_after(5):
            assert await session.wait_ended() == "hung up"
        assert "session failed" in caplog.text
        assert await house.audio_in(1.0, other) > 45
        house.transceiver.end_all(EndReason.HUNG_UP)
        assert await other_session.wait_ended() == "hung up"
        await trio.testing.wait_all_tasks_blocked()
        assert house.is_empty()
        assert house.transceiver.ends == {"hung up": 2}


def _for_one(owner: object, method: Any) -> Any:
    def call(self: object, *arguments: Any, **named: Any) -> Any:
        if self is owner:
            return faulty()
        return method(self, *arguments, **named)

    return call


# Bytes alone hardly ever get past a header, so most of the noise has one.
ANY = st.binary(max_size=80)
SHORT = st.integers(0, 0xFFFF).map(lambda number: number.to_bytes(2, "big"))
DTLS_RECORD = st.builds(
    lambda content_type, epoch, sequence, body: (
        bytes((content_type,)) + b"\xfe\xfd" + epoch + bytes(4) + sequence + len(body).to_bytes(2, "big") + body
    ),
    st.integers(20, 25),
    st.sampled_from((b"\x00\x00", b"\x00\x01", b"\x00\x02")),
    SHORT,
    # A handshake message of any type, whole: type, length, message_seq, fragment_offset, fragment_length.
    ANY
    | st.builds(
        lambda kind, sequence, body: (
            bytes((kind,)) + len(body).to_bytes(3, "big") + sequence + bytes(3) + len(body).to_bytes(3, "big") + body
        ),
        st.integers(0, 24),
        st.sampled_from((b"\x00\x00", b"\x00\x01", b"\x00\x05")),
        ANY,
    ),
)
STUN = st.builds(
    lambda kind, rest: kind + len(rest).to_bytes(2, "big") + b"\x21\x12\xa4\x42" + bytes(12) + rest,
    st.sampled_from((b"\x00\x01", b"\x00\x11", b"\x01\x01", b"\x01\x11")),
    ANY | st.builds(lambda kind, body: kind + len(body).to_bytes(2, "big") + body, SHORT, ANY),
)
MEDIA = st.builds(
    lambda first, second, rest: bytes((first, second)) + rest, st.integers(128, 191), st.integers(0, 255), ANY
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.lists(st.tuples(st.booleans(), ANY | DTLS_RECORD | STUN | MEDIA), min_size=1, max_size=60))
def test_noise_raises_nothing_and_ends_nothing(noise: list[tuple[bool, bytes]]) -> None:
    async def main() -> None:
        from tests.transceiver.conftest import SECRET, open_house_with  # noqa: PLC0415

        keys = FleetKeys.from_secret(bytes.fromhex(SECRET))
        sender: HopSender[None] = HopSender(keys.current, keys.hop_keys[keys.current], 2, 1)
        async with open_house_with(echo) as house:
            caller, session = house.call()
            await house.pass_time(0.5, caller)
            for from_its_address, data in noise:
                host, port = caller.address if from_its_address else ("198.51.100.1", 9)
                house.line.from_relay(sender.bundle([(pack_entry(host, port, 0, 0, 0, 0xFF), data)]))
                house.line.from_relay(data)
            assert await house.audio_in(0.5, caller) > 20
            assert session.end_reason is None

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_an_empty_payload_never_reaches_the_decoder(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    frames = 0

    async def count(call: Call) -> None:
        nonlocal frames
        async for _ in call:
            frames += 1

    async with open_house(count) as house:
        caller, session = house.call()
        await house.pass_time(1.0, caller)
        caller.payload = b""
        await house.pass_time(0.5, caller)
        caller.payload = b"\xf8\xff\xfe"
        before = frames
        await house.pass_time(1.0, caller)
        assert frames - before > 40
        assert session.audio is not None
        assert session.audio.undecodable_frames == 0


async def test_an_empty_payload_is_not_echoed(autojump_clock: trio.testing.MockClock, open_house: OpenHouse) -> None:
    async with open_house(echo) as house:
        caller, session = house.call()
        await house.pass_time(1.0, caller)
        caller.payload = b""
        await house.pass_time(0.5, caller)
        caller.payload = b"\xf8\xff\xfe"
        assert await house.audio_in(1.0, caller) > 45
        assert session.end_reason is None
        assert all(event.packet.payload for event in caller.audio)


@pytest.mark.parametrize("payload", [b"\xff\xff\xff\xff", b"\xf1\x00"])
async def test_a_payload_that_is_no_opus_is_a_concealed_frame(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, payload: bytes
) -> None:
    """One whose first octets say so, and one that only the decoder finds out."""
    concealed: list[bool] = []

    async def look(call: Call) -> None:
        concealed.extend([frame.concealed async for frame in call])

    async with open_house(look) as house:
        caller, session = house.call()
        await house.pass_time(1.0, caller)
        caller.payload = payload
        await house.pass_time(0.1, caller)
        caller.payload = b"\xf8\xff\xfe"
        await house.pass_time(1.0, caller)
        assert session.end_reason is None
        caller.hang_up()
        await session.wait_ended()
    assert True in concealed
    assert concealed[-20:] == [False] * 20
