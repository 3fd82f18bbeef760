"""DTLS 1.3 as the server.

```
      client                                                         server
 1.   ClientHello + key_share              ─────────────────▶
(1a.                                       ◀─────────────────        HelloRetryRequest, if no share is of use)
(1b.  ClientHello + another key_share      ─────────────────▶)
 2.                                        ◀─────────────────        ServerHello + key_share
                                                                     {EncryptedExtensions, CertificateRequest,
                                                                      Certificate, CertificateVerify, Finished}
 3.   {Certificate, CertificateVerify,
       Finished}                           ─────────────────▶
 4.                                        ◀─────────────────        [ACK]

 {epoch 2}  [epoch 3]
```

Everything that step 2 says travels together: browsers throw away an encrypted record that comes before the ServerHello,
so the two share a datagram. Once a browser holds any of it, it stops repeating its ClientHello and leaves the repair of
a loss to us.

The SRTP keys exist after step 2, when half a round trip later the client will have them too. But nobody has shown a
certificate by then: whoever sent the ClientHello can read what is sent under these keys. They are therefore offered as
`half_rtt_srtp`, for what is not secret, and as `srtp` only after step 3.
"""

from enum import Enum

from voicegate.dtls.code_points import DTLS_1_3, AlertDescription, CipherSuite, ExtensionType, HandshakeType, NamedGroup
from voicegate.dtls.dtls13.handshake import HANDSHAKE_EPOCH, Handshake13
from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.handshake import PLAINTEXT_EPOCH
from voicegate.dtls.key_exchange import respond
from voicegate.dtls.messages import (
    CertificateRequest13,
    ClientHello,
    EncryptedExtensions,
    ServerHello,
)
from voicegate.dtls.messages.extensions import (
    KeyShareEntry,
    UseSrtp,
    parse_key_shares,
    parse_supported_groups,
    serialize_chosen_version,
    serialize_requested_group,
    serialize_signature_algorithms,
)
from voicegate.dtls.messages.server_hello import HELLO_RETRY_REQUEST_RANDOM
from voicegate.dtls.negotiation import (
    NULL_COMPRESSION,
    RANDOM_BYTES,
    choose_cipher_suite,
    choose_srtp_profile,
    require_our_signature,
)
from voicegate.dtls.reassembly import HandshakeMessage
from voicegate.dtls.settings import HandshakeSettings
from voicegate.dtls.signatures import SUPPORTED_SCHEMES
from voicegate.dtls.states import StateTable, Step
from voicegate.dtls.transport import HandshakeTransport


class ServerState(Enum):
    """What the server waits for, in protocol order."""

    CLIENT_HELLO = "waiting for ClientHello"
    CLIENT_HELLO_AGAIN = "waiting for ClientHello with the share that was asked for"
    CERTIFICATE = "waiting for Certificate"
    CERTIFICATE_VERIFY = "waiting for CertificateVerify"
    FINISHED = "waiting for Finished"
    COMPLETE = "complete"


