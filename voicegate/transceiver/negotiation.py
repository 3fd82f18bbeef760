"""From an offer to what a session is made of, and to the answer: the half of signaling that knows SDP.

Terms (ours: ICE credentials, names, DTLS role) ─┬─ with an offer ──▶ answer, SessionParameters
                                                 └─ without one ────▶ SessionParameters of a session that waits
                                                                      for its offer (`instant_sessions.py`)
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from voicegate.dtls import Certificate, DtlsRole, Fingerprint, SrtpProfile
from voicegate.ice import MAX_LOCAL_PREFERENCE, Candidate, DtlsInStun, IceCredentials, IceLiteAgent
from voicegate.sctp import Identity, SctpError, SctpSettings, init_from_sdp, init_to_sdp
from voicegate.sdp import AnswerParameters, Offer, RemoteApplication, RemoteAudio, Setup, build_answer
from voicegate.transceiver.channels import ChannelPlan
from voicegate.transceiver.config import TransceiverConfig
from voicegate.transceiver.format import AudioFormat
from voicegate.transceiver.instant import Names
from voicegate.transceiver.limits import MAX_MESSAGE_OCTETS
from voicegate.transceiver.parameters import SessionParameters

SRTP_PROFILES = (SrtpProfile.AEAD_AES_128_GCM, SrtpProfile.AES128_CM_SHA1_80)
STREAM_ID = "voicegate"
SHORT_FRAME_MS = 10
NO_FORMAT_YET = AudioFormat("opus", 0, 20)
"""Of a session without an offer, which carries no audio."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What we commit ourselves to in a description, whatever the offer says. `setup` is our DTLS role."""

    ice: IceCredentials
    names: Names
    setup: Setup


class Negotiation:
    """Writes answers and the parameters of sessions, for one process."""

    def __init__(
        self, config: TransceiverConfig, certificate: Certificate, random_bytes: Callable[[int], bytes]
    ) -> None:
        self.certificate = certificate
        self._config = config
        self._random_bytes = random_bytes

    def plan_channels(self, offer: Offer, events_id: int | None, *, snap: bool = True) -> ChannelPlan | None:
        """What becomes of the offer's data channels; None if the answer refuses them or there are none.

        Without `snap` SCTP says INIT as ever, whatever the offer has said ahead.
        """
        application = offer.application
        if application is None or not application.bundled:
            return None
        peer_init = None
        if snap and application.sctp_init is not None:
            # What cannot be read is not answered, and then SCTP says INIT as ever.
            with suppress(SctpError):
                peer_init = init_from_sdp(application.sctp_init)
        return ChannelPlan(
            _sctp_settings(application),
            Identity.draw(self._random_bytes),
            peer_init,
            events_id,
            early_events=self._config.early_events,
            acknowledges_ahead=offer.awaits_acknowledgement,
        )

    def answer(self, offer: Offer, terms: Terms, candidates: Sequence[Candidate], plan: ChannelPlan | None) -> str:
        """The answer. Raises LocalError for terms that do not go with the offer."""
        has_snap = plan is not None and plan.peer_init is not None
        return build_answer(
            offer,
            AnswerParameters(
                ice=terms.ice,
                fingerprint=self.certificate.fingerprint,
                candidates=candidates,
                ssrc=terms.names.ssrc,
                cname=terms.names.call_id,
                stream_id=STREAM_ID,
                max_message_size=MAX_MESSAGE_OCTETS,
                sctp_init=init_to_sdp(plan.identity, plan.settings) if plan is not None and has_snap else None,
                setup=terms.setup,
            ),
        )

    def parameters(
        self, offer: Offer, terms: Terms, fingerprints: Sequence[Fingerprint], plan: ChannelPlan | None, now: float
    ) -> SessionParameters:
        """What the session of an offer is made of; `fingerprints` are those of its certificates that count."""
        return self._parameters(
            terms,
            now,
            offer.ice.ufrag,
            fingerprints=tuple(fingerprints),
            audio=_audio_format(offer.audio),
            audio_level_extension=offer.audio.audio_level_id,
            channels=plan,
            idle_limit_s=self._config.idle_limit_s,
        )

    def waiting(self, terms: Terms, now: float) -> SessionParameters:
        """The same for a session whose offer has not come yet."""
        return self._parameters(terms, now, None)

    def _parameters(  # noqa: PLR0913 - the peer's half, all by name
        self,
        terms: Terms,
        now: float,
        remote_ufrag: str | None,
        *,
        fingerprints: tuple[Fingerprint, ...] = (),
        audio: AudioFormat = NO_FORMAT_YET,
        audio_level_extension: int | None = None,
        channels: ChannelPlan | None = None,
        idle_limit_s: float | None = None,
    ) -> SessionParameters:
        dtls_role = DtlsRole.CLIENT if terms.setup is Setup.ACTIVE else DtlsRole.SERVER
        return SessionParameters(
            call_id=terms.names.call_id,
            ice=IceLiteAgent(
                terms.ice,
                remote_ufrag,
                now=now,
                # As the DTLS client we would gain nothing by it; then checks are answered plainly, which says so.
                dtls_in_stun=DtlsInStun() if dtls_role is DtlsRole.SERVER else None,
            ),
            ufrag=terms.ice.ufrag,
            dtls_role=dtls_role,
            certificate=self.certificate,
            peer_fingerprints=fingerprints,
            srtp_profiles=SRTP_PROFILES,
            audio=audio,
            audio_level_extension=audio_level_extension,
            ssrc=terms.names.ssrc,
            cname=terms.names.call_id,
            channels=channels,
            max_call_s=self._config.max_call_s,
            idle_limit_s=idle_limit_s,
        )


def candidates_of(ingresses: Sequence[Sequence[tuple[str, int]]]) -> list[Candidate]:
    """A candidate for each public address, those of the first ingress before all others."""
    addresses = [address for group in ingresses for address in group]
    return [
        Candidate.host_candidate(host, port, MAX_LOCAL_PREFERENCE - place)
        for place, (host, port) in enumerate(addresses)
    ]


def _sctp_settings(application: RemoteApplication) -> SctpSettings:
    return SctpSettings(
        remote_port=application.sctp_port,
        peer_maximum_message=application.max_message_size,
        maximum_inbound_message=MAX_MESSAGE_OCTETS,
    )


def _audio_format(audio: RemoteAudio) -> AudioFormat:
    """What both ends speak: the offer's codec, in frames of 10 ms if the peer likes to get those."""
    codec: Literal["opus", "pcmu", "pcma"]
    match audio.codec.name:
        case "pcmu" | "pcma" as codec:
            pass
        case _:
            codec = "opus"
    return AudioFormat(codec, audio.codec.payload_type, 10 if audio.ptime_ms == SHORT_FRAME_MS else 20)
