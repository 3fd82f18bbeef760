"""DTLS 1.2 as the server.

```
      client                                                    server
 1.   ClientHello                     ─────────────────────▶
 2.                                   ◀─────────────────────    ServerHello, Certificate, ServerKeyExchange,
                                                                CertificateRequest, ServerHelloDone
 3.   Certificate, ClientKeyExchange,
      CertificateVerify,
      [ChangeCipherSpec], Finished    ─────────────────────▶
 4.                                   ◀─────────────────────    [ChangeCipherSpec], Finished
```

No HelloVerifyRequest stands between 1 and 2: it would prove that the client receives at its address, and ICE has proved
that already. Step 4 is the last word, so it is kept and repeated whenever the client's Finished comes again.
ChangeCipherSpec changes nothing here: a record's epoch says which keys it needs, and the states say when epoch 1 is
due.
"""

from collections.abc import Callable
from enum import Enum

from voicegate.dtls.code_points import CipherSuite, ExtensionType, HandshakeType, NamedGroup
from voicegate.dtls.dtls12.handshake import CIPHER_SUITE, PLAINTEXT_EPOCH, TRAFFIC_EPOCH, Handshake12, unexpected
from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.key_exchange import SUPPORTED_GROUPS, KeyShare
from voicegate.dtls.messages import (
    ECDSA_SIGN,
    CertificateMessage,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    ClientKeyExchange,
    ServerHello,
    ServerHelloDone,
    ServerKeyExchange,
)
from voicegate.dtls.messages.extensions import (
    UNCOMPRESSED_POINT,
    UseSrtp,
    parse_ec_point_formats,
    parse_renegotiation_info,
    parse_signature_algorithms,
    parse_supported_groups,
    serialize_ec_point_formats,
    serialize_renegotiation_info,
)
from voicegate.dtls.reassembly import HandshakeMessage
from voicegate.dtls.settings import HandshakeSettings
from voicegate.dtls.signatures import OUR_SCHEME, SUPPORTED_SCHEMES, sign, verify
from voicegate.dtls.srtp_keying import PROFILES, SrtpProfile
from voicegate.dtls.transport import HandshakeTransport

_NULL_COMPRESSION = 0


class ServerState(Enum):
    """What the server waits for, in protocol order."""

    CLIENT_HELLO = "waiting for ClientHello"
    CERTIFICATE = "waiting for Certificate"
    CLIENT_KEY_EXCHANGE = "waiting for ClientKeyExchange"
    CERTIFICATE_VERIFY = "waiting for CertificateVerify"
    FINISHED = "waiting for Finished"
    COMPLETE = "complete"


