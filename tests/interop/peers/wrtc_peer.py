"""libwebrtc, Chrome's engine without the browser, calls a server: `python -m tests.interop.peers.wrtc_peer --url …`."""

from __future__ import annotations

import argparse
import asyncio
import itertools
from array import array

import webrtc

from tests.interop.peers.exchange import (
    CHUNK_SAMPLES,
    CONNECT_S,
    EVENTS_LABEL,
    SAMPLE_RATE,
    Events,
    TimeLine,
    exchange_descriptions,
    last,
    parse_arguments,
    read_speech,
    report,
    rms,
    write_recording,
)

# Chunks of 10 ms that wait while this program is busy elsewhere: a second.
HELD_CHUNKS = 100


async def call(arguments: argparse.Namespace) -> tuple[dict[str, object], array[int]]:
    """One call; returns the report and what was heard."""
    speech = read_speech(arguments.play)
    webrtc.allow_loopback()  # tests run where no other interface exists
    heard: array[int] = array("h")
    time_line = TimeLine()
    connected = asyncio.Event()
    async with webrtc.RTCPeerConnection() as connection, asyncio.TaskGroup() as tasks:
        microphone = webrtc.MediaStreamTrackGenerator("audio")
        connection.add_track(microphone, webrtc.MediaStream())
        (transceiver,) = connection.get_transceivers()
        events = open_events(connection, time_line) if arguments.events else None

        def connection_changed(_: object) -> None:
            if connection.connection_state == "connected":
                time_line.mark("connected")
                connected.set()

        def ice_changed(_: object) -> None:
            if connection.ice_connection_state in ("connected", "completed"):
                time_line.mark("ice")

        connection.on("connectionstatechange", connection_changed)
        connection.on("iceconnectionstatechange", ice_changed)

        speaking = tasks.create_task(speak(microphone, speech))
        listening = tasks.create_task(listen(transceiver.receiver.track, heard))
        offer = await connection.create_offer()
        await connection.set_local_description(offer)
        time_line.start()
        answer = await exchange_descriptions(arguments.url, offer.sdp)
        time_line.mark("answer")
        await connection.set_remote_description(webrtc.RTCSessionDescriptionInit("answer", answer))
        async with asyncio.timeout(CONNECT_S):
            await connected.wait()
        await last(arguments.seconds, arguments.until)

        statistics = await connection.get_stats()
        speaking.cancel()
        listening.cancel()
    values: dict[str, object] = dict(time_line.marks_ms) | (events.seen() if events else {})
    for entry in statistics.values():
        match entry:
            case webrtc.RTCInboundRtpStreamStats():
                values |= {"received": entry.packets_received, "lost": entry.packets_lost}
            case webrtc.RTCOutboundRtpStreamStats():
                values |= {"sent": entry.packets_sent}
            case webrtc.RTCTransportStats():
                values |= {"dtls": entry.tls_version, "cipher_suite": entry.dtls_cipher, "srtp": entry.srtp_cipher}
    return values, heard


def open_events(connection: webrtc.RTCPeerConnection, time_line: TimeLine) -> Events:
    channel = connection.create_data_channel(EVENTS_LABEL)
    events = Events(channel.send)

    def opened(_: object) -> None:
        events.opened(time_line)

    def message_came(message: webrtc.MessageEvent) -> None:
        events.received(str(message.data))

    channel.on("open", opened)
    channel.on("message", message_came)
    return events


async def speak(microphone: webrtc.MediaStreamTrackGenerator, speech: array[int]) -> None:
    """Feed the samples at the pace of a sound card, then silence."""
    writer = microphone.writable.get_writer()
    clock = asyncio.get_running_loop().time
    started = clock()
    for number in itertools.count():
        chunk = speech[number * CHUNK_SAMPLES : (number + 1) * CHUNK_SAMPLES]
        chunk.extend([0] * (CHUNK_SAMPLES - len(chunk)))
        data = webrtc.AudioDataInit("s16", SAMPLE_RATE, CHUNK_SAMPLES, 1, number * 10_000, chunk.tobytes())
        await writer.write(webrtc.AudioData(data))
        await asyncio.sleep(started + (number + 1) * CHUNK_SAMPLES / SAMPLE_RATE - clock())


async def listen(track: webrtc.MediaStreamTrack, heard: array[int]) -> None:
    """Collect what would be played, of which libwebrtc hands out one channel or two as it likes."""
    processor = webrtc.MediaStreamTrackProcessor(webrtc.MediaStreamTrackProcessorInit(track, HELD_CHUNKS))
    first_channel = webrtc.AudioDataCopyToOptions(plane_index=0, format="s16-planar")
    async for data in processor.readable:
        if not isinstance(data, webrtc.AudioData):
            raise TypeError(f"audio was asked for, not {data}")
        with data:
            samples = bytearray(data.allocation_size(first_channel))
            data.copy_to(samples, first_channel)
            heard.frombytes(samples)


def main() -> None:
    arguments = parse_arguments(__doc__ or "")
    values, heard = asyncio.run(call(arguments))
    write_recording(arguments.record, heard)
    report(**values, heard_samples=len(heard), heard_rms=round(rms(heard)))


if __name__ == "__main__":
    main()
