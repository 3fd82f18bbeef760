"""Why a DTLS connection or a parser gave up, and the alert that tells the peer."""

from enum import Enum

from voicegate.dtls.code_points import AlertDescription
from voicegate.errors import PeerError


class DtlsReason(Enum):
    """One precise reason for each way to fail; count by it."""

    MALFORMED = "malformed message"
    UNEXPECTED_MESSAGE = "message out of order"
    UNSUPPORTED_VERSION = "no common protocol version"
    NO_COMMON_CIPHER_SUITE = "no common cipher suite"
    NO_COMMON_GROUP = "no common key exchange group"
    NO_COMMON_SIGNATURE_ALGORITHM = "no common signature algorithm"
    NO_COMMON_SRTP_PROFILE = "no common SRTP profile"
    MISSING_USE_SRTP = "peer does not speak DTLS-SRTP"
    MISSING_EXTENDED_MASTER_SECRET = "peer does not speak extended master secret"  # noqa: S105 - a name, not a password
    MISSING_EXTENSION = "peer left out an extension that the version requires"
    UNREQUESTED_EXTENSION = "peer answered an extension that was not offered"
    ILLEGAL_PARAMETER = "parameter outside of what was offered"
    MISSING_CERTIFICATE = "peer sent no certificate"
    BAD_CERTIFICATE = "certificate cannot be read"
    UNSUPPORTED_CERTIFICATE = "certificate type is not supported"
    FINGERPRINT_MISMATCH = "certificate does not match the signalled fingerprint"
    MALFORMED_FINGERPRINT = "malformed fingerprint"
    REFUSED_FINGERPRINT_HASH = "fingerprint hash is unknown or too weak"
    BAD_SIGNATURE = "signature does not verify"
    BAD_FINISHED = "Finished does not verify"
    DOWNGRADE = "peer speaks a better version than the one in its hello"
    PEER_ALERT = "peer sent a fatal alert"
    TIMEOUT = "handshake took too long"
    KEY_WORN_OUT = "peer takes no new keys and the old ones have sealed enough"


# RFC 5246 §7.2.2 says which alert belongs to which fault; reasons that are missing here are not told to the peer.
ALERT_FOR: dict[DtlsReason, AlertDescription] = {
    DtlsReason.MALFORMED: AlertDescription.DECODE_ERROR,
    DtlsReason.UNEXPECTED_MESSAGE: AlertDescription.UNEXPECTED_MESSAGE,
    DtlsReason.UNSUPPORTED_VERSION: AlertDescription.PROTOCOL_VERSION,
    DtlsReason.NO_COMMON_CIPHER_SUITE: AlertDescription.HANDSHAKE_FAILURE,
    DtlsReason.NO_COMMON_GROUP: AlertDescription.HANDSHAKE_FAILURE,
    DtlsReason.NO_COMMON_SIGNATURE_ALGORITHM: AlertDescription.HANDSHAKE_FAILURE,
    DtlsReason.NO_COMMON_SRTP_PROFILE: AlertDescription.HANDSHAKE_FAILURE,
    DtlsReason.MISSING_USE_SRTP: AlertDescription.HANDSHAKE_FAILURE,
    DtlsReason.MISSING_EXTENDED_MASTER_SECRET: AlertDescription.HANDSHAKE_FAILURE,
    DtlsReason.MISSING_EXTENSION: AlertDescription.MISSING_EXTENSION,
    DtlsReason.UNREQUESTED_EXTENSION: AlertDescription.UNSUPPORTED_EXTENSION,
    DtlsReason.ILLEGAL_PARAMETER: AlertDescription.ILLEGAL_PARAMETER,
    DtlsReason.MISSING_CERTIFICATE: AlertDescription.HANDSHAKE_FAILURE,
    DtlsReason.BAD_CERTIFICATE: AlertDescription.BAD_CERTIFICATE,
    DtlsReason.UNSUPPORTED_CERTIFICATE: AlertDescription.UNSUPPORTED_CERTIFICATE,
    # RFC 8122 §6.2: a certificate that does not match the fingerprint ends the session with bad_certificate.
    DtlsReason.FINGERPRINT_MISMATCH: AlertDescription.BAD_CERTIFICATE,
    DtlsReason.BAD_SIGNATURE: AlertDescription.DECRYPT_ERROR,
    DtlsReason.BAD_FINISHED: AlertDescription.DECRYPT_ERROR,
    # RFC 8446 §4.1.3: the mark of a downgrade ends the handshake with illegal_parameter.
    DtlsReason.DOWNGRADE: AlertDescription.ILLEGAL_PARAMETER,
    DtlsReason.KEY_WORN_OUT: AlertDescription.INTERNAL_ERROR,
}


# The two sides are what they are: trying again is of no use, and nobody attacks.
NOTHING_IN_COMMON = frozenset(
    {
        DtlsReason.UNSUPPORTED_VERSION,
        DtlsReason.NO_COMMON_CIPHER_SUITE,
        DtlsReason.NO_COMMON_GROUP,
        DtlsReason.NO_COMMON_SIGNATURE_ALGORITHM,
        DtlsReason.NO_COMMON_SRTP_PROFILE,
        DtlsReason.MISSING_USE_SRTP,
        DtlsReason.MISSING_EXTENDED_MASTER_SECRET,
        DtlsReason.UNSUPPORTED_CERTIFICATE,
    }
)


class DtlsError(PeerError):
    """The peer's DTLS is wrong in the way that `reason` names."""

    def __init__(self, reason: DtlsReason, detail: str = "", alert: AlertDescription | None = None) -> None:
        super().__init__(reason, detail)
        self.dtls_reason = reason
        self._alert = alert

    @property
    def alert(self) -> AlertDescription | None:
        """The alert to send: the one of the reason unless a version wants another; None where nobody is to be told."""
        return self._alert or ALERT_FOR.get(self.dtls_reason)
