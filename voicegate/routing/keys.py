"""The keys that a fleet shares, all derived from one secret.

    fleet secret ──HKDF──┬─▶ hint key   (relays, transceivers)  opens and mints ufrags
       of one            ├─▶ pwd key    (relays, transceivers)  derives a session's ice-pwd from its ufrag
    key configuration    ├─▶ hop key    (relays, transceivers)  authenticates bundles
                         ├─▶ flow key   (relays)                authenticates records in the flow cache
                         ├─▶ token key  (transceivers)          seals the tokens of clients
                         ├─▶ template key (transceivers)        seals the second part of deferred hints
                         └─▶ peer key   (transceivers)          authenticates requests between transceivers

Each key has one purpose and can also be given by itself, to a part that needs no other. A key configuration (0 to 6) is
a generation of all of them. To rotate: give every relay the new secret beside the old one, then let the transceivers
use the new one, then take the old one away when its last session is over.
"""

import hmac
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from voicegate.errors import LocalError
from voicegate.routing.deferred import DeferredCodec
from voicegate.routing.hint import HINT_KEY_LENGTH, UNROUTABLE, HintCodec, key_configuration
from voicegate.routing.limits import MAX_SECRET_OCTETS, MIN_SECRET_OCTETS

DERIVED_KEY_LENGTH = 32
"""Octets of all keys but the hint key: the longest key that blake2s and AES take."""


class ConfigurationError(ValueError):
    """Something a person wrote (a key, a registry) is wrong. The text says what and where, never a key itself."""


@dataclass(frozen=True, slots=True)
class FleetKeys:
    """The keys by purpose, each a mapping from key configuration to key; `current` is the configuration to mint, derive
    and send with. A mapping may be empty in a part that does not need that purpose."""

    hint_keys: Mapping[int, bytes] = field(repr=False)
    pwd_keys: Mapping[int, bytes] = field(repr=False)
    hop_keys: Mapping[int, bytes] = field(repr=False)
    flow_keys: Mapping[int, bytes] = field(repr=False)
    current: int
    token_keys: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    peer_keys: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    template_keys: Mapping[int, bytes] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for purpose, keys, length in (
            ("hint", self.hint_keys, HINT_KEY_LENGTH),
            ("pwd", self.pwd_keys, DERIVED_KEY_LENGTH),
            ("hop", self.hop_keys, DERIVED_KEY_LENGTH),
            ("flow", self.flow_keys, DERIVED_KEY_LENGTH),
            ("token", self.token_keys, DERIVED_KEY_LENGTH),
            ("peer", self.peer_keys, DERIVED_KEY_LENGTH),
            ("template", self.template_keys, DERIVED_KEY_LENGTH),
        ):
            for configuration, key in keys.items():
                if not 0 <= configuration < UNROUTABLE:
                    raise ConfigurationError(f"{purpose} key: configuration {configuration} is outside 0 to 6")
                if len(key) != length:
                    raise ConfigurationError(f"{purpose} key {configuration}: {len(key)} octets instead of {length}")
            if keys and self.current not in keys:
                raise ConfigurationError(f"{purpose} key: none for the current configuration {self.current}")

    @classmethod
    def from_secret(cls, secret: bytes, configuration: int = 0) -> "FleetKeys":
        """All keys of one secret (16 to 64 octets). Raises ConfigurationError."""
        return cls.from_secrets({configuration: secret}, configuration)

    @classmethod
    def from_secrets(cls, secrets: Mapping[int, bytes], current: int) -> "FleetKeys":
        """All keys of several secrets during a rotation: configuration to secret. Raises ConfigurationError."""
        for configuration, secret in secrets.items():
            if not 0 <= configuration < UNROUTABLE:
                raise ConfigurationError(f"secret: configuration {configuration} is outside 0 to 6")
            if not MIN_SECRET_OCTETS <= len(secret) <= MAX_SECRET_OCTETS:
                raise ConfigurationError(f"secret {configuration}: {len(secret)} octets instead of 16 to 64")
        return cls(
            hint_keys={c: _derive(secret, "hint", c, HINT_KEY_LENGTH) for c, secret in secrets.items()},
            pwd_keys={c: _derive(secret, "pwd", c, DERIVED_KEY_LENGTH) for c, secret in secrets.items()},
            hop_keys={c: _derive(secret, "hop", c, DERIVED_KEY_LENGTH) for c, secret in secrets.items()},
            flow_keys={c: _derive(secret, "flow", c, DERIVED_KEY_LENGTH) for c, secret in secrets.items()},
            token_keys={c: _derive(secret, "token", c, DERIVED_KEY_LENGTH) for c, secret in secrets.items()},
            peer_keys={c: _derive(secret, "peer", c, DERIVED_KEY_LENGTH) for c, secret in secrets.items()},
            template_keys={c: _derive(secret, "template", c, DERIVED_KEY_LENGTH) for c, secret in secrets.items()},
            current=current,
        )

    @classmethod
    def parse(cls, text: str) -> "FleetKeys":
        """All keys of the secrets in `text`, as people write them: one, or several separated by commas.

        The first is the one to mint and send with; the others are understood. So a rotation from 0 to 1 is `0:…,1:…` at
        every relay, then `1:…,0:…` everywhere, then `1:…`. Raises ConfigurationError.
        """
        secrets: dict[int, bytes] = {}
        for part in text.split(","):
            configuration, secret = parse_key(part)
            if configuration in secrets:
                raise ConfigurationError(f"key: configuration {configuration} is given twice")
            secrets[configuration] = secret
        return cls.from_secrets(secrets, next(iter(secrets)))

    def hint_codec(self) -> HintCodec:
        """A codec of these hint keys."""
        return HintCodec(self.hint_keys, self.current)

    def deferred_codec(self) -> DeferredCodec:
        """A codec of whole deferred hints, which takes the hint keys and the template keys."""
        return DeferredCodec(self.hint_codec(), self.template_keys, self.current)

    def ice_pwd(self, ufrag: str) -> str:
        """The ice-pwd of a ufrag that this fleet minted. Raises LocalError if its key configuration has no key here."""
        key = self.pwd_keys.get(key_configuration(ufrag))
        if key is None:
            raise LocalError("no pwd key for the key configuration of this ufrag")
        return derive_ice_pwd(key, ufrag)


