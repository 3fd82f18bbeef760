"""A reader of events that does not keep up."""

from typing import Any

from voicegate.signaling.event_socket import EventSocket
from voicegate.signaling.limits import MAX_WAITING_SOCKET_EVENTS, MAX_WAITING_SOCKET_OCTETS

AUDIO = '{"type":"response.output_audio.delta","delta":"%s"}'


def waiting(socket: EventSocket) -> list[str]:
    return list(socket._waiting)


def test_the_oldest_audio_makes_room(counters: Any) -> None:
    socket = EventSocket(counters, carries_audio=True)
    socket.send_nowait('{"type":"first"}')
    for number in range(MAX_WAITING_SOCKET_EVENTS):
        socket.send_nowait(AUDIO % number)
    socket.send_nowait('{"type":"last"}')
    assert len(waiting(socket)) == MAX_WAITING_SOCKET_EVENTS
    assert waiting(socket)[:2] == ['{"type":"first"}', AUDIO % 2]
    assert waiting(socket)[-1] == '{"type":"last"}'
    assert counters.socket_events_dropped == 2
    assert not counters.sockets_ended


def test_octets_are_bounded_as_well(counters: Any) -> None:
    socket = EventSocket(counters, carries_audio=True)
    for _ in range(10):
        socket.send_nowait(AUDIO % ("A" * (MAX_WAITING_SOCKET_OCTETS // 4)))
    assert len(waiting(socket)) == 3
    assert counters.socket_events_dropped == 7


def test_without_audio_to_drop_the_reader_is_disconnected(counters: Any) -> None:
    socket = EventSocket(counters)
    for number in range(MAX_WAITING_SOCKET_EVENTS):
        socket.send_nowait(f'{{"type":"{number}"}}')
    assert not counters.sockets_ended
    socket.send_nowait('{"type":"one too many"}')
    assert counters.sockets_ended == {"slow reader": 1}
    socket.send_nowait('{"type":"afterwards"}')
    assert waiting(socket) == []
