"""What an agent sees of a call, with the transceiver's half played by the test."""

from __future__ import annotations

import itertools
import json
from array import array
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from voicegate.agents import FRAME_SAMPLES, AudioFrame, Call, Turn, Utterance
from voicegate.agents.echo import echo
from voicegate.agents.events import Interrupted, ResponseRequested, SpeechStarted, SpeechStopped, TextMessage
from voicegate.agents.limits import MAX_EVENTS, MAX_FRAMES, MAX_QUEUED_OCTETS, MAX_TOOL_CALLS, MAX_TURNS
from voicegate.agents.observer import NobodyObserves
from voicegate.errors import LocalError
from voicegate.realtime import SessionConfiguration

if TYPE_CHECKING:
    from tests.conftest import Voice

FRAME = b"\x01\x02" * FRAME_SAMPLES
SILENT = bytes(len(FRAME))


class Telling(NobodyObserves):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def speech_started(self, at_ms: int, item_id: str) -> None:
        self.told.append(("started", item_id))

    def speech_stopped(self, at_ms: int, item_id: str) -> None:
        self.told.append(("stopped", item_id))

    def turn_committed(self, turn: Turn) -> None:
        self.told.append(("committed", turn.item_id))

    def turn_timed_out(self, start_ms: int, end_ms: int, item_id: str) -> None:
        self.told.append(("timed out", end_ms - start_ms))

    def utterances_cut(self, utterances: tuple[Utterance, ...]) -> None:
        self.told.append(("cut", *(utterance.heard_ms for utterance in utterances)))

    def tool_called(self, call_id: str, name: str, arguments: str) -> None:
        self.told.append(("tool", call_id, name, arguments))

    @property
    def words(self) -> list[str]:
        return [what for what, *_ in self.told]


