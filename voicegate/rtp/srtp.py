"""SRTP: one object per direction, over libsrtp.

1. DTLS exports a master key and a master salt per direction; `SrtpSender` and `SrtpReceiver` are built from them.
2. A packet is known by its *index*: the 16-bit sequence number plus a roll-over counter (ROC) that is never sent.
   libsrtp guesses the index, authenticates, and only then believes the guess.
3. What is kept here beside is who sends: each source costs libsrtp memory that it never gives back.
4. libsrtp works in place. All packets of the process pass through one piece of memory, and through the functions of
   libsrtp itself, not through `pylibsrtp.Session`: that has memory of its own for each direction of each call, and
   takes as long as the cipher. So one thread of a process may use it.

```
   |<------------- authenticated ------------->|
   +------------+------------------------------+----------+
   | RTP header |      encrypted payload       |   tag    |      index = ROC << 16 | sequence number
   +------------+------------------------------+----------+
```

Packets that fail are counted by reason and raised as `SrtpError`: the caller drops them, the session goes on.
"""

from collections.abc import Callable
from enum import Enum
from typing import Any

from pylibsrtp import Policy
from pylibsrtp._binding import ffi, lib  # type: ignore[import-not-found]  # no stubs for what is written in C

from voicegate.errors import LocalError, PeerError
from voicegate.rtp.limits import MAX_SRTP_OCTETS, MAX_SRTP_STREAMS, SRTP_REPLAY_WINDOW


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


class _RefusedError(Exception):
    """libsrtp did not do it; its reason is the argument."""


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
        policy = Policy(key=key + salt, ssrc_type=ssrc_type, srtp_profile=libsrtp_profile)
        policy.window_size = SRTP_REPLAY_WINDOW
        made = ffi.new("srtp_t *")
        if status := lib.srtp_create(made, policy._policy):
            raise LocalError(f"libsrtp makes no session: error {status}")
        self._owned = ffi.gc(made, _free)
        self._session = made[0]

    def _process(self, function: Callable[[Any, Any, Any], int], packet: bytes) -> bytes:
        """What `function` makes of the packet. Raises `_RefusedError`."""
        length = len(packet)
        if length > MAX_SRTP_OCTETS:
            raise _RefusedError(SrtpErrorReason.TOO_LONG)
        _packet[:length] = packet
        _length[0] = length
        status = function(self._session, _memory, _length)
        if status:
            raise _RefusedError(_REASONS.get(status, SrtpErrorReason.MALFORMED))
        done: bytes = _packet[: _length[0]]
        return done


def _free(made: Any) -> None:
    lib.srtp_dealloc(made[0])


class SrtpSender(_Direction):
    """Protects what we send. `profile` is the IANA number: 0x0001 AES128_CM_SHA1_80, 0x0007 AEAD_AES_128_GCM,
    0x0008 AEAD_AES_256_GCM."""

    def __init__(self, profile: int, key: bytes, salt: bytes) -> None:
        super().__init__(profile, key, salt, Policy.SSRC_ANY_OUTBOUND)

    def protect_rtp(self, packet: bytes) -> bytes:
        """One RTP packet, encrypted and with its tag. A number that was used before is a `LocalError`."""
        try:
            return self._process(_protect_rtp, packet)
        except _RefusedError as error:
            raise LocalError(f"cannot protect this RTP packet of {len(packet)} bytes: {error}") from error

    def protect_rtcp(self, packet: bytes) -> bytes:
        """One RTCP datagram, encrypted, with its index and tag."""
        try:
            return self._process(_protect_rtcp, packet)
        except _RefusedError as error:
            raise LocalError(f"cannot protect this RTCP packet of {len(packet)} bytes: {error}") from error


class SrtpReceiver(_Direction):
    """Opens what the peer sends. `failures` counts refused packets by reason."""

    def __init__(self, profile: int, key: bytes, salt: bytes) -> None:
        super().__init__(profile, key, salt, Policy.SSRC_ANY_INBOUND)
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
            packet = self._process(_unprotect_rtp, data)
        except _RefusedError as error:
            raise self._failure(error.args[0], f"{len(data)} bytes") from error
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
            packet = self._process(_unprotect_rtcp, data)
        except _RefusedError as error:
            raise self._failure(error.args[0], f"{len(data)} bytes") from error
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
    0x0001: (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 16, 14),
    0x0007: (Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16, 12),
    0x0008: (Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 32, 12),
}

#: By the number that libsrtp gives them (srtp_err_status_t).
_REASONS = {
    7: SrtpErrorReason.AUTHENTICATION_FAILED,
    9: SrtpErrorReason.REPLAYED,
    10: SrtpErrorReason.TOO_OLD,
    15: SrtpErrorReason.KEY_EXHAUSTED,
}

_TRAILER_OCTETS = 148
"""What libsrtp may append at most: a tag, an identifier of the key, and the index of RTCP."""

_memory = ffi.new("char[]", MAX_SRTP_OCTETS + _TRAILER_OCTETS)
_packet = ffi.buffer(_memory)
_length = ffi.new("int *")

_protect_rtp, _protect_rtcp = lib.srtp_protect, lib.srtp_protect_rtcp
_unprotect_rtp, _unprotect_rtcp = lib.srtp_unprotect, lib.srtp_unprotect_rtcp
