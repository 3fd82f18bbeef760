"""What set-ups cost the server, and how soon it answers while it carries calls: `bench.setup --capacity`.

1. **Cost.** Calls that are hung up as soon as they work, a few at a time. CPU time of the transceiver over all of them,
   divided by their number, is a whole call: signaling, SDP, ICE, DTLS, SRTP, SCTP, Opus in both directions, the agent,
   its nursery, and the end of it all. A core's set-ups a second follow from that.
2. **Answers.** While it carries live echo sessions, which are not transcoded, offers are posted over a connection that
   is open already, and hung up when they have been answered. Measured is offer written → answer read.
"""

import http.client
import os
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

from bench.machine import cpu_seconds
from bench.processes import ProgramFailedError, running, voicegate_up
from voicegate.client import ClientSession
from voicegate.dtls import Certificate
from voicegate.ice import Candidate

CALLS_PATH = "/v1/realtime/calls"

SET_UPS = 1000
SET_UP_ROUNDS = 3
TARGET_CPU_MS = 3.3

ECHO_SESSIONS = 300
PROBES = 400
PROBE_INTERVAL_S = 0.05
TARGET_ANSWER_P99_MS = 5.0

Result = dict[str, Any]


def measure_capacity() -> list[Result]:
    """Both."""
    return [measure_cost(), measure_answers(0), measure_answers(ECHO_SESSIONS)]


def measure_cost() -> Result:
    """CPU time of the transceiver, and of the relay, for a set-up; the median of some rounds."""
    rounds = []
    for _ in range(SET_UP_ROUNDS):
        with voicegate_up("bench.loopback:decoded_echo") as ours:
            processes = ours.said["processes"]
            url = ours.said["http"].rstrip("/") + CALLS_PATH
            with running("bench.peers.setup_load", "--calls", str(SET_UPS), url) as load:
                before = _cpu(processes["transceivers"]), _cpu(processes["relay_workers"])
                last = load.next_line()
                if last is None:
                    raise ProgramFailedError("the load ended early")
                after = _cpu(processes["transceivers"]), _cpu(processes["relay_workers"])
        transceiver_s, relay_s = (late - early for early, late in zip(before, after, strict=True))
        rounds.append((transceiver_s / SET_UPS, relay_s / SET_UPS, SET_UPS / last["seconds"]))
    transceiver_s, relay_s, rate = (median(column) for column in zip(*rounds, strict=True))
    return {
        "measurement": "cost of a set-up",
        "set_ups": SET_UPS,
        "transceiver_cpu_ms": round(1000 * transceiver_s, 3),
        "relay_cpu_ms": round(1000 * relay_s, 3),
        "set_ups_per_second_per_core": round(1 / transceiver_s),
        "set_ups_per_second_as_offered": round(rate),
        "rounds_transceiver_cpu_ms": [round(1000 * each[0], 3) for each in rounds],
        "at_most_ms": TARGET_CPU_MS,
        "reached": 1000 * transceiver_s <= TARGET_CPU_MS,
    }


def measure_answers(sessions: int) -> Result:
    """From offer to answer, with so many live echo sessions."""
    with voicegate_up("echo") as ours:
        url = ours.said["http"].rstrip("/") + CALLS_PATH
        transceivers = ours.said["processes"]["transceivers"]
        if not sessions:
            times, own_times, share = _probe(url, transceivers)
        else:
            seconds = str(PROBES * 4 * PROBE_INTERVAL_S)  # more than enough: it is ended when the probes are over
            with running("bench.peers.load_caller", "--calls", str(sessions), "--seconds", seconds, url):
                times, own_times, share = _probe(url, transceivers)
    hundredths, own = (quantiles(each, n=100, method="inclusive") for each in (times, own_times))
    return {
        "measurement": "offer to answer",
        "echo_sessions": sessions,
        "offers": len(times),
        "p50_ms": round(1000 * hundredths[49], 3),
        "p90_ms": round(1000 * hundredths[89], 3),
        "p99_ms": round(1000 * hundredths[98], 3),
        "max_ms": round(1000 * max(times), 3),
        "without_queue_p50_ms": round(1000 * own[49], 3),
        "without_queue_p99_ms": round(1000 * own[98], 3),
        "transceiver_cpu_percent": round(100 * share, 1),
        "at_most_p99_ms": TARGET_ANSWER_P99_MS,
        "reached": 1000 * hundredths[98] <= TARGET_ANSWER_P99_MS,
    }


def _probe(url: str, transceivers: list[int]) -> tuple[list[float], list[float], float]:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port)
    certificate = Certificate.generate()
    times, own_times = [], []
    started, cpu = time.monotonic(), _cpu(transceivers)
    for number in range(PROBES):
        offer = ClientSession(
            local_candidates=[Candidate.host_candidate("127.0.0.1", 9)],
            certificate=certificate,
            random_bytes=os.urandom,
            wall_clock_offset_s=0.0,
        ).offer()
        time.sleep(max(0.0, started + number * PROBE_INTERVAL_S - time.monotonic()))
        queued, before = _queued_s(transceivers), time.perf_counter()
        response = _post(connection, where.path, offer)
        times.append(time.perf_counter() - before)
        own_times.append(times[-1] - (_queued_s(transceivers) - queued))
        _post(connection, f"{response.headers['Location']}/hangup", "")
    share = (_cpu(transceivers) - cpu) / (time.monotonic() - started)
    connection.close()
    return times, own_times, share


def _post(connection: http.client.HTTPConnection, path: str, body: str) -> http.client.HTTPResponse:
    connection.request("POST", path, body=body, headers={"Content-Type": "application/sdp"})
    response = connection.getresponse()
    said = response.read()
    if not 200 <= response.status < 300:
        raise ProgramFailedError(f"{path}: HTTP {response.status}: {said[:200]!r}")
    return response


def _queued_s(processes: list[int]) -> float:
    """How long these processes' main threads, and this one, were ready to run and had no core."""
    files = [Path("/proc/thread-self/schedstat"), *(Path(f"/proc/{process}/schedstat") for process in processes)]
    return sum(int(file.read_text().split()[1]) for file in files) / 1e9


def _cpu(processes: list[int]) -> float:
    return sum(map(cpu_seconds, processes))


def print_capacity(results: list[Result]) -> None:
    """For people."""
    for result in results:
        verdict = "reached" if result["reached"] else "MISSED"
        if result["measurement"] == "offer to answer":
            print(
                f"offer to answer with {result['echo_sessions']} live echo sessions: p50 {result['p50_ms']} ms, "
                f"p99 {result['p99_ms']} ms, at most {result['max_ms']} ms; target p99 {result['at_most_p99_ms']} ms: "
                f"{verdict}\n    without standing in line for a core: p50 {result['without_queue_p50_ms']} ms, "
                f"p99 {result['without_queue_p99_ms']} ms; transceiver at {result['transceiver_cpu_percent']} % of one"
            )
        else:
            print(
                f"a set-up costs the transceiver {result['transceiver_cpu_ms']} ms of CPU "
                f"({result['set_ups_per_second_per_core']} a second per core), the relay {result['relay_cpu_ms']} ms; "
                f"target {result['at_most_ms']} ms: {verdict}"
            )