class Line:
    """The transceiver's half: a frame in and a frame out every 20 ms."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.out: list[bytes | None] = []
        self._position_ms = 0

    async def hear(self, pcm: bytes) -> None:
        for start in range(0, len(pcm), len(FRAME)):
            self.out.append(self.call.pull_frame())
            self.call.deliver_nowait(AudioFrame(pcm[start : start + len(FRAME)].ljust(len(FRAME), b"\0"), self._ms()))
            await trio.sleep(0.02)

    async def pause(self, seconds: float) -> None:
        await self.hear(bytes(round(seconds * 50) * len(FRAME)))

    def _ms(self) -> int:
        self._position_ms += 20
        return self._position_ms - 20


def configured(**turn_detection: Any) -> SessionConfiguration:
    update = {"type": "realtime", "audio": {"input": {"turn_detection": turn_detection or None}}}
    return SessionConfiguration().merged(update)


def words(voice: Voice, text: str) -> bytes:
    return voice.speak(text)[::2].tobytes()


async def test_frames_come_in_order_and_iteration_ends_with_the_call(autojump_clock: trio.testing.MockClock) -> None:
    call = Call("rtc_1")
    heard: list[int] = []

    async def agent() -> None:
        heard.extend([frame.position_ms async for frame in call])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent)
        await trio.testing.wait_all_tasks_blocked()
        await Line(call).hear(FRAME * 5)
        call.end()
    assert heard == [0, 20, 40, 60, 80]
    assert call.usage.ms_in == 100


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 48_000])
async def test_frames_at_the_rate_asked_for(rate_hz: int) -> None:
    call = Call("rtc_1")
    frames = call.frames(rate_hz)
    sawtooth = array("h", (index % 96 * 100 for index in range(FRAME_SAMPLES))).tobytes()
    for index in range(50):
        call.deliver_nowait(AudioFrame(sawtooth, 20 * index, concealed=index == 7, voice=True))
    call.end()
    heard = [frame async for frame in frames]
    assert {len(frame.pcm) for frame in heard} == {rate_hz // 50 * 2}
    assert [frame.position_ms for frame in heard] == list(range(0, 1000, 20))
    assert [frame.concealed for frame in heard].index(True) == 7
    # 250 periods a second, at any rate: the wave is where it was.
    last = array("h", heard[-1].pcm)
    rises = sum(a < 4750 <= b for a, b in itertools.pairwise(last))
    assert rises == pytest.approx(5, abs=1)


def test_a_rate_that_nobody_has() -> None:
    call = Call("rtc_1")
    with pytest.raises(LocalError):
        call.frames(11_025)
    with pytest.raises(LocalError):
        call.begin(rate_hz=44_100)


def test_decoding_is_wanted_from_the_first_look_on() -> None:
    for look in (aiter, Call.frames, Call.turns, Call.events):
        call = Call("rtc_1")
        assert not call.wants_audio
        look(call)
        assert call.wants_audio


async def test_single_frames() -> None:
    call = Call("rtc_1")
    aiter(call)
    for position_ms in (0, 20):
        call.deliver_nowait(AudioFrame(FRAME, position_ms))
    assert [(await anext(call)).position_ms for _ in range(2)] == [0, 20]
    call.end()
    with pytest.raises(StopAsyncIteration):
        await anext(call)


async def test_an_agent_that_is_busy_loses_the_oldest() -> None:
    call = Call("rtc_1")
    frames = aiter(call)
    for index in range(MAX_FRAMES + 7):
        call.deliver_nowait(AudioFrame(FRAME, 20 * index))
    assert call.usage.frames_dropped == 7
    assert (await anext(frames)).position_ms == 140


async def test_what_nobody_reads_is_not_kept(autojump_clock: trio.testing.MockClock) -> None:
    call = Call("rtc_1", session=configured())
    call.turns()
    line = Line(call)
    for _ in range(3 * MAX_TURNS):
        await line.hear(FRAME)
        call.commit_turn()
    for number in range(3 * MAX_EVENTS):
        call.tell_agent(TextMessage(str(number), "item"))
    assert len(call._turns) == MAX_TURNS
    assert len(call._events) == 0
    assert len(call._frames) == 0


class TestTurns:
    async def test_each_turn_and_nothing_else(self, autojump_clock: trio.testing.MockClock, voice: Voice) -> None:
        call = Call("rtc_1")
        call.observer = observer = Telling()
        said: list[Turn] = []

        async def agent() -> None:
            said.extend([turn async for turn in call.turns()])

        first, second = words(voice, "Good morning parrot"), words(voice, "Please be quiet now")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent)
            await trio.testing.wait_all_tasks_blocked()
            line = Line(call)
            for spoken in (first, second):
                await line.pause(1.0)
                await line.hear(spoken)
            await line.pause(1.0)
            call.end()
        assert [spoken[: -2 * len(FRAME)] in turn.pcm for spoken, turn in zip((first, second), said, strict=True)]
        assert observer.words == ["started", "stopped", "committed"] * 2
        items = [item for _, item in observer.told]
        assert items == [said[0].item_id] * 3 + [said[1].item_id] * 3

    async def test_push_to_talk(self, autojump_clock: trio.testing.MockClock, voice: Voice) -> None:
        call = Call("rtc_1", session=configured())
        call.observer = observer = Telling()
        turns = call.turns()
        line = Line(call)
        await line.hear(words(voice, "Good morning parrot"))
        call.clear_input()
        assert call.commit_turn() is None
        await line.hear(FRAME * 10)
        turn = call.commit_turn()
        assert turn is not None
        assert turn.pcm == FRAME * 10
        assert await anext(turns) is turn
        assert observer.told == [("committed", turn.item_id)]

    async def test_turns_that_are_not_to_be_answered_wait_for_a_client(
        self, autojump_clock: trio.testing.MockClock
    ) -> None:
        call = Call("rtc_1", session=configured())
        turns, line = call.turns(), Line(call)
        for _ in range(2):
            await line.hear(FRAME * 10)
            call.commit_turn(wants_answer=False)
        assert len(call._turns) == 0
        call.tell_agent(ResponseRequested({}))
        turn = await anext(turns)
        assert (turn.pcm, turn.start_ms, turn.end_ms) == (FRAME * 20, 0, 400)
        call.tell_agent(ResponseRequested({}))
        assert len(call._turns) == 0

    async def test_create_response_false_is_such_a_case(
        self, autojump_clock: trio.testing.MockClock, voice: Voice
    ) -> None:
        call = Call("rtc_1", session=configured(type="server_vad", create_response=False))
        call.observer = observer = Telling()
        turns, line = call.turns(), Line(call)
        await line.hear(SILENT * 50 + words(voice, "Good morning parrot") + SILENT * 50)
        assert observer.words == ["started", "stopped", "committed"]
        assert len(call._turns) == 0
        call.tell_agent(ResponseRequested({}))
        assert (await anext(turns)).item_id == observer.told[0][1]

    async def test_a_session_that_changes(self, autojump_clock: trio.testing.MockClock, voice: Voice) -> None:
        call = Call("rtc_1")
        call.observer = observer = Telling()
        call.turns()
        line = Line(call)
        call.session = configured()
        await line.hear(SILENT * 50 + words(voice, "Good morning parrot") + SILENT * 50)
        assert observer.told == []
        call.session = configured(type="server_vad")
        await line.hear(SILENT * 50 + words(voice, "Good morning parrot") + SILENT * 50)
        assert observer.words == ["started", "stopped", "committed"]

    async def test_who_only_reads_frames_takes_turns_itself(
        self, autojump_clock: trio.testing.MockClock, voice: Voice
    ) -> None:
        call = Call("rtc_1")
        call.observer = observer = Telling()
        call.frames()
        line, sound = Line(call), SILENT * 50 + words(voice, "Good morning parrot") + SILENT * 50
        await line.hear(sound)
        assert observer.told == []
        call.take_turns()
        await line.hear(sound)
        assert observer.words == ["started", "stopped", "committed"]

    async def test_idle_timeout_counts_from_what_was_heard_last(self, autojump_clock: trio.testing.MockClock) -> None:
        call = Call("rtc_1", session=configured(type="server_vad", idle_timeout_ms=5000))
        call.observer = observer = Telling()
        turns, line = call.turns(), Line(call)
        await line.pause(10.0)
        await call.say(FRAME * 100)
        await line.pause(2.0 + 4.9)
        assert observer.told == []
        await line.pause(0.2)
        assert observer.words == ["timed out", "committed"]
        assert observer.told[0] == ("timed out", 5000)
        turn = await anext(turns)
        assert turn.timed_out
        assert turn.pcm == b""
        await line.pause(20.0)
        assert len(observer.told) == 2


class TestBargeIn:
    async def interrupt(self, call: Call, voice: Voice) -> tuple[Line, int]:
        """Talk over the agent; how many frames of it were heard when it was told to stop."""
        line = Line(call)
        await line.pause(0.5)
        spoken = words(voice, "Please be quiet now")
        for start in range(0, len(spoken), len(FRAME)):
            await line.hear(spoken[start : start + len(FRAME)])
            if isinstance(call.observer, Telling) and "started" in call.observer.words:
                break
        heard = sum(frame is not None for frame in line.out)
        await line.pause(1.0)
        return line, heard

    async def test_the_agent_falls_silent_with_the_next_frame(
        self, autojump_clock: trio.testing.MockClock, voice: Voice
    ) -> None:
        call = Call("rtc_1")
        call.observer = observer = Telling()
        events = call.events()
        first, second = await call.say(FRAME * 10), await call.say(FRAME * 500)
        third = call.begin()
        line, heard = await self.interrupt(call, voice)
        assert sum(frame is not None for frame in line.out) == heard
        assert (first.is_played, first.was_cut, first.heard_ms) == (True, False, 200)
        assert (second.is_played, second.was_cut, second.heard_ms) == (False, True, 20 * heard - 200)
        assert (third.was_cut, third.heard_ms) == (True, 0)
        assert ("cut", second.heard_ms, 0) in observer.told
        assert call.usage.interruptions == 1
        assert call.usage.ms_out == 20 * heard
        assert isinstance(await anext(events), SpeechStarted)
        assert await anext(events) == Interrupted(second.item_id, second.heard_ms)
        assert isinstance(await anext(events), SpeechStopped)
        # What comes late for a cut utterance is thrown away, at once.
        with trio.fail_after(1):
            await third.write(bytes(2 * MAX_QUEUED_OCTETS))
        assert third.write_nowait(FRAME) == len(FRAME)
        assert call.pull_frame() is None
        assert third.written_ms == 0
        # And what is said after it is heard.
        await call.say(FRAME)
        assert call.pull_frame() == FRAME

    async def test_not_where_the_session_does_not_want_it(
        self, autojump_clock: trio.testing.MockClock, voice: Voice
    ) -> None:
        call = Call("rtc_1", session=configured(type="server_vad", interrupt_response=False))
        call.observer = Telling()
        call.turns()
        utterance = await call.say(FRAME * 500)
        line, _ = await self.interrupt(call, voice)
        assert None not in line.out
        assert not utterance.was_cut
        assert call.usage.interruptions == 0

    async def test_speech_while_the_agent_is_silent_interrupts_nothing(
        self, autojump_clock: trio.testing.MockClock, voice: Voice
    ) -> None:
        call = Call("rtc_1")
        call.observer = observer = Telling()
        call.turns()
        await self.interrupt(call, voice)
        assert "cut" not in observer.words
        assert call.usage.interruptions == 0


class TestTools:
    async def test_the_client_is_asked_and_answers(self, autojump_clock: trio.testing.MockClock) -> None:
        call = Call("rtc_1")
        call.observer = observer = Telling()
        answers: list[str] = []

        async def agent() -> None:
            answers.append(await call.call_tool("weather", {"city": "Köln"}))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent)
            await trio.testing.wait_all_tasks_blocked()
            ((_, tool_call_id, name, arguments),) = observer.told
            assert (name, json.loads(arguments)) == ("weather", {"city": "Köln"})
            assert not call.tool_answered("call_of_somebody_else", "snow")
            assert call.tool_answered(tool_call_id, "rain")
            assert not call.tool_answered(tool_call_id, "sun")
        assert answers == ["rain"]
        assert not call.tool_answered(tool_call_id, "sun")

    async def test_the_end_of_the_call_is_no_answer(self, autojump_clock: trio.testing.MockClock) -> None:
        call = Call("rtc_1")

        async def agent() -> None:
            with pytest.raises(LocalError):
                await call.call_tool("weather", {})
            with pytest.raises(LocalError):
                await call.call_tool("weather", {})

        async with trio.open_nursery() as nursery:
            nursery.start_soon(agent)
            await trio.testing.wait_all_tasks_blocked()
            call.end()

    async def test_too_many_at_once(self, autojump_clock: trio.testing.MockClock) -> None:
        call = Call("rtc_1")
        async with trio.open_nursery() as nursery:
            for _ in range(MAX_TOOL_CALLS):
                nursery.start_soon(call.call_tool, "weather", {})
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(LocalError):
                await call.call_tool("weather", {})
            nursery.cancel_scope.cancel()
        assert call._tool_calls == {}


async def test_announcements_and_hanging_up() -> None:
    told: list[dict[str, object]] = []
    call = Call("rtc_1", told.append)
    call.announce("thinking", model="x")
    assert told == [{"type": "agent", "state": "thinking", "model": "x"}]
    call.hang_up("done")
    with trio.fail_after(60):
        await call.wait_hang_up()
    assert call.hang_up_reason == "done"


async def test_echo_loops_until_the_end(autojump_clock: trio.testing.MockClock) -> None:
    call = Call("rtc_1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(echo, call)
        await trio.sleep(1)
        assert call.is_looped
        assert not call.wants_audio
        call.end()


async def test_everything_ends_with_the_call(autojump_clock: trio.testing.MockClock) -> None:
    call = Call("rtc_1")

    async def read(source: Any) -> None:
        assert [item async for item in source] == []

    async with trio.open_nursery() as nursery:
        for source in (call.frames(), call.frames(8_000), call.turns(), call.events()):
            nursery.start_soon(read, source)
        nursery.start_soon(call.say, bytes(2 * MAX_QUEUED_OCTETS))
        nursery.start_soon(call.wait_ended)
        await trio.testing.wait_all_tasks_blocked()
        call.end()
    with trio.fail_after(1):
        assert (await call.say(FRAME)).was_cut
        await call.wait_played()
