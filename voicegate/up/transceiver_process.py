"""The process of one transceiver with its signaling, a child of the supervisor."""

from functools import partial

import trio

from voicegate.agents import load_agent
from voicegate.config import tls_context
from voicegate.net import ControlChannel, DatagramPort, MetricsRegistry, keep_collector_off, run_child
from voicegate.signaling import (
    Application,
    HttpServer,
    SignalingCounters,
    SignalingServer,
    Site,
    Steering,
    parse_ingresses,
    parse_networks,
)
from voicegate.transceiver.config import TransceiverConfig
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.process import run_transceiver
from voicegate.up.calls import Calls
from voicegate.web import load_assets

GOODBYE_S = 1.5
"""What sessions and their signaling connections have for their goodbyes: the agent's grace and a little more."""


async def serve(control: ControlChannel) -> None:
    """Serve callers until the supervisor says stop."""
    config = TransceiverConfig.from_json(control.configuration)
    tls = tls_context(config.tls_cert, config.tls_key)
    counters, registry = SignalingCounters(), MetricsRegistry()
    trusted = parse_networks(config.trusted_proxies)
    steering = Steering(parse_ingresses(list(config.ingresses)), config.default_ingress, second=config.second_ingress)
    port = DatagramPort(control.sockets["hop"], borrowed=True)
    async with (
        run_transceiver(config, port, load_agent(config.agent)) as transceiver,
        trio.open_nursery() as nursery,
    ):
        transceiver.register_metrics(registry)
        counters.register(registry)
        calls = Calls(transceiver, control, config.agent, steering)
        site = Site(assets=load_assets(), signal_port=config.signal_port, agent=config.agent)
        control.answer("metrics", lambda _: registry.snapshot())
        control.answer("hang_up", lambda call_id: transceiver.hang_up(call_id, EndReason.HUNG_UP))
        control.answer("calls", lambda _: len(transceiver.calls))
        control.answer("drain", lambda _: transceiver.drain())
        control.answer("secret", transceiver.use_secret)
        signaling = SignalingServer(calls, counters, trusted_proxies=trusted)
        http = HttpServer(Application(calls, site, counters, trusted_proxies=trusted), counters)
        await nursery.start(partial(signaling.serve, control.sockets["signal"], tls=tls))
        await nursery.start(partial(http.serve, control.sockets["http"], tls=tls))
        keep_collector_off()
        control.ready()
        await control.stop_requested.wait()
        transceiver.end_all(EndReason.SHUTDOWN)
        with trio.move_on_after(GOODBYE_S):
            while transceiver.calls or counters.connections_open:  # noqa: ASYNC110 - once in the life of the process
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    run_child(serve)
