"""The ClientHello that we offer, and the choices that both versions make alike: version, suite, group, SRTP profile.

A version cannot be learnt from SDP nor from the first datagram: browsers cut their 1.4 kB ClientHello in two and
shuffle its extensions, so `supported_versions` may sit in the second half. The choice therefore looks at the whole,
reassembled message, and is made here and nowhere else, for both roles.

**Downgrades.** Somebody on the path could take DTLS 1.3 out of a ClientHello. A server that would have spoken it says
so in the last octets of its random (RFC 8446 §4.1.3), which the 1.2 handshake signs; a client that offered 1.3 and
finds the mark hangs up.
"""

from voicegate.dtls.cipher_suites import suites_of
from voicegate.dtls.code_points import DTLS_1_2, DTLS_1_3, CipherSuite, ExtensionType
from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.key_exchange import KeyShare
from voicegate.dtls.messages import ClientHello, ServerHello
from voicegate.dtls.messages.extensions import (
    UNCOMPRESSED_POINT,
    KeyShareEntry,
    UseSrtp,
    parse_chosen_version,
    parse_signature_algorithms,
    parse_supported_versions,
    serialize_ec_point_formats,
    serialize_key_shares,
    serialize_renegotiation_info,
    serialize_signature_algorithms,
    serialize_supported_groups,
    serialize_supported_versions,
)
from voicegate.dtls.settings import DtlsVersion, HandshakeSettings
from voicegate.dtls.signatures import OUR_SCHEME, SUPPORTED_SCHEMES
from voicegate.dtls.srtp_keying import PROFILES, SrtpProfile

RANDOM_BYTES = 32
NULL_COMPRESSION = 0

# RFC 8446 §4.1.3: what a server that can do more writes into its random when it chooses 1.2, or something older.
_MARK_1_2 = b"DOWNGRD\x01"
_MARK_OLDER = b"DOWNGRD\x00"

_WIRE_VERSION = {DtlsVersion.DTLS_1_3: DTLS_1_3, DtlsVersion.DTLS_1_2: DTLS_1_2}


# As a client ----------------------------------------------------------------------------------------------------------


def offer_client_hello(settings: HandshakeSettings) -> tuple[ClientHello, list[KeyShare]]:
    """Our first message as a client, about 175 bytes and one datagram, and the private halves of its key shares."""
    speaks_13 = DtlsVersion.DTLS_1_3 in settings.versions
    speaks_12 = DtlsVersion.DTLS_1_2 in settings.versions
    suites: list[int] = [*suites_of(settings.cipher_suites, version_13=True)] if speaks_13 else []
    suites += suites_of(settings.cipher_suites, version_13=False) if speaks_12 else []
    groups = list(settings.groups if speaks_13 else settings.classical_groups)
    extensions: dict[int, bytes] = {
        ExtensionType.SUPPORTED_GROUPS: serialize_supported_groups([*groups]),
        ExtensionType.SIGNATURE_ALGORITHMS: serialize_signature_algorithms(list(SUPPORTED_SCHEMES)),
    }
    if settings.srtp_profiles:
        extensions[ExtensionType.USE_SRTP] = UseSrtp(list(settings.srtp_profiles)).serialize()
    if speaks_12:
        extensions[ExtensionType.EC_POINT_FORMATS] = serialize_ec_point_formats([UNCOMPRESSED_POINT])
        # RFC 7627 §5.1: every ClientHello offers it.
        extensions[ExtensionType.EXTENDED_MASTER_SECRET] = b""
        # RFC 5746 §3.4: empty on a first handshake. There is never a second one.
        extensions[ExtensionType.RENEGOTIATION_INFO] = serialize_renegotiation_info(b"")
    shares: list[KeyShare] = []
    if speaks_13:
        versions = [_WIRE_VERSION[version] for version in settings.versions]
        extensions[ExtensionType.SUPPORTED_VERSIONS] = serialize_supported_versions(versions)
        # One share, of the group we like best: every peer we know takes X25519, and the others may ask again.
        shares = [KeyShare.generate(groups[0], settings.random_bytes)]
        entries = [KeyShareEntry(share.group, share.public) for share in shares]
        extensions[ExtensionType.KEY_SHARE] = serialize_key_shares(entries)
    return ClientHello(settings.random_bytes(RANDOM_BYTES), suites, extensions), shares


def accept_version(server_hello: ServerHello, settings: HandshakeSettings) -> DtlsVersion:
    """As a client: the version that the server chose; raises `DtlsError` when we did not offer it."""
    chosen = server_hello.extensions.get(ExtensionType.SUPPORTED_VERSIONS)
    if chosen is not None:
        if DtlsVersion.DTLS_1_3 not in settings.versions:
            raise DtlsError(DtlsReason.UNREQUESTED_EXTENSION, f"supported_versions, DTLS 1.3 is {DTLS_1_3:#06x}")
        # RFC 8446 §4.2.1: the extension is for 1.3 and above alone.
        if (version := parse_chosen_version(chosen)) != DTLS_1_3:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"supported_versions chose {version:#06x}")
        return DtlsVersion.DTLS_1_3
    if server_hello.version != DTLS_1_2 or DtlsVersion.DTLS_1_2 not in settings.versions:
        raise DtlsError(DtlsReason.UNSUPPORTED_VERSION, f"got {server_hello.version:#06x}")
    if DtlsVersion.DTLS_1_3 in settings.versions and server_hello.random.endswith((_MARK_1_2, _MARK_OLDER)):
        raise DtlsError(DtlsReason.DOWNGRADE, "the server speaks DTLS 1.3 and was not told that we do")
    return DtlsVersion.DTLS_1_2


