"""`parrot`: says back what it heard.

    listening ── you speak ──▶ hearing ── you pause ──▶ speaking ── all said ──▶ listening
                                  ▲                         │
                                  └── you talk over it ─────┘  it falls silent at once and listens

The smallest agent with turn-taking: voice activity detection ends a turn, and interruption is one call, `stop`.
"""

from voicegate.agents.call import FRAME_MS, Call
from voicegate.media import SpeechStarted, SpeechStopped, VoiceActivityDetector

MAX_UTTERANCE_MS = 30_000
"""What a turn may hold; whoever talks longer is answered with the last 30 s."""


async def parrot(call: Call) -> None:
    """Wait for the caller to pause, speak the utterance back, fall silent when interrupted."""
    detector = VoiceActivityDetector()
    utterance: list[bytes] = []
    was_speaking = False
    call.announce("listening")
    async for frame in call:
        event = detector.process(frame.pcm, frame.voice)
        if isinstance(event, SpeechStarted):
            call.stop()
            utterance = [event.audio]
            call.announce("hearing")
        elif isinstance(event, SpeechStopped):
            answer = call.begin()
            answer.write_nowait(b"".join(utterance))
            answer.finish()
            call.announce("speaking")
        elif detector.is_speech:
            utterance.append(frame.pcm)
            del utterance[: -(MAX_UTTERANCE_MS // FRAME_MS)]
        elif was_speaking and not call.is_speaking:
            call.announce("listening")
        was_speaking = call.is_speaking
