"""OpenAI's own Python client against our HTTP side and our WebSockets, unchanged but for `base_url`."""

from base64 import b64decode, b64encode
from typing import Any

import openai
import pytest
import trio
from openai import OpenAI
from openai.types.realtime import RealtimeSessionCreateRequest

from voicegate.agents import Call

KEY = "sk-" + "k" * 30


async def repeats(call: Call) -> None:
    async for turn in call.turns():
        await call.say(turn.pcm, transcript="what you said")


def client(http: Any, key: str = KEY) -> OpenAI:
    return OpenAI(
        api_key=key,
        base_url=f"http://127.0.0.1:{http.port}/v1",
        websocket_base_url=f"ws://127.0.0.1:{http.port}/v1",
        max_retries=0,
    )


@pytest.fixture
async def locked(serve_http: Any) -> Any:
    """A server that wants a key."""
    return await serve_http(keys=(KEY,))


async def test_a_conversation(locked: Any, host: Any) -> None:
    host.agent = repeats
    pcm = bytes(range(256)) * 75

    def converse() -> bytes:
        played = b""
        with client(locked) as openai_client, openai_client.realtime.connect(model="gpt-realtime") as connection:
            created = connection.recv()
            assert created.type == "session.created"
            assert isinstance(created.session, RealtimeSessionCreateRequest)
            assert created.session.model == "gpt-realtime"
            connection.session.update(
                session={"type": "realtime", "instructions": "Repeat.", "audio": {"input": {"turn_detection": None}}}
            )
            updated = connection.recv()
            assert updated.type == "session.updated"
            assert isinstance(updated.session, RealtimeSessionCreateRequest)
            assert updated.session.instructions == "Repeat."
            connection.input_audio_buffer.append(audio=b64encode(pcm).decode())
            connection.input_audio_buffer.commit()
            connection.response.create()
            for event in connection:
                assert event.type != "error", event
                if event.type == "response.output_audio.delta":
                    played += b64decode(event.delta)
                if event.type == "response.done":
                    assert event.response.status == "completed"
                    return played
        raise AssertionError

    with trio.fail_after(30):
        assert await trio.to_thread.run_sync(converse, abandon_on_cancel=True) == pcm


async def test_client_secrets_and_what_they_open(locked: Any, host: Any) -> None:
    def make_and_use() -> tuple[str, str]:
        with client(locked) as trusted:
            secret = trusted.realtime.client_secrets.create(
                session={"type": "realtime", "model": "fixed"}, expires_after={"anchor": "created_at", "seconds": 60}
            )
        with client(locked, secret.value) as browser:
            with browser.realtime.connect(model="by-default") as connection:
                created = connection.recv()
            with pytest.raises(openai.PermissionDeniedError):
                browser.realtime.client_secrets.create()
        return secret.session.model, created.session.model  # type: ignore[union-attr, return-value]

    with trio.fail_after(30):
        assert await trio.to_thread.run_sync(make_and_use, abandon_on_cancel=True) == ("fixed", "fixed")


@pytest.mark.parametrize("session", [None, {"type": "realtime", "model": "m"}])
async def test_calls_begin_and_end(locked: Any, host: Any, session: Any) -> None:
    def call() -> str:
        with client(locked) as openai_client:
            more = {} if session is None else {"session": session}
            reply = openai_client.realtime.calls.create(sdp="v=0\r\n", **more)
            assert reply.read() == host.calls[0].answer_sdp.encode()
            call_id = reply.response.headers["location"].rpartition("/")[2]
            openai_client.realtime.calls.hangup(call_id)
            with pytest.raises(openai.NotFoundError) as gone:
                openai_client.realtime.calls.hangup(call_id)
            return str(gone.value.code)

    with trio.fail_after(30):
        assert await trio.to_thread.run_sync(call, abandon_on_cancel=True) == "call_not_found"
    assert host.offers == ["v=0\r\n"]
    assert host.calls[0].configuration.model == ("" if session is None else "m")
    assert host.calls[0].end_reason == "hung up"


async def test_errors_are_understood(locked: Any) -> None:
    def fail() -> None:
        with client(locked, "sk-wrong") as stranger, pytest.raises(openai.AuthenticationError) as refused:
            stranger.realtime.client_secrets.create()
        assert (refused.value.code, refused.value.type) == ("invalid_api_key", "invalid_request_error")
        with client(locked) as openai_client, pytest.raises(openai.BadRequestError) as wrong:
            openai_client.realtime.calls.create(sdp="nonsense")
        assert (wrong.value.code, wrong.value.param) == ("bad_sdp", "sdp")

    with trio.fail_after(30):
        await trio.to_thread.run_sync(fail, abandon_on_cancel=True)
