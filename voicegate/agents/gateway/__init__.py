"""`realtime`: lets a Realtime server (WebSocket) speak with the caller. Name it by its URL: `wss://host/v1/realtime?model=m`."""

from voicegate.agents.gateway.agent import BACKEND_KEY_VARIABLE, RealtimeAgent, is_backend_url

__all__ = ["BACKEND_KEY_VARIABLE", "RealtimeAgent", "is_backend_url"]
