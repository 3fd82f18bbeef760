"""Checks under way: when each is sent again and when it is given up (RFC 8489 §6.2.1).

sent    + RTO    + 2 RTO      + 4 RTO     …   7th copy       + 16 RTO
 │────────│──────────│───────────────│──── … ────│───────────────│ timed out
 └── any of these copies may be answered: they share one transaction id
"""

from dataclasses import dataclass

from voicegate.ice.checklist import CandidatePair
from voicegate.ice.limits import LAST_WAIT_RTOS, TRANSMISSIONS
from voicegate.ice.stun import StunMessage


@dataclass(slots=True, eq=False)
class Transaction:
    """One request of ours. `controlling` is the role it claimed, which may have changed before the answer comes;
    `request` is the message as it left, the same each time, `carried` the CRC-32 of the DTLS datagram inside of it."""

    pair: CandidatePair
    message: StunMessage
    sent_at: float
    rto_s: float
    controlling: bool
    use_candidate: bool
    is_consent: bool
    request: bytes = b""
    carried: int | None = None
    transmissions: int = 1
    deadline: float = 0.0
    is_superseded: bool = False
    """Not sent again and its loss means nothing, but an answer still counts."""

    @property
    def is_final(self) -> bool:
        """Whether no further copy will be sent."""
        # RFC 7675 §5.1: consent checks are not retransmitted; the next one comes soon enough.
        return self.is_superseded or self.is_consent or self.transmissions == TRANSMISSIONS


class Transactions:
    """All requests without an answer, by id: per pair one check and one superseded check, and a few for consent."""

    def __init__(self) -> None:
        self._by_id: dict[bytes, Transaction] = {}

    def __len__(self) -> int:
        return len(self._by_id)

    def add(self, transaction_id: bytes, transaction: Transaction) -> None:
        """A request was just sent."""
        self._schedule(transaction, transaction.sent_at)
        self._by_id[transaction_id] = transaction

    def find(self, transaction_id: bytes) -> Transaction | None:
        """The request that a response answers."""
        return self._by_id.get(transaction_id)

    def remove(self, transaction_id: bytes) -> None:
        """It was answered."""
        del self._by_id[transaction_id]

    def clear(self) -> None:
        """Forget everything."""
        self._by_id.clear()

    def supersede(self, pair: CandidatePair, now: float) -> None:
        """RFC 8445 §7.3.1.4: stop sending the check of `pair` again, but keep listening for its answer."""
        for transaction_id, transaction in list(self._by_id.items()):
            if transaction.pair is pair and not transaction.is_consent:
                if transaction.is_superseded:
                    # One is enough to listen for: a peer that checks us all the time must not make us remember more.
                    del self._by_id[transaction_id]
                else:
                    transaction.is_superseded = True
                    self._schedule(transaction, now)

    def next_timeout(self) -> float | None:
        """When the first of them needs something."""
        return min((transaction.deadline for transaction in self._by_id.values()), default=None)

    def handle_timeout(self, now: float) -> tuple[list[Transaction], list[Transaction]]:
        """Those to send again, and those that timed out."""
        due = [(key, transaction) for key, transaction in self._by_id.items() if transaction.deadline <= now]
        again, timed_out = [], []
        for transaction_id, transaction in due:
            if transaction.is_final:
                del self._by_id[transaction_id]
                timed_out.append(transaction)
            else:
                transaction.transmissions += 1
                self._schedule(transaction, now)
                again.append(transaction)
        return again, timed_out

    def _schedule(self, transaction: Transaction, now: float) -> None:
        rtos = LAST_WAIT_RTOS if transaction.is_final else 2 ** (transaction.transmissions - 1)
        transaction.deadline = now + rtos * transaction.rto_s
