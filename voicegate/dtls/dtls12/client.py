"""DTLS 1.2 as the client.

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

Step 1 is made by `negotiation.py` and sent by `connection.py`, before anybody knows the version; this file begins with
the server's answer to it. The SRTP keys exist after step 3, one round trip before the handshake is complete: the server
has proved who it is by then, and the keys cover every message that both sides saw.
"""

from collections.abc import Callable
from enum import Enum

from voicegate.dtls.code_points import ExtensionType, HandshakeType
from voicegate.dtls.dtls12.handshake import PLAINTEXT_EPOCH, TRAFFIC_EPOCH, Handshake12, unexpected
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
)
from voicegate.dtls.reassembly import HandshakeMessage
from voicegate.dtls.settings import HandshakeSettings
from voicegate.dtls.signatures import OUR_SCHEME, sign, verify
from voicegate.dtls.srtp_keying import PROFILES, SrtpProfile
from voicegate.dtls.transport import HandshakeTransport


class ClientState(Enum):
    """What the client waits for, in protocol order."""

    SERVER_HELLO = "waiting for ServerHello"
    CERTIFICATE = "waiting for Certificate"
    SERVER_KEY_EXCHANGE = "waiting for ServerKeyExchange"
    CERTIFICATE_REQUEST = "waiting for CertificateRequest"
    SERVER_HELLO_DONE = "waiting for ServerHelloDone"
    FINISHED = "waiting for Finished"
    COMPLETE = "complete"


class ClientHandshake12(Handshake12):
    """Feed it the server's messages with `handle`; `hello` is what the server answers, as sent in `hello_message`."""

    def __init__(
        self,
        settings: HandshakeSettings,
        transport: HandshakeTransport,
        hello: ClientHello,
        hello_message: HandshakeMessage,
    ) -> None:
        super().__init__(settings, transport, is_client=True)
        self.state = ClientState.SERVER_HELLO
        self.client_random = hello.random
        self._hello = hello
        self._server_share: ServerKeyExchange | None = None
        # RFC 6347 §4.2.1: a first ClientHello and the HelloVerifyRequest to it are not part of the transcript.
        self.hash_in(hello_message)

    @property
    def is_complete(self) -> bool:
        """Whether application data may flow."""
        return self.state is ClientState.COMPLETE

    @property
    def read_epoch(self) -> int:
        """The epoch that the server's next message has to come in."""
        return TRAFFIC_EPOCH if self.state in (ClientState.FINISHED, ClientState.COMPLETE) else PLAINTEXT_EPOCH

    def handle(self, message: HandshakeMessage, now: float) -> None:
        """Take the server's next message; raises `DtlsError`, after which the handshake is over."""
        handler = _HANDLERS.get((self.state, message.msg_type))
        if handler is None:
            raise unexpected(self.state.value, message)
        self.state = handler(self, message, now)

    # 2. ---------------------------------------------------------------------------------------------------------------

    def _on_server_hello(self, message: HandshakeMessage, now: float) -> ClientState:
        hello = ServerHello.parse(message.body)
        self.hash_in(message)
        self.server_random = hello.random
        if hello.cipher_suite not in self._hello.cipher_suites:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"suite {hello.cipher_suite:#06x} was not offered")
        if hello.compression_method not in self._hello.compression_methods:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"compression {hello.compression_method} was not offered")
        # RFC 5246 §7.4.1.4: a server may only answer extensions that the client sent.
        if uninvited := hello.extensions.keys() - self._hello.extensions.keys():
            raise DtlsError(DtlsReason.UNREQUESTED_EXTENSION, f"extensions {sorted(uninvited)[:8]}")
        # RFC 7627 §5.2: without the extension the session could be a man in the middle's.
        if ExtensionType.EXTENDED_MASTER_SECRET not in hello.extensions:
            raise DtlsError(DtlsReason.MISSING_EXTENDED_MASTER_SECRET, "ServerHello does not confirm it")
        # RFC 5746 §3.4: on a first handshake the content is empty. A server without the extension is accepted:
        # the attack needs a renegotiation, and we never take part in one.
        renegotiation_info = hello.extensions.get(ExtensionType.RENEGOTIATION_INFO)
        if renegotiation_info is not None and parse_renegotiation_info(renegotiation_info):
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, "renegotiation_info of a first handshake is not empty")
        formats = hello.extensions.get(ExtensionType.EC_POINT_FORMATS)
        if formats is not None and UNCOMPRESSED_POINT not in parse_ec_point_formats(formats):
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, "no uncompressed points")
        if self.settings.srtp_profiles:
            self.srtp_profile = _chosen_srtp_profile(hello, self.settings.srtp_profiles)
        return ClientState.CERTIFICATE

    def _on_certificate(self, message: HandshakeMessage, now: float) -> ClientState:
        self.hash_in(message)
        self.settings.identity.present(CertificateMessage.parse(message.body).certificates)
        return ClientState.SERVER_KEY_EXCHANGE

    def _on_server_key_exchange(self, message: HandshakeMessage, now: float) -> ClientState:
        exchange = ServerKeyExchange.parse(message.body)
        self.hash_in(message)
        public_key = self.settings.identity.public_key
        assert public_key is not None  # noqa: S101 - an earlier state saw to it
        signed = self.client_random + self.server_random + exchange.parameters
        verify(public_key, exchange.scheme, exchange.signature, signed)
        self._server_share = exchange
        return ClientState.CERTIFICATE_REQUEST

    def _on_certificate_request(self, message: HandshakeMessage, now: float) -> ClientState:
        request = CertificateRequest.parse(message.body)
        self.hash_in(message)
        if ECDSA_SIGN not in request.certificate_types or OUR_SCHEME not in request.signature_algorithms:
            raise DtlsError(DtlsReason.NO_COMMON_SIGNATURE_ALGORITHM, f"server does not want {OUR_SCHEME.name}")
        return ClientState.SERVER_HELLO_DONE

    # 3. ---------------------------------------------------------------------------------------------------------------

    def _on_server_hello_done(self, message: HandshakeMessage, now: float) -> ClientState:
        ServerHelloDone.parse(message.body)
        self.hash_in(message)
        certificate = self.settings.certificate
        self.say(HandshakeType.CERTIFICATE, CertificateMessage([certificate.der]).serialize())
        self._say_client_key_exchange()
        signature = sign(certificate.private_key, self.transcript)
        self.say(HandshakeType.CERTIFICATE_VERIFY, CertificateVerify(OUR_SCHEME, signature).serialize())
        self.say_change_cipher_spec_and_finished()
        self.send_flight(now, expects_answer=True)
        return ClientState.FINISHED

    def _say_client_key_exchange(self) -> None:
        server_share = self._server_share
        assert server_share is not None  # noqa: S101 - an earlier state saw to it
        for group in SUPPORTED_GROUPS:
            if group == server_share.group:
                break
        else:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"group {server_share.group} was not offered")
        key_share = KeyShare.generate(group, self.settings.random_bytes)
        premaster = key_share.exchange(server_share.public)
        self.say(HandshakeType.CLIENT_KEY_EXCHANGE, ClientKeyExchange(key_share.public).serialize())
        self.derive_keys(premaster)

    # 4. ---------------------------------------------------------------------------------------------------------------

    def _on_finished(self, message: HandshakeMessage, now: float) -> ClientState:
        self.check_finished(message)
        self.conclude()
        return ClientState.COMPLETE


