"""DTLS 1.3 as the client.

```
      client                                                         server
 1.   ClientHello + key_share              ─────────────────▶
(1a.                                       ◀─────────────────        HelloRetryRequest)
(1b.  ClientHello + another key_share      ─────────────────▶)
 2.                                        ◀─────────────────        ServerHello + key_share
                                                                     {EncryptedExtensions, CertificateRequest,
                                                                      Certificate, CertificateVerify, Finished}
 3.   {Certificate, CertificateVerify,
       Finished}                           ─────────────────▶
 4.                                        ◀─────────────────        [ACK]

 {epoch 2}  [epoch 3]
```

Step 1 is made by `negotiation.py` and sent by `connection.py`, before anybody knows the version; this file begins with
the server's answer to it. With step 3 the client is done: it has seen the server's certificate, signature and Finished,
and may send data right behind its own. Its flight is repeated until step 4 says that it arrived.
"""

from dataclasses import dataclass, field
from enum import Enum

from voicegate.dtls.cipher_suites import suites_of
from voicegate.dtls.code_points import DTLS_1_2, AlertDescription, ExtensionType, HandshakeType
from voicegate.dtls.dtls13.handshake import HANDSHAKE_EPOCH, Handshake13
from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.handshake import PLAINTEXT_EPOCH
from voicegate.dtls.key_exchange import KeyShare
from voicegate.dtls.messages import (
    CertificateRequest13,
    ClientHello,
    EncryptedExtensions,
    ServerHello,
)
from voicegate.dtls.messages.extensions import (
    KeyShareEntry,
    parse_cookie,
    parse_requested_group,
    serialize_cookie,
    serialize_key_shares,
)
from voicegate.dtls.negotiation import NULL_COMPRESSION, accept_srtp_profile, accept_version, require_our_signature
from voicegate.dtls.reassembly import HandshakeMessage
from voicegate.dtls.settings import DtlsVersion, HandshakeSettings
from voicegate.dtls.states import StateTable, Step
from voicegate.dtls.transport import HandshakeTransport

# RFC 8446 §4.2: what each of these messages may answer.
_IN_SERVER_HELLO = frozenset({ExtensionType.SUPPORTED_VERSIONS, ExtensionType.KEY_SHARE})
_IN_HELLO_RETRY_REQUEST = _IN_SERVER_HELLO | {ExtensionType.COOKIE}
_NOT_IN_ENCRYPTED_EXTENSIONS = frozenset(
    {
        ExtensionType.SUPPORTED_VERSIONS,
        ExtensionType.KEY_SHARE,
        ExtensionType.COOKIE,
        ExtensionType.SIGNATURE_ALGORITHMS,
        ExtensionType.EXTENDED_MASTER_SECRET,
        ExtensionType.EC_POINT_FORMATS,
        ExtensionType.RENEGOTIATION_INFO,
    }
)


class ClientState(Enum):
    """What the client waits for, in protocol order."""

    SERVER_HELLO = "waiting for ServerHello or HelloRetryRequest"
    SERVER_HELLO_AGAIN = "waiting for ServerHello after a HelloRetryRequest"
    ENCRYPTED_EXTENSIONS = "waiting for EncryptedExtensions"
    CERTIFICATE_REQUEST = "waiting for CertificateRequest"
    CERTIFICATE = "waiting for Certificate"
    CERTIFICATE_VERIFY = "waiting for CertificateVerify"
    FINISHED = "waiting for Finished"
    COMPLETE = "complete"


@dataclass(slots=True)
class ClientOffer:
    """The ClientHello that waits for an answer: as an object, as it was sent, and its private halves."""

    hello: ClientHello
    message: HandshakeMessage
    shares: list[KeyShare] = field(repr=False)


