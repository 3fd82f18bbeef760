"""When is a call idle? When neither side has meant anything for a while.

Packets prove nothing: a browser whose person has left goes on sending silence, fifty times a second. What counts is

* audio of the agent that went out,
* an event from the client, and
* the client's own opinion that somebody speaks (RFC 6464), or frames louder than the silence of a codec without it.
"""

from math import inf

from voicegate.agents import Call
from voicegate.rtp import RtpPacket, audio_level

SILENT_PAYLOAD_OCTETS = 20
"""A frame of Opus silence is shorter, one of speech is longer at any bit rate. (One of G.711 always is longer: without
the sender's opinion such a call is never idle.)"""


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

    def note_packet(self, packet: RtpPacket, audio_level_extension: int | None, now: float) -> None:
        """One packet of the caller's audio."""
        level = None if audio_level_extension is None else audio_level(packet, audio_level_extension)
        if level[0] if level is not None else len(packet.payload) > SILENT_PAYLOAD_OCTETS:
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
