"""Sleep that ends when it should, for who keeps a rhythm.

An event loop waits in `epoll_wait`, whose time-outs are whole milliseconds, rounded up: a sleep ends half a millisecond
late on average. A timerfd(2) becomes readable in time, to some ten microseconds; waiting for that is cheaper, too,
because no scope has to be cancelled.
"""

import ctypes
import errno
import os
import sys
from types import TracebackType

import trio

_CLOCK_MONOTONIC = 1
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC if sys.platform == "linux" else 0
_EXPIRATIONS_OCTETS = 8
_NANOSECONDS = 1_000_000_000


class _TimerSpec(ctypes.Structure):
    """struct itimerspec: two times of seconds and nanoseconds. No interval: the alarm rings once."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Alarm:
    """One sleeper's alarm clock; where there is no timerfd it sleeps as everybody does."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
        self._fd = -1 if self._libc is None else int(self._libc.timerfd_create(_CLOCK_MONOTONIC, _FLAGS))

    def __enter__(self) -> "Alarm":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def sleep_until(self, deadline: float) -> None:
        """Sleep until `deadline` on trio's clock, and let others run in any case."""
        delay_ns = int((deadline - trio.current_time()) * _NANOSECONDS)
        if delay_ns <= 0 or not self._set(delay_ns):
            await trio.sleep_until(deadline)
            return
        await trio.lowlevel.wait_readable(self._fd)
        try:
            os.read(self._fd, _EXPIRATIONS_OCTETS)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise

    def close(self) -> None:
        """No more sleep. More than once is as good as once."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _set(self, delay_ns: int) -> bool:
        if self._libc is None or self._fd < 0:
            return False
        spec = _TimerSpec(0, 0, *divmod(delay_ns, _NANOSECONDS))
        status: int = self._libc.timerfd_settime(self._fd, 0, ctypes.byref(spec), None)
        return status == 0
