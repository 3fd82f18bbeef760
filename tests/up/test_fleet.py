"""A fleet: two regions on one machine, and relays and transceivers that find each other through Redis."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from pathlib import Path

import pytest
import redis

from bench.processes import free_port
from tests.up.programs import HEARD, PATIENCE_S, SECRET, Program, Programs, call, caller, fetch, metric, wait_until
from voicegate.dtls import Certificate
from voicegate.ice import Candidate, IceCredentials
from voicegate.routing import FleetKeys
from voicegate.sdp import OfferParameters, build_offer
from voicegate.store.limits import BLOCKS
from voicegate.store.records import holder_name, lease_name, pack_record


def offer_from(http: str, host: str) -> str:
    """The answer to an offer of somebody at this address."""
    offer = build_offer(
        OfferParameters(
            session_id=1,
            ice=IceCredentials("some", "p" * 22),
            fingerprint=Certificate.generate().fingerprint,
            candidates=(Candidate.host_candidate(host, 9),),
            ssrc=1,
            cname="some",
        )
    )
    request = urllib.request.Request(  # noqa: S310 - http only
        f"{http}v1/realtime/calls", offer.encode(), {"Content-Type": "application/sdp"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:  # noqa: S310 - as above
        return str(reply.read().decode())


REGIONS = ("west", "east")
FREE = ("--http-port", "0", "--signal-port", "0", "--relay-port", "0")


@pytest.mark.parametrize("asked", REGIONS)
@pytest.mark.parametrize("cluster", [0, 1])
def test_every_caller_reaches_every_cluster_through_every_ingress(programs: Programs, asked: str, cluster: int) -> None:
    up = programs.start("up", "--topology", "two-regions", *FREE, "--agent", "echo", "--admin", "127.0.0.1:0")
    region = up.said["regions"][cluster]
    assert call(f"{region['signal']}?region={asked}")["received"] > HEARD
    text = fetch(f"{up.said['admin']}metrics")[1]
    for name in REGIONS:
        packets = metric(text, "voicegate_relay_packets_total", process=f"{name}/relay-0")
        assert (packets > 2 * HEARD) == (name == asked)
        inner = metric(text, "voicegate_relay_packets_passed_on_total", process=f"{name}-cluster/relay-0")
        assert (inner > HEARD) == (name == REGIONS[cluster])
    chosen = f"ingress {asked} for a caller: nearest to region '{asked}' (query): 0 km"
    for said in (chosen, f"{REGIONS[cluster]}/transceiver-0"):
        wait_until(lambda said=said: said in up.log(), f"never said: {said}")  # type: ignore[misc]


def test_ice_fails_over_to_the_second_ingress(programs: Programs, tmp_path: Path) -> None:
    nobody, port = free_port(), free_port()
    ingresses = tmp_path / "ingresses.json"
    places = [("dead", [50.1, 8.7], nobody), ("alive", [37.8, -122.4], port)]
    ingresses.write_text(
        json.dumps(
            [
                {"name": name, "region": name, "location": location, "addresses": [f"127.0.0.1:{at}"]}
                for name, location, at in places
            ]
        )
    )
    words = ["--ingresses", str(ingresses), "--second-ingress", "on"]
    transceiver = programs.transceiver(f"127.0.0.1:{port}", *words)
    programs.relay(port, 0, "--registry", programs.registry(transceiver))
    assert call(f"{transceiver.said['signal']}?region=dead")["received"] > HEARD
    chosen = "ingress dead for a caller: nearest to region 'dead' (query): 0 km"
    wait_until(lambda: chosen in transceiver.log(), "the other ingress was named first")


def test_one_relay_serves_both_ip_versions(programs: Programs) -> None:
    words = ["--relay-host", "127.0.0.1,::1", "--agent", "echo", "--admin", "127.0.0.1:0"]
    up = programs.start("up", *FREE, *words)
    four, six = up.said["relays"]["relay"]
    assert (four.rpartition(":")[0], six.rpartition(":")[0]) == ("127.0.0.1", "[::1]")
    assert four.rpartition(":")[2] == six.rpartition(":")[2]
    assert call(up.said["signal"])["received"] > HEARD
    for address, local in ((four, "127.0.0.1"), (six, "::1")):
        # The answer names both; a caller without one of them uses the other.
        answer = offer_from(up.said["http"], local)
        host, _, port = address.rpartition(":")
        assert f" {host.strip('[]')} {port} typ host" in answer


def test_transceivers_lease_slots_and_relays_find_them(programs: Programs, redis_url: str) -> None:
    port = free_port()
    shared = ["--redis", redis_url]
    transceivers = [programs.transceiver(f"127.0.0.1:{port}", *shared, "--name", f"host-{n}") for n in range(2)]
    slots = [each.said["registry"]["transceivers"][0]["slots"][0] for each in transceivers]
    assert slots[0] != slots[1]
    assert all(last - first == 63 for first, last in slots)
    relay = programs.relay(port, 0, *shared, "--admin", "127.0.0.1:0")
    wait_until(lambda: fetch(f"{relay.said['admin']}ready")[0] == 200, "the relay never found anybody")
    wait_until(lambda: "2 transceivers and 1 relays" in relay.log(), "the relay did not find both")
    for each in transceivers:
        assert call(each.said["signal"])["received"] > HEARD
    # A host that leaves in order is gone from the registry at once, and its hints lead nowhere.
    transceivers[1].end()
    assert call(transceivers[0].said["signal"])["received"] > HEARD


def test_a_transceiver_that_lost_its_slots_waits_for_others(programs: Programs, redis_url: str) -> None:
    """Somebody else holds its block, and there is no free one for a while."""
    transceiver = programs.transceiver("127.0.0.1:9", "--redis", redis_url)
    (ours,) = transceiver.said["registry"]["transceivers"]
    keys = FleetKeys.parse(SECRET)
    block = ours["slots"][0][0] // 64
    theirs = {**ours, "name": "another", "hop": "127.0.0.1:9"}
    value = pack_record(theirs, keys.flow_keys, keys.current)
    with redis.Redis.from_url(redis_url) as server:
        server.mset({lease_name(0, each): b"somebody" for each in range(BLOCKS) if each != block})
        server.mset({lease_name(0, block): value, holder_name(0, block): value})
        wait_until(lambda: "all slots of cluster 0 are held" in transceiver.log(), "it never noticed")
        assert transceiver.process.poll() is None
        server.delete(lease_name(0, (block + 1) % BLOCKS))
        wait_until(lambda: "starting another" in transceiver.log(), "it never got other slots")
    wait_until(lambda: fetch(f"{transceiver.said['http']}ready")[0] == 200, "it never began anew")


def test_a_client_whose_packets_land_on_another_relay_host_goes_on(programs: Programs, redis_url: str) -> None:
    ports = [free_port(), free_port()]
    shared = ["--redis", redis_url, "--admin", "127.0.0.1:0", "--vip", "0"]
    transceiver = programs.transceiver(f"127.0.0.1:{ports[0]}", "--redis", redis_url)
    relays = [programs.relay(ports[n], 0, *shared, "--ingress", str(n)) for n in range(2)]
    admins = [relay.said["admin"] for relay in relays]
    for admin in admins:
        wait_until(lambda a=admin: fetch(f"{a}ready")[0] == 200, "the relay never found anybody")  # type: ignore[misc]
    with caller(transceiver.said["signal"]) as calling:
        wait_until(
            lambda: metric(fetch(f"{admins[0]}metrics")[1], "voicegate_relay_redis_rows_total", outcome="written") > 0,
            "the flow was never written",
        )
        # The other host gets the port, as behind a balancer that changed its mind.
        os.kill(relays[0].process.pid, signal.SIGKILL)
        relays[0].process.wait()
        relays[1].end(signal.SIGINT)
        for _ in range(5):
            other = programs.relay(ports[0], 0, *shared, "--ingress", "1")
            if speaks_again(other) == "cache":
                break
            # The client's next check was faster than Redis, which is as good for the call. Once more.
            other.end(signal.SIGINT)
        else:
            pytest.fail("Redis never brought the flow back")
        assert calling.poll() is None


def speaks_again(relay: Program) -> str:
    """Wait until a call goes on by this relay; how it got to know the flow."""

    def metrics() -> str:
        return fetch(f"{relay.said['admin']}metrics")[1]

    speaking = "voicegate_relay_packets_total"
    wait_until(lambda: metric(metrics(), speaking, direction="up") > 50, "the call never spoke again")
    recovered = metric(metrics(), "voicegate_relay_flows_recovered_total", way="cache")
    learned = metric(metrics(), "voicegate_relay_flows_learned_total")
    assert (recovered, learned) in ((1, 0), (0, 1))
    return "cache" if recovered else "check"
