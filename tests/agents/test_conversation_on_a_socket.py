"""A plain WebSocket client: audio travels in events, and the client owns the playout."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import pytest
import trio.testing

from tests.agents.talk import MANUAL, TONE, talk
from voicegate.agents import Call
from voicegate.agents.parrot import parrot
from voicegate.media.g711 import G711Decoder

Clock = trio.testing.MockClock


async def say_a_second(call: Call) -> None:
    await call.say(TONE * 50 + TONE[:500], transcript="one second")
    await call.wait_ended()


async def test_audio_comes_before_its_end(autojump_clock: Clock) -> None:
    async with talk(say_a_second, is_wire=True) as t:
        await t.pass_time(1.5)
        told = t.client.news()
        assert told[:6] == [
            "session.created",
            "response.created",
            "response.output_item.added",
            "conversation.item.added",
            "response.content_part.added",
            "response.output_audio_transcript.delta",
        ]
        assert told[6:-6] == ["response.output_audio.delta"] * 51
        assert told[-6] == "response.output_audio.done"
        assert told[-1] == "response.done"
        deltas = t.client.all("response.output_audio.delta")
        assert b"".join(b64decode(event["delta"]) for event in deltas) == TONE * 50 + TONE[:500]


@pytest.mark.parametrize("encoding", ["pcmu", "pcma"])
async def test_audio_in_the_format_of_the_session(autojump_clock: Clock, encoding: Any) -> None:
    session = {"type": "realtime", "audio": {"output": {"format": {"type": f"audio/{encoding}"}}}}

    async def speaker(call: Call) -> None:
        async for _ in call.events():
            await call.say(TONE * 50 + TONE[:500])

    async with talk(speaker, is_wire=True, session=session) as t:
        await t.pass_time(1.5)
        audio = b"".join(b64decode(event["delta"]) for event in t.client.all("response.output_audio.delta"))
        assert len(audio) == 51 * 160
        decoder = G711Decoder(encoding)
        pcm = b"".join(decoder.decode(audio[at : at + 160]) for at in range(0, len(audio), 160))
        loudest = max(memoryview(pcm[9600:38400]).cast("h"))
        assert 1_000 < loudest < 12_000
        assert t.client.last("response.created")["response"]["audio"]["output"]["format"]["type"] == f"audio/{encoding}"


async def test_push_to_talk_needs_no_waiting(autojump_clock: Clock) -> None:
    async with talk(parrot, is_wire=True, session=MANUAL) as t:
        for _ in range(50):
            t.client.send("input_audio_buffer.append", audio=b64encode(TONE).decode())
        t.client.send("input_audio_buffer.commit")
        t.client.send("response.create")
        assert t.client.news() == [
            "input_audio_buffer.committed",
            "conversation.item.added",
            "conversation.item.done",
            "response.created",
        ]
        await t.pass_time(1.5)
        deltas = t.client.all("response.output_audio.delta")
        assert b"".join(b64decode(event["delta"]) for event in deltas) == TONE * 50


async def test_the_client_truncates_what_it_did_not_play(autojump_clock: Clock) -> None:
    async with talk(say_a_second, is_wire=True) as t:
        await t.pass_time(0.5)
        t.client.news()
        t.client.send("response.cancel")
        told = t.client.news()
        assert told[-1] == "response.done"
        assert not {"output_audio_buffer.cleared", "conversation.item.truncated"} & set(told)
        item_id = t.client.last("conversation.item.done")["item"]["id"]
        t.client.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=501)
        assert t.client.error["param"] == "audio_end_ms"
        t.client.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=300)
        assert t.client.news()[-1] == "conversation.item.truncated"


async def test_there_is_no_output_buffer_to_clear(autojump_clock: Clock) -> None:
    async with talk(parrot, is_wire=True) as t:
        t.client.send("output_audio_buffer.clear", event_id="mine")
        assert (t.client.error["code"], t.client.error["event_id"]) == ("invalid_event_for_transport", "mine")
