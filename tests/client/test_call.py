"""The whole client over a simulated network in virtual time: Opus, jitter buffer, clock, lifetime."""

import math
from array import array
from typing import Any

import pytest
import trio

from voicegate.client import CallError, CallFailure, Heard
from voicegate.client.audio import FRAME_OCTETS, SAMPLE_RATE_HZ
from voicegate.client.events import EventsOpened
from voicegate.client.limits import HEARD_FRAMES
from voicegate.errors import LocalError


def tone(seconds: float, hertz: float = 440.0) -> bytes:
    count = round(seconds * SAMPLE_RATE_HZ)
    step = 2 * math.pi * hertz / SAMPLE_RATE_HZ
    return array("h", (round(8000 * math.sin(step * index)) for index in range(count))).tobytes()


def strength(pcm: bytes, hertz: float = 440.0) -> float:
    """Amplitude of one frequency in `pcm` (a Fourier sum)."""
    samples = array("h", pcm)
    step = 2 * math.pi * hertz / SAMPLE_RATE_HZ
    real = sum(sample * math.cos(step * index) for index, sample in enumerate(samples))
    imaginary = sum(sample * math.sin(step * index) for index, sample in enumerate(samples))
    return 2 * math.hypot(real, imaginary) / len(samples)


async def listen(call: Any, frames: int) -> list[Any]:
    heard = []
    async for frame in call.audio():
        heard.append(frame)
        if len(heard) == frames:
            break
    return heard


async def test_what_is_said_comes_back(autojump_clock: Any, call_over_simnet: Any) -> None:
    async with call_over_simnet(delay_s=0.020) as (call, _, _):
        await call.send_audio(tone(1.0))
        heard = await listen(call, 100)
    assert all(len(frame.pcm) == FRAME_OCTETS for frame in heard)
    assert strength(b"".join(frame.pcm for frame in heard[10:40])) == pytest.approx(8000, rel=0.15)
    assert strength(b"".join(frame.pcm for frame in heard[70:])) < 100, "silence after the tone"


async def test_timeline_is_in_order_and_counts_round_trips(autojump_clock: Any, call_over_simnet: Any) -> None:
    async with call_over_simnet(delay_s=0.025) as (call, _, _):
        await listen(call, 20)
    line = call.timeline
    assert line.answer_ms == 0.0
    assert line.ice_ms == pytest.approx(50, abs=3)
    assert line.dtls_ms == pytest.approx(100, abs=3)
    assert line.first_audio_ms == pytest.approx(150, abs=12)


async def test_statistics_on_a_clean_path(autojump_clock: Any, call_over_simnet: Any) -> None:
    async with call_over_simnet(delay_s=0.010) as (call, server, _):
        await listen(call, 200)
        statistics = call.statistics()
    assert statistics.sent >= 199
    assert statistics.lost == 0
    assert statistics.received >= 196
    assert statistics.rtt_ms == pytest.approx(20, abs=3)
    assert statistics.longest_gap_ms == pytest.approx(20, abs=1), "frames leave on an even grid"
    assert server.hung_up


@pytest.mark.parametrize("seed", range(4))
async def test_loss_duplication_and_reordering_are_repaired_or_concealed(
    autojump_clock: Any, call_over_simnet: Any, seed: int
) -> None:
    conditions = {"loss": 0.1, "duplicate": 0.05, "reorder": 0.1, "delay_s": 0.02, "jitter_s": 0.01}
    async with call_over_simnet(seed, **conditions) as (call, _, _):
        await call.send_audio(tone(4.0))
        heard = await listen(call, 200)
        statistics = call.statistics()
    assert statistics.lost > 0
    concealed = [frame.pcm for frame in heard[20:] if frame.heard is Heard.CONCEALED]
    assert max(map(strength, concealed)) > 1000, "concealment goes on with the sound"
    # In pieces, since what is skipped or concealed shifts the phase.
    pieces = [b"".join(frame.pcm for frame in heard[start : start + 5]) for start in range(100, 150, 5)]
    assert sum(map(strength, pieces)) / len(pieces) > 3000


async def test_an_outage_is_the_longest_gap(autojump_clock: Any, call_over_simnet: Any) -> None:
    async with call_over_simnet() as (call, _, net):
        await listen(call, 50)
        net.partition("192.0.2.10", "192.0.2.20")
        await listen(call, 25)
        net.heal("192.0.2.10", "192.0.2.20")
        await listen(call, 50)
        assert call.statistics().longest_gap_ms == pytest.approx(520, abs=25)


