"""The strict test backend is strict: each of these must be found out, or it proves nothing about anybody."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing
from trio_websocket import ConnectionRejected, WebSocketConnection, wrap_client_stream

from tests import realtime_rules
from tests.realtime_backend import Backend, Behaviour, open_backend

AUDIO = {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcm", "rate": 24_000}}}}

FINE: list[dict[str, Any]] = [
    {"type": "session.update", "session": AUDIO},
    {"type": "session.update", "event_id": "x", "session": {"type": "realtime", "tools": [], "instructions": ""}},
    {"type": "input_audio_buffer.append", "audio": "AAAA" * 20},
    {"type": "conversation.item.create", "previous_item_id": "root", "item": {
        "type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}},
    {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": 20},
    {"type": "response.create", "response": {"conversation": "none", "metadata": {"a": "b"}}},
    {"type": "response.cancel", "response_id": "r"},
]  # fmt: skip

FAULTY: list[dict[str, Any]] = [
    {},
    {"type": "response.audio.delta"},
    {"type": "output_audio_buffer.clear"},
    {"type": "input_audio_buffer.commit", "now": True},
    {"type": "input_audio_buffer.commit", "event_id": 7},
    {"type": "session.update", "session": {"instructions": "no type"}},
    {"type": "session.update", "session": {"type": "realtime", "voice": "the old shape"}},
    {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"format": {"type": "audio/pcmu"}}}}},
    {"type": "session.update", "session": {"type": "realtime", "audio": {
        "input": {"format": {"type": "audio/pcm", "rate": 16_000}}}}},
    {"type": "input_audio_buffer.append", "audio": "AAA"},
    {"type": "input_audio_buffer.append", "audio": "AAAA"},  # three octets
    {"type": "input_audio_buffer.append", "audio": "*AAA"},
    {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": 20.5},
    {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": True},
    {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0},
    {"type": "conversation.item.create", "item": {
        "type": "message", "role": "assistant", "content": [{"type": "output_audio", "audio": "AAAA"}]}},
    {"type": "response.create", "response": {"modalities": ["audio"]}},
]  # fmt: skip


@pytest.mark.parametrize("event", FINE[:2] + FINE[3:], ids=lambda event: event["type"])
def test_what_is_fine(event: dict[str, Any]) -> None:
    assert realtime_rules.refusal(event) == ""


@pytest.mark.parametrize("event", FAULTY, ids=json.dumps)
def test_what_a_server_rejects(event: dict[str, Any]) -> None:
    assert realtime_rules.refusal(event)


async def connect(
    backend: Backend,
    nursery: trio.Nursery,
    headers: list[tuple[bytes, bytes]] | None = None,
    subprotocols: list[str] | None = None,
    path: str = "/v1/realtime?model=tone-1",
) -> WebSocketConnection:
    stream: Any = await backend.connect()
    return await wrap_client_stream(
        nursery, stream, "backend", path, subprotocols=subprotocols, extra_headers=headers or []
    )


async def exchange(websocket: WebSocketConnection, *events: dict[str, Any]) -> list[str]:
    """Types of what came back, up to the first error or half a second of silence."""
    for event in events:
        await websocket.send_message(json.dumps(event))
    kinds = []
    with trio.move_on_after(0.5):
        while "error" not in kinds:
            kinds.append(json.loads(await websocket.get_message())["type"])
    return kinds


TRUNCATE_TOO_MUCH = {"type": "conversation.item.truncate", "content_index": 0, "audio_end_ms": 100_000}


@pytest.mark.parametrize(
    "events",
    [
        [{"type": "response.create"}, {"type": "response.create"}],
        [{"type": "input_audio_buffer.commit"}],
        [{"type": "conversation.item.delete", "item_id": "nobody"}],
        [{"type": "conversation.item.truncate", "item_id": "nobody", "content_index": 0, "audio_end_ms": 0}],
        [{"type": "session.update", "session": {"type": "realtime", "tracing": "auto"}}],
        [{"type": "session.update", "session": {"type": "realtime", "model": "another"}}],
    ],
    ids=str,
)
async def test_what_the_state_forbids(events: list[dict[str, Any]], autojump_clock: trio.testing.MockClock) -> None:
    async with open_backend(Behaviour(speech_ms=100_000)) as backend, trio.open_nursery() as nursery:
        websocket = await connect(backend, nursery)
        assert "error" in await exchange(websocket, *events)
        assert len(backend.violations) == 1
        backend.violations.clear()
        nursery.cancel_scope.cancel()


async def break_a_rule() -> None:
    async with open_backend() as backend:
        backend.violation("something")


async def test_leaving_fails_the_test() -> None:
    with pytest.raises(AssertionError):
        await break_a_rule()


async def test_more_is_truncated_than_was_sent(autojump_clock: trio.testing.MockClock) -> None:
    async with open_backend() as backend, trio.open_nursery() as nursery:
        websocket = await connect(backend, nursery)
        await exchange(websocket, {"type": "response.create"})
        (item_id,) = backend.session.items
        kinds = await exchange(websocket, {**TRUNCATE_TOO_MUCH, "item_id": item_id, "audio_end_ms": 1_000})
        assert kinds == ["conversation.item.truncated"]
        assert await exchange(websocket, {**TRUNCATE_TOO_MUCH, "item_id": item_id, "audio_end_ms": 1_001}) == ["error"]
        assert backend.violations == ["conversation.item.truncate: audio_end_ms 1001 > 1000 ms of audio"]
        backend.violations.clear()
        nursery.cancel_scope.cancel()


async def test_who_may_come_in(autojump_clock: trio.testing.MockClock) -> None:
    async with open_backend(Behaviour(key="sk-1")) as backend:
        for headers, subprotocols, path in (
            ([], None, "/v1/realtime?model=m"),
            ([(b"Authorization", b"Bearer sk-2")], None, "/v1/realtime?model=m"),
            ([(b"Authorization", b"Bearer sk-1")], None, "/v1/realtime"),
            ([(b"Authorization", b"Bearer sk-1")], ["something"], "/v1/realtime?model=m"),
        ):
            with pytest.RaisesGroup(ConnectionRejected):
                async with trio.open_nursery() as nursery:
                    await connect(backend, nursery, headers, subprotocols, path)
        assert len(backend.violations) == 4
        backend.violations.clear()
        async with trio.open_nursery() as nursery:
            browser = await connect(backend, nursery, [], ["realtime", "openai-insecure-api-key.sk-1"])
            assert browser.subprotocol == "realtime"
            nursery.cancel_scope.cancel()
        async with trio.open_nursery() as nursery:
            beta = [(b"Authorization", b"Bearer sk-1"), (b"OpenAI-Beta", b"realtime=v1")]
            old = await connect(backend, nursery, beta)
            assert await exchange(old) == ["error"]
            nursery.cancel_scope.cancel()
        assert backend.violations == ["OpenAI-Beta header"]
        backend.violations.clear()
