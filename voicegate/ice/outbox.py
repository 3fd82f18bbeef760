"""What is to leave, turned into octets only when it leaves: DTLS may have something to add to it until then (SPED).

    a request judged good ─┐
    a check, or its copy  ─┼─▶ Outbox ── DTLS in STUN attaches ──▶ signed datagrams
    a refusal             ─┘

Between a check's arrival and the response to it the owner feeds DTLS what the check carried, and what DTLS says to that
rides in the response. A check is made once: its copies are the same octets (RFC 8489 §6.2.1).
"""

from voicegate.ice.address import Addr
from voicegate.ice.binding import BindingServer
from voicegate.ice.credentials import IceCredentials
from voicegate.ice.stun import StunMessage
from voicegate.ice.transaction import Transaction


class Outbox:
    """The datagrams of one agent, in order. `server` makes the responses, and knows what carries DTLS."""

    def __init__(self, server: BindingServer) -> None:
        self._server = server
        self._waiting: list[tuple[bytes | StunMessage | Transaction, Addr]] = []

    def refuse(self, response: bytes, addr: Addr) -> None:
        """An error response, which carries nothing."""
        self._waiting.append((response, addr))

    def respond(self, request: StunMessage, addr: Addr) -> None:
        """The success response to `request`."""
        self._waiting.append((request, addr))

    def check(self, check: Transaction) -> None:
        """A check of ours, or the next copy of it."""
        self._waiting.append((check, check.pair.addr))

    def take(self, remote: IceCredentials | None) -> list[tuple[bytes, Addr]]:
        """Everything that waits, sealed, with its destinations. Checks exist only once `remote` is known."""
        waiting, self._waiting = self._waiting, []
        return [(self._seal(item, addr, remote), addr) for item, addr in waiting]

    def _seal(self, item: bytes | StunMessage | Transaction, addr: Addr, remote: IceCredentials | None) -> bytes:
        if isinstance(item, bytes):
            return item
        if isinstance(item, StunMessage):
            return self._server.success(item, addr)
        if not item.request and remote is not None:
            if self._server.dtls_in_stun is not None:
                item.carried = self._server.dtls_in_stun.attach(item.message, addr)
            # RFC 8445 §7.2.2: the receiver's password is the key.
            item.request = item.message.serialize(remote.pwd.encode())
        return item.request
