"""When reports are due: soon at first, seldom later."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from voicegate.rtp import RtpSession


@dataclass(frozen=True)
class Keys:
    local_key: bytes = b"l" * 16
    remote_key: bytes = b"r" * 16
    local_salt: bytes = b"s" * 14
    remote_salt: bytes = b"s" * 14
    profile: int = 0x0001


@pytest.mark.rfc("3550", "6.2")
def test_the_wait_for_a_report_doubles_up_to_five_seconds() -> None:
    session = RtpSession(
        Keys(), ssrc=7, payload_type=111, cname="x", first_sequence_number=0, first_timestamp=0, now=10.0
    )
    due = []
    for _ in range(6):
        due.append(session.next_report_at)
        session.report(session.next_report_at, 1.7e9)
    assert due == pytest.approx([10.1, 11.1, 13.1, 17.1, 22.1, 27.1])
