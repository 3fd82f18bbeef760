"""Agents: what speaks with the caller. An agent is an async function that receives a `Call`.

Read `call.py` first (everything an agent can see and do), then `parrot.py` and `echo.py`, the two that come with
voicegate; `turns.py` and `utterance.py` say how turns and answers work.
"""

from voicegate.agents.call import FRAME_SAMPLES, Agent, Call
from voicegate.agents.frame import FRAME_MS, AudioFrame
from voicegate.agents.load import BUILT_IN, AgentNotFoundError, load_agent
from voicegate.agents.observer import CallObserver
from voicegate.agents.prepare import prepare_for
from voicegate.agents.run import failure_of, run_agent
from voicegate.agents.turns import Turn
from voicegate.agents.usage import CallUsage
from voicegate.agents.utterance import Utterance
from voicegate.media import SAMPLE_RATE_HZ

__all__ = [
    "BUILT_IN",
    "FRAME_MS",
    "FRAME_SAMPLES",
    "SAMPLE_RATE_HZ",
    "Agent",
    "AgentNotFoundError",
    "AudioFrame",
    "Call",
    "CallObserver",
    "CallUsage",
    "Turn",
    "Utterance",
    "failure_of",
    "load_agent",
    "prepare_for",
    "run_agent",
]
