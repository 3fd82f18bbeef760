"""The process of one transceiver with its signaling, a child of the supervisor."""

from functools import partial

import trio

from voicegate.agents import load_agent
from voicegate.config import tls_context
from voicegate.net import (
    LITTLE_AT_A_TIME,
    Alarm,
    ControlChannel,
    DatagramPort,
    MetricsRegistry,
    keep_collector_off,
    run_child,
)
from voicegate.routing import FleetKeys
from voicegate.signaling import (
    Access,
    ApiKeys,
    Application,
    HttpServer,
    PeerApplication,
    PeerClient,
    PeerKeys,
    PeerSockets,
    RealtimeSockets,
    SignalingCounters,
    SignalingServer,
    Site,
    Steering,
    TokenMint,
    parse_ingresses,
    parse_networks,
)
from voicegate.transceiver.config import TransceiverConfig
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.process import run_transceiver
from voicegate.up.calls import Calls, OwnCalls
from voicegate.web import load_assets

GOODBYE_S = 1.5
"""What sessions and their signaling connections have for their goodbyes: the agent's grace and a little more."""


async def serve(control: ControlChannel) -> None:
    """Serve callers until the supervisor says stop."""
    config = TransceiverConfig.from_json(control.configuration["transceiver"])
    tls = tls_context(config.tls_cert, config.tls_key)
    counters, registry = SignalingCounters(), MetricsRegistry()
    trusted = parse_networks(config.trusted_proxies)
    steering = Steering(parse_ingresses(list(config.ingresses)), config.default_ingress, second=config.second_ingress)
    port = DatagramPort(control.sockets["hop"], borrowed=True)
    agent, keys = load_agent(config.agent), FleetKeys.parse(config.secret)
    mint, peer_keys = TokenMint(keys.token_keys, keys.current), PeerKeys(keys.peer_keys, keys.current)
    api_keys, is_open = ApiKeys(control.configuration["api_keys"]), control.configuration["is_open"]
    access = Access(mint, counters, api_keys, is_open=is_open)
    async with (
        run_transceiver(config, port, agent, Alarm().sleep_until) as transceiver,
        trio.open_nursery() as nursery,
    ):
        transceiver.register_metrics(registry)
        counters.register(registry)
        own = OwnCalls(transceiver, agent, config.agent, steering)
        own.register_metrics(registry)
        slots = range(config.first_slot, config.first_slot + config.slot_count)
        calls = Calls(own, slots, control, PeerClient(peer_keys, counters))
        site = Site(assets=load_assets(), signal_port=config.signal_port, agent=config.agent)

        def use_secret(secret: str) -> None:
            transceiver.use_secret(secret)
            keys = FleetKeys.parse(secret)
            mint.use_keys(keys.token_keys, keys.current)
            peer_keys.use_keys(keys.peer_keys, keys.current)

        control.answer("metrics", lambda _: registry.snapshot())
        control.answer("calls", lambda _: len(own))
        control.answer("drain", lambda _: transceiver.drain())
        control.answer("secret", use_secret)
        control.answer("api_keys", access.use_keys)

        signaling = SignalingServer(calls, counters, trusted_proxies=trusted)
        application = Application(calls, site, access, counters, trusted_proxies=trusted)
        http = HttpServer(application, counters, RealtimeSockets(calls, access, counters, trusted))
        asked = PeerApplication(own, peer_keys, counters)
        internal = HttpServer(asked, counters, PeerSockets(own, peer_keys, counters))
        await nursery.start(partial(signaling.serve, control.sockets["signal"], tls=tls))
        await nursery.start(partial(http.serve, control.sockets["http"], tls=tls))
        await nursery.start(internal.serve, control.sockets["peer"])
        nursery.start_soon(calls.run)
        keep_collector_off(LITTLE_AT_A_TIME)
        control.ready()
        await control.stop_requested.wait()
        own.end_all(EndReason.SHUTDOWN)
        with trio.move_on_after(GOODBYE_S):
            while own or counters.connections_open or any(counters.sockets_open.values()):  # noqa: ASYNC110 - once in the life of the process
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    run_child(serve)