async def test_bye_ends_the_call(autojump_clock: Any, call_over_simnet: Any) -> None:
    async with call_over_simnet() as (call, server, _):
        server.say(type="agent", state="listening")
        await listen(call, 5)
        assert call.messages() == [{"type": "agent", "state": "listening"}]
        assert call.messages() == []
        server.say(type="bye", reason="agent ended")
        async for _ in call.audio():
            pass
        assert call.is_over
        await call.send_audio(tone(60.0))


async def test_close_notify_ends_the_call(autojump_clock: Any, call_over_simnet: Any) -> None:
    async with call_over_simnet() as (call, server, _):
        await listen(call, 5)
        server.core.close(trio.current_time())
        await call.wait_ended()


async def test_path_lost_is_raised_from_audio(autojump_clock: Any, call_over_simnet: Any) -> None:
    async def lose_the_path() -> None:
        async with call_over_simnet() as (call, _, net):
            await listen(call, 5)
            net.partition("192.0.2.10", "192.0.2.20")
            await listen(call, 10_000)

    with pytest.raises(CallError) as caught:
        await lose_the_path()
    assert caught.value.reason is CallFailure.PATH_LOST


async def test_ice_failed_is_raised_from_connecting(autojump_clock: Any, call_over_simnet: Any) -> None:
    def unplug(server: Any) -> None:
        server.port.close()

    with pytest.raises(CallError) as caught:
        async with call_over_simnet(prepare=unplug):
            pass
    assert caught.value.reason is CallFailure.ICE_FAILED


async def test_server_away_when_no_answer_comes(autojump_clock: Any, call_over_simnet: Any) -> None:
    def silence(server: Any) -> None:
        async def exchange(offer: str) -> None:
            await trio.sleep_forever()

        server.exchange = exchange

    with pytest.raises(CallError) as caught:
        async with call_over_simnet(prepare=silence):
            pass
    assert caught.value.reason is CallFailure.SERVER_AWAY


async def test_bad_answer_is_raised_from_connecting_and_the_server_is_told(
    autojump_clock: Any, call_over_simnet: Any
) -> None:
    servers = []

    def spoil(server: Any) -> None:
        servers.append(server)
        server.edit_answer = lambda sdp: sdp.replace("a=fingerprint:", "a=finger:")

    with pytest.raises(CallError) as caught:
        async with call_over_simnet(prepare=spoil):
            pass
    assert caught.value.reason is CallFailure.BAD_ANSWER
    assert servers[0].hung_up


async def test_an_error_of_the_caller_leaves_as_itself(autojump_clock: Any, call_over_simnet: Any) -> None:
    async def fail() -> None:
        async with call_over_simnet() as (call, _, _):
            await listen(call, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()


async def test_a_listener_that_never_listens_holds_nothing_up(autojump_clock: Any, call_over_simnet: Any) -> None:
    async with call_over_simnet() as (call, server, _):
        await trio.sleep(HEARD_FRAMES * 0.020 + 5)
        assert len(server.core.received) > HEARD_FRAMES + 200
        heard = await listen(call, HEARD_FRAMES)
        assert {frame.heard for frame in heard} == {Heard.RECEIVED}


async def test_send_audio_waits_for_room(autojump_clock: Any, call_over_simnet: Any) -> None:
    async with call_over_simnet() as (call, _, _):
        started = trio.current_time()
        await call.send_audio(tone(1.0) * 32)
        await call.wait_sent()
        assert trio.current_time() - started == pytest.approx(32, abs=0.1)


async def test_what_the_server_says_besides_events_is_no_harm(autojump_clock: Any, call_over_simnet: Any) -> None:
    async with call_over_simnet() as (call, _, _):
        for text in ("", "nonsense", "7", "[" * 100_000):
            call._receive_event(text)
        await listen(call, 10)
        assert not call.is_over


async def test_an_event_that_waited_and_cannot_be_sent_ends_the_call(
    autojump_clock: Any, call_over_simnet: Any
) -> None:
    async with call_over_simnet() as (call, _, _):
        call.send_event({"type": "response.create"})
        # A server that closes the channel in the moment in which it opens.
        call._session._events.append(EventsOpened())
        call.batch_done()
        assert call.is_over
        with pytest.raises(LocalError):
            await call.wait_ended()