class ServerHandshake12(Handshake12):
    """Feed it the client's messages with `handle`."""

    def __init__(self, settings: HandshakeSettings, transport: HandshakeTransport) -> None:
        super().__init__(settings, transport, is_client=False)
        self.state = ServerState.CLIENT_HELLO
        self._key_share: KeyShare | None = None

    @property
    def is_complete(self) -> bool:
        """Whether application data may flow."""
        return self.state is ServerState.COMPLETE

    @property
    def read_epoch(self) -> int:
        """The epoch that the client's next message has to come in."""
        return TRAFFIC_EPOCH if self.state in (ServerState.FINISHED, ServerState.COMPLETE) else PLAINTEXT_EPOCH

    def handle(self, message: HandshakeMessage, now: float) -> None:
        """Take the client's next message; raises `DtlsError`, after which the handshake is over."""
        handler = _HANDLERS.get((self.state, message.msg_type))
        if handler is None:
            raise unexpected(self.state.value, message)
        self.state = handler(self, message, now)

    # 1. and 2. --------------------------------------------------------------------------------------------------------

    def _on_client_hello(self, message: HandshakeMessage, now: float) -> ServerState:
        hello = ClientHello.parse(message.body)
        self.hash_in(message)
        if CIPHER_SUITE not in hello.cipher_suites:
            raise DtlsError(
                DtlsReason.NO_COMMON_CIPHER_SUITE, f"{len(hello.cipher_suites)} offered, want {CIPHER_SUITE.name}"
            )
        if _NULL_COMPRESSION not in hello.compression_methods:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, "no null compression")
        group = _choose_group(hello)
        _require_our_signature(hello)
        self.client_random = hello.random
        self.server_random = self.settings.random_bytes(len(hello.random))
        self._say_server_hello(hello)
        self.say(HandshakeType.CERTIFICATE, CertificateMessage([self.settings.certificate.der]).serialize())
        self._say_server_key_exchange(group)
        # RFC 5246 §7.4.4: no authorities means that any will do. WebRTC's certificates have none.
        request = CertificateRequest([ECDSA_SIGN], list(SUPPORTED_SCHEMES))
        self.say(HandshakeType.CERTIFICATE_REQUEST, request.serialize())
        self.say(HandshakeType.SERVER_HELLO_DONE, ServerHelloDone().serialize())
        self.send_flight(now, expects_answer=True)
        return ServerState.CERTIFICATE

    def _say_server_hello(self, hello: ClientHello) -> None:
        extensions: dict[int, bytes] = {}
        # RFC 7627 §5.3: without the extension two sessions could share a secret; we do not serve such clients.
        if hello.extensions.get(ExtensionType.EXTENDED_MASTER_SECRET) is None:
            raise DtlsError(DtlsReason.MISSING_EXTENDED_MASTER_SECRET, "ClientHello does not offer it")
        extensions[ExtensionType.EXTENDED_MASTER_SECRET] = b""
        renegotiation_info = hello.extensions.get(ExtensionType.RENEGOTIATION_INFO)
        if renegotiation_info is not None and parse_renegotiation_info(renegotiation_info):
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, "renegotiation_info of a first handshake is not empty")
        # RFC 5746 §3.6: the client says it by the extension or by a value among its suites.
        if renegotiation_info is not None or CipherSuite.TLS_EMPTY_RENEGOTIATION_INFO_SCSV in hello.cipher_suites:
            extensions[ExtensionType.RENEGOTIATION_INFO] = serialize_renegotiation_info(b"")
        if (formats := hello.extensions.get(ExtensionType.EC_POINT_FORMATS)) is not None:
            # RFC 8422 §5.1.2: a list without the uncompressed format is an error.
            if UNCOMPRESSED_POINT not in parse_ec_point_formats(formats):
                raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, "no uncompressed points")
            extensions[ExtensionType.EC_POINT_FORMATS] = serialize_ec_point_formats([UNCOMPRESSED_POINT])
        if self.settings.srtp_profiles:
            self.srtp_profile = _choose_srtp_profile(hello, self.settings.srtp_profiles)
            extensions[ExtensionType.USE_SRTP] = UseSrtp([self.srtp_profile]).serialize()
        # The session id stays empty: no session is ever resumed.
        server_hello = ServerHello(self.server_random, CIPHER_SUITE, extensions)
        self.say(HandshakeType.SERVER_HELLO, server_hello.serialize())

    def _say_server_key_exchange(self, group: NamedGroup) -> None:
        self._key_share = KeyShare.generate(group, self.settings.random_bytes)
        exchange = ServerKeyExchange(group, self._key_share.public, OUR_SCHEME)
        signed = self.client_random + self.server_random + exchange.parameters
        exchange.signature = sign(self.settings.certificate.private_key, signed)
        self.say(HandshakeType.SERVER_KEY_EXCHANGE, exchange.serialize())

    # 3. ---------------------------------------------------------------------------------------------------------------

    def _on_certificate(self, message: HandshakeMessage, now: float) -> ServerState:
        self.hash_in(message)
        self.settings.identity.present(CertificateMessage.parse(message.body).certificates)
        return ServerState.CLIENT_KEY_EXCHANGE

    def _on_client_key_exchange(self, message: HandshakeMessage, now: float) -> ServerState:
        self.hash_in(message)
        assert self._key_share is not None  # noqa: S101 - an earlier state saw to it
        premaster = self._key_share.exchange(ClientKeyExchange.parse(message.body).public)
        self._key_share = None
        self.derive_keys(premaster)
        return ServerState.CERTIFICATE_VERIFY

    def _on_certificate_verify(self, message: HandshakeMessage, now: float) -> ServerState:
        proof = CertificateVerify.parse(message.body)
        public_key = self.settings.identity.public_key
        assert public_key is not None  # noqa: S101 - an earlier state saw to it
        # RFC 5246 §7.4.8: the signature covers everything up to but not including itself.
        verify(public_key, proof.scheme, proof.signature, self.transcript)
        self.hash_in(message)
        return ServerState.FINISHED

    # 4. ---------------------------------------------------------------------------------------------------------------

    def _on_finished(self, message: HandshakeMessage, now: float) -> ServerState:
        self.check_finished(message)
        self.say_change_cipher_spec_and_finished()
        self.send_flight(now, expects_answer=False)
        self.conclude()
        return ServerState.COMPLETE


_HANDLERS: dict[tuple[ServerState, int], Callable[[ServerHandshake12, HandshakeMessage, float], ServerState]] = {
    (ServerState.CLIENT_HELLO, HandshakeType.CLIENT_HELLO): ServerHandshake12._on_client_hello,
    (ServerState.CERTIFICATE, HandshakeType.CERTIFICATE): ServerHandshake12._on_certificate,
    (ServerState.CLIENT_KEY_EXCHANGE, HandshakeType.CLIENT_KEY_EXCHANGE): ServerHandshake12._on_client_key_exchange,
    (ServerState.CERTIFICATE_VERIFY, HandshakeType.CERTIFICATE_VERIFY): ServerHandshake12._on_certificate_verify,
    (ServerState.FINISHED, HandshakeType.FINISHED): ServerHandshake12._on_finished,
}


def _choose_group(hello: ClientHello) -> NamedGroup:
    content = hello.extensions.get(ExtensionType.SUPPORTED_GROUPS)
    # RFC 8422 §4: without the list the server may take any curve; P-256 is the one that every client has.
    offered = [NamedGroup.SECP256R1] if content is None else parse_supported_groups(content)
    for group in SUPPORTED_GROUPS:
        if group in offered:
            return group
    raise DtlsError(DtlsReason.NO_COMMON_GROUP, f"{len(offered)} offered")


def _require_our_signature(hello: ClientHello) -> None:
    content = hello.extensions.get(ExtensionType.SIGNATURE_ALGORITHMS)
    # RFC 5246 §7.4.1.4.1: a client that names none means SHA-1, which we do not sign with.
    if content is None or OUR_SCHEME not in parse_signature_algorithms(content):
        raise DtlsError(DtlsReason.NO_COMMON_SIGNATURE_ALGORITHM, f"want {OUR_SCHEME.name}")


def _choose_srtp_profile(hello: ClientHello, ours: tuple[SrtpProfile, ...]) -> SrtpProfile:
    content = hello.extensions.get(ExtensionType.USE_SRTP)
    if content is None:
        raise DtlsError(DtlsReason.MISSING_USE_SRTP, "ClientHello has no use_srtp")
    offered = UseSrtp.parse(content).profiles
    # RFC 5764 §4.1.1: the server chooses, by its own order, and answers with an empty MKI whatever the client proposed.
    for profile in ours:
        if profile in offered:
            return PROFILES[profile]
    raise DtlsError(
        DtlsReason.NO_COMMON_SRTP_PROFILE, f"offered {offered[:8]}, want {[int(profile) for profile in ours]}"
    )
