"""What a call used, for whoever bills it or looks after it."""

from dataclasses import dataclass


@dataclass(slots=True)
class CallUsage:
    """Counts from the beginning of the call; each is written by whoever knows.

    The audio fields are the call's own, the packet fields those of the transceiver, as far as there is RTP.
    """

    ms_in: int = 0
    """Audio given to the agent, concealed and silent frames included; nothing while the agent does not listen."""
    ms_concealed: int = 0
    """Of that, how much was made up for packets that were lost or late."""
    ms_out: int = 0
    """Audio of the agent that went out; silence between utterances does not count."""
    interruptions: int = 0
    """Times the caller's speech cut the agent short."""
    frames_dropped: int = 0
    """Incoming frames that an agent did not fetch in time."""
    packets_in: int = 0
    packets_out: int = 0
    packets_lost: int = 0
    """Of the caller's packets, by their numbers (RFC 3550 §A.3)."""
    rtt_ms: float | None = None
    """The latest round trip by RTCP."""
