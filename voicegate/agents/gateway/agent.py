"""The agent behind a `ws://` or `wss://` URL: keeps a connection to a Realtime server for as long as the call lasts.

    call begins ─▶ open ─▶ session.created ─▶ in conversation ─▶ call ends
                    ▲  │ refused, no answer          │ lost
                    │  ▼                             ▼
                    └─ pause ◀── worth another try? ─┘── no ──▶ error to the clients, hang up

The connection is opened while the call is still being set up, and what the caller says meanwhile waits in the call. A
lost connection is opened again: there is no resuming a Realtime session, so the fresh one is given the configuration
and, as text, what was said.
"""

import logging
from urllib.parse import urlsplit

import msgspec
import trio

from voicegate.agents.call import Call
from voicegate.agents.gateway.dialogue import Gateway
from voicegate.agents.gateway.limits import (
    FAREWELL_S,
    MAX_OPENINGS,
    OPEN_LIMIT_S,
    OPENING_PAUSES_S,
    STEADY_S,
    TICK_S,
)
from voicegate.agents.gateway.link import BackendLink, BackendLostError, OpenStream, open_link, open_stream
from voicegate.agents.gateway.microphone import Microphone
from voicegate.realtime.codec import is_too_deep

log = logging.getLogger(__name__)

BACKEND_KEY_VARIABLE = "VOICEGATE_BACKEND_KEY"
"""Environment variable with the key for the backend, sent as `Authorization: Bearer`."""

OFFICIAL_DOMAINS = (".openai.com", ".openai.azure.com")
"""Hosts whose sessions know `tracing`."""


def is_backend_url(name: str) -> bool:
    """Whether `name` means a Realtime server and not a Python function."""
    return name.startswith(("ws://", "wss://"))


class RealtimeAgent:
    """An agent whose words come from a Realtime server. `connect` replaces the network, for tests."""

    speaks_realtime = True
    """It answers the events of the call itself; nobody has to stand in front of it."""

    def __init__(self, url: str, key: str = "", connect: OpenStream = open_stream) -> None:
        """Raises `ValueError` for what is no URL of a WebSocket."""
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss") or not parts.hostname or parts.port == 0:
            raise ValueError("not ws://HOST… or wss://HOST…")
        if any(character.isspace() for character in url):
            raise ValueError("a URL has no spaces")
        self._url = url
        self._knows_tracing = f".{parts.hostname}".endswith(OFFICIAL_DOMAINS)
        self._key = key
        self._connect = connect

    async def __call__(self, call: Call) -> None:
        """Let the backend speak with the caller until the call ends."""
        await _Operator(call, self._url, self._key, self._connect, self._knows_tracing).run()


class _Operator:
    """One call: opens connections and feeds the gateway."""

    def __init__(self, call: Call, url: str, key: str, connect: OpenStream, knows_tracing: bool) -> None:
        self._call = call
        self._url = url
        self._host = urlsplit(url).netloc.rpartition("@")[2]
        self._key = key
        self._connect = connect
        self._gateway = Gateway(call, trio.current_time, self._flush_microphone, knows_tracing=knows_tracing)
        self._microphone: Microphone | None = None
        call.observer = self._gateway.responses
        if not call.is_wire:
            call.frames()  # Decoding starts here: the caller's first words wait for the backend, not the other way.

    async def run(self) -> None:
        """Until the call ends, or there is no backend for it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_connected, nursery.cancel_scope)
            await self._call.wait_ended()
            nursery.cancel_scope.cancel()
        responses = self._gateway.responses
        if responses.bad_audio or self._gateway.malformed:
            what = "%s: the backend sent %d deltas that could not be played and %d messages that were no events"
            log.warning(what, self._call.call_id, responses.bad_audio, self._gateway.malformed)

    async def _keep_connected(self, scope: trio.CancelScope) -> None:
        attempts = 0
        while True:
            attempts += 1
            opened_at = trio.current_time()
            lost = await self._connection()
            if trio.current_time() - opened_at >= STEADY_S:
                attempts = 1
            log.warning("%s: %s", self._call.call_id, lost)
            if self._gateway.fatal_code or not lost.is_recoverable or attempts >= MAX_OPENINGS:
                break
            self._gateway.lost(lost.code, f"{lost.for_clients} A new session is being opened.")
            await trio.sleep(OPENING_PAUSES_S[attempts - 1])
        await self._give_up(lost)
        scope.cancel()

    async def _give_up(self, lost: BackendLostError) -> None:
        self._gateway.failed(self._gateway.fatal_code or lost.code, lost.for_clients)
        with trio.move_on_after(FAREWELL_S):
            # Whoever dialled learns the reason from his own events, if they are open by then.
            await self._gateway.told_failure.wait()
        self._call.hang_up(lost.for_clients)

    # One connection.

    async def _connection(self) -> BackendLostError:
        """Open one, use it, and say why it ended."""
        try:
            async with open_link(self._url, self._key, self._connect) as link:
                return await self._converse(link)
        except BackendLostError as error:
            return error

    async def _converse(self, link: BackendLink) -> BackendLostError:
        async with trio.open_nursery() as nursery:
            self._microphone = Microphone(link.append_nowait)
            nursery.start_soon(link.write)
            nursery.start_soon(self._keep_time, link, self._microphone)
            try:
                with trio.fail_after(OPEN_LIMIT_S):
                    await self._wait_for_session(link)
                if not self._call.is_wire:
                    nursery.start_soon(self._listen, self._microphone)
                while True:
                    for text in await link.receive():
                        self._gateway.backend_event(text)
            except trio.TooSlowError:
                lost = BackendLostError(self._host, "sent no session.created", is_recoverable=True)
            except BackendLostError as error:
                lost = error
            nursery.cancel_scope.cancel()
        return lost

    async def _wait_for_session(self, link: BackendLink) -> None:
        while True:
            messages = await link.receive()
            for index, text in enumerate(messages):
                session = _session_of(text)
                if session is None:
                    # An error before the session says why there will be none; anything else has no reader yet.
                    self._gateway.backend_event(text)
                    continue
                self._gateway.connected(link, session)
                for later in messages[index + 1 :]:
                    self._gateway.backend_event(later)
                return

    async def _listen(self, microphone: Microphone) -> None:
        async for frame in self._call:
            microphone.hear(frame, trio.current_time())
            self._gateway.release_commit()

    async def _keep_time(self, link: BackendLink, microphone: Microphone) -> None:
        while True:
            await trio.sleep(TICK_S)
            now = trio.current_time()
            microphone.keep_time(now)
            self._gateway.tick()
            if link.is_stalled(now):
                await link.abandon()

    def _flush_microphone(self) -> None:
        if self._microphone is not None:
            self._microphone.flush()


class _Greeting(msgspec.Struct, tag="session.created", tag_field="type"):
    session: dict[str, object]


def _session_of(text: str) -> dict[str, object] | None:
    try:
        session = msgspec.json.decode(text, type=_Greeting).session
    except (msgspec.DecodeError, RecursionError):
        return None
    return None if is_too_deep(session) else session