class ServerHandshake13(Handshake13):
    """Begins with the client's whole ClientHello."""

    def __init__(self, settings: HandshakeSettings, transport: HandshakeTransport) -> None:
        super().__init__(settings, transport, is_client=False)
        self._first_hello: ClientHello | None = None

    # 1. and 2. --------------------------------------------------------------------------------------------------------

    def _on_client_hello(self, message: HandshakeMessage, now: float) -> ServerState:
        self.transport.speak_dtls_13()
        hello = ClientHello.parse(message.body)
        self.hash_in(message)
        _check_client_hello(hello)
        suite = choose_cipher_suite(hello, self.settings, version_13=True)
        require_our_signature(hello.extensions)
        self.srtp_profile = choose_srtp_profile(hello, self.settings.srtp_profiles)
        group, share = _choose_group(hello, self.settings.groups)
        self.group = group
        if share is None:
            self._first_hello = hello
            self.suite = suite
            self._say_hello_retry_request(suite, group, now)
            return ServerState.CLIENT_HELLO_AGAIN
        self._answer(suite, group, share, now)
        return ServerState.CERTIFICATE

    def _say_hello_retry_request(self, suite: CipherSuite, group: NamedGroup, now: float) -> None:
        # No cookie: it would prove that the client receives at its address, and ICE has proved that.
        extensions: dict[int, bytes] = {
            ExtensionType.SUPPORTED_VERSIONS: serialize_chosen_version(DTLS_1_3),
            ExtensionType.KEY_SHARE: serialize_requested_group(group),
        }
        self.restart_transcript()
        self.say(HandshakeType.SERVER_HELLO, ServerHello(HELLO_RETRY_REQUEST_RANDOM, suite, extensions).serialize())
        self.send_flight(now, expects_answer=True)

    def _on_second_client_hello(self, message: HandshakeMessage, now: float) -> ServerState:
        hello, first = ClientHello.parse(message.body), self._first_hello
        assert first is not None  # noqa: S101 - an earlier state saw to it
        self.hash_in(message)
        _check_client_hello(hello)
        # RFC 8446 §4.1.2: the same hello again, but for the share; we look at all that our choices were made from.
        same = (
            hello.random == first.random
            and hello.cipher_suites == first.cipher_suites
            and all(
                hello.extensions.get(kind) == first.extensions.get(kind)
                for kind in (
                    ExtensionType.SUPPORTED_VERSIONS,
                    ExtensionType.SUPPORTED_GROUPS,
                    ExtensionType.SIGNATURE_ALGORITHMS,
                    ExtensionType.USE_SRTP,
                )
            )
        )
        shares = parse_key_shares(hello.extensions[ExtensionType.KEY_SHARE])
        # RFC 8446 §4.2.8: the one share that was asked for.
        if not same or len(shares) != 1 or shares[0].group != self.group:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, "the second ClientHello is not what was asked for")
        assert self.suite is not None and self.group is not None  # noqa: S101, PT018 - chosen with the first one
        self._answer(self.suite, self.group, shares[0], now)
        return ServerState.CERTIFICATE

    def _answer(self, suite: CipherSuite, group: NamedGroup, share: KeyShareEntry, now: float) -> None:
        settings = self.settings
        public, shared_secret = respond(group, share.public, settings.random_bytes)
        hello_extensions: dict[int, bytes] = {
            ExtensionType.SUPPORTED_VERSIONS: serialize_chosen_version(DTLS_1_3),
            ExtensionType.KEY_SHARE: KeyShareEntry(group, public).serialize(),
        }
        # RFC 9147 §5.3: the session id is not echoed; there is no middlebox to be fooled on a UDP path.
        hello = ServerHello(settings.random_bytes(RANDOM_BYTES), suite, hello_extensions)
        self.say(HandshakeType.SERVER_HELLO, hello.serialize())
        self.derive_handshake_keys(shared_secret, suite)

        extensions: dict[int, bytes] = {}
        if self.srtp_profile is not None:
            extensions[ExtensionType.USE_SRTP] = UseSrtp([self.srtp_profile]).serialize()
        self.say(HandshakeType.ENCRYPTED_EXTENSIONS, EncryptedExtensions(extensions).serialize(), HANDSHAKE_EPOCH)
        schemes = serialize_signature_algorithms(list(SUPPORTED_SCHEMES))
        request = CertificateRequest13({ExtensionType.SIGNATURE_ALGORITHMS: schemes})
        self.say(HandshakeType.CERTIFICATE_REQUEST, request.serialize(), HANDSHAKE_EPOCH)
        self.say_identity()
        self.derive_application_secrets()
        self.send_flight(now, expects_answer=True)
        self.install_application_keys()

    # 3. ---------------------------------------------------------------------------------------------------------------

    def _on_certificate(self, message: HandshakeMessage, now: float) -> ServerState:
        # RFC 8446 §4.4.2.4: the client may send an empty list, and the server may refuse that with an alert of its own.
        self.check_certificate(message, AlertDescription.CERTIFICATE_REQUIRED)
        return ServerState.CERTIFICATE_VERIFY

    def _on_certificate_verify(self, message: HandshakeMessage, now: float) -> ServerState:
        self.check_certificate_verify(message)
        return ServerState.FINISHED

    # 4. ---------------------------------------------------------------------------------------------------------------

    def _on_finished(self, message: HandshakeMessage, now: float) -> ServerState:
        self.check_finished(message)
        self.transport.settle_flight()
        self.conclude()
        self.transport.acknowledge(now)
        return ServerState.COMPLETE

    def _on_key_update(self, message: HandshakeMessage, now: float) -> ServerState:
        self.on_key_update(message, now)
        return ServerState.COMPLETE

    table = StateTable(
        [
            Step(
                ServerState.CLIENT_HELLO,
                HandshakeType.CLIENT_HELLO,
                PLAINTEXT_EPOCH,
                _on_client_hello,
                (ServerState.CERTIFICATE, ServerState.CLIENT_HELLO_AGAIN),
                "ServerHello … Finished, or HelloRetryRequest",
            ),
            Step(
                ServerState.CLIENT_HELLO_AGAIN,
                HandshakeType.CLIENT_HELLO,
                PLAINTEXT_EPOCH,
                _on_second_client_hello,
                (ServerState.CERTIFICATE,),
                "ServerHello … Finished",
            ),
            Step(
                ServerState.CERTIFICATE,
                HandshakeType.CERTIFICATE,
                HANDSHAKE_EPOCH,
                _on_certificate,
                (ServerState.CERTIFICATE_VERIFY,),
            ),
            Step(
                ServerState.CERTIFICATE_VERIFY,
                HandshakeType.CERTIFICATE_VERIFY,
                HANDSHAKE_EPOCH,
                _on_certificate_verify,
                (ServerState.FINISHED,),
            ),
            Step(
                ServerState.FINISHED,
                HandshakeType.FINISHED,
                HANDSHAKE_EPOCH,
                _on_finished,
                (ServerState.COMPLETE,),
                "ACK",
            ),
            Step(
                ServerState.COMPLETE,
                HandshakeType.KEY_UPDATE,
                None,
                _on_key_update,
                (ServerState.COMPLETE,),
                "ACK",
            ),
        ]
    )


