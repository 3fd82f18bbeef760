"""When a call has lasted long enough: after its longest duration, or when neither side has meant anything for a while.

Packets prove nothing: a browser whose person has left goes on sending silence, fifty times a second. What counts is

* audio of the agent that went out,
* an event from the client, and
* the client's own opinion that somebody speaks (RFC 6464), or frames louder than the silence of a codec without it.
"""

from math import inf

from voicegate.agents import Call
from voicegate.rtp import RtpPacket, audio_level
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.limits import UNSEEN_SHARE

SILENT_PAYLOAD_OCTETS = 40
"""A frame of Opus silence has 3 to 31 octets, one of speech more than these, which are 16 kbit/s. (One of G.711 always
has more: without the sender's opinion such a call is never idle.)"""


class Lifetime:
    """The clock of one call. `deadline` is when to look the next time."""

    def __init__(self, call: Call, max_call_s: float, idle_limit_s: float | None, now: float) -> None:
        self._call = call
        self._max_call_s = max_call_s
        self._idle_limit_s = idle_limit_s
        self._expires_at = now + max_call_s
        self._look_at = inf if idle_limit_s is None else now + idle_limit_s
        self._signs = (0, 0)
        self._last_sign = now
        self._unseen_until = now
        self._is_over = False

    @property
    def deadline(self) -> float:
        """When `why_over` may have an answer; never again once it had one."""
        return inf if self._is_over else min(self._expires_at, self._look_at)

    def note_packet(self, packet: RtpPacket, audio_level_extension: int | None, now: float) -> None:
        """One packet of the caller's audio. Costs nothing where there is no limit for idle calls."""
        if self._idle_limit_s is not None and now >= self._unseen_until:
            level = None if audio_level_extension is None else audio_level(packet, audio_level_extension)
            if level[0] if level is not None else len(packet.payload) > SILENT_PAYLOAD_OCTETS:
                self._last_sign = now
                self._unseen_until = now + UNSEEN_SHARE * self._idle_limit_s

    def why_over(self, now: float) -> tuple[EndReason, str] | None:
        """The reason to end the call now, with words for whoever is attached to it; told once."""
        if now < self.deadline:
            return None
        if now >= self._expires_at:
            self._is_over = True
            return EndReason.TOO_LONG, f"A call lasts at most {self._max_call_s / 60:g} minutes."
        return self._why_idle(now)

    def _why_idle(self, now: float) -> tuple[EndReason, str] | None:
        if self._idle_limit_s is None:
            return None
        signs = (self._call.usage.ms_out, self._call.hub.received)
        if signs != self._signs:
            self._signs = signs
            self._last_sign = now
        self._look_at = self._last_sign + self._idle_limit_s
        if now < self._look_at:
            return None
        self._is_over = True
        return EndReason.IDLE, f"Nothing happened for {self._idle_limit_s:g} seconds."
