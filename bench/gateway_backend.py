"""A Realtime server that costs next to nothing, so that many calls can be measured against it.

    python -m bench.gateway_backend --plan PLAN

Real sockets and real WebSocket framing (RFC 6455), but nothing that a measurement does not need: what is long is audio
that was appended, and is looked into only where that is the measurement. How the gateway fares with a server that minds
what it is told is `tests/realtime_backend.py`'s business.

| plan | what it does in each session |
|---|---|
| `marks` | looks for loud frames in the audio that is appended: `marks`, when each arrived |
| `talk` | speaks without end: 100 ms of a tone every 100 ms, half a second ahead, in responses of ten seconds |
| `answers` | speaks for a while, then says that the caller speaks: `begun` and `cut`, when each was sent |

A session is called after the `instructions` that its client sends. One line is printed at the beginning, with `url`,
and one for each session that ends. Times are the machine's wall clock, as the kernel's timestamps are.
"""

import argparse
import base64
import binascii
import hashlib
import json
import math
import random
import time
from array import array

import trio

DELTA_MS = 100
LEAD_S = 0.5
RESPONSE_S = 10.0
ANSWER_MS = 3_000
OCTETS_PER_MS = 48
FRAME_OCTETS = 960
LOUD = 3_000

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING = 1, 8, 9
LONG_OCTETS = 900
"""A message of at least this length is an append: nothing else that a call of the benchmark sends is half as long."""
TEN_SECONDS = 100


def tone(ms: int) -> bytes:
    """PCM16 mono, 24 kHz."""
    return array("h", (round(8_000 * math.sin(math.tau * 440 * n / 24_000)) for n in range(24 * ms))).tobytes()


DELTA = base64.b64encode(tone(DELTA_MS)).decode()


