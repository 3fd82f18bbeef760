"""What a handshake of any version is given from outside."""

from collections.abc import Callable
from dataclasses import dataclass, field

from voicegate.dtls.certificate import Certificate
from voicegate.dtls.peer_identity import PeerIdentity
from voicegate.dtls.srtp_keying import SrtpProfile


@dataclass(slots=True)
class HandshakeSettings:
    """`srtp_profiles` are ours, most wanted first; none means a connection for data alone."""

    certificate: Certificate
    identity: PeerIdentity
    srtp_profiles: tuple[SrtpProfile, ...]
    random_bytes: Callable[[int], bytes] = field(repr=False)
