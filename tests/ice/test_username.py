"""What a relay reads of a datagram before anybody has authenticated it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.ice import StunMessage, is_binding_request, is_stun, server_ufrag_untrusted
from voicegate.ice.stun import BINDING_INDICATION, BINDING_REQUEST, BINDING_SUCCESS, PRIORITY, SOFTWARE, USERNAME

ID = bytes(12)


def request(attributes: dict[int, bytes], message_type: int = BINDING_REQUEST) -> bytes:
    return StunMessage(message_type, ID, attributes).serialize(b"key")


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_the_servers_half_is_found_in_any_buffer(wrap: type) -> None:
    data = wrap(request({USERNAME: b"srvU:cliU"}))
    assert server_ufrag_untrusted(data) == b"srvU"
    assert is_stun(data)
    assert is_binding_request(data)


def test_it_need_not_come_first() -> None:
    assert server_ufrag_untrusted(request({SOFTWARE: b"x" * 5, PRIORITY: b"1234", USERNAME: b"abcd:e"})) == b"abcd"


def test_what_looks_like_one_inside_of_another_attribute_is_none() -> None:
    assert (
        server_ufrag_untrusted(request({SOFTWARE: bytes.fromhex("00060003613a62"), USERNAME: b"srvU:cliU"})) == b"srvU"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        request({PRIORITY: b"1234"}),
        request({USERNAME: b"no colon"}),
        request({USERNAME: b"a:" + b"b" * 512}),
        request({0x4000 + number: b"" for number in range(40)} | {USERNAME: b"a:b"}),
        request({USERNAME: b"srvU:cliU"}, BINDING_SUCCESS),
        request({USERNAME: b"srvU:cliU"}, BINDING_INDICATION),
        request({USERNAME: b"srvU:cliU"})[:-4],
        request({USERNAME: b"srvU:cliU"}) + bytes(4),
        bytes.fromhex("0001 0008 2112a442") + ID + bytes.fromhex("0006 0010 613a6263"),
        bytes.fromhex("0001 0004 2112a442") + ID + bytes.fromhex("8022 0003"),
    ],
)
def test_anything_else_has_none(data: bytes) -> None:
    assert server_ufrag_untrusted(data) is None


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=64) | st.binary(max_size=64).map(lambda tail: bytes.fromhex("0001002c2112a442") + tail))
def test_no_bytes_make_it_raise(data: bytes) -> None:
    server_ufrag_untrusted(data)
    is_binding_request(data)
    is_stun(data)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=300), st.binary(max_size=200))
def test_it_agrees_with_the_parser(server: bytes, client: bytes) -> None:
    username = server.replace(b":", b"") + b":" + client
    data = request({USERNAME: username})
    assert server_ufrag_untrusted(data) == server.replace(b":", b"")
    assert StunMessage.parse(data).username == username


def test_media_and_dtls_are_not_stun() -> None:
    assert not is_stun(b"\x80\x6f" + bytes(30))
    assert not is_stun(b"\x16\xfe\xff" + bytes(30))
    assert not is_stun(bytes(30))
    assert not is_binding_request(request({}, BINDING_SUCCESS))
