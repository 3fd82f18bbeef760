"""Many calls from one lean process, so that a server's cost per frame can be read off its CPU time.

    python -m bench.peers.load_caller --calls N --seconds S URL

Every call is a real one (ICE, DTLS, SRTP) made of the client's cores, with a socket of its own; it sends an Opus
frame of real sound every 20 ms and counts the audio packets that come back. The calls are spread over the 20 ms in
steps of 1 ms.

Two lines are printed, at the beginning and at the end of S seconds of steady load: {"sent": …, "returned": …}.
"""

import argparse
import json
import math
import os
import time
from array import array

import trio

from voicegate.client.audio import FRAME_OCTETS, RTP_SAMPLES, SAMPLE_RATE_HZ
from voicegate.client.events import AudioReceived, MediaReady, SessionEvent, SessionFailed
from voicegate.client.session import ClientSession
from voicegate.client.signaling import open_signaling
from voicegate.dtls import Certificate
from voicegate.ice import Candidate
from voicegate.media import OpusEncoder
from voicegate.net import Address, DatagramPort, TimerHeap, open_datagram_socket

PERIOD_S = 0.020
PHASES = 20
CALLS_AT_ONCE = 4
WARM_UP_S = 2.0
PERIODS_OF_SOUND = 50


class LoadCall:
    """One call: its core, its socket, its counts."""

    def __init__(self, timers: TimerHeap, certificate: Certificate) -> None:
        self.port = DatagramPort(open_datagram_socket("127.0.0.1", 0))
        self.ready = trio.Event()
        self.sent = 0
        self.returned = 0
        self.failure = ""
        self.session = ClientSession(
            local_candidates=[Candidate.host_candidate("127.0.0.1", self.port.local_address[1])],
            certificate=certificate,
            random_bytes=os.urandom,
            wall_clock_offset_s=time.time() - trio.current_time(),
        )
        self._timers = timers

    async def set_up(self, url: str, limiter: trio.CapacityLimiter, nursery: trio.Nursery) -> None:
        """Call, and wait for the keys."""
        async with limiter, open_signaling(url) as signaling:
            answer = await signaling.exchange(self.session.offer())
            self.session.apply_answer(answer.sdp, trio.current_time())
            self.batch_done()
            nursery.start_soon(self.port.run, self)
            await self.ready.wait()

    def tick(self, frame: bytes, now: float) -> None:
        """Send one frame."""
        self.session.send_audio(frame, RTP_SAMPLES, self.sent == 0, now)
        self.sent += 1
        self.batch_done()

    def receive_datagram(self, data: bytes, addr: Address) -> None:
        """One datagram from the server."""
        self.session.receive_datagram(data, addr, trio.current_time())

    def handle_timeout(self, now: float) -> None:
        """The session's deadline."""
        self.session.handle_timeout(now)
        self.batch_done()

    def batch_done(self) -> None:
        """Send what there is to send, count what came."""
        while (event := self.session.next_event()) is not None:
            self.note(event)
        for data, addr in self.session.datagrams_to_send(trio.current_time()):
            self.port.send(data, addr)
        self._timers.schedule(self, self.session.next_timeout())

    def note(self, event: SessionEvent) -> None:
        """See which event this is."""
        if isinstance(event, AudioReceived):
            self.returned += 1
        elif isinstance(event, MediaReady):
            self.ready.set()
        elif isinstance(event, SessionFailed):
            self.failure = f"{event.failure.value}: {event.detail}"
            self.ready.set()


async def _send_on_grid(calls: list[LoadCall], frames: list[bytes]) -> None:
    phases = [calls[phase::PHASES] for phase in range(PHASES)]
    start = trio.current_time()
    step = 0
    while True:
        await trio.sleep_until(start + step * PERIOD_S / PHASES)
        now = trio.current_time()
        frame = frames[step // PHASES % len(frames)]
        for call in phases[step % PHASES]:
            call.tick(frame, now)
        step += 1


async def _run(url: str, count: int, seconds: float) -> None:
    timers = TimerHeap()
    certificate = Certificate.generate()
    calls = [LoadCall(timers, certificate) for _ in range(count)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        limiter = trio.CapacityLimiter(CALLS_AT_ONCE)
        async with trio.open_nursery() as setting_up:
            for call in calls:
                setting_up.start_soon(call.set_up, url, limiter, nursery)
        failures = [call.failure for call in calls if call.failure]
        if failures:
            raise SystemExit(f"{len(failures)} of {count} calls failed: {failures[0]}")
        nursery.start_soon(_send_on_grid, calls, _sound())
        await trio.sleep(WARM_UP_S)
        _report(calls)
        await trio.sleep(seconds)
        _report(calls)
        for call in calls:
            call.session.close(trio.current_time())
            call.batch_done()
        nursery.cancel_scope.cancel()


def _report(calls: list[LoadCall]) -> None:
    sent, returned = sum(call.sent for call in calls), sum(call.returned for call in calls)
    print(json.dumps({"sent": sent, "returned": returned}), flush=True)


def _sound() -> list[bytes]:
    """A second of Opus frames of a sound with some life in it: a sweep with overtones."""
    encoder = OpusEncoder()
    frames, phase = [], 0.0
    for number in range(PERIODS_OF_SOUND):
        samples = array("h")
        for index in range(FRAME_OCTETS // 2):
            seconds = (number * FRAME_OCTETS // 2 + index) / SAMPLE_RATE_HZ
            phase += 2 * math.pi * (150 + 100 * math.sin(7 * seconds)) / SAMPLE_RATE_HZ
            samples.append(round(4000 * math.sin(phase) + 2000 * math.sin(3 * phase) + 1000 * math.sin(8 * phase)))
        frames.append(encoder.encode(samples.tobytes()))
    return frames


def main() -> None:
    """Make the calls and print the two counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("url", metavar="URL")
    arguments = parser.parse_args()
    trio.run(_run, arguments.url, arguments.calls, arguments.seconds)


if __name__ == "__main__":
    main()
