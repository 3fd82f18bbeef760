"""The hint: the server half of USERNAME, which says where a session lives (spec/hint.md).

1. A transceiver mints a hint for a session in one of its slots and puts it into the SDP answer as the ice-ufrag.
2. The client repeats it in every STUN Binding request, before anything else is known about the client.
3. A relay opens it and learns cluster, slot and slot generation. No table, no lookup, no state is needed for that, and
   a forged or mistyped ufrag is refused before anything is allocated.

      ufrag, 23 characters of base64                                   one canonical spelling
    ┌──────────────────────────────────────────────────────────────┐
    │ first octet │              one AES-128 block                 │   17 octets
    └─────┬───────┴───────────────────┬────────────────────────────┘
     3 bits: key configuration        │  decrypted under that configuration's key
     5 bits: zero                     ▼
      0         5      6         8       10           11          16
    ┌──────────┬──────┬─────────┬────────┬────────────┬───────────┐
    │ 5 x zero │ kind │ cluster │  slot  │ generation │   nonce   │      network order
    └──────────┴──────┴─────────┴────────┴────────────┴───────────┘

The shape is that of QUIC-LB connection ids in their single-pass form (draft-ietf-quic-load-balancers §5.4.1): all 16
octets are one block, so a single AES operation is a pseudo-random permutation of the whole and needs no mode and no
tag. The 40 zero bits are the redundancy that makes a random block fail.

A *deferred* hint is such a routing block and 48 more characters, sealed for transceivers (`deferred.py`):

    ufrag, 71 characters     23 of a routing block, kind DEFERRED │ 48 that relays only look at the spelling of

The keyed AES contexts are kept; they are not safe to share between threads.
"""

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from struct import Struct
from struct import error as StructError

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

from voicegate.errors import LocalError

UFRAG_LENGTH = 23
SEALED_LENGTH = 48
DEFERRED_UFRAG_LENGTH = UFRAG_LENGTH + SEALED_LENGTH
NONCE_LENGTH = 5
HINT_KEY_LENGTH = 16
UNROUTABLE = 0b111
"""The key configuration that no key may have: kept, as in QUIC-LB, for a server that has no key."""

REFUSED = -1
"""What `HintCodec.route_untrusted` says instead of a route."""


class HintKind(IntEnum):
    """What a hint leads to."""

    PINNED = 1
    """A session that one transceiver already holds."""
    DEFERRED = 2
    """A session that its first packet creates, at whichever transceiver holds the slot then."""


@dataclass(slots=True, unsafe_hash=True)
class Hint:
    """Where a session lives: ids, never addresses. `nonce` (5 octets) tells the sessions of a slot apart."""

    kind: HintKind
    cluster: int
    slot: int
    generation: int
    nonce: bytes

    @property
    def route(self) -> int:
        """Cluster (16 bits), slot (16 bits) and generation (8 bits) as one integer, the most significant first."""
        return pack_route(self.cluster, self.slot, self.generation)


class HintRefusal(Enum):
    """Why a ufrag is not a hint, in the order in which it is looked at."""

    LENGTH = "neither 23 nor 71 characters"
    ALPHABET = "a character outside A-Z a-z 0-9 + /"
    NOT_CANONICAL = "a spare bit is set, so this is not the canonical spelling"
    UNKNOWN_KEY_CONFIGURATION = "no key for this key configuration"
    REDUNDANCY = "the fixed octets of the block do not match: forged, or minted under another key"
    KIND = "a kind that this version does not route, or not at this length"
    SEAL = "the second part was not sealed for this first one, or under another key"
    PROFILE = "the second part says what this version does not know"


def pack_route(cluster: int, slot: int, generation: int) -> int:
    """Cluster, slot and generation as the one integer that `HintCodec.route_untrusted` returns."""
    return cluster << 24 | slot << 8 | generation