def derive_ice_pwd(pwd_key: bytes, ufrag: str) -> str:
    """The session's ice-pwd: the first 18 octets of HMAC-SHA256 over the ufrag, as 24 characters of base64.

    Whoever holds the pwd key can check a STUN request without knowing the session: a relay at the edge, or the next
    transceiver that takes over the slot.
    """
    # RFC 8445 §5.3: a password has at least 128 bits of randomness; 18 octets are 144 and need no padding.
    return b64encode(hmac.digest(pwd_key, ufrag.encode("ascii"), sha256)[:18]).decode("ascii")


def parse_key(
    text: str, *, min_octets: int = HINT_KEY_LENGTH, max_octets: int = MAX_SECRET_OCTETS
) -> tuple[int, bytes]:
    """A key or secret as people write it, `HEX` or `CONFIGURATION:HEX`, as (configuration, octets).

    Without a configuration it is 0. Raises ConfigurationError, whose text never repeats the key.
    """
    configuration_text, colon, digits = text.strip().rpartition(":")
    configuration = 0
    if colon:
        if configuration_text not in _CONFIGURATIONS:
            # Not repeated: with a separator that is none (`0:KEY 1:KEY`) there is a key in it.
            raise ConfigurationError("key: the configuration before ':' is none of 0 to 6")
        configuration = int(configuration_text)
    if not digits or not _HEX_DIGITS.issuperset(digits):
        raise ConfigurationError("key: only hexadecimal digits are expected, optionally after CONFIGURATION:")
    if len(digits) % 2 or not min_octets <= len(digits) // 2 <= max_octets:
        expected = f"{2 * min_octets}" if min_octets == max_octets else f"{2 * min_octets} to {2 * max_octets}"
        raise ConfigurationError(f"key: {len(digits)} hexadecimal digits instead of {expected} (an even number)")
    return configuration, bytes.fromhex(digits)


_CONFIGURATIONS = frozenset("0123456")
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")


def _derive(secret: bytes, purpose: str, configuration: int, length: int) -> bytes:
    # RFC 5869 §3.2: `info` binds each derived key to its one use, so that no key can stand in for another.
    info = f"voicegate {purpose} {configuration}".encode("ascii")
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=info).derive(secret)
