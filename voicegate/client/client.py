"""A call on trio: one nursery, a socket for each address family, and one task that keeps the 20 ms.

    async with voicegate.client.connect("ws://localhost:8081") as call:
        await call.send_audio(pcm)                  # PCM16 mono, 24 kHz
        async for frame in call.audio():            # 20 ms each
            ...
        call.send_event({"type": "response.create"})
        async for event in call.events():           # what the agent's side says, as dictionaries
            ...

    connect ─▶ signaling open ─▶ offer ─▶ answer ─▶ path ─▶ keys ─▶ `call` is yours ─▶ goodbye

        sockets ──▶ receive_datagram ─┐                    ┌─▶ audio()         every 20 ms
        timers ───▶ handle_timeout ───┼─▶ ClientSession ───┤
        signaling ▶ bye, events ──────┘                    └─▶ datagrams, events

Everything that decides is in `session.py`; this file moves bytes, deadlines and frames.
"""

import json
import os
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from voicegate.client.audio import FRAME_MS, RTP_SAMPLES, Audio, AudioFrame
from voicegate.client.errors import CallError, CallFailure
from voicegate.client.events import AudioReceived, EventReceived, EventsOpened, MediaReady, PathFound, SessionFailed
from voicegate.client.interfaces import Interface, open_interfaces
from voicegate.client.limits import GOODBYE_S, HEARD_FRAMES, MAX_EVENTS, MAX_LAG_S, MAX_MESSAGES, SIGNALING_LIMIT_S
from voicegate.client.nursery import open_block_nursery
from voicegate.client.session import ClientSession
from voicegate.client.signaling import Message, Signaling, check_api_key, open_signaling
from voicegate.client.template import InstantSignaling, Template
from voicegate.dtls import Certificate
from voicegate.errors import LocalError
from voicegate.ice import MAX_LOCAL_PREFERENCE, Candidate
from voicegate.net import Address, TimerHeap

FRAME_S = FRAME_MS / 1000


@dataclass(slots=True)
class Timeline:
    """Milliseconds from *offer sent* to each step; None for what did not happen yet."""

    answer_ms: float | None = None
    ice_ms: float | None = None
    dtls_ms: float | None = None
    events_ms: float | None = None
    first_audio_ms: float | None = None


@dataclass(slots=True)
class CallStatistics:
    """Packets of audio in both directions. `longest_gap_ms` is the longest time between two received ones."""

    sent: int
    received: int
    lost: int
    rtt_ms: float | None
    jitter_ms: float | None
    longest_gap_ms: float | None
    concealed: int


@asynccontextmanager
async def connect(
    url: str,
    *,
    ssl_context: ssl.SSLContext | None = None,
    template: Template | None = None,
    api_key: str | None = None,
) -> AsyncIterator["ClientCall"]:
    """Call the server behind a signaling URL; the block runs while the call lasts, and leaving it hangs up.

    With a `template` (see `fetch_template`; only for `http`) the call begins before the server has answered, and the
    ordinary way if it turns out that the template is stale. `ClientCall.is_instant` tells which of the two it was.

    `url` is `ws(s)://HOST:PORT/…` (voicegate.v1) or `http(s)://HOST:PORT/v1/realtime/calls`, with `?dcid=0` for a
    server that knows what that is (see spec/signaling.md); `ssl_context` replaces the default verification of
    certificates, and `api_key` (or a client secret) says over HTTP who calls. Raises LocalError for what is no key and
    `CallError` when the call does not come about. A call that fails later raises that from `ClientCall.audio` and
    `ClientCall.wait_ended`.
    """
    check_api_key(api_key)
    async with AsyncExitStack() as stack:
        signaling: Signaling
        if template is not None:
            signaling = InstantSignaling(url, template, ssl_context, api_key)
        else:
            signaling = await stack.enter_async_context(open_signaling(url, ssl_context, api_key))
        nursery = await stack.enter_async_context(open_block_nursery())
        with open_interfaces(signaling.local_host) as interfaces:
            call = ClientCall(signaling, interfaces, template)
            try:
                await call.start(nursery)
                yield call
            finally:
                await call.hang_up()


