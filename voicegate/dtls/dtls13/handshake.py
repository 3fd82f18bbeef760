"""What both roles of a DTLS 1.3 handshake share: transcript, secrets, the proofs of identity, and KeyUpdate.

**Epochs.** 0 is plaintext: the hellos. 2 is the rest of the handshake, 3 the data, and each KeyUpdate adds one to the
sender's. (1 is for early data, which WebRTC does not have.) Reading and writing change apart from each other.

**KeyUpdate** (RFC 9147 §8). The sender goes on with its old keys until the message is acknowledged; the receiver reads
both epochs, since records overtake each other. Each side keeps two epochs of each direction at most.
"""

import hashlib
import hmac

from voicegate.dtls.code_points import AlertDescription, CipherSuite, HandshakeType
from voicegate.dtls.dtls13.key_schedule import (
    HandshakeSecrets,
    TrafficKeys,
    finished_verify_data,
    next_traffic_secret,
)
from voicegate.dtls.dtls13.protection import Protection13
from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.handshake import Handshake
from voicegate.dtls.messages import CertificateMessage13, CertificateVerify, Finished, KeyUpdate
from voicegate.dtls.reassembly import HandshakeMessage
from voicegate.dtls.settings import DtlsVersion, HandshakeSettings
from voicegate.dtls.signatures import OUR_SCHEME, require_curve, sign, verify
from voicegate.dtls.srtp_keying import EXPORTER_LABEL, keying_material_bytes, split_keying_material
from voicegate.dtls.transport import HandshakeTransport

HANDSHAKE_EPOCH = 2
DATA_EPOCH = 3

# RFC 8446 §4.4.3: DTLS keeps the words of TLS here.
_SIGNED_BY = {
    True: b" " * 64 + b"TLS 1.3, client CertificateVerify\x00",
    False: b" " * 64 + b"TLS 1.3, server CertificateVerify\x00",
}


