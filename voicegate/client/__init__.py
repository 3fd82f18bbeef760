"""A WebRTC client on trio: calls a voice server, speaks, listens, measures.

    import voicegate.client

    async with voicegate.client.connect("ws://localhost:8081") as call:
        await call.send_audio(pcm)                  # PCM16 little-endian mono, 24 kHz
        async for frame in call.audio():            # 20 ms each: frame.pcm, frame.heard
            ...

Read `session.py` first (ICE, DTLS and SRTP put together, without I/O), then `client.py` (the same on trio),
`signaling.py` (how offers travel), `template.py` (calls that do not wait for the answer) and `command.py`
(`voicegate call`).
"""

from voicegate.client.audio import FRAME_MS, SAMPLE_RATE_HZ, AudioFrame, Heard
from voicegate.client.client import CallStatistics, ClientCall, Timeline, connect
from voicegate.client.errors import CallError, CallFailure
from voicegate.client.session import ClientSession
from voicegate.client.template import Template, fetch_template

__all__ = [
    "FRAME_MS",
    "SAMPLE_RATE_HZ",
    "AudioFrame",
    "CallError",
    "CallFailure",
    "CallStatistics",
    "ClientCall",
    "ClientSession",
    "Heard",
    "Template",
    "Timeline",
    "connect",
    "fetch_template",
]
