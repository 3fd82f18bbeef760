"""One transceiver process: the endpoint, the clock, the timers and the sessions, in one nursery.

    DatagramEndpoint.run(Endpoint)   packets
    TimerHeap.run                deadlines
    MediaClock.run               20 ms ticks
    Transceiver.run              sessions

They share one thread, so a plain call is all they need between them.
"""

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from voicegate.agents import Agent, prepare_for
from voicegate.dtls import Certificate
from voicegate.net import DatagramEndpoint, TimerHeap
from voicegate.routing import FleetKeys, HopReceiver, HopSender
from voicegate.transceiver.clock import MediaClock
from voicegate.transceiver.config import TransceiverConfig
from voicegate.transceiver.endpoint import Endpoint
from voicegate.transceiver.host import Transceiver
from voicegate.transceiver.parameters import Surroundings


@asynccontextmanager
async def run_transceiver(
    config: TransceiverConfig, port: DatagramEndpoint, agent: Agent
) -> AsyncIterator[Transceiver]:
    """Serve sessions over `port` (the hop socket) inside the block; leaving it ends them all."""
    prepare_for(agent)
    keys = FleetKeys.parse(config.secret)
    sender_id = config.sender_id
    receiver = HopReceiver(keys.hop_keys, own_sender_id=sender_id, allowed_peers=config.relays or None)
    sender: HopSender[tuple[str, int]] = HopSender(
        keys.current, keys.hop_keys[keys.current], sender_id, int(time.time() * 1000)
    )
    endpoint = Endpoint(port, receiver, sender, trio.current_time)
    timers = TimerHeap(endpoint.flush)
    clock = MediaClock(endpoint.flush)
    surroundings = Surroundings(
        send=endpoint.send,
        claim=endpoint.claim,
        release=endpoint.release,
        flush=endpoint.flush,
        schedule=timers.schedule,
        cancel_timer=timers.cancel,
        clock=clock,
        random_bytes=secrets.token_bytes,
    )
    transceiver = Transceiver(config, keys, Certificate.from_pem(config.certificate_pem), agent, endpoint, surroundings)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(port.run, endpoint)
        nursery.start_soon(timers.run)
        nursery.start_soon(clock.run)
        nursery.start_soon(transceiver.run)
        yield transceiver
        nursery.cancel_scope.cancel()
