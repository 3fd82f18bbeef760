"""Attacks on a whole voicegate while a call goes on: nothing is let through, and the call does not notice.

The attacker writes whatever source address he likes. What the relay's rules say is tested packet by packet in
tests/relay; here it is seen that a caller hears nothing of it.
"""

from __future__ import annotations

import re
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.up.programs import PATIENCE_S, ROOT, fetch, metric
from voicegate.client import connect
from voicegate.dtls import Certificate
from voicegate.ice import Candidate, IceCredentials
from voicegate.sdp import OfferParameters, build_offer

if TYPE_CHECKING:
    from collections.abc import Callable

ATTACKS = {
    "forged hints": (20_000, "voicegate_relay_drops_total", "bad hint"),
    "another spelling": (20_000, "voicegate_relay_drops_total", "bad hint"),
    "unknown addresses": (50_000, "voicegate_relay_drops_total", "unknown flow"),
    "the same unknown addresses": (20_000, "voicegate_relay_drops_total", "unknown flow"),
    "one hint from many addresses": (10_000, "voicegate_relay_drops_total", "hint cap"),
    # It reaches the session that it names, which does not get the address.
    "valid hint under the victim's address": (5_000, "voicegate_transceiver_drops_total", "claim refused"),
    # It reaches the victim's session, where it is no packet of the victim's.
    "noise under the victim's address": (20_000, "voicegate_relay_packets_total", None),
}
SEVERAL_MB = 64 * 1024 * 1024


def credentials(http: str) -> tuple[str, str]:
    """Ufrag and password of a session of the attacker's own, got as anybody gets them."""
    offer = build_offer(
        OfferParameters(
            session_id=1,
            ice=IceCredentials("evil", "e" * 22),
            fingerprint=Certificate.generate().fingerprint,
            candidates=(Candidate.host_candidate("127.0.0.1", 9),),
            ssrc=1,
            cname="evil",
        )
    ).encode()
    request = urllib.request.Request(  # noqa: S310 - http only
        f"{http}/v1/realtime/calls", offer, {"Content-Type": "application/sdp"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:  # noqa: S310 - as above
        answer = reply.read().decode()
    ufrag, pwd = (re.search(rf"a=ice-{name}:(\S+)", answer) for name in ("ufrag", "pwd"))
    assert ufrag is not None
    assert pwd is not None
    return ufrag[1], pwd[1]


def resident(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096


@pytest.mark.parametrize("kind", ATTACKS)
async def test_a_call_does_not_notice(voicegate_up: Callable[..., Any], isolated: None, kind: str) -> None:
    voicegate = voicegate_up("--agent", "echo")
    (worker,) = voicegate.told["processes"]["relay_workers"]
    count, counter, reason = ATTACKS[kind]
    port = voicegate.relay.rpartition(":")[2]
    ufrag, pwd = await trio.to_thread.run_sync(credentials, voicegate.http)
    async with connect(voicegate.signal) as call:
        await trio.sleep(0.5)
        victim = call._ports[False].local_address[1]
        before, memory = call.statistics(), resident(worker)
        words = [kind, port, str(count), str(victim), ufrag, pwd]
        with trio.fail_after(2 * PATIENCE_S):
            await trio.run_process([sys.executable, "-m", "tests.up.attacker", *words], cwd=ROOT)
        during = call.statistics()
        await trio.sleep(1)
        sent = call.statistics().sent - before.sent
        # It was echoed all along: nothing lost on the way up or down.
        with trio.fail_after(PATIENCE_S):
            while call.statistics().received - before.received < sent:  # noqa: ASYNC110 - packets are counted
                await trio.sleep(0.02)
        assert call.statistics().lost == 0
        assert not call.is_over
    text = (await trio.to_thread.run_sync(fetch, f"{voicegate.http}/metrics"))[1]
    assert during.received > before.received
    assert resident(worker) - memory < SEVERAL_MB
    assert metric(text, "voicegate_relay_flow_changes_total", how="taken over") == 0
    # The kernel may have dropped some before anybody looked, which is as good; on a busy machine most of them.
    assert metric(text, counter, **({"reason": reason} if reason else {"direction": "up"})) > count / 10
    # The call, and what one hint may have at most.
    assert metric(text, "voicegate_relay_flows") <= 1 + 32