def _check_client_hello(hello: ClientHello) -> None:
    # RFC 9147 §5.3, RFC 8446 §4.1.2: fields that DTLS 1.3 has no use for have one legal value.
    if hello.cookie:
        raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"legacy cookie of {len(hello.cookie)} bytes")
    if hello.compression_methods != [NULL_COMPRESSION]:
        raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"compression methods {hello.compression_methods[:8]}")
    # RFC 8446 §9.2: without a pre-shared key these three have to be there.
    for kind in (ExtensionType.SUPPORTED_GROUPS, ExtensionType.SIGNATURE_ALGORITHMS, ExtensionType.KEY_SHARE):
        if kind not in hello.extensions:
            raise DtlsError(DtlsReason.MISSING_EXTENSION, f"ClientHello has no {kind.name.lower()}")


def _choose_group(hello: ClientHello, ours: tuple[NamedGroup, ...]) -> tuple[NamedGroup, KeyShareEntry | None]:
    """Our most wanted group among those of the client that came with a share; if there is none, without a share."""
    offered = parse_supported_groups(hello.extensions[ExtensionType.SUPPORTED_GROUPS])
    shares: dict[int, KeyShareEntry] = {}
    for share in parse_key_shares(hello.extensions[ExtensionType.KEY_SHARE]):
        # RFC 8446 §4.2.8: one share of a group, and only of groups that are offered.
        if share.group in shares or share.group not in offered:
            raise DtlsError(
                DtlsReason.ILLEGAL_PARAMETER, f"key share of group {share.group:#06x}, twice or not offered"
            )
        shares[share.group] = share
    for group in ours:
        if group in shares:
            return group, shares[group]
    for group in ours:
        if group in offered:
            return group, None
    raise DtlsError(DtlsReason.NO_COMMON_GROUP, f"{len(offered)} offered")