class ClientCall:
    """One call, made by `connect`. The receiver of its ports and the owner of its timers."""

    def __init__(self, signaling: Signaling, interfaces: Sequence[Interface], template: Template | None = None) -> None:
        self.call_id = ""
        self.is_instant = False
        self.timeline = Timeline()
        self._signaling = signaling
        self._ports = {_is_ipv6(interface.host): interface.port for interface in interfaces}
        self._timers = TimerHeap()
        self._session = ClientSession(
            local_candidates=[
                Candidate.host_candidate(interface.host, interface.port.local_address[1], MAX_LOCAL_PREFERENCE - index)
                for index, interface in enumerate(interfaces)
            ],
            certificate=Certificate.generate() if template is None else template.certificate,
            random_bytes=os.urandom,
            wall_clock_offset_s=time.time() - trio.current_time(),
            events_id=signaling.events_id,
        )
        self._template = template
        self._audio = Audio()
        self._offer_sent = 0.0
        self._ready = trio.Event()
        self._ended = trio.Event()
        self._failure: CallError | LocalError | None = None
        self._progress = trio.Event()
        self._heard: deque[AudioFrame] = deque(maxlen=HEARD_FRAMES)
        self._messages: deque[Message] = deque(maxlen=MAX_MESSAGES)
        self._server_events: deque[dict[str, Any]] = deque(maxlen=MAX_EVENTS)
        self._unsent: list[str] = []
        self._last_packet: float | None = None
        self._longest_gap_s: float | None = None

    # What a caller does.

    def audio(self) -> AsyncIterator[AudioFrame]:
        """What the far side says, 20 ms at a time, from the moment the call is connected; silence included.

        A listener that lags by more than `HEARD_FRAMES` loses the oldest frames. Ends with the call; raises
        `CallError` if the call failed.
        """
        return self

    def __aiter__(self) -> AsyncIterator[AudioFrame]:
        return self

    async def __anext__(self) -> AudioFrame:
        """The next 20 ms; see `audio`."""
        while not self._heard:
            if self._ended.is_set():
                if self._failure is not None:
                    raise self._failure
                raise StopAsyncIteration
            await self._progress.wait()
        return self._heard.popleft()

    async def send_audio(self, pcm: bytes) -> None:
        """Say PCM16 little-endian mono 24 kHz samples, behind what is queued already; waits while the queue is full.

        Returns when the last of it has found room. Returns early, and drops the rest, when the call ends. While
        nothing is queued, silence is sent.
        """
        rest = memoryview(pcm)
        while rest and not self._ended.is_set():
            rest = rest[self._audio.playout.write(bytes(rest)) :]
            if rest:
                await self._progress.wait()
        await trio.lowlevel.checkpoint()

    async def wait_sent(self) -> None:
        """Wait until everything queued has been sent, or the call has ended."""
        self._audio.playout.flush()
        while self._audio.playout.buffered_ms > 0 and not self._ended.is_set():
            await self._progress.wait()
        await trio.lowlevel.checkpoint()

    async def wait_ended(self) -> None:
        """Wait until the call is over. Raises `CallError` if it failed."""
        await self._ended.wait()
        if self._failure is not None:
            raise self._failure

    def messages(self) -> list[Message]:
        """What the server has said since the last time: `agent`, `event` and `stats` messages (spec/signaling.md)."""
        messages = list(self._messages)
        self._messages.clear()
        return messages

    def send_event(self, event: Mapping[str, object]) -> None:
        """Send one event of the Realtime API to the agent's side; before the channel is open, as soon as it is.

        Raises `LocalError` for an event larger than the server takes and when too many wait. One that had to wait for
        the channel, and then cannot be sent, ends the call with this error.
        """
        text = json.dumps(event)
        if self.timeline.events_ms is None:
            if len(self._unsent) == MAX_EVENTS:
                raise LocalError(f"{MAX_EVENTS} events wait for the channel to open")
            self._unsent.append(text)
            return
        self._session.send_event(text)
        self._drain()

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """The events of the Realtime API that the server sends, until the call ends; the oldest of more than
        `MAX_EVENTS` waiting ones are dropped. Raises `CallError` if the call failed."""
        while True:
            while not self._server_events:
                if self._ended.is_set():
                    if self._failure is not None:
                        raise self._failure
                    return
                await self._progress.wait()
            yield self._server_events.popleft()

    @property
    def is_over(self) -> bool:
        """Whether the call has ended, for whatever reason."""
        return self._ended.is_set()

    def statistics(self) -> CallStatistics:
        """The counters of now."""
        rtp = self._session.rtp
        round_trip_s = self._session.round_trip_s
        return CallStatistics(
            sent=rtp.sent_packets if rtp else 0,
            received=rtp.received_packets if rtp else 0,
            lost=rtp.lost_packets if rtp else 0,
            rtt_ms=_in_ms(round_trip_s),
            jitter_ms=round(rtp.jitter_ms, 3) if rtp else None,
            longest_gap_ms=_in_ms(self._longest_gap_s),
            concealed=self._audio.jitter.statistics.concealed,
        )

    # From the first word to the last; `connect` calls these.

    async def start(self, nursery: trio.Nursery) -> None:
        """Exchange descriptions and connect. The tasks of the call run in `nursery`. Raises `CallError`."""
        offer = self._session.offer()
        self._offer_sent = trio.current_time()
        if self._template is None:
            await self._exchange(offer)
        else:
            self._session.apply_template(self._template.answer, trio.current_time())
            self._drain()
            nursery.start_soon(self._exchange_meanwhile, offer)
        for port in self._ports.values():
            nursery.start_soon(port.run, self)
        nursery.start_soon(self._timers.run)
        nursery.start_soon(self._keep_time)
        nursery.start_soon(self._follow_signaling)
        await self._ready.wait()
        if self._failure is not None:
            raise self._failure

    async def _exchange(self, offer: str) -> None:
        with trio.move_on_after(SIGNALING_LIMIT_S) as patience:
            answer = await self._signaling.exchange(offer)
        if patience.cancelled_caught:
            raise CallError(CallFailure.SERVER_AWAY, f"no answer to the offer within {SIGNALING_LIMIT_S:.0f} s")
        self.call_id, self.is_instant = answer.call_id, answer.is_instant
        if self._ended.is_set():
            return
        self.timeline.answer_ms = self._since_offer()
        self._session.apply_answer(answer.sdp, trio.current_time())
        self._drain()

    async def _exchange_meanwhile(self, offer: str) -> None:
        """The same beside a call that a template has begun."""
        try:
            await self._exchange(offer)
        except CallError as error:
            self._end(error)

    async def hang_up(self) -> None:
        """Say goodbye to the far side and to the server, whichever still listen."""
        self._session.close(trio.current_time())
        self._drain()
        self._end(None)
        with trio.move_on_after(GOODBYE_S, shield=True):
            await self._signaling.hang_up()

    # The network and the timers: plain calls.

    def receive_datagram(self, data: bytes, addr: Address) -> None:
        """One datagram; what follows from it leaves with `batch_done`."""
        self._session.receive_datagram(data, addr[:2], trio.current_time())

    def batch_done(self) -> None:
        """Send what the batch gave rise to."""
        self._drain()

    def handle_timeout(self, now: float) -> None:
        """The session's deadline."""
        self._session.handle_timeout(now)
        self._drain()

    def _drain(self) -> None:
        while (event := self._session.next_event()) is not None:
            match event:
                case AudioReceived(packet, now):
                    self._receive_audio(now)
                    self._audio.receive(packet, now)
                case EventsOpened():
                    self.timeline.events_ms = self._since_offer()
                    self._send_unsent()
                case EventReceived(text):
                    self._receive_event(text)
                case PathFound():
                    self.timeline.ice_ms = self._since_offer()
                case MediaReady():
                    self.timeline.dtls_ms = self._since_offer()
                    self._ready.set()
                case SessionFailed(failure, detail):
                    self._end(None if failure is CallFailure.ENDED_BY_SERVER else CallError(failure, detail))
        for data, addr in self._session.datagrams_to_send(trio.current_time()):
            port = self._ports.get(_is_ipv6(addr[0]))
            if port is not None:
                port.send(data, addr)
        self._timers.schedule(self, self._session.next_timeout())

    def _send_unsent(self) -> None:
        """Send the events that waited for the channel."""
        unsent, self._unsent = self._unsent, []
        try:
            for text in unsent:
                self._session.send_event(text)
        except LocalError as error:
            self._end(error)

    def _receive_event(self, text: str) -> None:
        try:
            event = json.loads(text)
        except (ValueError, RecursionError):
            return  # The peer is a server that we chose to call; what it says besides events is no harm.
        if isinstance(event, dict):
            self._server_events.append(event)
            self._announce_progress()

    def _receive_audio(self, now: float) -> None:
        if self._last_packet is None:
            self.timeline.first_audio_ms = self._since_offer()
        else:
            self._longest_gap_s = max(self._longest_gap_s or 0.0, now - self._last_packet)
        self._last_packet = now

    # The tasks.

    async def _keep_time(self) -> None:
        """Send and hear one frame every 20 ms, on a grid that one late wake-up does not shift."""
        await self._ready.wait()
        when = trio.current_time()
        is_first = True
        while not self._ended.is_set():
            now = trio.current_time()
            # A call that begins again without its template has no keys for a moment.
            if self._session.rtp is not None:
                self._session.send_audio(self._audio.say(), RTP_SAMPLES, is_first, now)
                is_first = False
            self._drain()
            self._heard.append(self._audio.hear(now))
            self._announce_progress()
            when += FRAME_S
            if now - when > MAX_LAG_S:
                when = now
            await trio.sleep_until(when)

    async def _follow_signaling(self) -> None:
        try:
            while (message := await self._signaling.next_message()) is not None:
                if message["type"] == "bye":
                    # The media path says it, too, behind the last events; it is only a little slower than this.
                    with trio.move_on_after(GOODBYE_S):
                        await self._ended.wait()
                    self._end(None)
                else:
                    self._messages.append(message)
        except CallError as error:
            self._end(error)

    def _end(self, failure: CallError | LocalError | None) -> None:
        """The call is over; the first reason counts."""
        if not self._ended.is_set():
            if failure is None and not self._ready.is_set():
                failure = CallError(CallFailure.ENDED_BY_SERVER, "before any audio could flow")
            self._failure = failure
            self._ended.set()
            self._ready.set()
            self._announce_progress()

    def _announce_progress(self) -> None:
        self._progress.set()
        self._progress = trio.Event()

    def _since_offer(self) -> float:
        return round(1000 * (trio.current_time() - self._offer_sent), 3)


def _is_ipv6(host: str) -> bool:
    return ":" in host


def _in_ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(1000 * seconds, 3)
