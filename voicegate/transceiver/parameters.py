"""What a session is given: what signaling negotiated for it, and what of its process it may use."""

from collections.abc import Callable
from dataclasses import dataclass

from voicegate.dtls import Certificate, DtlsRole, Fingerprint, SrtpProfile
from voicegate.ice import IceLiteAgent
from voicegate.net import TimerOwner
from voicegate.sctp import SctpSettings
from voicegate.transceiver.clock import MediaClock
from voicegate.transceiver.format import AudioFormat
from voicegate.transceiver.limits import DEFAULT_MAX_CALL_S
from voicegate.transceiver.path import Path


@dataclass(slots=True)
class Timeline:
    """When this session reached each step, on the process clock; None for what did not happen."""

    offered: float
    checked: float | None = None
    secured: float | None = None
    first_audio: float | None = None

    def in_ms(self) -> dict[str, int]:
        """The steps reached, in milliseconds since the offer."""
        steps = {"ice_ms": self.checked, "dtls_ms": self.secured, "first_audio_ms": self.first_audio}
        return {name: round(1000 * (at - self.offered)) for name, at in steps.items() if at is not None}


@dataclass(frozen=True, slots=True)
class SessionParameters:
    """What signaling negotiated for one session. `channels` is None where the offer has none, and `peer_fingerprints`
    are empty where there is no offer yet."""

    call_id: str
    ice: IceLiteAgent
    ufrag: str
    dtls_role: DtlsRole
    certificate: Certificate
    peer_fingerprints: tuple[Fingerprint, ...]
    srtp_profiles: tuple[SrtpProfile, ...]
    audio: AudioFormat
    audio_level_extension: int | None
    ssrc: int
    cname: str
    channels: SctpSettings | None = None
    max_call_s: float = DEFAULT_MAX_CALL_S
    idle_limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a session uses of its process. Plain calls all of them."""

    send: Callable[[Path, bytes], None]
    claim: Callable[[Path, float], bool]
    release: Callable[[Path], None]
    flush: Callable[[], None]
    schedule: Callable[[TimerOwner, float], None]
    cancel_timer: Callable[[TimerOwner], None]
    clock: MediaClock
    random_bytes: Callable[[int], bytes]