_HANDLERS: dict[tuple[ClientState, int], Callable[[ClientHandshake12, HandshakeMessage, float], ClientState]] = {
    (ClientState.SERVER_HELLO, HandshakeType.SERVER_HELLO): ClientHandshake12._on_server_hello,
    (ClientState.CERTIFICATE, HandshakeType.CERTIFICATE): ClientHandshake12._on_certificate,
    (ClientState.SERVER_KEY_EXCHANGE, HandshakeType.SERVER_KEY_EXCHANGE): ClientHandshake12._on_server_key_exchange,
    (ClientState.CERTIFICATE_REQUEST, HandshakeType.CERTIFICATE_REQUEST): ClientHandshake12._on_certificate_request,
    (ClientState.SERVER_HELLO_DONE, HandshakeType.SERVER_HELLO_DONE): ClientHandshake12._on_server_hello_done,
    (ClientState.FINISHED, HandshakeType.FINISHED): ClientHandshake12._on_finished,
}


def _chosen_srtp_profile(hello: ServerHello, ours: tuple[SrtpProfile, ...]) -> SrtpProfile:
    content = hello.extensions.get(ExtensionType.USE_SRTP)
    if content is None:
        raise DtlsError(DtlsReason.MISSING_USE_SRTP, "ServerHello has no use_srtp")
    answer = UseSrtp.parse(content)
    # RFC 5764 §4.1.1: exactly one profile out of ours, and the MKI that we sent, which is none.
    if len(answer.profiles) != 1 or answer.profiles[0] not in ours or answer.mki:
        raise DtlsError(
            DtlsReason.ILLEGAL_PARAMETER, f"use_srtp answer {answer.profiles[:8]}, MKI of {len(answer.mki)}"
        )
    return PROFILES[answer.profiles[0]]
