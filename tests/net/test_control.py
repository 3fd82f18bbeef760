"""The lines of the control channel: round trip, bounds, and what happens with anything else."""

import socket
from contextlib import suppress
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.errors import LocalError
from voicegate.net import ControlChannel, ControlError, ControlRefusal
from voicegate.net.control import MessageStream, encode_message, parse_message
from voicegate.net.limits import MAX_LINE_OCTETS, MAX_QUEUED_LINES

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(deadline=None, max_examples=100)
@given(st.text(), json_values)
def test_a_message_survives_its_line(kind: str, body: Any) -> None:
    line = encode_message({"kind": kind, "body": body})
    assert line.count(b"\n") == 1
    assert parse_message(line[:-1]) == {"kind": kind, "body": body}


@settings(deadline=None, max_examples=200)
@given(st.binary() | json_values.map(lambda value: repr(value).encode()))
def test_any_line_is_a_message_or_refused(line: bytes) -> None:
    with suppress(ControlError):
        assert isinstance(parse_message(line)["kind"], str)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", ControlRefusal.NOT_JSON),
        (b"\xff", ControlRefusal.NOT_JSON),
        (b"[" * 100_000, ControlRefusal.NOT_JSON),
        (b"[]", ControlRefusal.NOT_A_MESSAGE),
        (b"{}", ControlRefusal.NOT_A_MESSAGE),
        (b'{"kind":7}', ControlRefusal.NOT_A_MESSAGE),
    ],
)
def test_refusals(line: bytes, reason: ControlRefusal) -> None:
    with pytest.raises(ControlError) as caught:
        parse_message(line)
    assert caught.value.reason is reason


@pytest.mark.parametrize("body", [float("nan"), {1, 2}, "x" * MAX_LINE_OCTETS])
def test_what_cannot_be_said_is_the_callers_mistake(body: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode_message({"kind": "notify", "body": body})


async def test_lines_are_found_wherever_they_are_cut() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        stream = MessageStream(ours)
        received = []

        async def read() -> None:
            received.extend([message["kind"] async for message in stream.messages()])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            for octet in b'{"kind":"one"}\n{"kind":"two"}\n{"kind":"cut':
                theirs.send(bytes([octet]))
                await trio.testing.wait_all_tasks_blocked()
            theirs.shutdown(socket.SHUT_WR)
        await stream.aclose()
    assert received == ["one", "two"]


async def test_an_endless_line_is_refused() -> None:
    ours, theirs = socket.socketpair()
    stream, flood = MessageStream(ours), MessageStream(theirs)
    async with trio.open_nursery() as nursery:
        with pytest.raises(ControlError) as caught:  # noqa: PT012

            async def write() -> None:
                while True:
                    await flood._stream.send_all(b"x" * 65_536)

            nursery.start_soon(write)
            async for _ in stream.messages():
                pass
        nursery.cancel_scope.cancel()
    assert caught.value.reason is ControlRefusal.LINE_TOO_LONG
    await stream.aclose()
    await flood.aclose()


async def test_a_queue_that_nobody_reads_drops_and_counts() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        stream = MessageStream(ours)
        for _ in range(MAX_QUEUED_LINES + 3):
            stream.send_nowait({"kind": "log"})
        assert stream.dropped == 3
        await stream.aclose()


async def test_after_the_end_messages_go_nowhere() -> None:
    ours, theirs = socket.socketpair()
    stream = MessageStream(ours)
    theirs.close()
    stream.send_nowait({"kind": "log"})
    await stream.run_writer()
    await stream.send({"kind": "ask"})
    assert stream.dropped == 1
    assert [message async for message in stream.messages()] == []
    await stream.aclose()


def test_a_child_needs_a_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOICEGATE_CONTROL_FD", raising=False)
    with pytest.raises(LocalError, match="started by a voicegate supervisor"):
        ControlChannel.from_environment()
