"""SNAP: the INIT chunks of both sides travel in SDP, and nothing is said before the first message
(draft-hancke-tsvwg-snap-00).

    a=sctp-init:AQAAHraq880AUAAA/////+UeYvTAAAAEgAgABoLA        one INIT chunk with its header, without padding

An answer has the line if the offer has, and then both sides are established the moment DTLS is up: tags, TSNs, windows,
streams and extensions are those of the two chunks. One that cannot be read is answered as if it were not there, so that
the handshake takes place as ever (the draft calls it an error of SDP; nobody is helped by a call that fails).

What an INIT says of its side is needed before there is an association, and must be the same in all that follows. That
is the `Identity`.
"""

from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass

from voicegate.sctp.chunks import ChunkType, Init
from voicegate.sctp.errors import SctpError, SctpReason
from voicegate.sctp.limits import MAXIMUM_SIGNALLED_INIT
from voicegate.sctp.packet import CHUNK_HEADER_BYTES
from voicegate.sctp.settings import SctpSettings


@dataclass(frozen=True, slots=True)
class Identity:
    """Our verification tag and first TSN: what tells this association from every other."""

    tag: int
    initial_tsn: int

    @classmethod
    def draw(cls, random_bytes: Callable[[int], bytes]) -> "Identity":
        """A new one."""
        # RFC 9260 §5.3.1: a tag of 0 means INIT.
        return cls(int.from_bytes(random_bytes(4), "big") or 1, int.from_bytes(random_bytes(4), "big"))

    def init(self, settings: SctpSettings, cookie: bytes | None = None, unrecognized: tuple[bytes, ...] = ()) -> Init:
        """What we say of ourselves in INIT and INIT-ACK."""
        streams, window = settings.streams, settings.receive_window
        return Init(self.tag, window, streams, streams, self.initial_tsn, cookie=cookie, unrecognized=unrecognized)


def local_init(identity: Identity, settings: SctpSettings) -> bytes:
    """Our INIT chunk without padding, as signalling takes it."""
    whole = identity.init(settings).serialize()
    return whole[: int.from_bytes(whole[2:4], "big")]


def init_to_sdp(identity: Identity, settings: SctpSettings) -> str:
    """The value of our `a=sctp-init`."""
    return b64encode(local_init(identity, settings)).decode()


def init_from_sdp(value: str) -> bytes:
    """The INIT chunk in an `a=sctp-init` of the peer, one that `establish` takes. Raises `SctpError`."""
    if len(value) > MAXIMUM_SIGNALLED_INIT:
        raise SctpError(SctpReason.MALFORMED, f"a=sctp-init of {len(value)} characters")
    try:
        chunk = b64decode(value, validate=True)
    except (Base64Error, ValueError) as error:
        raise SctpError(SctpReason.MALFORMED, "a=sctp-init is not base64") from error
    parse_init(chunk)
    return chunk


def parse_init(chunk: bytes) -> Init:
    """Read one INIT chunk that came by signalling, padded or not. Raises `SctpError` for one we cannot accept."""
    length = int.from_bytes(chunk[2:4], "big")
    if chunk[:1] != bytes((ChunkType.INIT,)) or not CHUNK_HEADER_BYTES <= length <= len(chunk):
        raise SctpError(SctpReason.MALFORMED, "not an INIT chunk")
    peer = Init.parse(chunk[CHUNK_HEADER_BYTES:length])
    check_init(peer)
    return peer


def check_init(peer: Init) -> None:
    """RFC 9260 §3.3.2, §3.3.3: a tag and streams of 0 cannot be. Raises `SctpError`."""
    if 0 in (peer.initiate_tag, peer.outbound_streams, peer.inbound_streams):
        raise SctpError(
            SctpReason.INVALID_PARAMETER,
            f"tag {peer.initiate_tag:#x}, streams {peer.outbound_streams} and {peer.inbound_streams}",
        )
