"""What a handshake of any version is given from outside."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from voicegate.dtls.certificate import Certificate
from voicegate.dtls.cipher_suites import SUPPORTED_SUITES
from voicegate.dtls.code_points import CipherSuite, NamedGroup
from voicegate.dtls.key_exchange import CLASSICAL_GROUPS
from voicegate.dtls.peer_identity import PeerIdentity
from voicegate.dtls.srtp_keying import SrtpProfile


class DtlsVersion(Enum):
    """Versions that we complete a handshake in."""

    DTLS_1_3 = "DTLS 1.3"
    DTLS_1_2 = "DTLS 1.2"


EVERY_VERSION = (DtlsVersion.DTLS_1_3, DtlsVersion.DTLS_1_2)


@dataclass(slots=True)
class HandshakeSettings:
    """All lists are ours, most wanted (or best) first. No `srtp_profiles` means a connection for data alone."""

    certificate: Certificate
    identity: PeerIdentity
    srtp_profiles: tuple[SrtpProfile, ...]
    random_bytes: Callable[[int], bytes] = field(repr=False)
    versions: tuple[DtlsVersion, ...] = EVERY_VERSION
    groups: tuple[NamedGroup, ...] = CLASSICAL_GROUPS
    cipher_suites: tuple[CipherSuite, ...] = SUPPORTED_SUITES

    @property
    def classical_groups(self) -> tuple[NamedGroup, ...]:
        """What DTLS 1.2 can use: it knows no key encapsulation."""
        return tuple(group for group in self.groups if group is not NamedGroup.X25519MLKEM768)
