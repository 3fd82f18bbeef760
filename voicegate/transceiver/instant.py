"""Instant Connect: a session that its first packet creates (spec/instant.md).

    template ──▶ client                                        nothing is reserved
    client ──check──▶ `open_untrusted` ─▶ `use` ─▶ a session   nobody's yet: ICE and DTLS answer, nothing else does
    client ──offer──▶ `open_untrusted` ─▶ (`use`) ─▶ the same session, with the offer's fingerprint, codec and agent

Whichever of the two comes first uses the template up. `Templates` decides about templates and keeps nothing of a
session; the sessions are the business of `host.py`.
"""

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2s, sha256

from voicegate.dtls import Fingerprint
from voicegate.errors import PeerError
from voicegate.ice import Candidate, IceCredentials
from voicegate.ice.stun import StunMessage
from voicegate.routing import BINDING_LENGTH, DeferredCodec, DeferredHint, FleetKeys, Hint, HintKind, HintRefusal
from voicegate.transceiver.config import TransceiverConfig
from voicegate.transceiver.limits import (
    MATERIALISED_AT_ONCE,
    MATERIALISED_AT_ONCE_PER_PREFIX,
    MATERIALISED_PER_PREFIX_PER_S,
    MATERIALISED_PER_S,
    MAX_TEMPLATE_PREFIXES,
    MAX_USED_TEMPLATES,
    TEMPLATE_LIFETIME_S,
    UNCONFIRMED_LIMIT_S,
)


@dataclass(frozen=True, slots=True)
class Template:
    """What a client needs to write the answer to an offer that nobody has seen yet. `answer` is that answer for every
    offer of the shape of the one that was shown, None if none was."""

    ice: IceCredentials
    fingerprint: Fingerprint
    candidates: tuple[Candidate, ...]
    is_passive: bool
    expires_at: int
    ssrc: int
    cname: str
    answer: str | None = None


class TemplateRefusal(Enum):
    """Why a template leads to no session. Nobody is told but the operator."""

    NOT_OURS = "no template of this fleet, or of a slot that is not ours now"
    EXPIRED = "expired"
    USED = "used before"
    UNAUTHENTIC = "a check without the template's password"
    RATE = "too many first packets"
    PREFIX_RATE = "too many first packets from one source prefix"
    FULL = "no room"
    OTHER_CALLER = "bound to another certificate"
    OTHER_ROLE = "the offer wants the DTLS role that the template has"
    OTHERS = "completed by another offer"


@dataclass(frozen=True, slots=True)
class Names:
    """What a session made of a template is called: all of it follows from the template, so it need not be kept."""

    call_id: str
    ssrc: int

    @classmethod
    def of(cls, deferred: DeferredHint, ice: IceCredentials) -> "Names":
        """Unguessable for whoever was not given the template: the password is in it."""
        digest = sha256(f"call {ice.ufrag} {ice.pwd}".encode()).digest()
        return cls(f"rtc_{deferred.hint.slot:04x}{digest[:12].hex()}", int.from_bytes(digest[12:16], "big"))


