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

from enum import Enum

from voicegate.dtls.cipher_suites import suites_of
from voicegate.dtls.code_points import HandshakeType
from voicegate.dtls.dtls12.handshake import TRAFFIC_EPOCH, Handshake12
from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.handshake import PLAINTEXT_EPOCH
from voicegate.dtls.key_exchange import respond
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
from voicegate.dtls.negotiation import accept_srtp_profile
from voicegate.dtls.reassembly import HandshakeMessage
from voicegate.dtls.settings import HandshakeSettings
from voicegate.dtls.signatures import OUR_SCHEME, sign, verify
from voicegate.dtls.states import StateTable, Step
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
    """`hello` is what the server answers, as sent in `hello_message`."""

    def __init__(
        self,
        settings: HandshakeSettings,
        transport: HandshakeTransport,
        hello: ClientHello,
        hello_message: HandshakeMessage,
    ) -> None:
        super().__init__(settings, transport, is_client=True)
        self.client_random = hello.random
        self._hello = hello
        self._server_share: ServerKeyExchange | None = None
        # RFC 6347 §4.2.1: a first ClientHello and the HelloVerifyRequest to it are not part of the transcript.
        self.hash_in(hello_message)

    # 2. ---------------------------------------------------------------------------------------------------------------

    def _on_server_hello(self, message: HandshakeMessage, now: float) -> ClientState:
        hello = ServerHello.parse(message.body)
        self.hash_in(message)
        self.server_random = hello.random
        self.suite = next(
            (
                suite
                for suite in suites_of(self.settings.cipher_suites, version_13=False)
                if suite == hello.cipher_suite
            ),
            None,
        )
        if self.suite is None:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"suite {hello.cipher_suite:#06x} was not offered")
        if hello.compression_method not in self._hello.compression_methods:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"compression {hello.compression_method} was not offered")
        # RFC 5246 §7.4.1.4: a server may only answer extensions that the client sent.
        if uninvited := hello.extensions.keys() - self._hello.extensions.keys():
            raise DtlsError(DtlsReason.UNREQUESTED_EXTENSION, f"extensions {sorted(uninvited)[:8]}")
        self.check_hello_extensions(hello.extensions)
        self.srtp_profile = accept_srtp_profile(hello.extensions, self.settings.srtp_profiles)
        return ClientState.CERTIFICATE

    def _on_certificate(self, message: HandshakeMessage, now: float) -> ClientState:
        self.take_certificate(message)
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
        self.say_certificate()
        self._say_client_key_exchange()
        signature = sign(self.settings.certificate.private_key, self.transcript)
        self.say(HandshakeType.CERTIFICATE_VERIFY, CertificateVerify(OUR_SCHEME, signature).serialize())
        self.say_change_cipher_spec_and_finished()
        self.send_flight(now, expects_answer=True)
        return ClientState.FINISHED

    def _say_client_key_exchange(self) -> None:
        server_share = self._server_share
        assert server_share is not None  # noqa: S101 - an earlier state saw to it
        self.group = next((group for group in self.settings.classical_groups if group == server_share.group), None)
        if self.group is None:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"group {server_share.group} was not offered")
        public, premaster = respond(self.group, server_share.public, self.settings.random_bytes)
        self.say(HandshakeType.CLIENT_KEY_EXCHANGE, ClientKeyExchange(public).serialize())
        self.derive_keys(premaster)

    # 4. ---------------------------------------------------------------------------------------------------------------

    def _on_finished(self, message: HandshakeMessage, now: float) -> ClientState:
        self.check_finished(message)
        self.conclude()
        return ClientState.COMPLETE

    table = StateTable(
        [
            Step(
                ClientState.SERVER_HELLO,
                HandshakeType.SERVER_HELLO,
                PLAINTEXT_EPOCH,
                _on_server_hello,
                (ClientState.CERTIFICATE,),
            ),
            Step(
                ClientState.CERTIFICATE,
                HandshakeType.CERTIFICATE,
                PLAINTEXT_EPOCH,
                _on_certificate,
                (ClientState.SERVER_KEY_EXCHANGE,),
            ),
            Step(
                ClientState.SERVER_KEY_EXCHANGE,
                HandshakeType.SERVER_KEY_EXCHANGE,
                PLAINTEXT_EPOCH,
                _on_server_key_exchange,
                (ClientState.CERTIFICATE_REQUEST,),
            ),
            Step(
                ClientState.CERTIFICATE_REQUEST,
                HandshakeType.CERTIFICATE_REQUEST,
                PLAINTEXT_EPOCH,
                _on_certificate_request,
                (ClientState.SERVER_HELLO_DONE,),
            ),
            Step(
                ClientState.SERVER_HELLO_DONE,
                HandshakeType.SERVER_HELLO_DONE,
                PLAINTEXT_EPOCH,
                _on_server_hello_done,
                (ClientState.FINISHED,),
                "Certificate, ClientKeyExchange, CertificateVerify, ChangeCipherSpec, Finished",
            ),
            Step(
                ClientState.FINISHED,
                HandshakeType.FINISHED,
                TRAFFIC_EPOCH,
                _on_finished,
                (ClientState.COMPLETE,),
            ),
        ]
    )
