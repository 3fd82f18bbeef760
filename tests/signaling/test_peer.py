"""The channel between transceivers: what is passed on, and who is let in."""

import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import trio
import trio.testing

from tests.signaling.conftest import PATIENCE_S
from voicegate.realtime import new_id
from voicegate.realtime.limits import MAX_CONTROLLERS
from voicegate.realtime.shapes import SessionCreated
from voicegate.routing import FleetKeys
from voicegate.signaling import (
    CallNotFoundError,
    HttpServer,
    NobodyListens,
    OwnerUnreachableError,
    PeerApplication,
    PeerClient,
    PeerKeys,
    PeerSockets,
    RequestContext,
    SignalingCounters,
    TooManyControllersError,
)
from voicegate.signaling.limits import PEER_WINDOW_S
from voicegate.signaling.peer import HEADER, PeerRefusal, PeerRequestError

Address = tuple[str, int]
HANGUP = "/peer/v1/calls/rtc_0/hangup"


class Listens:
    """A controller that remembers."""

    carries_audio = False

    def __init__(self) -> None:
        self.send, self.heard = trio.open_memory_channel[str](100)

    def send_nowait(self, text: str) -> None:
        self.send.send_nowait(text)


class Answers:
    """A dialogue that greets, and repeats what it is asked."""

    def __init__(self, hub: Any) -> None:
        self.hub = hub

    def controller_attached(self, controller: Any) -> None:
        self.hub.reply(controller, SessionCreated({"type": "realtime", "id": new_id("sess")}))

    def controller_detached(self, controller: Any) -> None:
        pass

    def client_event(self, controller: Any, event: Any, raw: dict[str, Any]) -> None:
        self.hub.emit({"type": "seen", "what": raw["type"]})


@pytest.fixture
def keys(wall_clock: Any) -> PeerKeys:
    return PeerKeys({0: bytes(32), 1: bytes([1] * 32)}, 0, wall_clock)


@pytest.fixture
def asked() -> SignalingCounters:
    """What is counted by whoever is asked."""
    return SignalingCounters()


@pytest.fixture
async def owner(
    host: Any, keys: PeerKeys, asked: SignalingCounters, nursery: trio.Nursery, listening_socket: Callable[[], Any]
) -> Address:
    """Where a transceiver listens that has the call rtc_0."""
    await host.answer("v=0", NobodyListens(), RequestContext("http", ""))
    listening = listening_socket()
    address: Address = listening.getsockname()
    server = HttpServer(PeerApplication(host, keys, asked), asked, PeerSockets(host, keys, asked))
    await nursery.start(server.serve, listening)
    return address


@pytest.fixture
def peers(wall_clock: Any, counters: SignalingCounters) -> PeerClient:
    # Another process: keys of its own, made of the same secret.
    return PeerClient(PeerKeys({0: bytes(32)}, 0, wall_clock), counters)


async def test_a_hang_up_is_passed_on(owner: Address, peers: PeerClient, host: Any, counters: Any, asked: Any) -> None:
    assert await peers.hang_up(owner, "rtc_0")
    assert host.calls[0].end_reason == "hung up"
    assert not await peers.hang_up(owner, "rtc_0")
    assert counters.peer_requests_sent == {"ok": 1, "not found": 1}
    assert asked.peer_requests_served == {"ok": 1, "not found": 1}


async def test_events_are_passed_on_both_ways(owner: Address, peers: PeerClient, host: Any, asked: Any) -> None:
    hub = host.calls[0].hub
    hub.use(Answers(hub))
    controller = Listens()
    with trio.fail_after(PATIENCE_S):
        async with peers.attach(owner, "rtc_0", controller) as attachment:
            assert json.loads(await controller.heard.receive())["type"] == "session.created"
            await attachment.receive('{"type": "response.cancel"}')
            assert json.loads(await controller.heard.receive()) == {"type": "seen", "what": "response.cancel"}
            await attachment.receive("{")
            assert json.loads(await controller.heard.receive())["type"] == "error"
            host.calls[0].hang_up("hung up")
            assert await attachment.wait_ended() == "hung up"
            # What is said after the end goes nowhere and blocks nobody.
            for _ in range(100):
                await attachment.receive("{}")
    await gone(asked)


async def test_the_call_goes_on_when_the_controller_leaves(
    owner: Address, peers: PeerClient, host: Any, asked: Any
) -> None:
    hub = host.calls[0].hub
    hub.use(Answers(hub))
    controller = Listens()
    async with peers.attach(owner, "rtc_0", controller):
        with trio.fail_after(PATIENCE_S):
            await controller.heard.receive()
    await gone(asked)
    assert host.calls[0].end_reason is None


async def test_a_controller_too_many_is_told_so(owner: Address, peers: PeerClient, counters: Any, asked: Any) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(MAX_CONTROLLERS):
            await stack.enter_async_context(peers.attach(owner, "rtc_0", Listens()))
        with pytest.raises(TooManyControllersError):
            await stack.enter_async_context(peers.attach(owner, "rtc_0", Listens()))
    assert counters.peer_requests_sent["too many controllers"] == 1
    assert asked.peer_requests_served["too many controllers"] == 1


async def test_a_call_that_the_owner_does_not_have_is_not_found(owner: Address, peers: PeerClient) -> None:
    with pytest.raises(CallNotFoundError):
        async with peers.attach(owner, "rtc_9", Listens()):
            pass


async def hang_up(peers: PeerClient, address: Address) -> None:
    await peers.hang_up(address, "rtc_0")


async def attach(peers: PeerClient, address: Address) -> None:
    async with peers.attach(address, "rtc_0", Listens()):
        pass


