"""One WebSocket connection and the one call it may carry.

 1. The client's `offer` goes to the host in a task of its own, so that the reader keeps reading: pings, closes and
    early candidates are taken meanwhile.
 2. `answer` goes back; early candidates, then later ones, go to the call.
 3. Events of the call go to the client until the call ends, by whomever.
 4. `bye` tells the reason and the connection is closed: one connection, one call.

        WAITING ──offer──▶ ANSWERING ──answer──▶ TALKING ──call ended──▶ ENDING
           ▲                   │  └──────────── bye, capacity, … ──────────▲
           └──── bad_sdp ──────┘

A call lives on its media. When the connection is *lost* (reset, no heartbeat), the call goes on until ICE consent
expires. When the connection is *closed on purpose*, with a close frame by either side, the call ends with it.

The tasks of a connection are the reader (this task), the writer, the heartbeat, the offer clock and one for the call.
Whoever wants to close does so through the writer, behind all that was queued before.
"""

import logging
from dataclasses import replace
from enum import Enum

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection

from voicegate.errors import PeerError
from voicegate.signaling.counters import SignalingCounters
from voicegate.signaling.heartbeat import wait_lost
from voicegate.signaling.host import PEER_BYE, CallHandle, CallHost, CapacityError, RequestContext, TooManyCallsError
from voicegate.signaling.limits import (
    ANSWER_LIMIT_S,
    CLOSE_LIMIT_S,
    COURTESY_LIMIT_S,
    MAX_EARLY_CANDIDATES,
    MAX_ERRORS,
    OFFER_LIMIT_S,
)
from voicegate.signaling.messages import (
    Bye,
    ClientMessage,
    ErrorCode,
    MessageError,
    Offer,
    RemoteCandidate,
    encode_answer,
    encode_bye,
    encode_error,
    parse_client_message,
)
from voicegate.signaling.outbox import Outbox, OutboxFullError

logger = logging.getLogger(__name__)

# RFC 6455 §7.4.1: the close codes we use, by what they mean there.
NORMAL = 1000
GOING_AWAY = 1001
ABNORMAL = 1006
POLICY_VIOLATION = 1008
MESSAGE_TOO_BIG = 1009
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013


class Phase(Enum):
    """Where the connection's only call is."""

    WAITING = "waiting"
    ANSWERING = "answering"
    TALKING = "talking"
    ENDING = "ending"


