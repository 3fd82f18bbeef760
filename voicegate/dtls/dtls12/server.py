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

from enum import Enum

from voicegate.dtls.code_points import CipherSuite, ExtensionType, HandshakeType, NamedGroup
from voicegate.dtls.dtls12.handshake import TRAFFIC_EPOCH, Handshake12
from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.handshake import PLAINTEXT_EPOCH
from voicegate.dtls.key_exchange import KeyShare
from voicegate.dtls.messages import (
    ECDSA_SIGN,
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
    parse_supported_groups,
    serialize_ec_point_formats,
    serialize_renegotiation_info,
)
from voicegate.dtls.negotiation import (
    NULL_COMPRESSION,
    choose_cipher_suite,
    choose_srtp_profile,
    require_our_signature,
    server_random_12,
)
from voicegate.dtls.reassembly import HandshakeMessage
from voicegate.dtls.settings import HandshakeSettings
from voicegate.dtls.signatures import OUR_SCHEME, SUPPORTED_SCHEMES, sign, verify
from voicegate.dtls.states import StateTable, Step
from voicegate.dtls.transport import HandshakeTransport


class ServerState(Enum):
    """What the server waits for, in protocol order."""

    CLIENT_HELLO = "waiting for ClientHello"
    CERTIFICATE = "waiting for Certificate"
    CLIENT_KEY_EXCHANGE = "waiting for ClientKeyExchange"
    CERTIFICATE_VERIFY = "waiting for CertificateVerify"
    FINISHED = "waiting for Finished"
    COMPLETE = "complete"


class ServerHandshake12(Handshake12):
    """Begins with the client's whole ClientHello."""

    def __init__(self, settings: HandshakeSettings, transport: HandshakeTransport) -> None:
        super().__init__(settings, transport, is_client=False)
        self._key_share: KeyShare | None = None

    # 1. and 2. --------------------------------------------------------------------------------------------------------

    def _on_client_hello(self, message: HandshakeMessage, now: float) -> ServerState:
        hello = ClientHello.parse(message.body)
        self.hash_in(message)
        self.suite = choose_cipher_suite(hello, self.settings, version_13=False)
        if NULL_COMPRESSION not in hello.compression_methods:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, "no null compression")
        self.group = _choose_group(hello, self.settings.classical_groups)
        require_our_signature(hello.extensions)
        self.client_random = hello.random
        self.server_random = server_random_12(self.settings)
        self._say_server_hello(hello, self.suite)
        self.say_certificate()
        self._say_server_key_exchange(self.group)
        # RFC 5246 §7.4.4: no authorities means that any will do. WebRTC's certificates have none.
        request = CertificateRequest([ECDSA_SIGN], list(SUPPORTED_SCHEMES))
        self.say(HandshakeType.CERTIFICATE_REQUEST, request.serialize())
        self.say(HandshakeType.SERVER_HELLO_DONE, ServerHelloDone().serialize())
        self.send_flight(now, expects_answer=True)
        return ServerState.CERTIFICATE

    def _say_server_hello(self, hello: ClientHello, suite: CipherSuite) -> None:
        self.check_hello_extensions(hello.extensions)
        extensions: dict[int, bytes] = {ExtensionType.EXTENDED_MASTER_SECRET: b""}
        # RFC 5746 §3.6: the client says it by the extension or by a value among its suites.
        if (
            ExtensionType.RENEGOTIATION_INFO in hello.extensions
            or CipherSuite.TLS_EMPTY_RENEGOTIATION_INFO_SCSV in hello.cipher_suites
        ):
            extensions[ExtensionType.RENEGOTIATION_INFO] = serialize_renegotiation_info(b"")
        if ExtensionType.EC_POINT_FORMATS in hello.extensions:
            extensions[ExtensionType.EC_POINT_FORMATS] = serialize_ec_point_formats([UNCOMPRESSED_POINT])
        self.srtp_profile = choose_srtp_profile(hello, self.settings.srtp_profiles)
        if self.srtp_profile is not None:
            extensions[ExtensionType.USE_SRTP] = UseSrtp([self.srtp_profile]).serialize()
        # The session id stays empty: no session is ever resumed.
        self.say(HandshakeType.SERVER_HELLO, ServerHello(self.server_random, suite, extensions).serialize())

    def _say_server_key_exchange(self, group: NamedGroup) -> None:
        self._key_share = KeyShare.generate(group, self.settings.random_bytes)
        exchange = ServerKeyExchange(group, self._key_share.public, OUR_SCHEME)
        signed = self.client_random + self.server_random + exchange.parameters
        exchange.signature = sign(self.settings.certificate.private_key, signed)
        self.say(HandshakeType.SERVER_KEY_EXCHANGE, exchange.serialize())

    # 3. ---------------------------------------------------------------------------------------------------------------

    def _on_certificate(self, message: HandshakeMessage, now: float) -> ServerState:
        self.take_certificate(message)
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

    table = StateTable(
        [
            Step(
                ServerState.CLIENT_HELLO,
                HandshakeType.CLIENT_HELLO,
                PLAINTEXT_EPOCH,
                _on_client_hello,
                (ServerState.CERTIFICATE,),
                "ServerHello, Certificate, ServerKeyExchange, CertificateRequest, ServerHelloDone",
            ),
            Step(
                ServerState.CERTIFICATE,
                HandshakeType.CERTIFICATE,
                PLAINTEXT_EPOCH,
                _on_certificate,
                (ServerState.CLIENT_KEY_EXCHANGE,),
            ),
            Step(
                ServerState.CLIENT_KEY_EXCHANGE,
                HandshakeType.CLIENT_KEY_EXCHANGE,
                PLAINTEXT_EPOCH,
                _on_client_key_exchange,
                (ServerState.CERTIFICATE_VERIFY,),
            ),
            Step(
                ServerState.CERTIFICATE_VERIFY,
                HandshakeType.CERTIFICATE_VERIFY,
                PLAINTEXT_EPOCH,
                _on_certificate_verify,
                (ServerState.FINISHED,),
            ),
            Step(
                ServerState.FINISHED,
                HandshakeType.FINISHED,
                TRAFFIC_EPOCH,
                _on_finished,
                (ServerState.COMPLETE,),
                "ChangeCipherSpec, Finished",
            ),
        ]
    )


def _choose_group(hello: ClientHello, ours: tuple[NamedGroup, ...]) -> NamedGroup:
    content = hello.extensions.get(ExtensionType.SUPPORTED_GROUPS)
    # RFC 8422 §4: without the list the server may take any curve; P-256 is the one that every client has.
    offered = [NamedGroup.SECP256R1] if content is None else parse_supported_groups(content)
    for group in ours:
        if group in offered:
            return group
    raise DtlsError(DtlsReason.NO_COMMON_GROUP, f"{len(offered)} offered")
