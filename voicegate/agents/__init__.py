"""Agents: what speaks with the caller. An agent is an async function that receives a `Call`.

Read `call.py` first (everything an agent can see and do), then `echo.py` and `parrot.py`, the two that come with
voicegate.
"""

from voicegate.agents.call import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE_HZ, Agent, AudioFrame, Call
from voicegate.agents.load import BUILT_IN, AgentNotFoundError, load_agent

__all__ = [
    "BUILT_IN",
    "FRAME_MS",
    "FRAME_SAMPLES",
    "SAMPLE_RATE_HZ",
    "Agent",
    "AgentNotFoundError",
    "AudioFrame",
    "Call",
    "load_agent",
]