class Templates:
    """Mints templates and knows which of them are used up. `clock` gives Unix time."""

    def __init__(self, config: TransceiverConfig, keys: FleetKeys, clock: Callable[[], float]) -> None:
        self.refused: Counter[TemplateRefusal] = Counter()
        self._config = config
        self._clock = clock
        self._used: OrderedDict[bytes, int] = OrderedDict()
        self._pace = Pace(MATERIALISED_PER_S, MATERIALISED_AT_ONCE)
        self._prefix_paces: OrderedDict[str, Pace] = OrderedDict()
        self.use_keys(keys)

    def use_keys(self, keys: FleetKeys) -> None:
        """Mint and open with these keys from now on."""
        self._keys = keys
        self._codec: DeferredCodec = keys.deferred_codec()

    def mint(
        self, slot: int, nonce: bytes, fingerprint: Fingerprint | None, *, is_passive: bool
    ) -> tuple[DeferredHint, IceCredentials]:
        """A new template for a client, with this certificate if it promises one."""
        config = self._config
        hint = Hint(HintKind.DEFERRED, config.cluster, slot, config.generation, nonce)
        expires_at = int(self._clock() + TEMPLATE_LIFETIME_S)
        binding = b"" if fingerprint is None else binding_of(fingerprint)
        deferred = DeferredHint(hint, expires_at, is_passive, binding)
        return deferred, self.credentials(self._codec.mint(deferred))

    def credentials(self, ufrag: str) -> IceCredentials:
        """Our ICE credentials in the session of a template."""
        return IceCredentials(ufrag, self._keys.ice_pwd(ufrag))

    def open_untrusted(self, ufrag: bytes, grace_s: float = 0.0) -> DeferredHint | TemplateRefusal:
        """What a template says that is ours and expired no longer than `grace_s` ago. Never raises."""
        deferred = self._codec.open_untrusted(ufrag)
        if isinstance(deferred, HintRefusal) or not self._is_ours(deferred.hint):
            return TemplateRefusal.NOT_OURS
        return TemplateRefusal.EXPIRED if deferred.expires_at + grace_s <= self._clock() else deferred

    def slot_untrusted(self, ufrag: bytes) -> int | None:
        """The slot of a template, whoever of our cluster holds that; None for anything else, and for one that expired
        so long ago that no session of its first packet waits for an offer any more."""
        deferred = self._codec.open_untrusted(ufrag)
        if isinstance(deferred, HintRefusal) or deferred.hint.cluster != self._config.cluster:
            return None
        return deferred.hint.slot if deferred.expires_at + UNCONFIRMED_LIMIT_S > self._clock() else None

    def admit_untrusted(self, ufrag: bytes, check: bytes, host: str, now: float) -> DeferredHint | TemplateRefusal:
        """What a template says whose first check this is: authentic, and not one too many. Never raises."""
        deferred = self.open_untrusted(ufrag)
        if isinstance(deferred, TemplateRefusal):
            return deferred
        if ufrag in self._used:
            return TemplateRefusal.USED
        # Only now, because this is the dear part; and before the paces, which nobody should use up for others.
        if not self._is_authentic(ufrag, check):
            return TemplateRefusal.UNAUTHENTIC
        if not self._prefix_pace(host).take(now):
            return TemplateRefusal.PREFIX_RATE
        return deferred if self._pace.take(now) else TemplateRefusal.RATE

    def use(self, ufrag: bytes, expires_at: int) -> bool:
        """Use a template up; False if it was before, or if no more can be remembered."""
        now = self._clock()
        while self._used and next(iter(self._used.values())) <= now:
            self._used.popitem(last=False)
        if ufrag in self._used or len(self._used) >= MAX_USED_TEMPLATES:
            return False
        self._used[ufrag] = expires_at
        return True

    def _is_ours(self, hint: Hint) -> bool:
        config = self._config
        return (hint.cluster, hint.generation) == (config.cluster, config.generation) and (
            config.first_slot <= hint.slot < config.first_slot + config.slot_count
        )

    def _is_authentic(self, ufrag: bytes, check: bytes) -> bool:
        try:
            message = StunMessage.parse(check)
        except PeerError:
            return False
        pwd = self._keys.ice_pwd(ufrag.decode("ascii"))
        return message.has_valid_fingerprint and message.verify_integrity(pwd.encode())

    def _prefix_pace(self, host: str) -> "Pace":
        prefix = source_prefix(host)
        pace = self._prefix_paces.pop(prefix, None)
        if pace is None:
            if len(self._prefix_paces) >= MAX_TEMPLATE_PREFIXES:
                self._prefix_paces.popitem(last=False)
            pace = Pace(MATERIALISED_PER_PREFIX_PER_S, MATERIALISED_AT_ONCE_PER_PREFIX)
        self._prefix_paces[prefix] = pace
        return pace


class Pace:
    """So many at once, and so many in a second in the long run."""

    __slots__ = ("_at_once", "_left", "_per_s", "_since")

    def __init__(self, per_s: float, at_once: float) -> None:
        self._per_s = per_s
        self._at_once = self._left = at_once
        self._since = float("-inf")

    def take(self, now: float) -> bool:
        """Whether one more may come now; it is counted."""
        self._left = min(self._at_once, self._left + (now - self._since) * self._per_s)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def binding_of(fingerprint: Fingerprint) -> bytes:
    """What stands in a deferred hint for the certificate that its holder promised."""
    return blake2s(fingerprint.to_sdp().encode(), digest_size=BINDING_LENGTH, person=b"binding").digest()


def source_prefix(host: str) -> str:
    """The IPv4 address, or the /64 of an IPv6 one: what one subscriber has."""
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return host if address.version == 4 else f"{int(address) >> 64:x}"  # noqa: PLR2004 - the IP version
