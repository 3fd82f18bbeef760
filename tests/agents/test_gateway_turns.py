"""One spoken turn after the other through a strict backend."""

from __future__ import annotations

import trio
import trio.testing

from tests.agents.gateway_stage import open_stage
from tests.realtime_backend import Behaviour

SPOKEN_TURN = [
    "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped",
    "input_audio_buffer.committed",
    "conversation.item.added",
    "conversation.item.done",
    "conversation.item.input_audio_transcription.completed",
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio_transcript.delta",
    "output_audio_buffer.started",
    "response.output_audio_transcript.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
    "output_audio_buffer.stopped",
]


async def test_a_spoken_turn(autojump_clock: trio.testing.MockClock) -> None:
    async with open_stage(Behaviour(key="sk-1", speech_ms=1_000), key="sk-1") as stage:
        await stage.client.wait_for("session.created")
        await stage.speak(600)
        stopped = await stage.client.wait_for("output_audio_buffer.stopped")
        assert stage.client.without_noise()[0] == "session.created"
        assert stage.client.without_noise()[1:] == SPOKEN_TURN
        started = stage.client.of("output_audio_buffer.started")[0]
        assert started["response_id"] == stopped["response_id"] == stage.client.of("response.done")[0]["response"]["id"]
        said = b"".join(frame for frame in stage.heard if frame)
        assert said == stage.backend.tone_of(1, 1_000)
        assert stage.backend.handshakes[0][1]["authorization"] == "Bearer sk-1"
        assert "sec-websocket-protocol" not in stage.backend.handshakes[0][1]
