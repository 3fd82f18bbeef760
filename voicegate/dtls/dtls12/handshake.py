"""What both roles of a DTLS 1.2 handshake share: transcript, keys, and the two Finished messages."""

import hmac

from voicegate.dtls.code_points import AlertDescription, ExtensionType, HandshakeType
from voicegate.dtls.dtls12.key_schedule import MasterSecret
from voicegate.dtls.dtls12.protection import Protection12
from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.handshake import Handshake
from voicegate.dtls.messages import CertificateMessage, Finished
from voicegate.dtls.messages.extensions import UNCOMPRESSED_POINT, parse_ec_point_formats, parse_renegotiation_info
from voicegate.dtls.reassembly import HandshakeMessage
from voicegate.dtls.settings import DtlsVersion, HandshakeSettings
from voicegate.dtls.srtp_keying import EXPORTER_LABEL, keying_material_bytes, split_keying_material
from voicegate.dtls.transport import HandshakeTransport

# RFC 6347 §4.1: ChangeCipherSpec moves each direction from epoch 0 to epoch 1.
TRAFFIC_EPOCH = 1


class Handshake12(Handshake):
    """State of one handshake; the roles add their states and handlers."""

    version = DtlsVersion.DTLS_1_2
    data_epoch = TRAFFIC_EPOCH

    def __init__(self, settings: HandshakeSettings, transport: HandshakeTransport, *, is_client: bool) -> None:
        super().__init__(settings, transport, is_client=is_client)
        self.client_random = b""
        self.server_random = b""
        self._transcript = bytearray()
        self._master_secret: MasterSecret | None = None

    def hash_in(self, message: HandshakeMessage) -> None:
        """Make a message part of the transcript."""
        self._transcript += message.serialize()

    @property
    def transcript(self) -> bytes:
        """All messages so far, as `HandshakeMessage.serialize` writes them (RFC 6347 §4.2.6)."""
        return bytes(self._transcript)

    def check_hello_extensions(self, extensions: dict[int, bytes]) -> None:
        """What a hello of either side must and must not say. Raises `DtlsError`."""
        # RFC 7627 §5.2, §5.3: without the extension the session could be a man in the middle's.
        extended_master_secret = extensions.get(ExtensionType.EXTENDED_MASTER_SECRET)
        if extended_master_secret is None:
            raise DtlsError(DtlsReason.MISSING_EXTENDED_MASTER_SECRET, "the hello does not have it")
        # RFC 7627 §5.1: there is nothing in it.
        if extended_master_secret:
            raise DtlsError(DtlsReason.MALFORMED, f"extended_master_secret of {len(extended_master_secret)} bytes")
        # RFC 5746 §3.4, §3.6: on a first handshake the content is empty; anything else is a handshake_failure. A peer
        # without the extension is accepted: the attack needs a renegotiation, and we never take part in one.
        renegotiation_info = extensions.get(ExtensionType.RENEGOTIATION_INFO)
        if renegotiation_info is not None and parse_renegotiation_info(renegotiation_info):
            detail = "renegotiation_info of a first handshake is not empty"
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, detail, AlertDescription.HANDSHAKE_FAILURE)
        # RFC 8422 §5.1.2: a list without the uncompressed format is an error.
        formats = extensions.get(ExtensionType.EC_POINT_FORMATS)
        if formats is not None and UNCOMPRESSED_POINT not in parse_ec_point_formats(formats):
            raise DtlsError(DtlsReason.ILLEGAL_PARAMETER, "no uncompressed points")

    def say_certificate(self) -> None:
        """Our certificate, and nothing above it."""
        self.say(HandshakeType.CERTIFICATE, CertificateMessage([self.settings.certificate.der]).serialize())

    def take_certificate(self, message: HandshakeMessage) -> None:
        """The peer's certificate; raises `DtlsError`."""
        self.hash_in(message)
        self.settings.identity.present(CertificateMessage.parse(message.body).certificates)

    def derive_keys(self, premaster: bytes) -> None:
        """Both sides know the secret: the transcript ends with ClientKeyExchange here (RFC 7627 §3)."""
        self._master_secret = MasterSecret.extended(premaster, self.transcript, self.client_random, self.server_random)
        client_keys, server_keys = self._master_secret.record_keys(self.cipher)
        ours, theirs = (client_keys, server_keys) if self.is_client else (server_keys, client_keys)
        records = self.transport.records
        records.install_write(TRAFFIC_EPOCH, Protection12(TRAFFIC_EPOCH, ours, self.cipher))
        records.install_read(TRAFFIC_EPOCH, Protection12(TRAFFIC_EPOCH, theirs, self.cipher))
        if self.srtp_profile is not None:
            block = self._master_secret.export(EXPORTER_LABEL, keying_material_bytes(self.srtp_profile))
            self.srtp = split_keying_material(self.srtp_profile, block, is_client=self.is_client)

    def say_change_cipher_spec_and_finished(self) -> None:
        """From here on we write under the new keys."""
        self.say_change_cipher_spec()
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
