"""What every handshake has, whatever its version and role: a state, a transcript, a flight in preparation."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from voicegate.dtls.cipher_suites import CipherProfile
from voicegate.dtls.code_points import CipherSuite, HandshakeType, NamedGroup
from voicegate.dtls.errors import DtlsError, DtlsReason
from voicegate.dtls.flight import FlightPart
from voicegate.dtls.reassembly import HandshakeMessage
from voicegate.dtls.settings import DtlsVersion, HandshakeSettings
from voicegate.dtls.srtp_keying import SrtpKeyingMaterial, SrtpProfile
from voicegate.dtls.states import StateTable
from voicegate.dtls.transport import HandshakeTransport

PLAINTEXT_EPOCH = 0


class Handshake(ABC):
    """Feed it the peer's messages with `handle`, in their order; the roles add the states and what is done in them."""

    version: ClassVar[DtlsVersion]
    # The first epoch that carries application data.
    data_epoch: ClassVar[int]
    table: ClassVar[StateTable[Any]]

    def __init__(self, settings: HandshakeSettings, transport: HandshakeTransport, *, is_client: bool) -> None:
        self.settings = settings
        self.transport = transport
        self.is_client = is_client
        self.state = self.table.start
        self.suite: CipherSuite | None = None
        self.group: NamedGroup | None = None
        self.srtp_profile: SrtpProfile | None = None
        self.srtp: SrtpKeyingMaterial | None = None
        self._flight: list[FlightPart] = []

    def handle(self, message: HandshakeMessage, now: float) -> None:
        """Take the peer's next message; raises `DtlsError`, after which the handshake is over."""
        step = self.table.step(self.state, message.msg_type)
        if step is None:
            raise DtlsError(
                DtlsReason.UNEXPECTED_MESSAGE, f"type {message.msg_type} in state {self.state.name}: {self.state.value}"
            )
        self.state = step.handler(self, message, now)

    def acknowledged(self, now: float) -> None:  # noqa: B027 - most flights need no more than to be over
        """The peer has all of our last flight (DTLS 1.3)."""

    @property
    def is_complete(self) -> bool:
        """Whether application data may flow."""
        return bool(self.state.name == "COMPLETE")

    @property
    def read_epochs(self) -> tuple[int, ...]:
        """The epochs that the peer's next message may come in."""
        epoch = self.table.epoch(self.state)
        return (self.data_epoch if epoch is None else epoch,)

    @property
    def cipher(self) -> CipherProfile:
        """The suite that was agreed on."""
        assert self.suite is not None  # noqa: S101 - an earlier state saw to it
        return CipherProfile(self.suite)

    @abstractmethod
    def hash_in(self, message: HandshakeMessage) -> None:
        """Make a message part of the transcript."""

    def say(self, msg_type: HandshakeType, body: bytes, epoch: int = PLAINTEXT_EPOCH) -> None:
        """Append one of our messages to the flight in preparation, and to the transcript."""
        message = self.transport.number(msg_type, body)
        self.hash_in(message)
        self._flight.append(FlightPart(epoch, message))

    def say_change_cipher_spec(self) -> None:
        """Append a ChangeCipherSpec, which is no message (DTLS 1.2)."""
        self._flight.append(FlightPart(PLAINTEXT_EPOCH, None))

    def send_flight(self, now: float, *, expects_answer: bool) -> None:
        """Send what was said since the last flight."""
        flight, self._flight = self._flight, []
        self.transport.send_flight(flight, now, expects_answer=expects_answer)
