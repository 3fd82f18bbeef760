"""The process of one relay worker, a child of the supervisor."""

import trio

from voicegate.net import ControlChannel, MetricsRegistry, run_child
from voicegate.relay import RelayConfig, RelayWorker
from voicegate.up.collector import keep_collector_off


async def serve(control: ControlChannel) -> None:
    """Relay until the supervisor says stop."""
    config = RelayConfig.from_json(control.configuration)
    worker = RelayWorker(config, [control.sockets["public"]], control.sockets["hop"])
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
