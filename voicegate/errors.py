"""The two families of errors that leave a protocol core.

A core meets three kinds of trouble and treats each in its own way:

* **Noise**: a datagram that anyone could have sent (malformed, unauthenticated, replayed). It is dropped and counted
  and never surfaces as an exception from a running connection.
* **`PeerError`**: something that was addressed to us and is wrong. Parsers raise it for any malformed bytes; a
  connection that raises or reports it is over.
* **`LocalError`**: our own caller misused the core. It is a bug on this side and says what to do instead.
"""

from enum import Enum


class PeerError(Exception):
    """The peer sent something wrong. `reason` is precise enough to count by, `detail` says what was got and
    expected."""

    def __init__(self, reason: Enum, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason.value}: {detail}" if detail else str(reason.value))


class LocalError(Exception):
    """This side called a core in a way that its state does not allow."""
