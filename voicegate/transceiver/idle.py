"""When is a call idle? When neither side has meant anything for a while.

Packets prove nothing: a browser whose person has left goes on sending silence, fifty times a second. What counts is

* audio of the agent that went out,
* an event from the client, and
* the client's own opinion that somebody speaks (RFC 6464), or frames louder than the silence of a codec without it.
"""

from math import inf

from voicegate.agents import Call

SILENT_PAYLOAD_OCTETS = 20
"""An encoded frame of silence is shorter than this with Opus (8 kbit/s would fill it)."""


class IdleWatch:
    """Watches one call. `deadline` is when to look the next time; without a limit, never."""

    def __init__(self, call: Call, limit_s: float | None, now: float) -> None:
        self.deadline = inf if limit_s is None else now + limit_s
        self._call = call
        self._limit_s = limit_s
        self._signs = (0, 0)
        self._last_sign = now

    @property
    def is_on(self) -> bool:
        """Whether there is a limit."""
        return self._limit_s is not None

    def note_voice(self, now: float) -> None:
        """The caller says something."""
        self._last_sign = now

    def is_over(self, now: float) -> bool:
        """Whether the call has been idle for as long as it may; otherwise `deadline` moves on."""
        if self._limit_s is None:
            return False
        signs = (self._call.usage.ms_out, self._call.hub.received)
        if signs != self._signs:
            self._signs = signs
            self._last_sign = now
        self.deadline = self._last_sign + self._limit_s
        return now >= self.deadline
