"""The numbers of the IANA TLS registries that this room speaks, and no others."""

from enum import IntEnum

# RFC 6347 §4.1 and RFC 9147 §5.3: the ones' complement of the TLS version that each corresponds to.
DTLS_1_0 = 0xFEFF
DTLS_1_2 = 0xFEFD
DTLS_1_3 = 0xFEFC


class ContentType(IntEnum):
    """What a record carries."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23
    # RFC 9147 §7
    ACK = 26


class HandshakeType(IntEnum):
    """What a handshake message says."""

    HELLO_REQUEST = 0
    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    HELLO_VERIFY_REQUEST = 3
    NEW_SESSION_TICKET = 4
    ENCRYPTED_EXTENSIONS = 8
    CERTIFICATE = 11
    SERVER_KEY_EXCHANGE = 12
    CERTIFICATE_REQUEST = 13
    SERVER_HELLO_DONE = 14
    CERTIFICATE_VERIFY = 15
    CLIENT_KEY_EXCHANGE = 16
    FINISHED = 20
    KEY_UPDATE = 24
    # RFC 8446 §4.4.1: never sent, stands for the first ClientHello in the transcript after a HelloRetryRequest.
    MESSAGE_HASH = 254


class ExtensionType(IntEnum):
    """Hello extensions that we read or write; all others are carried through and ignored."""

    SUPPORTED_GROUPS = 10
    EC_POINT_FORMATS = 11
    SIGNATURE_ALGORITHMS = 13
    USE_SRTP = 14
    EXTENDED_MASTER_SECRET = 23
    SUPPORTED_VERSIONS = 43
    COOKIE = 44
    KEY_SHARE = 51
    RENEGOTIATION_INFO = 0xFF01


class CipherSuite(IntEnum):
    """Suites by their IANA name; the signalling value is not a cipher."""

    # RFC 5746 §3.3
    TLS_EMPTY_RENEGOTIATION_INFO_SCSV = 0x00FF
    # RFC 8446 §B.4: DTLS 1.3 suites name no key exchange.
    TLS_AES_128_GCM_SHA256 = 0x1301
    TLS_CHACHA20_POLY1305_SHA256 = 0x1303
    # RFC 5289 §3.2 and RFC 7905 §3
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 = 0xC02B
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 = 0xCCA9


class NamedGroup(IntEnum):
    """Key exchange groups."""

    SECP256R1 = 23
    SECP384R1 = 24
    X25519 = 29
    # draft-ietf-tls-ecdhe-mlkem §4: ML-KEM-768 first, X25519 second, in shares and in the secret.
    X25519MLKEM768 = 0x11EC


class SignatureScheme(IntEnum):
    """Signature algorithms. In DTLS 1.2 the upper octet is the hash, the lower one ECDSA, and the curve is free."""

    ECDSA_SECP256R1_SHA256 = 0x0403
    ECDSA_SECP384R1_SHA384 = 0x0503


class AlertLevel(IntEnum):
    """How an alert is meant."""

    WARNING = 1
    FATAL = 2


class AlertDescription(IntEnum):
    """What an alert says; RFC 5246 §7.2, RFC 8446 §6."""

    CLOSE_NOTIFY = 0
    UNEXPECTED_MESSAGE = 10
    BAD_RECORD_MAC = 20
    RECORD_OVERFLOW = 22
    HANDSHAKE_FAILURE = 40
    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    ILLEGAL_PARAMETER = 47
    UNKNOWN_CA = 48
    ACCESS_DENIED = 49
    DECODE_ERROR = 50
    DECRYPT_ERROR = 51
    PROTOCOL_VERSION = 70
    INSUFFICIENT_SECURITY = 71
    INTERNAL_ERROR = 80
    USER_CANCELED = 90
    NO_RENEGOTIATION = 100
    MISSING_EXTENSION = 109
    UNSUPPORTED_EXTENSION = 110
    CERTIFICATE_REQUIRED = 116
