"""The agent behind a `ws://` or `wss://` URL."""

from voicegate.agents.call import Call

BACKEND_KEY_VARIABLE = "VOICEGATE_BACKEND_KEY"


def is_backend_url(name: str) -> bool:
    """Whether `name` means a Realtime server and not a Python function."""
    return name.startswith(("ws://", "wss://"))


class RealtimeAgent:
    """An agent whose words come from a Realtime server."""

    speaks_realtime = True
    """This agent answers the events of the call itself (see `run_agent`)."""

    def __init__(self, url: str, key: str = "") -> None:
        self.url = url
        self._key = key

    async def __call__(self, call: Call) -> None:
        """Speak for the backend until the call ends."""
        raise NotImplementedError
