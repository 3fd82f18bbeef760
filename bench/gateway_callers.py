"""Many callers from one lean process, who note when the kernel had each packet of their agents.

    python -m bench.gateway_callers --calls N --seconds S --sound SOUND [--listen] URL

Every call is a real one (ICE, DTLS, SRTP, a data channel with events), made of the client's cores, with a socket of
its own. Opus frames are encoded once and replayed by all of them. Packets carry the kernel's timestamp of their
arrival; on the loopback interface that is the moment at which the relay sent them. RTP headers are not encrypted, so
under load nothing more than the header is looked at. With `--listen` everything is decrypted and, when the calls are
over, decoded.

| sound | what is sent |
|---|---|
| `sweep` | a tone with some life in it, all the time |
| `mark` | silence, and a loud frame two or three times a second |
| `speech` | two seconds of speech, three of silence; the calls begin at different places |
| `interjection` | a word now and then |

Two lines are printed: `{"ready": N}` when media flows, and at the end what was seen, all of it over the last S seconds.
"""

import argparse
import json
import math
import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
import wave
from array import array
from pathlib import Path
from struct import Struct

import trio

from voicegate.client.audio import FRAME_OCTETS, RTP_SAMPLES, SAMPLE_RATE_HZ
from voicegate.client.events import AudioReceived, EventsOpened, MediaReady, SessionFailed
from voicegate.client.session import ClientSession
from voicegate.client.signaling import open_signaling
from voicegate.dtls import Certificate
from voicegate.ice import Candidate
from voicegate.media import SILENCE_FRAME, OpusDecoder, OpusEncoder, Resampler
from voicegate.net import TimerHeap, open_datagram_socket
from voicegate.rtp import is_rtcp

PERIOD_S = 0.020
PHASES = 20
CALLS_AT_ONCE = 4
WARM_UP_S = 3.0
SPEECH_S, PAUSE_S = 2, 3
TEXT = "The quick brown fox jumps over the lazy dog and comes back again the other day"
AUDIBLE = 2_000
"""Peak of a decoded frame with a tone of the benchmark in it, which peaks at 8,000. When the tone has been cut, the
decoder rings for another frame, at a sixth of that."""
FIRST_SOUND = 500
SILENT_OCTETS = 3
"""Opus' digital silence."""

SO_TIMESTAMPNS = 35
_TIMESPEC = Struct("@qq")
_RTP = Struct("!BBHII")
_TAG_OCTETS = 16

Sound = list[bytes]


class Arrivals:
    """Of each RTP packet that a call received: when, its place in the stream, how long it was."""

    def __init__(self) -> None:
        self.times = array("d")
        self.timestamps = array("L")
        self.sizes = array("H")
        self.payloads: list[bytes] = []


class Caller:
    """One call: its core, its socket, what it saw."""

    def __init__(self, name: str, timers: TimerHeap, certificate: Certificate, listens: bool) -> None:
        self.name = name
        self.arrivals = Arrivals()
        self.marks: list[float] = []
        self.sent_times = array("d")
        self.sent = 0
        self.failure = ""
        self.ready = trio.Event()
        self._listens = listens
        self._timers = timers
        self._socket = open_datagram_socket("127.0.0.1", 0)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._session = ClientSession(
            local_candidates=[Candidate.host_candidate("127.0.0.1", self._socket.getsockname()[1])],
            certificate=certificate,
            random_bytes=os.urandom,
            wall_clock_offset_s=time.time() - trio.current_time(),
        )

    async def set_up(self, url: str, limiter: trio.CapacityLimiter, nursery: trio.Nursery) -> None:
        """Call, and wait until the agent knows who we are."""
        async with limiter, open_signaling(url) as signaling:
            answer = await signaling.exchange(self._session.offer())
            self._session.apply_answer(answer.sdp, trio.current_time())
            self._drain()
            nursery.start_soon(self._receive)
            await self.ready.wait()

    def tick(self, frame: bytes, is_mark: bool, now: float) -> None:
        """Send one frame."""
        sent_at = time.time()
        self._session.send_audio(frame, RTP_SAMPLES, self.sent == 0, now)
        self._drain()
        self.sent_times.append(sent_at)
        self.sent += 1
        if is_mark:
            self.marks.append(sent_at)

    def handle_timeout(self, now: float) -> None:
        """The session's deadline."""
        self._session.handle_timeout(now)
        self._drain()

    def forget(self) -> None:
        """The measurement begins now."""
        self.arrivals = Arrivals()
        self.marks.clear()
        self.sent_times = array("d")

    def close(self) -> None:
        """Say goodbye."""
        self._session.close(trio.current_time())
        self._drain()

    async def _receive(self) -> None:
        recvmsg = self._socket.recvmsg
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                while True:
                    data, ancillary, _, address = recvmsg(2_048, 64)
                    seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
                    self._take(data, address, seconds + nanoseconds / 1e9)
            except BlockingIOError:
                continue

    def _take(self, data: bytes, address: tuple[str, int], at: float) -> None:
        is_audio = data[0] >= 128 and not is_rtcp(data)
        if is_audio:
            arrivals = self.arrivals
            arrivals.times.append(at)
            arrivals.timestamps.append(_RTP.unpack_from(data)[3])
            arrivals.sizes.append(len(data) - _RTP.size - _TAG_OCTETS)
        if self._listens or not is_audio:
            self._session.receive_datagram(data, address, trio.current_time())
            self._drain()

    def _drain(self) -> None:
        while (event := self._session.next_event()) is not None:
            match event:
                case AudioReceived(packet):
                    self.arrivals.payloads.append(packet.payload)
                case EventsOpened():
                    session = {"type": "realtime", "instructions": self.name}
                    self._session.send_event(json.dumps({"type": "session.update", "session": session}))
                    self.ready.set()
                case SessionFailed(failure, detail):
                    self.failure = f"{failure.value}: {detail}"
                    self.ready.set()
                case MediaReady() | _:
                    continue
        for data, address in self._session.datagrams_to_send(trio.current_time()):
            self._socket.sendto(data, address)
        self._timers.schedule(self, self._session.next_timeout())