class HintCodec:
    """Mints and opens hints. `keys` maps key configurations (0 to 6) to 16-octet keys, `mint_with` names the one to
    mint with. Keys rotate relays first: a relay holds old and new, and only then transceivers mint with the new one.

    Raises LocalError for keys that cannot be used.
    """

    __slots__ = ("_decrypt", "_encrypt", "_first_octet")

    def __init__(self, keys: Mapping[int, bytes], mint_with: int) -> None:
        for configuration, key in keys.items():
            if not 0 <= configuration < UNROUTABLE:
                raise LocalError(f"key configuration {configuration} is outside 0 to 6")
            if len(key) != HINT_KEY_LENGTH:
                raise LocalError(f"the key of configuration {configuration} has {len(key)} octets instead of 16")
        if mint_with not in keys:
            raise LocalError(f"no key for key configuration {mint_with}, which is to mint")
        # By the whole first octet, so that an octet whose five spare bits are not zero finds no key.
        self._decrypt: dict[int, Callable[[bytes], bytes]] = {
            configuration << 5: _block_cipher(key).decryptor().update for configuration, key in keys.items()
        }
        self._encrypt = _block_cipher(keys[mint_with]).encryptor().update
        self._first_octet = bytes([mint_with << 5])

    def mint(self, hint: Hint) -> str:
        """The routing block of `hint`: all of a pinned ufrag, the first part of a deferred one. Raises LocalError for a
        field that does not fit its place."""
        if len(hint.nonce) != NONCE_LENGTH:
            raise LocalError(f"a nonce has 5 octets, not {len(hint.nonce)}")
        try:
            block = _BLOCK.pack(_REDUNDANCY, hint.kind, hint.cluster, hint.slot, hint.generation, hint.nonce)
        except StructError as error:
            raise LocalError(f"a hint does not fit its layout: {error}") from error
        return b2a_base64(self._first_octet + self._encrypt(block), newline=False)[:UFRAG_LENGTH].decode("ascii")

    def open_untrusted(self, ufrag: bytes) -> Hint | HintRefusal:
        """The hint in a ufrag from the network, or why there is none. Never raises."""
        block = self._block(ufrag)
        if block < 0:
            return self._why_refused(ufrag)
        _, kind, cluster, slot, generation, nonce = _BLOCK.unpack(block.to_bytes(16, "big"))
        return Hint(HintKind(kind), cluster, slot, generation, nonce)

    def route_untrusted(self, ufrag: bytes) -> int:
        """`Hint.route` of a ufrag, or REFUSED: what a relay needs for each STUN request and nothing else."""
        block = self._block(ufrag)
        return block >> 40 & 0xFF_FFFF_FFFF if block >= 0 else REFUSED

    def _block(self, ufrag: bytes) -> int:
        """The decrypted block as an integer, or REFUSED. Reasons are found apart from here: most ufrags are good."""
        padded = ufrag + b"="
        try:
            octets = a2b_base64(padded)
        except Base64Error:
            return REFUSED
        # The decoder skips foreign characters and ignores spare bits: only what encodes to itself is canonical.
        if len(octets) != _OCTETS:
            return self._deferred_block(ufrag)
        if b2a_base64(octets, newline=False) != padded:
            return REFUSED
        decrypt = self._decrypt.get(octets[0])
        if decrypt is None:
            return REFUSED
        block = int.from_bytes(decrypt(octets[1:]), "big")
        # Five zero octets and the kind at once.
        return block if block >> 80 == _ROUTABLE else REFUSED

    def _deferred_block(self, ufrag: bytes) -> int:
        """As `_block` for what has not the length of a pinned hint. What the second part says is not read here."""
        # 48 characters are 36 octets without a spare bit: the alphabet alone makes their spelling the only one.
        if len(ufrag) != DEFERRED_UFRAG_LENGTH or not _ALPHABET.issuperset(ufrag):
            return REFUSED
        head = ufrag[:UFRAG_LENGTH] + b"="
        octets = a2b_base64(head)
        decrypt = self._decrypt.get(octets[0])
        if decrypt is None or b2a_base64(octets, newline=False) != head:
            return REFUSED
        block = int.from_bytes(decrypt(octets[1:]), "big")
        return block if block >> 80 == _DEFERRED else REFUSED

    def _why_refused(self, ufrag: bytes) -> HintRefusal:
        if len(ufrag) not in {UFRAG_LENGTH, DEFERRED_UFRAG_LENGTH}:
            return HintRefusal.LENGTH
        if not _ALPHABET.issuperset(ufrag):
            return HintRefusal.ALPHABET
        head = ufrag[:UFRAG_LENGTH]
        octets = a2b_base64(head + b"=")
        if b2a_base64(octets, newline=False)[:UFRAG_LENGTH] != head or octets[0] & 0b11111:
            return HintRefusal.NOT_CANONICAL
        decrypt = self._decrypt.get(octets[0])
        if decrypt is None:
            return HintRefusal.UNKNOWN_KEY_CONFIGURATION
        return HintRefusal.KIND if decrypt(octets[1:]).startswith(_REDUNDANCY) else HintRefusal.REDUNDANCY


def key_configuration(ufrag: str) -> int:
    """Which key configuration a ufrag names, without opening it (its first character holds the six leading bits)."""
    return a2b_base64(ufrag[:4])[0] >> 5


_OCTETS = 17
_ROUTABLE, _DEFERRED = int(HintKind.PINNED), int(HintKind.DEFERRED)
"""What five zero octets and the kind read as; a plain integer compares faster than a member of an enum."""
_BLOCK = Struct("!5s B H H B 5s")
_REDUNDANCY = bytes(5)
_ALPHABET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def _block_cipher(key: bytes) -> Cipher[ECB]:
    # One block under ECB is the bare permutation that the contract asks for; nothing here is ever longer than a block.
    return Cipher(AES(key), ECB())  # noqa: S305
