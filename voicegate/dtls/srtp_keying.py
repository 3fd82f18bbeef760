"""DTLS-SRTP (RFC 5764): the profiles, and how one block of exported bytes becomes four keys."""

from dataclasses import dataclass, field
from enum import IntEnum

# RFC 5764 §4.2: the label under which both DTLS versions export the SRTP keys.
EXPORTER_LABEL = b"EXTRACTOR-dtls_srtp"


class SrtpProfile(IntEnum):
    """Protection profiles by their IANA numbers."""

    # RFC 5764 §4.1.2
    AES128_CM_SHA1_80 = 0x0001
    # RFC 7714 §14.2
    AEAD_AES_128_GCM = 0x0007
    AEAD_AES_256_GCM = 0x0008

    @property
    def key_bytes(self) -> int:
        """Length of a master key."""
        return 32 if self is SrtpProfile.AEAD_AES_256_GCM else 16

    @property
    def salt_bytes(self) -> int:
        """Length of a master salt: 112 bits for counter mode, 96 for GCM."""
        return 14 if self is SrtpProfile.AES128_CM_SHA1_80 else 12


PROFILES: dict[int, SrtpProfile] = {int(profile): profile for profile in SrtpProfile}


@dataclass(slots=True)
class SrtpKeyingMaterial:
    """Master keys and salts; `local` protects what we send, `remote` what we receive."""

    profile: SrtpProfile
    local_key: bytes = field(repr=False)
    local_salt: bytes = field(repr=False)
    remote_key: bytes = field(repr=False)
    remote_salt: bytes = field(repr=False)


def keying_material_bytes(profile: SrtpProfile) -> int:
    """How much the exporter has to yield."""
    return 2 * (profile.key_bytes + profile.salt_bytes)


def split_keying_material(profile: SrtpProfile, block: bytes, *, is_client: bool) -> SrtpKeyingMaterial:
    """RFC 5764 §4.2: client key, server key, client salt, server salt, in this order."""
    key, salt = profile.key_bytes, profile.salt_bytes
    client_key, server_key = block[:key], block[key : 2 * key]
    client_salt, server_salt = block[2 * key : 2 * key + salt], block[2 * key + salt : 2 * (key + salt)]
    if is_client:
        return SrtpKeyingMaterial(profile, client_key, client_salt, server_key, server_salt)
    return SrtpKeyingMaterial(profile, server_key, server_salt, client_key, client_salt)
