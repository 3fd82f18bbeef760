"""What the clients of a Python agent are told, in which order: turns, interruptions, tools, push-to-talk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.agents.talk import MANUAL, TONE, silent, talk
from voicegate.agents import Call, Utterance
from voicegate.agents.parrot import parrot
from voicegate.realtime.limits import ANSWER_LIMIT_S, COMMIT_DRAIN_S, STALL_LIMIT_S

if TYPE_CHECKING:
    from tests.conftest import Voice

Clock = trio.testing.MockClock

USER_TURN = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
]
ANSWER_BEGINS = ["response.created", "response.output_item.added", "conversation.item.added"]
ANSWER_IS_HEARD = ["response.content_part.added", "output_audio_buffer.started"]
ANSWER_IS_SAID = [
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
]
TOOL_CALL = [
    "response.output_item.added",
    "conversation.item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "conversation.item.done",
    "response.output_item.done",
]


def words(voice: Voice, text: str) -> bytes:
    """24 kHz PCM of a spoken text."""
    return voice.speak(text)[::2].tobytes()


class Speaker:
    """An agent that says what the test wants."""

    def __init__(self) -> None:
        self.call: Call
        self.is_ready = trio.Event()

    async def __call__(self, call: Call) -> None:
        self.call = call
        call.turns()
        self.is_ready.set()
        await call.wait_ended()


async def test_one_spoken_turn(autojump_clock: Clock, voice: Voice) -> None:
    async with talk(parrot) as t:
        await t.pass_time(0.5)
        await t.say(words(voice, "Good morning parrot"))
        await t.pass_time(4)
        client = t.client
        assert client.news() == [
            "session.created",
            *USER_TURN,
            *ANSWER_BEGINS,
            *ANSWER_IS_HEARD,
            *ANSWER_IS_SAID,
            "response.done",
            "output_audio_buffer.stopped",
        ]
        started, stopped = client.last("input_audio_buffer.speech_started"), client.last("input_audio_buffer.committed")
        assert started["item_id"] == stopped["item_id"] == client.all("conversation.item.added")[0]["item"]["id"]
        user, assistant = (event["item"] for event in client.all("conversation.item.done"))
        assert user["content"] == [{"type": "input_audio", "transcript": None}]
        assert client.last("conversation.item.added")["previous_item_id"] == user["id"]
        assert assistant["content"] == [{"type": "output_audio", "transcript": ""}]
        response = client.last("response.done")["response"]
        assert response["status"] == "completed"
        assert response["output"] == [assistant]
        assert response["usage"]["total_tokens"] == response["usage"]["input_token_details"]["audio_tokens"] == 0
        ids = {event["response_id"] for event in client.told if "response_id" in event}
        assert ids == {response["id"]} == {client.last("response.created")["response"]["id"]}


async def test_words_come_with_the_sound(autojump_clock: Clock) -> None:
    speaker = Speaker()
    async with talk(speaker) as t:
        utterance = speaker.call.begin(transcript="Good ")
        utterance.add_transcript("mor")
        assert t.client.news() == ["session.created", *ANSWER_BEGINS]
        assert t.client.last("response.output_item.added")["item"]["status"] == "in_progress"
        utterance.write_nowait(TONE * 50)
        await t.pass_time(0.1)
        assert t.client.news() == [*ANSWER_IS_HEARD, "response.output_audio_transcript.delta"]
        utterance.add_transcript("ning")
        assert [e["delta"] for e in t.client.all("response.output_audio_transcript.delta")] == ["Good mor", "ning"]
        utterance.finish()
        assert t.client.news() == ["response.output_audio_transcript.delta", *ANSWER_IS_SAID, "response.done"]
        assert t.client.last("response.output_audio_transcript.done")["transcript"] == "Good morning"
        assert t.client.last("response.content_part.done")["part"] == {"type": "audio", "transcript": "Good morning"}
        await t.pass_time(2)
        assert t.client.news() == ["output_audio_buffer.stopped"]


async def test_interrupted_by_the_caller(autojump_clock: Clock, voice: Voice) -> None:
    speaker = Speaker()
    async with talk(speaker) as t:
        utterance = speaker.call.begin(transcript="a long story")
        utterance.write_nowait(TONE * 50 * 60)
        await t.pass_time(1)
        t.client.news()
        await t.say(words(voice, "Please be quiet now"))
        await t.pass_time(1)
        told = t.client.news()
        assert told == [
            USER_TURN[0],
            "output_audio_buffer.cleared",
            *ANSWER_IS_SAID,
            "conversation.item.truncated",
            "response.done",
            *USER_TURN[1:],
        ]
        truncated = t.client.last("conversation.item.truncated")
        assert truncated["audio_end_ms"] == utterance.heard_ms == len(t.heard) // 48
        assert truncated["item_id"] == utterance.item_id
        response = t.client.last("response.done")["response"]
        assert response["status"] == "cancelled"
        assert response["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
        assert response["output"][0]["status"] == "incomplete"
        # What the stock client does next.
        t.client.send("conversation.item.retrieve", item_id=utterance.item_id)
        assert t.client.last("conversation.item.retrieved")["item"]["content"] == [
            {"type": "output_audio", "transcript": None}
        ]


async def test_interrupted_by_the_stock_client(autojump_clock: Clock) -> None:
    speaker = Speaker()
    async with talk(speaker) as t:
        utterance = speaker.call.begin()
        utterance.write_nowait(TONE * 500)
        await t.pass_time(0.5)
        t.client.news()
        t.client.send("response.cancel")
        t.client.send("output_audio_buffer.clear")
        told = t.client.news()
        assert told[0] == "output_audio_buffer.cleared"
        assert told[-2:] == ["conversation.item.truncated", "response.done"]
        assert "error" not in told
        assert t.client.last("conversation.item.truncated")["audio_end_ms"] == 500
        assert t.client.last("response.done")["response"]["status_details"]["reason"] == "client_cancelled"
        await t.pass_time(0.1)
        assert len(t.heard) == 500 * 48
        assert t.client.news() == []


async def test_interrupted_when_all_was_said_but_not_heard(autojump_clock: Clock) -> None:
    speaker = Speaker()
    async with talk(speaker) as t:
        utterance = await speaker.call.say(TONE * 500)
        await t.pass_time(0.5)
        assert t.client.news()[-1] == "response.done"
        t.client.send("response.cancel", event_id="mine")
        assert (t.client.error["code"], t.client.error["event_id"]) == ("response_cancel_not_active", "mine")
        t.client.send("output_audio_buffer.clear")
        assert t.client.news() == ["error", "output_audio_buffer.cleared", "conversation.item.truncated"]
        assert t.client.last("conversation.item.truncated")["audio_end_ms"] == utterance.heard_ms == 500
        t.client.send("output_audio_buffer.clear")
        await t.pass_time(1)
        assert t.client.news() == []


async def test_cut_before_anything_was_heard(autojump_clock: Clock) -> None:
    speaker = Speaker()
    async with talk(speaker) as t:
        speaker.call.begin(transcript="too late").write_nowait(TONE)
        t.client.news()
        speaker.call.stop()
        assert t.client.news() == ["conversation.item.done", "response.output_item.done", "response.done"]
        assert t.client.last("conversation.item.done")["item"]["content"] == []


async def test_utterances_that_are_begun_before_the_end_share_a_response(autojump_clock: Clock) -> None:
    speaker = Speaker()
    async with talk(speaker) as t:
        first, second = speaker.call.begin(), speaker.call.begin()
        for utterance in (first, second):
            utterance.write_nowait(TONE * 5)
            utterance.finish()
        await t.pass_time(0.3)
        assert len(t.client.all("response.created")) == 1
        assert [event["output_index"] for event in t.client.all("response.output_item.done")] == [0, 1]
        assert len(t.client.all("output_audio_buffer.started")) == len(t.client.all("output_audio_buffer.stopped")) == 1
        assert t.client.told[-1]["type"] == "output_audio_buffer.stopped"
        assert [item["id"] for item in t.client.last("response.done")["response"]["output"]] == [
            first.item_id,
            second.item_id,
        ]


async def test_words_without_sound_are_text(autojump_clock: Clock) -> None:
    speaker = Speaker()
    async with talk(speaker) as t:
        speaker.call.begin(transcript="in writing \ud800").finish()
        assert t.client.news() == [
            "session.created",
            *ANSWER_BEGINS,
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "conversation.item.done",
            "response.output_item.done",
            "response.done",
        ]
        assert t.client.last("conversation.item.done")["item"]["content"] == [
            {"type": "output_text", "text": "in writing ?"}
        ]


async def with_tool(call: Call) -> None:
    """An agent that looks something up for every text, and says it."""
    async for event in call.events():
        if type(event).__name__ == "TextMessage":
            answer = await call.call_tool("look_up", {"word": event.text})  # type: ignore[union-attr]
            await call.say(TONE * 10, transcript=answer)


def message(text: str, **members: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}], **members}


async def test_tool_call_as_the_stock_client_does_it(autojump_clock: Clock) -> None:
    async with talk(with_tool, session={"type": "realtime", "tools": [{"type": "function", "name": "look_up"}]}) as t:
        client = t.client
        client.send("conversation.item.create", item=message("gate"))
        client.send("response.create", event_id="agents_js_response_create_1")
        await t.pass_time(0.1)
        assert client.news() == [
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
            *TOOL_CALL,
            "response.done",
        ]
        call = client.last("response.output_item.done")["item"]
        assert (call["name"], call["arguments"], call["status"]) == ("look_up", '{"word": "gate"}', "completed")
        assert client.last("response.done")["response"]["output"] == [call]
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "a door"}
        client.send("conversation.item.create", item=output)
        await trio.testing.wait_all_tasks_blocked()  # The agent is quicker than the client's next event.
        client.send("response.create", event_id="agents_js_response_create_2")
        await t.pass_time(1)
        assert client.news() == [
            "conversation.item.added",
            "conversation.item.done",
            *ANSWER_BEGINS,
            *ANSWER_IS_HEARD,
            "response.output_audio_transcript.delta",
            *ANSWER_IS_SAID,
            "response.done",
            "output_audio_buffer.stopped",
        ]
        assert client.last("response.output_audio_transcript.done")["transcript"] == "a door"


async def test_a_request_for_what_was_just_said_still_ends(autojump_clock: Clock) -> None:
    speaker = Speaker()
    async with talk(speaker) as t:
        t.client.send("conversation.item.create", item=message("hello"))
        speaker.call.begin(transcript="hello").finish()
        t.client.news()
        t.client.send("response.create")
        assert t.client.news() == ["response.created", "response.done"]
        t.client.send("response.create")
        assert t.client.news() == ["response.created"]  # This one means something new.


async def test_tool_output_that_nobody_asked_for(autojump_clock: Clock) -> None:
    async with talk(silent) as t:
        output = {"type": "function_call_output", "call_id": "call_x", "output": ""}
        t.client.send("conversation.item.create", item=output)
        assert (t.client.error["code"], t.client.error["param"]) == ("invalid_tool_call_id", "item.call_id")


async def test_push_to_talk(autojump_clock: Clock) -> None:
    async with talk(parrot, session=MANUAL) as t:
        await t.pass_time(1, TONE * 50)
        t.client.send("input_audio_buffer.clear")
        assert t.client.news() == ["input_audio_buffer.cleared"]
        await t.pass_time(1, TONE * 50)
        t.client.send("input_audio_buffer.commit")
        t.client.send("response.create")
        assert t.client.news() == []
        await t.pass_time(COMMIT_DRAIN_S + 0.02, TONE * 50)  # What was still on its way.
        await t.pass_time(2)
        assert t.client.news() == [
            *USER_TURN[2:],
            *ANSWER_BEGINS,
            *ANSWER_IS_HEARD,
            *ANSWER_IS_SAID,
            "response.done",
            "output_audio_buffer.stopped",
        ]
        assert len(t.heard) / 48_000 == pytest.approx(1 + COMMIT_DRAIN_S, abs=0.03)


async def test_a_commit_creates_no_response(autojump_clock: Clock) -> None:
    async with talk(parrot, session=MANUAL) as t:
        await t.pass_time(1, TONE * 50)
        t.client.send("input_audio_buffer.commit")
        await t.pass_time(3)
        assert t.client.news() == USER_TURN[2:]
        assert t.heard == b""


async def test_events_behind_a_commit_keep_their_order(autojump_clock: Clock) -> None:
    async with talk(silent, session=MANUAL) as t:
        await t.pass_time(0.2, TONE * 10)
        t.client.send("input_audio_buffer.commit")
        t.client.send("input_audio_buffer.commit", event_id="second")
        t.client.send("conversation.item.create", item=message("x"))
        await t.pass_time(COMMIT_DRAIN_S + 0.02)
        assert t.client.news() == USER_TURN[2:]
        await t.pass_time(COMMIT_DRAIN_S + 0.02)
        assert t.client.news()[-2:] == ["conversation.item.added", "conversation.item.done"]


async def test_nothing_to_commit(autojump_clock: Clock) -> None:
    async with talk(silent) as t:
        t.client.send("input_audio_buffer.commit", event_id="mine")
        await t.pass_time(COMMIT_DRAIN_S + 0.02)
        assert (t.client.error["code"], t.client.error["event_id"]) == ("input_audio_buffer_commit_empty", "mine")


async def test_no_answer_cannot_hold_up_the_client(autojump_clock: Clock) -> None:
    speaker = Speaker()
    async with talk(speaker) as t:
        t.client.send("response.create", response={"metadata": {"topic": "x"}, "output_modalities": ["text"]})
        t.client.send("response.create", event_id="impatient")
        assert t.client.error["code"] == "conversation_already_has_active_response"
        assert t.client.error["event_id"] == "impatient"
        await t.pass_time(ANSWER_LIMIT_S + 0.1)
        assert t.client.news() == ["session.created", "response.created", "error", "response.done"]
        response = t.client.last("response.done")["response"]
        assert (response["status"], response["output"], response["metadata"]) == ("completed", [], {"topic": "x"})
        assert response["output_modalities"] == ["text"]
        await speaker.call.say(TONE)
        assert t.client.news() == ANSWER_BEGINS


async def test_a_request_is_cancelled_by_speech_or_by_the_client(autojump_clock: Clock, voice: Voice) -> None:
    async with talk(silent) as t:
        t.client.send("response.create")
        await t.say(words(voice, "Wait, I was not done"))
        assert t.client.last("response.done")["response"]["status_details"]["reason"] == "turn_detected"
        await t.pass_time(1)
        t.client.send("response.create")
        t.client.send("response.cancel", response_id=t.client.last("response.created")["response"]["id"])
        assert t.client.last("response.done")["response"]["status_details"]["reason"] == "client_cancelled"


async def test_an_utterance_that_is_never_finished(autojump_clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    speaker = Speaker()
    async with talk(speaker) as t:
        t.client.send("response.create")
        utterance = speaker.call.begin()
        utterance.write_nowait(TONE * 50 * 40)
        await t.pass_time(STALL_LIMIT_S + 9)  # It is being heard all the while.
        assert not t.client.all("response.done")
        await t.pass_time(2 * STALL_LIMIT_S)
        response = t.client.last("response.done")["response"]
        assert (response["status"], response["status_details"]["error"]["code"]) == ("failed", "agent_failed")
        assert "did not finish" in caplog.text
        t.client.news()
        utterance.add_transcript("more")
        utterance.finish()
        await t.pass_time(0.1)
        assert t.client.news() == ["output_audio_buffer.stopped"]


async def test_out_of_band(autojump_clock: Clock) -> None:
    speaker = Speaker()
    async with talk(speaker) as t:
        t.client.send("response.create", response={"conversation": "none", "metadata": {"topic": "side"}})
        t.client.send("response.create")
        assert [event["response"]["conversation_id"] is None for event in t.client.all("response.created")] == [
            True,
            False,
        ]
        t.client.send("response.cancel")
        assert t.client.last("response.done")["response"]["metadata"] is None
        t.client.news()
        await speaker.call.say(TONE * 2, transcript="aside")
        await t.pass_time(0.2)
        told = t.client.news()
        assert not [kind for kind in told if kind.startswith("conversation.")]
        response = t.client.last("response.done")["response"]
        assert (response["status"], response["metadata"]) == ("completed", {"topic": "side"})
        t.client.send("conversation.item.retrieve", item_id=response["output"][0]["id"])
        assert t.client.error["code"] == "item_retrieve_invalid_item_id"


async def test_responses_out_of_band_are_bounded(autojump_clock: Clock) -> None:
    async with talk(silent) as t:
        for _ in range(12):
            t.client.send("response.create", response={"conversation": "none"})
        assert len(t.client.all("response.created")) + len(t.client.all("error")) == 12
        assert t.client.error["code"] == "too_many_events"
        await t.pass_time(ANSWER_LIMIT_S + 0.1)
        assert len(t.client.all("response.done")) == len(t.client.all("response.created"))


async def test_what_was_begun_is_heard_by_who_comes_late(autojump_clock: Clock) -> None:
    async with talk(greeter) as t:
        await t.pass_time(0.3)
        assert t.client.news()[:2] == ["session.created", "response.created"]


async def greeter(call: Call) -> None:
    await call.say(TONE * 5, transcript="hello")
    await call.wait_ended()


class Failing:
    """An agent that begins to speak and raises."""

    utterance: Utterance

    async def __call__(self, call: Call) -> None:
        self.utterance = call.begin()
        self.utterance.write_nowait(TONE * 50)
        await trio.sleep(0.5)
        raise ZeroDivisionError


async def test_an_agent_that_fails(autojump_clock: Clock) -> None:
    told: list[str] = []
    with pytest.RaisesGroup(ZeroDivisionError):
        async with talk(Failing()) as t:
            t.client.news()
            with trio.CancelScope(shield=True):
                await t.pass_time(1)
            told = t.client.news()
            assert t.client.last("response.done")["response"]["status"] == "failed"
    assert told[-2:] == ["response.done", "error"]


async def test_turns_that_time_out(autojump_clock: Clock) -> None:
    speaker = Speaker()
    detection = {"type": "server_vad", "idle_timeout_ms": 5000}
    session: dict[str, Any] = {"type": "realtime", "audio": {"input": {"turn_detection": detection}}}
    async with talk(speaker, session=session) as t:
        await speaker.call.say(TONE)
        await t.pass_time(6)
        assert t.client.news()[-4:] == ["input_audio_buffer.timeout_triggered", *USER_TURN[2:]]


@pytest.mark.parametrize("ending", ["session.update", "input_audio_buffer.clear"])
async def test_speech_that_is_forgotten_interrupts_nothing_any_more(
    ending: str, autojump_clock: Clock, voice: Voice
) -> None:
    speaker = Speaker()
    async with talk(speaker) as t:
        await t.say(words(voice, "Please be quiet now"))
        assert t.client.news()[-1] == "input_audio_buffer.speech_started"
        t.client.send(ending, **({"session": MANUAL} if ending == "session.update" else {}))
        speaker.call.begin(transcript="a long story").write_nowait(TONE * 500)
        speaker.call.stop()
        response = t.client.last("response.done")["response"]
        assert response["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