class Session:
    """One connection."""

    def __init__(self, stream: trio.SocketStream, plan: str) -> None:
        self.name = ""
        self.appends = 0
        self.appended_octets = 0
        self.marks: list[float] = []
        self.begun: list[float] = []
        self.cut: list[float] = []
        self._stream = stream
        self._plan = plan
        self._received = bytearray()
        self._sending = trio.Lock()
        self._responses = 0

    async def run(self) -> None:
        """To the end of the connection."""
        await self._shake_hands()
        await self.say({"type": "session.created", "event_id": "event_0", "session": {"type": "realtime"}})
        try:
            async with trio.open_nursery() as nursery:
                if self._plan == "talk":
                    nursery.start_soon(self._talk)
                elif self._plan == "answers":
                    nursery.start_soon(self._answer)
                await self._listen()
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        print(
            json.dumps(
                {"name": self.name, "appends": self.appends, "appended_ms": self.appended_octets / 48}
                | {"marks": self.marks, "begun": self.begun, "cut": self.cut}
            ),
            flush=True,
        )

    async def _shake_hands(self) -> None:
        while b"\r\n\r\n" not in self._received:
            self._received += await self._stream.receive_some(65_536)
        head, _, rest = bytes(self._received).partition(b"\r\n\r\n")
        self._received = bytearray(rest)
        headers = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        key = next(value for name, value in headers.items() if name.lower() == b"sec-websocket-key")
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())  # noqa: S324 - RFC 6455 wants it
        await self._stream.send_all(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )

    # In.

    async def _listen(self) -> None:
        while data := await self._stream.receive_some(65_536):
            now = time.time()
            self._received += data
            while (message := self._next_message()) is not None:
                opcode, mask, payload = message
                if opcode == CLOSE:
                    return
                if opcode == TEXT:
                    await self._hear(mask, payload, now)

    def _next_message(self) -> tuple[int, bytes, bytes] | None:
        """(opcode, mask, masked payload); clients of the benchmark send every message in one frame."""
        received = self._received
        if len(received) < 8:
            return None
        length, start = received[1] & 127, 2
        if length == 126:
            length, start = int.from_bytes(received[2:4]), 4
        elif length == 127:
            length, start = int.from_bytes(received[2:10]), 10
        end = start + 4 + length
        if len(received) < end:
            return None
        message = received[0] & 15, bytes(received[start : start + 4]), bytes(received[start + 4 : end])
        del received[:end]
        return message

    async def _hear(self, mask: bytes, masked: bytes, now: float) -> None:
        if len(masked) >= LONG_OCTETS:
            self.appends += 1
            self.appended_octets += (len(masked) - len('{"type":"input_audio_buffer.append","audio":""}')) * 3 // 4
            if self._plan == "marks":
                self._look_for_marks(unmasked(mask, masked), now)
            return
        event = json.loads(unmasked(mask, masked))
        if event["type"] == "session.update":
            self.name = event["session"].get("instructions", self.name)
            await self.say({"type": "session.updated", "event_id": "event_1", "session": event["session"]})

    def _look_for_marks(self, text: bytes, now: float) -> None:
        pcm = binascii.a2b_base64(json.loads(text)["audio"])
        for start in range(0, len(pcm), FRAME_OCTETS):
            # What a codec smears into the next frame is much weaker than the mark.
            if max(array("h", pcm[start : start + FRAME_OCTETS])) > LOUD and (
                not self.marks or now - self.marks[-1] > 0.1
            ):
                self.marks.append(now)

    # Out.

    async def say(self, event: dict[str, object]) -> None:
        """Send one event."""
        await self._send(json.dumps(event))

    async def _send(self, text: str) -> None:
        payload = text.encode()
        length = len(payload)
        header = bytes((0x80 | TEXT, length)) if length < 126 else bytes((0x80 | TEXT, 126)) + length.to_bytes(2)
        async with self._sending:
            await self._stream.send_all(header + payload)

    async def _begin_response(self) -> str:
        self._responses += 1
        number = f"{self._responses}"
        body = {"object": "realtime.response", "id": "resp_" + number, "status": "in_progress", "output": []}
        await self.say({"type": "response.created", "event_id": "event_2", "response": body | {"conversation_id": "c"}})
        item = {"id": "item_" + number, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        await self.say(
            {"type": "response.output_item.added", "event_id": "event_3", "response_id": "resp_" + number}
            | {"output_index": 0, "item": item}
        )
        return number

    async def _send_delta(self, number: str) -> None:
        place = f'"response_id":"resp_{number}","item_id":"item_{number}","output_index":0,"content_index":0'
        text = f'{{"type":"response.output_audio.delta","event_id":"event_4",{place},"delta":"{DELTA}"}}'
        await self._send(text)

    async def _send_words(self, number: str) -> None:
        place = f'"response_id":"resp_{number}","item_id":"item_{number}","output_index":0,"content_index":0'
        await self._send(
            f'{{"type":"response.output_audio_transcript.delta","event_id":"event_5",{place},"delta":" and so on"}}'
        )

    async def _end_response(self, number: str, status: str) -> None:
        place = {"response_id": "resp_" + number, "item_id": "item_" + number, "output_index": 0, "content_index": 0}
        if status == "completed":
            await self.say({"type": "response.output_audio.done", "event_id": "event_6"} | place)
        body = {"object": "realtime.response", "id": "resp_" + number, "status": status, "output": []}
        await self.say({"type": "response.done", "event_id": "event_7", "response": body | {"conversation_id": "c"}})

    # Plans.

    async def _talk(self) -> None:
        await trio.sleep(random.random())  # noqa: S311 - so that calls that were begun together do not stay together
        start = trio.current_time() - LEAD_S
        sent = 0
        while True:
            number = await self._begin_response()
            for count in range(TEN_SECONDS):
                await trio.sleep_until(start + sent * DELTA_MS / 1000)
                await self._send_delta(number)
                sent += 1
                if count % 4 == 0:
                    await self._send_words(number)
            await self._end_response(number, "completed")

    async def _answer(self) -> None:
        while True:
            await trio.sleep(0.4 + 0.1 * random.random())  # noqa: S311
            number = await self._begin_response()
            await trio.sleep(0.1)
            self.begun.append(time.time())
            for _ in range(ANSWER_MS // DELTA_MS):
                await self._send_delta(number)
            await trio.sleep(0.4 + 0.1 * random.random())  # noqa: S311
            self.cut.append(time.time())
            await self.say(
                {"type": "input_audio_buffer.speech_started", "event_id": "event_8", "audio_start_ms": 0}
                | {"item_id": "item_0"}
            )
            await self._end_response(number, "cancelled")


def unmasked(mask: bytes, masked: bytes) -> bytes:
    """RFC 6455 §5.3, in one exclusive or."""
    length = len(masked)
    key = int.from_bytes((mask * (length // 4 + 1))[:length])
    return (int.from_bytes(masked) ^ key).to_bytes(length)


async def _serve(plan: str) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await Session(stream, plan).run()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        print(json.dumps({"url": f"ws://127.0.0.1:{port}/v1/realtime?model=tone"}), flush=True)


def main() -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plan", choices=("marks", "talk", "answers"), required=True)
    trio.run(_serve, parser.parse_args().plan)


if __name__ == "__main__":
    main()