# The sounds.


def encoded(pcm: bytes) -> Sound:
    """As Opus frames of 20 ms."""
    encoder = OpusEncoder()
    whole = len(pcm) - len(pcm) % FRAME_OCTETS
    return [encoder.encode(pcm[start : start + FRAME_OCTETS]) for start in range(0, whole, FRAME_OCTETS)]


def sweep() -> Sound:
    """A second of a tone with overtones that goes up and down."""
    samples, phase = array("h"), 0.0
    for index in range(SAMPLE_RATE_HZ):
        phase += math.tau * (150 + 100 * math.sin(7 * index / SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
        samples.append(round(4000 * math.sin(phase) + 2000 * math.sin(3 * phase) + 1000 * math.sin(8 * phase)))
    return encoded(samples.tobytes())


def spoken(text: str, seconds: float) -> bytes:
    """So much of a spoken text, PCM16 mono 24 kHz. Needs espeak-ng."""
    program = shutil.which("espeak-ng")
    if program is None:
        raise SystemExit("espeak-ng is not installed")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        subprocess.run([program, "-v", "en-us", "-s", "150", "-w", str(path), text], check=True)  # noqa: S603
        with wave.open(str(path)) as file:
            pcm = Resampler(file.getframerate(), SAMPLE_RATE_HZ).resample(file.readframes(file.getnframes()))
    samples = array("h", pcm)
    first = next(index for index, sample in enumerate(samples) if abs(sample) > FIRST_SOUND)
    return samples[first : first + int(seconds * SAMPLE_RATE_HZ)].tobytes()


def make_sound(name: str) -> tuple[Sound, int | None]:
    """The frames that are replayed, and which of them is a mark."""
    pause = [SILENCE_FRAME]
    match name:
        case "mark":
            # The encoder is given silence first and last: what it smears belongs to the mark.
            loud = array("h", (round(12_000 * math.sin(math.tau * 440 * n / SAMPLE_RATE_HZ)) for n in range(480)))
            frames = encoded(bytes(2 * FRAME_OCTETS) + loud.tobytes() + bytes(3 * FRAME_OCTETS))
            return frames + 13 * pause, 2
        case "speech":
            return encoded(spoken(TEXT, SPEECH_S) + bytes(5 * FRAME_OCTETS)) + round(PAUSE_S / PERIOD_S) * pause, None
        case "interjection":
            return 47 * pause + encoded(spoken(TEXT, 0.6) + bytes(5 * FRAME_OCTETS)) + 73 * pause, None
        case _:
            return sweep(), None


# The programme.


async def _send_on_grid(callers: list[Caller], sound: Sound, mark: int | None) -> None:
    """Calls are spread over the 20 ms and over the sound."""
    phases = [callers[phase::PHASES] for phase in range(PHASES)]
    begins = {caller: index * len(sound) // len(callers) for index, caller in enumerate(callers)}
    start = trio.current_time() + random.random() * PERIOD_S  # noqa: S311
    step = 0
    while True:
        await trio.sleep_until(start + step * PERIOD_S / PHASES)
        now = trio.current_time()
        for caller in phases[step % PHASES]:
            place = (begins[caller] + step // PHASES) % len(sound)
            caller.tick(sound[place], place == mark, now)
        step += 1


async def _run(url: str, count: int, seconds: float, name: str, listens: bool) -> None:
    sound, mark = make_sound(name)
    timers, certificate = TimerHeap(), Certificate.generate()
    callers = [Caller(f"caller-{index}", timers, certificate, listens) for index in range(count)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(timers.run)
        limiter = trio.CapacityLimiter(CALLS_AT_ONCE)
        async with trio.open_nursery() as setting_up:
            for caller in callers:
                setting_up.start_soon(caller.set_up, url, limiter, nursery)
        failures = [caller.failure for caller in callers if caller.failure]
        if failures:
            raise SystemExit(f"{len(failures)} of {count} calls failed: {failures[0]}")
        nursery.start_soon(_send_on_grid, callers, sound, mark)
        await trio.sleep(WARM_UP_S)
        for caller in callers:
            caller.forget()
        print(json.dumps({"ready": count}), flush=True)
        await trio.sleep(seconds)
        report = json.dumps(listened(callers) if listens else paced(callers))
        # The parent looks at the processes while they still have their calls.
        print(report, flush=True)
        await trio.sleep(0.5)
        for caller in callers:
            caller.close()
        nursery.cancel_scope.cancel()


def listened(callers: list[Caller]) -> dict[str, object]:
    """Of each call: when its marks left, and when its packets came, with whether they are audible."""
    calls = {}
    for caller in callers:
        decoder = OpusDecoder()
        peaks = (max(array("h", decoder.decode(payload))) for payload in caller.arrivals.payloads)
        audible = [peak > AUDIBLE for peak in peaks]
        packets = list(zip(caller.arrivals.times, audible, strict=False))
        calls[caller.name] = {"marks": caller.marks, "packets": packets}
    return {"calls": calls}


def paced(callers: list[Caller]) -> dict[str, object]:
    """How far from their grid packets came, over all calls."""
    late, lost, audible = array("d"), 0, 0
    for caller in callers:
        arrivals = caller.arrivals
        if not arrivals.times:
            lost += round((caller.sent_times[-1] - caller.sent_times[0]) / PERIOD_S)
            continue
        numbers = [((stamp - arrivals.timestamps[0] + 2**31) % 2**32 - 2**31) // 960 for stamp in arrivals.timestamps]
        late += lateness(arrivals.times, numbers)
        lost += max(numbers) - min(numbers) + 1 - len(set(numbers))
        audible += sum(size > SILENT_OCTETS for size in arrivals.sizes)
    own = array("d")
    for caller in callers:
        own += lateness(caller.sent_times, range(len(caller.sent_times)))
    ordered = sorted(late)
    frames = len(ordered) + lost
    return {
        "frames": frames,
        "lost": lost,
        "audible_percent": round(100 * audible / frames, 1),
        "late_p50_ms": percentile(ordered, 0.5),
        "late_p99_ms": percentile(ordered, 0.99),
        "late_p999_ms": percentile(ordered, 0.999),
        "late_max_ms": percentile(ordered, 1),
        "within_20_ms_percent": round(100 * sum(value <= PERIOD_S for value in late) / frames, 4),
        "callers_late_p99_ms": percentile(sorted(own), 0.99),
    }


def lateness(times: "array[float]", numbers: list[int] | range) -> "array[float]":
    """By how much each packet was later than its place on the grid of 20 ms that fits best from below: no packet is
    early, and one is in time."""
    offsets = array("d", (at - number * PERIOD_S for at, number in zip(times, numbers, strict=True)))
    earliest = min(offsets)
    return array("d", (offset - earliest for offset in offsets))


def percentile(ordered: list[float], share: float) -> float:
    """In milliseconds."""
    return round(1000 * ordered[max(0, math.ceil(share * len(ordered)) - 1)], 2)


def main() -> None:
    """Make the calls and print what they saw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--sound", choices=("sweep", "mark", "speech", "interjection"), required=True)
    parser.add_argument("--listen", action="store_true")
    parser.add_argument("url", metavar="URL")
    arguments = parser.parse_args()
    trio.run(_run, arguments.url, arguments.calls, arguments.seconds, arguments.sound, arguments.listen)


if __name__ == "__main__":
    main()
