"""The ClientHello that we offer, and the one place where the protocol version is chosen, for both roles.

A version cannot be learnt from SDP nor from the first datagram: browsers cut their 1.4 kB ClientHello in two and
shuffle its extensions, so `supported_versions` may sit in the second half. The choice therefore looks at the whole,
reassembled message.
"""

from enum import Enum

from voicegate.dtls.code_points import DTLS_1_2, DTLS_1_3, CipherSuite, ExtensionType
from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.key_exchange import SUPPORTED_GROUPS
from voicegate.dtls.messages import ClientHello, ServerHello
from voicegate.dtls.messages.extensions import (
    UNCOMPRESSED_POINT,
    UseSrtp,
    parse_supported_versions,
    serialize_ec_point_formats,
    serialize_renegotiation_info,
    serialize_signature_algorithms,
    serialize_supported_groups,
)
from voicegate.dtls.settings import HandshakeSettings
from voicegate.dtls.signatures import SUPPORTED_SCHEMES

_RANDOM_BYTES = 32


class DtlsVersion(Enum):
    """Versions that we complete a handshake in."""

    DTLS_1_2 = "DTLS 1.2"


def offer_client_hello(settings: HandshakeSettings) -> ClientHello:
    """Our first message as a client: about 150 bytes, always one datagram."""
    extensions: dict[int, bytes] = {
        ExtensionType.SUPPORTED_GROUPS: serialize_supported_groups(list(SUPPORTED_GROUPS)),
        ExtensionType.EC_POINT_FORMATS: serialize_ec_point_formats([UNCOMPRESSED_POINT]),
        ExtensionType.SIGNATURE_ALGORITHMS: serialize_signature_algorithms(list(SUPPORTED_SCHEMES)),
        # RFC 7627 §5.1: every ClientHello offers it.
        ExtensionType.EXTENDED_MASTER_SECRET: b"",
        # RFC 5746 §3.4: empty on a first handshake. There is never a second one.
        ExtensionType.RENEGOTIATION_INFO: serialize_renegotiation_info(b""),
    }
    if settings.srtp_profiles:
        extensions[ExtensionType.USE_SRTP] = UseSrtp(list(settings.srtp_profiles)).serialize()
    return ClientHello(
        random=settings.random_bytes(_RANDOM_BYTES),
        cipher_suites=[CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256],
        extensions=extensions,
    )


def choose_version(client_hello: ClientHello) -> DtlsVersion:
    """As a server: the best version that both sides speak; raises `DtlsError` when there is none.

    A hello that offers DTLS 1.3 beside 1.2 is answered in 1.2 for as long as that is the best we speak. The random of
    such an answer carries no downgrade mark: RFC 8446 §4.1.3 asks for it from a server that *can* do 1.3, and a 1.3
    client would rightly hang up on it. The day 1.3 is chosen here, a 1.2 ServerHello to a client that offered 1.3 must
    carry it.
    """
    offered = client_hello.extensions.get(ExtensionType.SUPPORTED_VERSIONS)
    # RFC 8446 §4.2.1: where the list is present it alone counts, and the legacy field beside it says nothing.
    versions = [client_hello.version] if offered is None else parse_supported_versions(offered)
    if DTLS_1_2 in versions:
        return DtlsVersion.DTLS_1_2
    # RFC 6347 §4.1: versions count downwards, so a plain hello with a smaller number than ours can do ours too.
    if offered is None and client_hello.version >> 8 == DTLS_1_2 >> 8 and client_hello.version < DTLS_1_2:
        return DtlsVersion.DTLS_1_2
    names = ", ".join(f"{version:#06x}" for version in versions[:8])
    raise DtlsError(DtlsReason.UNSUPPORTED_VERSION, f"offered {names}; want {DTLS_1_2:#06x}")


def accept_version(server_hello: ServerHello) -> DtlsVersion:
    """As a client: the version that the server chose; raises `DtlsError` when we did not offer it."""
    if ExtensionType.SUPPORTED_VERSIONS in server_hello.extensions:
        raise DtlsError(DtlsReason.UNREQUESTED_EXTENSION, f"supported_versions, DTLS 1.3 is {DTLS_1_3:#06x}")
    if server_hello.version != DTLS_1_2:
        raise DtlsError(DtlsReason.UNSUPPORTED_VERSION, f"got {server_hello.version:#06x}, want {DTLS_1_2:#06x}")
    return DtlsVersion.DTLS_1_2