class Connection:
    """Serves one accepted WebSocket until it is closed or lost."""

    def __init__(
        self, websocket: WebSocketConnection, host: CallHost, context: RequestContext, counters: SignalingCounters
    ) -> None:
        self._websocket = websocket
        self._host = host
        self._context = context
        self._counters = counters
        self._outbox = Outbox(counters)
        self._phase = Phase.WAITING
        self._call: CallHandle | None = None
        self._answering = trio.CancelScope()
        self._early_candidates: list[str] = []
        self._errors = 0
        self._close_code = NORMAL
        self._close_reason = ""
        self._is_writing = False

    async def run(self) -> None:
        """Serve the connection. Returns when it has ended; the call may outlive it (see above)."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(self._keep_alive, nursery.cancel_scope)
                nursery.start_soon(self._limit_wait_for_offer)
                await self._read(nursery)
                nursery.cancel_scope.cancel()
        finally:
            self._outbox.close()
            await self._close_politely()
        closed = self._websocket.closed
        if closed is None or closed.code == ABNORMAL:
            self._counters.connections_lost += 1
        elif self._call is not None:
            self._call.hang_up(PEER_BYE)

    # The reader: it never waits for anything but the next message.

    async def _read(self, nursery: trio.Nursery) -> None:
        while True:
            try:
                message = await self._websocket.get_message()
            except ConnectionClosed:
                return
            try:
                self._handle(parse_client_message(message), nursery)
            except MessageError as error:
                self._refuse(error)
            except Exception:
                logger.exception("signaling for %s failed", self._context.client_host)
                self._fail(MessageError(ErrorCode.INTERNAL, "The server failed; it has been logged."), INTERNAL_ERROR)

    def _handle(self, message: ClientMessage, nursery: trio.Nursery) -> None:
        if self._phase is Phase.ENDING:
            return
        match message:
            case Offer(sdp, dcid):
                if self._phase is not Phase.WAITING:
                    raise MessageError(ErrorCode.CALL_ACTIVE, "This connection has a call already; open another one.")
                self._phase = Phase.ANSWERING
                self._answering = trio.CancelScope()
                nursery.start_soon(self._carry_call, sdp, dcid)
            case RemoteCandidate(candidate):
                self._take_candidate(candidate)
            case Bye():
                self._end_call()

    def _take_candidate(self, candidate: str) -> None:
        if self._call is not None:
            try:
                self._call.add_candidate(candidate)
            except PeerError as error:
                raise _refusal(ErrorCode.BAD_CANDIDATE, "The candidate cannot be used", error) from error
        elif self._phase is Phase.ANSWERING and len(self._early_candidates) < MAX_EARLY_CANDIDATES:
            self._early_candidates.append(candidate)
        elif self._phase is Phase.ANSWERING:
            raise MessageError(ErrorCode.BAD_CANDIDATE, f"At most {MAX_EARLY_CANDIDATES} may come before the answer.")
        else:
            raise MessageError(ErrorCode.NO_CALL, "There is no call for this candidate; send an offer first.")

    def _end_call(self) -> None:
        if self._call is not None:
            # The task of the call sees the end and says bye.
            self._call.hang_up(PEER_BYE)
        else:
            self._say_bye(PEER_BYE)

    # The call, from its offer to its end.

    async def _carry_call(self, offer_sdp: str, events_channel: int | None) -> None:
        context = replace(self._context, events_channel=events_channel)
        try:
            with self._answering, trio.fail_after(ANSWER_LIMIT_S):
                self._call = await self._host.answer(offer_sdp, self._outbox, context)
        except CapacityError:
            self._fail(MessageError(ErrorCode.CAPACITY, "No room for another call; try again."), TRY_AGAIN_LATER)
        except TooManyCallsError as error:
            message = f"Too many of your calls wait to be connected: {error}."
            self._fail(MessageError(ErrorCode.CAPACITY, message), TRY_AGAIN_LATER)
        except trio.TooSlowError:
            self._fail(MessageError(ErrorCode.TIMEOUT, "No answer in time; try again."), TRY_AGAIN_LATER)
        except PeerError as error:
            if self._phase is Phase.ANSWERING:
                self._phase = Phase.WAITING
                self._early_candidates.clear()
                self._refuse(_refusal(ErrorCode.BAD_SDP, "The offer cannot be used", error))
        except Exception:
            logger.exception("answering %s failed", self._context.client_host)
            self._fail(MessageError(ErrorCode.INTERNAL, "The server failed; it has been logged."), INTERNAL_ERROR)
        else:
            if self._call is not None and self._phase is Phase.ANSWERING:
                await self._accompany(self._call)

    async def _accompany(self, call: CallHandle) -> None:
        self._phase = Phase.TALKING
        self._counters.offers_answered += 1
        self._reply(encode_answer(call.call_id, call.answer_sdp, call.metadata))
        for candidate in self._early_candidates:
            try:
                self._take_candidate(candidate)
            except MessageError as error:
                self._refuse(error)
        self._early_candidates.clear()
        reason = await call.wait_ended()
        self._say_bye(reason, call.bye_detail)

    # What we say. Everything goes through the outbox, the end of the connection too.

    def _reply(self, text: str) -> None:
        try:
            self._outbox.reply(text)
        except OutboxFullError:
            self._close(POLICY_VIOLATION, "you do not read our replies")

    def _refuse(self, error: MessageError) -> None:
        self._counters.messages_refused[error.reason.value] += 1
        self._reply(encode_error(error))
        self._errors += 1
        if self._errors == MAX_ERRORS:
            self._fail(MessageError(ErrorCode.TOO_MANY_ERRORS, "Too many messages were refused."), POLICY_VIOLATION)

    def _fail(self, error: MessageError, close_code: int) -> None:
        self._counters.messages_refused[error.reason.value] += 1
        self._reply(encode_error(error))
        self._close(close_code, error.reason.value)

    def _say_bye(self, reason: str, detail: str = "") -> None:
        self._reply(encode_bye(reason, detail))
        self._close(NORMAL, "the call ended")

    def _close(self, code: int, reason: str) -> None:
        if self._phase is not Phase.ENDING:
            self._phase = Phase.ENDING
            self._close_code, self._close_reason = code, reason
            self._answering.cancel()
            self._outbox.close()

    async def _write(self) -> None:
        try:
            while (text := await self._outbox.next_text()) is not None:
                self._is_writing = True
                await self._websocket.send_message(text)
                self._is_writing = False
            with trio.move_on_after(CLOSE_LIMIT_S):
                await self._websocket.aclose(self._close_code, self._close_reason)
        except ConnectionClosed:
            self._outbox.close()

    # The clocks.

    async def _keep_alive(self, connection_scope: trio.CancelScope) -> None:
        if await wait_lost(self._websocket):
            self._is_writing = True
            connection_scope.cancel()

    async def _limit_wait_for_offer(self) -> None:
        await trio.sleep(OFFER_LIMIT_S)
        if self._phase is Phase.WAITING:
            self._fail(MessageError(ErrorCode.TIMEOUT, "No offer came; the connection is closed."), POLICY_VIOLATION)

    async def _close_politely(self) -> None:
        """Say that we go away, if the process is being stopped and no message is half written."""
        if self._websocket.closed is None and not self._is_writing:
            with trio.move_on_after(COURTESY_LIMIT_S, shield=True):
                await self._websocket.aclose(GOING_AWAY, "the server is shutting down")


def _refusal(code: ErrorCode, sentence: str, error: PeerError) -> MessageError:
    return MessageError(code, f"{sentence}: {error}", cause=str(error.reason.value))