class Handshake13(Handshake):
    """State of one handshake and of the key changes after it; the roles add their states and handlers."""

    version = DtlsVersion.DTLS_1_3
    data_epoch = DATA_EPOCH

    def __init__(self, settings: HandshakeSettings, transport: HandshakeTransport, *, is_client: bool) -> None:
        super().__init__(settings, transport, is_client=is_client)
        self._transcript = hashlib.sha256()
        self._handshake_secrets: HandshakeSecrets | None = None
        self._read_epoch = DATA_EPOCH
        self._read_secret = b""
        self._write_epoch = DATA_EPOCH
        self._write_secret = b""
        self._is_updating = False
        # A KeyUpdate that waits until our last flight is acknowledged, and whether it will ask for one in return.
        self._owed_update: bool | None = None

    @property
    def read_epochs(self) -> tuple[int, ...]:
        """The epochs that the peer's next message may come in.

        RFC 9147 §8: until its KeyUpdate is acknowledged a sender goes on with the old keys, so after the handshake what
        comes behind that message may come in either epoch.
        """
        epoch = self.table.epoch(self.state)
        if epoch is not None:
            return (epoch,)
        return tuple(range(max(DATA_EPOCH, self._read_epoch - 1), self._read_epoch + 1))

    # Transcript -------------------------------------------------------------------------------------------------------

    def hash_in(self, message: HandshakeMessage) -> None:
        """Make a message part of the transcript."""
        self._transcript.update(message.serialize_for_tls())

    @property
    def transcript_hash(self) -> bytes:
        """The hash of all messages so far."""
        return self._transcript.digest()

    def restart_transcript(self) -> None:
        """RFC 8446 §4.4.1: after a HelloRetryRequest a hash stands in for the first ClientHello."""
        first = self._transcript.digest()
        self._transcript = hashlib.sha256(bytes((HandshakeType.MESSAGE_HASH, 0, 0, len(first))) + first)

    # Secrets ----------------------------------------------------------------------------------------------------------

    def derive_handshake_keys(self, shared_secret: bytes, suite: CipherSuite) -> None:
        """The transcript ends with the ServerHello: from here on the handshake is protected."""
        self.suite = suite
        secrets = HandshakeSecrets.of(shared_secret, self.transcript_hash)
        self._handshake_secrets = secrets
        self._install_write(HANDSHAKE_EPOCH, secrets.client if self.is_client else secrets.server)
        self._install_read(HANDSHAKE_EPOCH, secrets.server if self.is_client else secrets.client)

    def derive_application_secrets(self) -> None:
        """The transcript ends with the server's Finished: everything that comes later is known now."""
        secrets = self._secrets.application(self.transcript_hash)
        self._read_secret = secrets.server if self.is_client else secrets.client
        self._write_secret = secrets.client if self.is_client else secrets.server
        if self.srtp_profile is not None:
            block = secrets.export(EXPORTER_LABEL, keying_material_bytes(self.srtp_profile))
            self.srtp = split_keying_material(self.srtp_profile, block, is_client=self.is_client)

    def install_application_keys(self) -> None:
        """Read and write data."""
        self._install_write(DATA_EPOCH, self._write_secret)
        self._install_read(DATA_EPOCH, self._read_secret)

    def _install_write(self, epoch: int, secret: bytes) -> None:
        keys = TrafficKeys.of(secret, self.cipher.key_bytes)
        self.transport.records.install_write(epoch, Protection13(epoch, keys, self.cipher))
        self.transport.write_epoch = epoch

    def _install_read(self, epoch: int, secret: bytes) -> None:
        keys = TrafficKeys.of(secret, self.cipher.key_bytes)
        self.transport.records.install_read(epoch, Protection13(epoch, keys, self.cipher))

    @property
    def _secrets(self) -> HandshakeSecrets:
        assert self._handshake_secrets is not None  # noqa: S101 - the ServerHello saw to it
        return self._handshake_secrets

    # Who we are, and who the peer is ----------------------------------------------------------------------------------

    def say_identity(self) -> None:
        """Certificate, CertificateVerify, Finished: the same for both roles."""
        certificate = self.settings.certificate
        self.say(HandshakeType.CERTIFICATE, CertificateMessage13([certificate.der]).serialize(), HANDSHAKE_EPOCH)
        signature = sign(certificate.private_key, _SIGNED_BY[self.is_client] + self.transcript_hash)
        proof = CertificateVerify(OUR_SCHEME, signature)
        self.say(HandshakeType.CERTIFICATE_VERIFY, proof.serialize(), HANDSHAKE_EPOCH)
        finished = Finished(self._verify_data(of_client=self.is_client))
        self.say(HandshakeType.FINISHED, finished.serialize(), HANDSHAKE_EPOCH)

    def check_certificate(self, message: HandshakeMessage, when_empty: AlertDescription) -> None:
        """The peer's certificate, against its fingerprint if that is known; an empty list is told by `when_empty`.
        Raises `DtlsError`."""
        certificate = CertificateMessage13.parse(message.body)
        if not certificate.certificates:
            raise DtlsError(DtlsReason.MISSING_CERTIFICATE, "the certificate list is empty", when_empty)
        # RFC 8446 §4.4.2: the context is that of a request after the handshake, which we never make.
        if certificate.context:
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, f"certificate context of {len(certificate.context)}")
        self.settings.identity.present(certificate.certificates)
        self.hash_in(message)

    def check_certificate_verify(self, message: HandshakeMessage) -> None:
        """The peer owns the certificate's key. Raises `DtlsError`."""
        proof = CertificateVerify.parse(message.body)
        public_key = self.settings.identity.public_key
        assert public_key is not None  # noqa: S101 - an earlier state saw to it
        signed = _SIGNED_BY[not self.is_client] + self.transcript_hash
        require_curve(public_key, proof.scheme)
        verify(public_key, proof.scheme, proof.signature, signed)
        self.hash_in(message)

    def check_finished(self, message: HandshakeMessage) -> None:
        """The peer's Finished against our own view of the handshake. Raises `DtlsError`."""
        proof = Finished.parse(message.body).verify_data
        if not hmac.compare_digest(proof, self._verify_data(of_client=not self.is_client)):
            raise DtlsError(DtlsReason.BAD_FINISHED, "the two sides saw different handshakes")
        self.hash_in(message)

    def _verify_data(self, *, of_client: bool) -> bytes:
        secrets = self._secrets
        return finished_verify_data(secrets.client if of_client else secrets.server, self.transcript_hash)

    def conclude(self) -> None:
        """Let go of what only the handshake needed."""
        self._handshake_secrets = None
        self.transport.finish(keep_flight=self.is_client)

    # After the handshake ----------------------------------------------------------------------------------------------

    def update_keys(self, now: float, *, request: bool = False) -> None:
        """Change the keys that we write with. RFC 9147 §8: one change at a time, so it may have to wait."""
        if self.transport.awaits_acknowledgement:
            if not self._is_updating:
                self._owed_update = request or bool(self._owed_update)
            return
        self._owed_update = None
        self._is_updating = True
        message = KeyUpdate(update_requested=request)
        self.say(HandshakeType.KEY_UPDATE, message.serialize(), self._write_epoch)
        self.send_flight(now, expects_answer=True)

    def acknowledged(self, now: float) -> None:
        """The peer has our flight; if that was a KeyUpdate, the new keys are in force."""
        if self._is_updating:
            self._is_updating = False
            self._write_epoch += 1
            self._write_secret = next_traffic_secret(self._write_secret)
            self._install_write(self._write_epoch, self._write_secret)
            self.transport.records.forget_write_epochs_before(self._write_epoch)
        if self._owed_update is not None:
            self.update_keys(now, request=self._owed_update)

    def on_key_update(self, message: HandshakeMessage, now: float) -> None:
        """The peer changes the keys that it writes with."""
        update = KeyUpdate.parse(message.body)
        self.transport.statistics.key_updates += 1
        self._read_epoch += 1
        self._read_secret = next_traffic_secret(self._read_secret)
        self._install_read(self._read_epoch, self._read_secret)
        # RFC 9147 §8: what is under way under the old keys is still read.
        self.transport.records.forget_read_epochs_before(self._read_epoch - 1)
        if update.update_requested:
            self.update_keys(now)
