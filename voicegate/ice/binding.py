"""A connectivity check on the wire: judge a Binding request and build its answer (RFC 8445 §7.3), build one (§7.1).

Both agents answer alike; they differ in what they *do* with a good request.

    request ─▶ FINGERPRINT? ─▶ USERNAME, MESSAGE-INTEGRITY there? ─▶ ours? ─▶ all attributes understood? ─▶ agent
                │ no: drop      │ no: 400                             │ no: 401  │ no: 420
"""

from dataclasses import dataclass, field

from voicegate.ice.address import Addr
from voicegate.ice.credentials import IceCredentials, check_ufrag
from voicegate.ice.dtls_in_stun import DtlsInStun
from voicegate.ice.events import IceStatistics
from voicegate.ice.stun import (
    BAD_REQUEST,
    BINDING_ERROR,
    BINDING_REQUEST,
    BINDING_SUCCESS,
    ERROR_CODE,
    MESSAGE_INTEGRITY,
    PRIORITY,
    ROLE_CONFLICT,
    UNAUTHENTICATED,
    UNKNOWN_ATTRIBUTE,
    UNKNOWN_ATTRIBUTES,
    USE_CANDIDATE,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    StunError,
    StunMessage,
    error_code_value,
    unknown_attributes_value,
    xor_address_value,
)


@dataclass(slots=True)
class BindingServer:
    """What it takes to judge and answer requests that come to `local`; `username` is None until the peer is known."""

    username_prefix: bytes
    username: bytes | None
    key: bytes
    dtls_in_stun: DtlsInStun | None = None
    statistics: IceStatistics = field(default_factory=IceStatistics)

    @classmethod
    def of(
        cls, local: IceCredentials, remote_ufrag: str | None, dtls_in_stun: DtlsInStun | None = None
    ) -> "BindingServer":
        """The server for our credentials; `remote_ufrag` as in `expect`."""
        server = cls(local.ufrag.encode() + b":", None, local.pwd.encode(), dtls_in_stun)
        server.expect(remote_ufrag)
        return server

    def expect(self, remote_ufrag: str | None) -> None:
        """Accept only this peer from now on; None accepts whoever knows our password."""
        if remote_ufrag is not None:
            check_ufrag(remote_ufrag)
        # RFC 8445 §7.2.2: the USERNAME of a check names its receiver first, then its sender.
        self.username = None if remote_ufrag is None else self.username_prefix + remote_ufrag.encode()

    def parse(self, data: bytes) -> StunMessage | None:
        """The STUN message in a datagram, or None (counted) when it is noise."""
        try:
            message = StunMessage.parse(data)
        except StunError:
            self.statistics.dropped_malformed += 1
            return None
        # RFC 8445 §7.1: checks carry FINGERPRINT; RFC 8489 §6.3: without a right one they are silently discarded.
        if not message.has_valid_fingerprint:
            self.statistics.dropped_fingerprint += 1
            return None
        return message

    def error_of(self, request: StunMessage) -> int | None:
        """The error code that a Binding request deserves, or None when it is authentic and understood."""
        username = request.username
        # RFC 8489 §9.1.3: neither credential attribute may be missing.
        if username is None or MESSAGE_INTEGRITY not in request.attributes:
            self.statistics.refused_bad_request += 1
            return BAD_REQUEST
        # RFC 8489 §9.1.3: an unknown name and a wrong password are told apart by nobody.
        named_us = username == self.username if self.username else username.startswith(self.username_prefix)
        if not named_us or not request.verify_integrity(self.key):
            self.statistics.refused_unauthenticated += 1
            return UNAUTHENTICATED
        # RFC 8489 §6.3.1: unknown attributes matter only once the sender is known.
        if request.unknown_required:
            self.statistics.refused_unknown_attribute += 1
            return UNKNOWN_ATTRIBUTE
        return None

    def success(self, request: StunMessage, addr: Addr) -> bytes:
        """The success response that tells the peer the address it is seen at."""
        value = xor_address_value(addr, request.transaction_id)
        response = StunMessage(BINDING_SUCCESS, request.transaction_id, {XOR_MAPPED_ADDRESS: value})
        if self.dtls_in_stun is not None:
            self.dtls_in_stun.attach(response, addr, request)
        return response.serialize(self.key)

    def error(self, request: StunMessage, request_bytes: int, code: int) -> bytes | None:
        """The error response, or None (counted) when sending it would help an attacker."""
        attributes = {ERROR_CODE: error_code_value(code)}
        if code == UNKNOWN_ATTRIBUTE:
            attributes[UNKNOWN_ATTRIBUTES] = unknown_attributes_value(request.unknown_required)
        # RFC 8489 §9.1.3: an answer to somebody unauthenticated is not signed; it would be an oracle for our key.
        key = self.key if code in _AUTHENTICATED_ERRORS else None
        response = StunMessage(BINDING_ERROR, request.transaction_id, attributes).serialize(key)
        # A source address may be forged until it is authenticated, so nobody gets back more than was sent.
        if key is None and len(response) > request_bytes:
            self.statistics.errors_withheld += 1
            return None
        return response


def check_request(  # noqa: PLR0913 (one argument a field of the check, all by name)
    transaction_id: bytes,
    *,
    username: str,
    priority: int,
    role: int,
    tie_breaker: int,
    use_candidate: bool,
) -> StunMessage:
    """A connectivity check, to be sealed with the peer's password. `role` is ICE_CONTROLLING or ICE_CONTROLLED."""
    attributes = {
        USERNAME: username.encode(),
        PRIORITY: priority.to_bytes(4),
        role: tie_breaker.to_bytes(8),
    }
    if use_candidate:
        attributes[USE_CANDIDATE] = b""
    return StunMessage(BINDING_REQUEST, transaction_id, attributes)


_AUTHENTICATED_ERRORS = frozenset({UNKNOWN_ATTRIBUTE, ROLE_CONFLICT})