@pytest.mark.parametrize("ask", [hang_up, attach])
async def test_an_owner_that_is_not_there_is_said_so(
    peers: PeerClient, counters: Any, listening_socket: Any, ask: Callable[..., Awaitable[None]]
) -> None:
    with listening_socket() as listening:
        address = listening.getsockname()
    with pytest.raises(OwnerUnreachableError):
        await ask(peers, address)
    assert counters.peer_requests_sent == {"unreachable": 1}


@pytest.mark.parametrize("ask", [hang_up, attach])
async def test_an_owner_that_says_nothing_is_not_waited_for(
    peers: PeerClient, listening_socket: Any, monkeypatch: pytest.MonkeyPatch, ask: Callable[..., Awaitable[None]]
) -> None:
    monkeypatch.setattr("voicegate.signaling.peer_client.PEER_LIMIT_S", 0.1)
    with listening_socket() as listening, pytest.raises(OwnerUnreachableError):
        await ask(peers, listening.getsockname())


@pytest.mark.parametrize("ask", [hang_up, attach])
async def test_another_fleet_is_refused(  # noqa: PLR0913, PLR0917 - fixtures
    owner: Address, counters: Any, asked: Any, host: Any, wall_clock: Any, ask: Callable[..., Awaitable[None]]
) -> None:
    strangers = PeerClient(PeerKeys({0: bytes([9] * 32)}, 0, wall_clock), counters)
    with pytest.raises(OwnerUnreachableError):
        await ask(strangers, owner)
    assert counters.peer_requests_sent == {"refused": 1}
    assert asked.peer_requests_served == {"wrong MAC": 1}
    assert host.calls[0].end_reason is None


@pytest.mark.parametrize(
    ("method", "target", "body", "refusal"),
    [
        ("GET", HANGUP, b"", PeerRefusal.FORGED),
        ("POST", HANGUP.replace("rtc_0", "rtc_1"), b"", PeerRefusal.FORGED),
        ("POST", HANGUP, b"x", PeerRefusal.FORGED),
    ],
)
def test_a_mac_is_for_one_request(keys: PeerKeys, method: str, target: str, body: bytes, refusal: PeerRefusal) -> None:
    value = keys.sign("POST", HANGUP)
    with pytest.raises(PeerRequestError) as refused:
        keys.check(value, method, target, body)
    assert refused.value.reason is refusal
    keys.check(value, "POST", HANGUP)
    with pytest.raises(PeerRequestError) as again:
        keys.check(value, "POST", HANGUP)
    assert again.value.reason is PeerRefusal.REPLAYED


@pytest.mark.parametrize("late_s", [-PEER_WINDOW_S - 1, PEER_WINDOW_S + 1])
def test_a_mac_is_for_one_moment(keys: PeerKeys, wall_clock: Any, late_s: float) -> None:
    value = keys.sign("POST", HANGUP)
    wall_clock.now += late_s
    with pytest.raises(PeerRequestError) as refused:
        keys.check(value, "POST", HANGUP)
    assert refused.value.reason is PeerRefusal.STALE


@pytest.mark.parametrize("value", ["", "0", "0.1.2.3", "7.1.0123456789abcdef." + "0" * 32, "0.1.0123456789abcdef.\xff"])
def test_what_is_no_mac_is_refused(keys: PeerKeys, value: str) -> None:
    with pytest.raises(PeerRequestError) as refused:
        keys.check(value, "POST", HANGUP)
    assert refused.value.reason is PeerRefusal.NO_MAC


def test_what_is_remembered_is_bounded(keys: PeerKeys, wall_clock: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicegate.signaling.peer.MAX_PEER_REQUESTS", 3)
    for _ in range(3):
        keys.check(keys.sign("POST", HANGUP), "POST", HANGUP)
    with pytest.raises(PeerRequestError) as refused:
        keys.check(keys.sign("POST", HANGUP), "POST", HANGUP)
    assert refused.value.reason is PeerRefusal.TOO_MANY
    wall_clock.now += 2 * PEER_WINDOW_S + 1
    keys.check(keys.sign("POST", HANGUP), "POST", HANGUP)


def test_requests_outlive_the_rotation_of_the_secret() -> None:
    old, new = (FleetKeys.parse(text) for text in ("0:" + "ab" * 16, "1:" + "cd" * 16 + ",0:" + "ab" * 16))
    before, after = PeerKeys(old.peer_keys, old.current), PeerKeys(new.peer_keys, new.current)
    after.check(before.sign("POST", HANGUP), "POST", HANGUP)
    with pytest.raises(PeerRequestError) as refused:
        before.check(after.sign("POST", HANGUP), "POST", HANGUP)
    assert refused.value.reason is PeerRefusal.UNKNOWN_KEY
    after.use_keys({1: new.peer_keys[1]}, 1)
    with pytest.raises(PeerRequestError):
        after.check(before.sign("POST", HANGUP), "POST", HANGUP)


async def test_nothing_else_is_served_there(owner: Address, keys: PeerKeys, wall_clock: Any, http: Any) -> None:
    http.port = owner[1]
    sign = PeerKeys({0: bytes(32)}, 0, wall_clock).sign
    for target, status in (("/", 404), ("/live", 404), ("/peer/v1/calls/rtc_0/events", 426)):
        assert (await http.request("GET", target)).status == 401
        assert (await http.request("GET", target, {HEADER: sign("GET", target)})).status == status


async def gone(asked: SignalingCounters) -> None:
    with trio.fail_after(PATIENCE_S):
        while any(asked.sockets_open.values()):  # noqa: ASYNC110 - once
            await trio.sleep(0.01)