class ClientHandshake13(Handshake13):
    """`offer` is what the server answers."""

    def __init__(self, settings: HandshakeSettings, transport: HandshakeTransport, offer: ClientOffer) -> None:
        super().__init__(settings, transport, is_client=True)
        self._hello = offer.hello
        self._shares = offer.shares
        self.hash_in(offer.message)

    # 1. ---------------------------------------------------------------------------------------------------------------

    def _on_first_server_hello(self, message: HandshakeMessage, now: float) -> ClientState:
        self.transport.speak_dtls_13()
        # RFC 9147 §5.1: a HelloVerifyRequest belongs to DTLS 1.2, so whoever sent one cannot speak 1.3 now.
        if self._hello.cookie:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, "DTLS 1.3 after a HelloVerifyRequest")
        hello = ServerHello.parse(message.body)
        if not hello.is_hello_retry_request:
            return self._on_server_hello(message, now)
        self._check_server_hello(hello, _IN_HELLO_RETRY_REQUEST)
        self.restart_transcript()
        self.hash_in(message)
        self._follow_hello_retry_request(hello, now)
        return ClientState.SERVER_HELLO_AGAIN

    def _follow_hello_retry_request(self, request: ServerHello, now: float) -> None:
        group_content = request.extensions.get(ExtensionType.KEY_SHARE)
        cookie_content = request.extensions.get(ExtensionType.COOKIE)
        # RFC 8446 §4.1.4: a request that would change nothing is an error, and so is a share that was there already.
        if group_content is None and cookie_content is None:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, "HelloRetryRequest that changes nothing")
        extensions = self._hello.extensions
        if group_content is not None:
            wanted = parse_requested_group(group_content)
            group = next((group for group in self.settings.groups if group == wanted), None)
            if group is None or any(share.group == wanted for share in self._shares):
                raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"HelloRetryRequest for group {wanted:#06x}")
            share = KeyShare.generate(group, self.settings.random_bytes)
            self._shares = [share]
            extensions[ExtensionType.KEY_SHARE] = serialize_key_shares([KeyShareEntry(share.group, share.public)])
        if cookie_content is not None:
            extensions[ExtensionType.COOKIE] = serialize_cookie(parse_cookie(cookie_content))
        self.say(HandshakeType.CLIENT_HELLO, self._hello.serialize())
        self.send_flight(now, expects_answer=True)

    # 2. ---------------------------------------------------------------------------------------------------------------

    def _on_server_hello(self, message: HandshakeMessage, now: float) -> ClientState:
        hello = ServerHello.parse(message.body)
        # RFC 8446 §4.1.4: there is one retry.
        if hello.is_hello_retry_request:
            raise DtlsError(DtlsReason.UNEXPECTED_MESSAGE, "a second HelloRetryRequest")
        self._check_server_hello(hello, _IN_SERVER_HELLO)
        # RFC 8446 §4.1.4: the suite of the HelloRetryRequest stays.
        if self.suite is not None and hello.cipher_suite != self.suite:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"suite {hello.cipher_suite:#06x} after {self.suite:#06x}")
        content = hello.extensions.get(ExtensionType.KEY_SHARE)
        if content is None:
            raise DtlsError(DtlsReason.MISSING_EXTENSION, "ServerHello has no key_share")
        entry = KeyShareEntry.parse(content)
        share = next((share for share in self._shares if share.group == entry.group), None)
        if share is None:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"key share of group {entry.group:#06x}, want one of ours")
        self.hash_in(message)
        self.group = share.group
        suite = next(suite for suite in self.settings.cipher_suites if suite == hello.cipher_suite)
        self.derive_handshake_keys(share.exchange(entry.public), suite)
        self._shares = []
        self.transport.expect_rest_of_flight(now)
        return ClientState.ENCRYPTED_EXTENSIONS

    def _check_server_hello(self, hello: ServerHello, legal: frozenset[ExtensionType]) -> None:
        accepted = accept_version(hello, self.settings)
        # RFC 9147 §5.4, RFC 8446 §4.1.3: fields of old have one legal value.
        if accepted is not DtlsVersion.DTLS_1_3 or hello.version != DTLS_1_2 or hello.session_id:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, "legacy version or session id of a ServerHello")
        if hello.compression_method != NULL_COMPRESSION:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"compression {hello.compression_method} was not offered")
        suites = suites_of(self.settings.cipher_suites, version_13=True)
        chosen = next((suite for suite in suites if suite == hello.cipher_suite), None)
        if chosen is None:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"suite {hello.cipher_suite:#06x} was not offered")
        if strange := hello.extensions.keys() - legal:
            offered = strange <= self._hello.extensions.keys()
            reason = DtlsReason.ILLEGAL_PARAMETER if offered else DtlsReason.UNREQUESTED_EXTENSION
            raise DtlsError(reason, f"extensions {sorted(strange)[:8]} in a ServerHello")
        if hello.is_hello_retry_request:
            self.suite = chosen

    def _on_encrypted_extensions(self, message: HandshakeMessage, now: float) -> ClientState:
        extensions = EncryptedExtensions.parse(message.body).extensions
        if uninvited := extensions.keys() - self._hello.extensions.keys():
            raise DtlsError(DtlsReason.UNREQUESTED_EXTENSION, f"extensions {sorted(uninvited)[:8]}")
        if misplaced := extensions.keys() & _NOT_IN_ENCRYPTED_EXTENSIONS:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"extensions {sorted(misplaced)[:8]} in EncryptedExtensions")
        self.srtp_profile = accept_srtp_profile(extensions, self.settings.srtp_profiles)
        self.hash_in(message)
        return ClientState.CERTIFICATE_REQUEST

    def _on_certificate_request(self, message: HandshakeMessage, now: float) -> ClientState:
        request = CertificateRequest13.parse(message.body)
        # RFC 8446 §4.3.2: the context is for requests after the handshake.
        if request.context:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"request context of {len(request.context)}")
        if ExtensionType.SIGNATURE_ALGORITHMS not in request.extensions:
            raise DtlsError(DtlsReason.MISSING_EXTENSION, "CertificateRequest has no signature_algorithms")
        require_our_signature(request.extensions)
        self.hash_in(message)
        return ClientState.CERTIFICATE

    def _on_certificate(self, message: HandshakeMessage, now: float) -> ClientState:
        # RFC 8446 §4.4.2.4: a server always has one.
        self.check_certificate(message, AlertDescription.DECODE_ERROR)
        return ClientState.CERTIFICATE_VERIFY

    def _on_certificate_verify(self, message: HandshakeMessage, now: float) -> ClientState:
        self.check_certificate_verify(message)
        return ClientState.FINISHED

    # 3. ---------------------------------------------------------------------------------------------------------------

    def _on_finished(self, message: HandshakeMessage, now: float) -> ClientState:
        self.check_finished(message)
        self.derive_application_secrets()
        self.say_identity()
        self.send_flight(now, expects_answer=True)
        self.install_application_keys()
        self.conclude()
        return ClientState.COMPLETE

    # Later ------------------------------------------------------------------------------------------------------------

    def _on_new_session_ticket(self, message: HandshakeMessage, now: float) -> ClientState:
        """Acknowledged, since it would come again otherwise, and forgotten: we never resume."""
        return ClientState.COMPLETE

    def _on_key_update(self, message: HandshakeMessage, now: float) -> ClientState:
        self.on_key_update(message, now)
        return ClientState.COMPLETE

    table = StateTable(
        [
            Step(
                ClientState.SERVER_HELLO,
                HandshakeType.SERVER_HELLO,
                PLAINTEXT_EPOCH,
                _on_first_server_hello,
                (ClientState.ENCRYPTED_EXTENSIONS, ClientState.SERVER_HELLO_AGAIN),
                "ClientHello again, if asked",
            ),
            Step(
                ClientState.SERVER_HELLO_AGAIN,
                HandshakeType.SERVER_HELLO,
                PLAINTEXT_EPOCH,
                _on_server_hello,
                (ClientState.ENCRYPTED_EXTENSIONS,),
            ),
            Step(
                ClientState.ENCRYPTED_EXTENSIONS,
                HandshakeType.ENCRYPTED_EXTENSIONS,
                HANDSHAKE_EPOCH,
                _on_encrypted_extensions,
                (ClientState.CERTIFICATE_REQUEST,),
            ),
            Step(
                ClientState.CERTIFICATE_REQUEST,
                HandshakeType.CERTIFICATE_REQUEST,
                HANDSHAKE_EPOCH,
                _on_certificate_request,
                (ClientState.CERTIFICATE,),
            ),
            Step(
                ClientState.CERTIFICATE,
                HandshakeType.CERTIFICATE,
                HANDSHAKE_EPOCH,
                _on_certificate,
                (ClientState.CERTIFICATE_VERIFY,),
            ),
            Step(
                ClientState.CERTIFICATE_VERIFY,
                HandshakeType.CERTIFICATE_VERIFY,
                HANDSHAKE_EPOCH,
                _on_certificate_verify,
                (ClientState.FINISHED,),
            ),
            Step(
                ClientState.FINISHED,
                HandshakeType.FINISHED,
                HANDSHAKE_EPOCH,
                _on_finished,
                (ClientState.COMPLETE,),
                "Certificate, CertificateVerify, Finished",
            ),
            Step(
                ClientState.COMPLETE,
                HandshakeType.NEW_SESSION_TICKET,
                None,
                _on_new_session_ticket,
                (ClientState.COMPLETE,),
                "ACK",
            ),
            Step(
                ClientState.COMPLETE,
                HandshakeType.KEY_UPDATE,
                None,
                _on_key_update,
                (ClientState.COMPLETE,),
                "ACK",
            ),
        ]
    )
