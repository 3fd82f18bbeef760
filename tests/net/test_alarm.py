"""An alarm rings when its time has come, and never before."""

from __future__ import annotations

import os
import sys

import pytest
import trio

from voicegate.net import Alarm


async def test_it_never_rings_early() -> None:
    with Alarm() as alarm:
        for delay_s in (0.0003, 0.0007, 0.0012, 0.0051):
            deadline = trio.current_time() + delay_s
            await alarm.sleep_until(deadline)
            assert trio.current_time() >= deadline - 1e-6


async def test_what_is_past_rings_at_once_and_lets_others_run() -> None:
    ran = False

    async def other() -> None:
        nonlocal ran
        ran = True

    with Alarm() as alarm:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            for _ in range(3):
                await alarm.sleep_until(trio.current_time() - 1)
            assert ran


async def test_who_was_woken_by_something_else_can_sleep_again() -> None:
    with Alarm() as alarm:
        with trio.move_on_after(0.01) as patience:
            await alarm.sleep_until(trio.current_time() + 60)
        assert patience.cancelled_caught
        deadline = trio.current_time() + 0.003
        with trio.fail_after(30):
            await alarm.sleep_until(deadline)
        assert trio.current_time() >= deadline - 1e-6


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_closed_alarm_has_no_file_and_sleeps_all_the_same() -> None:
    before = len(os.listdir("/proc/self/fd"))
    alarm = Alarm()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    alarm.close()
    alarm.close()
    assert len(os.listdir("/proc/self/fd")) == before
    deadline = trio.current_time() + 0.002
    await alarm.sleep_until(deadline)
    assert trio.current_time() >= deadline - 1e-6