def accept_srtp_profile(extensions: dict[int, bytes], ours: tuple[SrtpProfile, ...]) -> SrtpProfile | None:
    """As a client: the profile that the server chose, None without media. Raises `DtlsError`."""
    if not ours:
        return None
    content = extensions.get(ExtensionType.USE_SRTP)
    if content is None:
        raise DtlsError(DtlsReason.MISSING_USE_SRTP, "the server does not answer use_srtp")
    answer = UseSrtp.parse(content)
    # RFC 5764 §4.1.1: exactly one profile out of ours, and the MKI that we sent, which is none.
    if len(answer.profiles) != 1 or answer.profiles[0] not in ours or answer.mki:
        raise DtlsError(
            DtlsReason.ILLEGAL_PARAMETER, f"use_srtp answer {answer.profiles[:8]}, MKI of {len(answer.mki)}"
        )
    return PROFILES[answer.profiles[0]]


# As a server ----------------------------------------------------------------------------------------------------------


def choose_version(client_hello: ClientHello, settings: HandshakeSettings) -> DtlsVersion:
    """As a server: the best version that both sides speak; raises `DtlsError` when there is none."""
    offered = client_hello.extensions.get(ExtensionType.SUPPORTED_VERSIONS)
    # RFC 8446 §4.2.1: where the list is present it alone counts, and the legacy field beside it says nothing.
    versions = [client_hello.version] if offered is None else parse_supported_versions(offered)
    # RFC 6347 §4.1: versions count downwards, so a plain hello with a smaller number than 1.2's can do 1.2 too. That of
    # 1.3 is one of them: a hello without the list never means 1.3.
    if offered is None and client_hello.version >> 8 == DTLS_1_2 >> 8 and client_hello.version < DTLS_1_2:
        versions = [DTLS_1_2]
    for version in settings.versions:
        if _WIRE_VERSION[version] in versions:
            return version
    names = ", ".join(f"{version:#06x}" for version in versions[:8])
    raise DtlsError(DtlsReason.UNSUPPORTED_VERSION, f"offered {names}")


def server_random_12(settings: HandshakeSettings) -> bytes:
    """The random of a 1.2 ServerHello, which tells the client if it was kept from something better."""
    if DtlsVersion.DTLS_1_3 in settings.versions:
        return settings.random_bytes(RANDOM_BYTES - len(_MARK_1_2)) + _MARK_1_2
    return settings.random_bytes(RANDOM_BYTES)


def choose_cipher_suite(client_hello: ClientHello, settings: HandshakeSettings, *, version_13: bool) -> CipherSuite:
    """As a server: our most wanted suite among those of the client. Raises `DtlsError`."""
    ours = suites_of(settings.cipher_suites, version_13=version_13)
    for suite in ours:
        if suite in client_hello.cipher_suites:
            return suite
    raise DtlsError(
        DtlsReason.NO_COMMON_CIPHER_SUITE,
        f"{len(client_hello.cipher_suites)} offered, want {', '.join(suite.name for suite in ours)}",
    )


def require_our_signature(extensions: dict[int, bytes]) -> None:
    """Either role: the peer has to accept the one scheme that we sign with. Raises `DtlsError`."""
    content = extensions.get(ExtensionType.SIGNATURE_ALGORITHMS)
    # RFC 5246 §7.4.1.4.1: a peer that names none means SHA-1, which we do not sign with.
    if content is None or OUR_SCHEME not in parse_signature_algorithms(content):
        raise DtlsError(DtlsReason.NO_COMMON_SIGNATURE_ALGORITHM, f"want {OUR_SCHEME.name}")


def choose_srtp_profile(client_hello: ClientHello, ours: tuple[SrtpProfile, ...]) -> SrtpProfile | None:
    """As a server: our most wanted profile among those of the client, None without media. Raises `DtlsError`."""
    if not ours:
        return None
    content = client_hello.extensions.get(ExtensionType.USE_SRTP)
    if content is None:
        raise DtlsError(DtlsReason.MISSING_USE_SRTP, "ClientHello has no use_srtp")
    offered = UseSrtp.parse(content).profiles
    # RFC 5764 §4.1.1: the server chooses, by its own order, and answers with an empty MKI whatever the client proposed.
    for profile in ours:
        if profile in offered:
            return profile
    raise DtlsError(
        DtlsReason.NO_COMMON_SRTP_PROFILE, f"offered {offered[:8]}, want {[int(profile) for profile in ours]}"
    )
