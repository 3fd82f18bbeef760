"""The process of one relay worker, a child of the supervisor."""

import trio

from voicegate.net import ControlChannel, DatagramPort, MetricsRegistry, run_child
from voicegate.relay import RelayConfig, RelayWorker
from voicegate.up.collector import keep_collector_off


async def serve(control: ControlChannel) -> None:
    """Relay until the supervisor says stop."""
    public = DatagramPort(control.sockets["public"], borrowed=True)
    hop = DatagramPort(control.sockets["hop"], borrowed=True)
    worker = RelayWorker(RelayConfig.from_json(control.configuration), [public], hop)
    registry = MetricsRegistry()
    worker.register_metrics(registry)
    control.answer("metrics", lambda _: registry.snapshot())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.run)
        keep_collector_off()
        control.ready()
        await control.stop_requested.wait()
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    run_child(serve)
