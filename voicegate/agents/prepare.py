"""What a process does before its first call, so that no call has to wait for it."""

from voicegate.agents.call import Agent
from voicegate.agents.echo import echo
from voicegate.media import load_speech_network


def prepare_for(agent: Agent) -> None:
    """Load what the calls of `agent` will use: the network that hears speech, unless they never take turns.

    Takes half a second and 40 MB, once for the process; in the middle of a call it would be a hole in all others.
    Backends of the Realtime dialect (`speaks_realtime`) hear for themselves.
    """
    if agent is not echo and not getattr(agent, "speaks_realtime", False):
        load_speech_network()
