"""What both roles of a DTLS 1.2 handshake share: transcript, keys, and the two Finished messages."""

import hmac

from voicegate.dtls.code_points import CipherSuite, HandshakeType
from voicegate.dtls.dtls12.key_schedule import MasterSecret
from voicegate.dtls.dtls12.protection import AesGcmProtection
from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.flight import FlightPart
from voicegate.dtls.messages import Finished
from voicegate.dtls.reassembly import HandshakeMessage
from voicegate.dtls.settings import HandshakeSettings
from voicegate.dtls.srtp_keying import (
    EXPORTER_LABEL,
    SrtpKeyingMaterial,
    SrtpProfile,
    keying_material_bytes,
    split_keying_material,
)
from voicegate.dtls.transport import HandshakeTransport

CIPHER_SUITE = CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256

# RFC 6347 §4.1: ChangeCipherSpec moves each direction from epoch 0 to epoch 1.
PLAINTEXT_EPOCH = 0
TRAFFIC_EPOCH = 1


class Handshake12:
    """State of one handshake; the roles add their states and handlers."""

    def __init__(self, settings: HandshakeSettings, transport: HandshakeTransport, *, is_client: bool) -> None:
        self.settings = settings
        self.transport = transport
        self.is_client = is_client
        self.client_random = b""
        self.server_random = b""
        self.srtp_profile: SrtpProfile | None = None
        self.srtp: SrtpKeyingMaterial | None = None
        self._transcript = bytearray()
        self._master_secret: MasterSecret | None = None
        self._flight: list[FlightPart] = []

    @property
    def cipher_suite(self) -> str:
        """The IANA name of the suite."""
        return CIPHER_SUITE.name

    def hash_in(self, message: HandshakeMessage) -> None:
        """Make a message part of the transcript."""
        self._transcript += message.serialize()

    def say(self, msg_type: HandshakeType, body: bytes, epoch: int = PLAINTEXT_EPOCH) -> None:
        """Append one of our messages to the flight in preparation, and to the transcript."""
        message = self.transport.number(msg_type, body)
        self.hash_in(message)
        self._flight.append(FlightPart(epoch, message))

    def send_flight(self, now: float, *, expects_answer: bool) -> None:
        """Send what was said since the last flight."""
        flight, self._flight = self._flight, []
        self.transport.send_flight(flight, now, expects_answer=expects_answer)

    @property
    def transcript(self) -> bytes:
        """All messages so far, as `HandshakeMessage.serialize` writes them (RFC 6347 §4.2.6)."""
        return bytes(self._transcript)

    def derive_keys(self, premaster: bytes) -> None:
        """Both sides know the secret: the transcript ends with ClientKeyExchange here (RFC 7627 §3)."""
        self._master_secret = MasterSecret.extended(premaster, self.transcript, self.client_random, self.server_random)
        client_keys, server_keys = self._master_secret.record_keys()
        ours, theirs = (client_keys, server_keys) if self.is_client else (server_keys, client_keys)
        records = self.transport.records
        records.install_write(TRAFFIC_EPOCH, AesGcmProtection(TRAFFIC_EPOCH, ours))
        records.install_read(TRAFFIC_EPOCH, AesGcmProtection(TRAFFIC_EPOCH, theirs))
        if self.srtp_profile is not None:
            block = self._master_secret.export(EXPORTER_LABEL, keying_material_bytes(self.srtp_profile))
            self.srtp = split_keying_material(self.srtp_profile, block, is_client=self.is_client)

    def say_change_cipher_spec_and_finished(self) -> None:
        """From here on we write under the new keys."""
        self._flight.append(FlightPart(PLAINTEXT_EPOCH, None))
        proof = self._verify_data(of_client=self.is_client)
        self.say(HandshakeType.FINISHED, Finished(proof).serialize(), TRAFFIC_EPOCH)

    def check_finished(self, message: HandshakeMessage) -> None:
        """The peer's Finished against our own view of the handshake; raises `DtlsError`."""
        proof = Finished.parse(message.body).verify_data
        if not hmac.compare_digest(proof, self._verify_data(of_client=not self.is_client)):
            raise DtlsError(DtlsReason.BAD_FINISHED, "the two sides saw different handshakes")
        self.hash_in(message)

    def conclude(self) -> None:
        """Let go of what only the handshake needed. RFC 6347 §4.2.4: the server spoke last and keeps its flight."""
        self._transcript.clear()
        self._master_secret = None
        self.transport.finish(keep_flight=not self.is_client)

    def _verify_data(self, *, of_client: bool) -> bytes:
        assert self._master_secret is not None  # noqa: S101 - an earlier state saw to it
        return self._master_secret.verify_data(self.transcript, of_client=of_client)


def unexpected(state: str, message: HandshakeMessage) -> DtlsError:
    """The error for a message that the state has no use for."""
    return DtlsError(DtlsReason.UNEXPECTED_MESSAGE, f"type {message.msg_type} in state {state}")
