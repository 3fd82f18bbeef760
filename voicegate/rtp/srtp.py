"""SRTP: one object per direction, over libsrtp.

1. DTLS exports a master key and a master salt per direction; `SrtpSender` and `SrtpReceiver` are built from them.
2. A packet is known by its *index*: the 16-bit sequence number plus a roll-over counter (ROC) that is never sent.
   libsrtp guesses the index, authenticates, and only then believes the guess.
3. What is kept here beside is who sends: each source costs libsrtp memory that it never gives back.

```
   |<------------- authenticated ------------->|
   +------------+------------------------------+----------+
   | RTP header |      encrypted payload       |   tag    |      index = ROC << 16 | sequence number
   +------------+------------------------------+----------+
```

Packets that fail are counted by reason and raised as `SrtpError`: the caller drops them, the session goes on.
"""

from enum import Enum

import pylibsrtp

from voicegate.errors import LocalError, PeerError
from voicegate.rtp.limits import MAX_SRTP_STREAMS, SRTP_REPLAY_WINDOW


class SrtpErrorReason(Enum):
    """Why a protected packet was refused."""

    TOO_SHORT = "shorter than a header"
    TOO_LONG = "longer than a datagram of ours may be"
    AUTHENTICATION_FAILED = "authentication failed"
    REPLAYED = "index was seen before"
    TOO_OLD = "index is older than the replay window"
    TOO_MANY_STREAMS = "more synchronisation sources than one peer may use"
    KEY_EXHAUSTED = "key has protected as many packets as it may"
    MALFORMED = "not a protected packet"


class SrtpError(PeerError):
    """A protected packet was refused."""


class _Direction:
    """What both directions have in common: a libsrtp session."""

    def __init__(self, profile: int, key: bytes, salt: bytes, ssrc_type: int) -> None:
        suite = _SUITES.get(profile)
        if suite is None:
            raise LocalError(
                f"no SRTP profile {profile:#06x}; known are {', '.join(f'{known:#06x}' for known in _SUITES)}"
            )
        libsrtp_profile, key_octets, salt_octets = suite
        if len(key) != key_octets or len(salt) != salt_octets:
            raise LocalError(f"profile {profile:#06x} wants a key of {key_octets} and a salt of {salt_octets} bytes")
        # libsrtp takes them as one block, key first, as RFC 5764 §4.2 exports them.
        policy = pylibsrtp.Policy(key=key + salt, ssrc_type=ssrc_type, srtp_profile=libsrtp_profile)
        policy.window_size = SRTP_REPLAY_WINDOW
        self._session = pylibsrtp.Session(policy)


class SrtpSender(_Direction):
    """Protects what we send. `profile` is the IANA number: 0x0001 AES128_CM_SHA1_80, 0x0007 AEAD_AES_128_GCM,
    0x0008 AEAD_AES_256_GCM."""

    def __init__(self, profile: int, key: bytes, salt: bytes) -> None:
        super().__init__(profile, key, salt, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)

    def protect_rtp(self, packet: bytes) -> bytes:
        """One RTP packet, encrypted and with its tag. A number that was used before is a `LocalError`."""
        try:
            return self._session.protect(packet)
        except (pylibsrtp.Error, ValueError) as error:
            raise LocalError(f"cannot protect this RTP packet of {len(packet)} bytes: {error}") from error

    def protect_rtcp(self, packet: bytes) -> bytes:
        """One RTCP datagram, encrypted, with its index and tag."""
        try:
            return self._session.protect_rtcp(packet)
        except (pylibsrtp.Error, ValueError) as error:
            raise LocalError(f"cannot protect this RTCP packet of {len(packet)} bytes: {error}") from error


class SrtpReceiver(_Direction):
    """Opens what the peer sends. `failures` counts refused packets by reason."""

    def __init__(self, profile: int, key: bytes, salt: bytes) -> None:
        super().__init__(profile, key, salt, pylibsrtp.Policy.SSRC_ANY_INBOUND)
        self.failures = dict.fromkeys(SrtpErrorReason, 0)
        self._sources: set[bytes] = set()

    def unprotect_rtp(self, data: bytes) -> bytes:
        """The RTP packet inside, or `SrtpError`."""
        if len(data) < 12:
            raise self._failure(SrtpErrorReason.TOO_SHORT, f"{len(data)} bytes")
        ssrc = data[8:12]
        if ssrc not in self._sources:
            self._check_room(ssrc)
        try:
            packet = self._session.unprotect(data)
        except (pylibsrtp.Error, ValueError) as error:
            raise self._failure(_REASONS.get(str(error), SrtpErrorReason.MALFORMED), str(error)) from error
        self._sources.add(ssrc)
        return packet

    def unprotect_rtcp(self, data: bytes) -> bytes:
        """The RTCP datagram inside, or `SrtpError`. RTCP carries its index, so there is nothing to guess."""
        if len(data) < 8:
            raise self._failure(SrtpErrorReason.TOO_SHORT, f"{len(data)} bytes")
        ssrc = data[4:8]
        if ssrc not in self._sources:
            self._check_room(ssrc)
        try:
            packet = self._session.unprotect_rtcp(data)
        except (pylibsrtp.Error, ValueError) as error:
            raise self._failure(_REASONS.get(str(error), SrtpErrorReason.MALFORMED), str(error)) from error
        self._sources.add(ssrc)
        return packet

    def _check_room(self, ssrc: bytes) -> None:
        """libsrtp makes a context for every new source that proves authentic and never frees it: bound their number."""
        if len(self._sources) >= MAX_SRTP_STREAMS:
            raise self._failure(SrtpErrorReason.TOO_MANY_STREAMS, f"0x{ssrc.hex()}")

    def _failure(self, reason: SrtpErrorReason, detail: str) -> SrtpError:
        self.failures[reason] += 1
        return SrtpError(reason, detail)


#: By IANA number: libsrtp's name of the profile, lengths of its master key and salt (RFC 5764 §4.1.2, RFC 7714 §12).
_SUITES = {
    0x0001: (pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 16, 14),
    0x0007: (pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16, 12),
    0x0008: (pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 32, 12),
}

#: pylibsrtp tells errors apart by text only.
_REASONS = {
    "authentication failure": SrtpErrorReason.AUTHENTICATION_FAILED,
    "replay check failed (bad index)": SrtpErrorReason.REPLAYED,
    "replay check failed (index too old)": SrtpErrorReason.TOO_OLD,
    "can't use key any more": SrtpErrorReason.KEY_EXHAUSTED,
    "packet is too long": SrtpErrorReason.TOO_LONG,
}
