"""ClientHellos as Chromium 156 and Firefox 153 really send them: 1.4 kB, in two datagrams, extensions shuffled."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from voicegate.dtls import (
    CLASSICAL_GROUPS,
    POST_QUANTUM_GROUPS,
    ConnectionFailed,
    ConnectionState,
    DtlsReason,
    DtlsVersion,
    NamedGroup,
    SrtpProfile,
)
from voicegate.dtls.code_points import ExtensionType, HandshakeType
from voicegate.dtls.messages import ClientHello, ServerHello, ServerKeyExchange
from voicegate.dtls.messages.extensions import (
    KeyShareEntry,
    UseSrtp,
    parse_chosen_version,
    parse_supported_versions,
    serialize_supported_versions,
)

if TYPE_CHECKING:
    from tests.dtls.conftest import MakePair, Pair, Wire

CAPTURES = Path(__file__).parent / "captures"
EVERY_CAPTURE = pytest.mark.parametrize("name", ["chromium_156", "chromium_156_without_post_quantum", "firefox_153"])


def capture(name: str) -> list[bytes]:
    """The datagrams of one ClientHello; a blank line stands between them."""
    return [bytes.fromhex(text) for text in (CAPTURES / f"{name}.hex").read_text().split("\n\n")]


def body(datagrams: list[bytes], wire: Wire) -> bytes:
    return b"".join(fragment.data for fragment in sorted(wire.fragments(datagrams), key=lambda piece: piece.offset))


@EVERY_CAPTURE
def test_a_capture_survives_our_codec(name: str, wire: Wire) -> None:
    captured = body(capture(name), wire)
    hello = ClientHello.parse(captured)
    assert hello.serialize() == captured
    assert parse_supported_versions(hello.extensions[ExtensionType.SUPPORTED_VERSIONS])[:2] == [0xFEFC, 0xFEFD]


@EVERY_CAPTURE
@pytest.mark.parametrize("order", ["as sent", "reversed", "second twice", "50-byte fragments", "50 bytes, reversed"])
@pytest.mark.parametrize("version", [DtlsVersion.DTLS_1_2])
def test_the_answer_is_one_datagram_of_dtls_1_2(name: str, order: str, pair: Pair, wire: Wire) -> None:
    datagrams = capture(name)
    if "50" in order:
        datagrams = wire.cut(datagrams, 50)
    if "reversed" in order:
        datagrams.reverse()
    if "twice" in order:
        datagrams = [datagrams[-1], *datagrams]
    pair.to_server(datagrams)
    (answer,) = pair.from_server()
    messages = wire.fragments([answer])
    assert [message.msg_type for message in messages] == [
        HandshakeType.SERVER_HELLO,
        HandshakeType.CERTIFICATE,
        HandshakeType.SERVER_KEY_EXCHANGE,
        HandshakeType.CERTIFICATE_REQUEST,
        HandshakeType.SERVER_HELLO_DONE,
    ]
    hello = ServerHello.parse(messages[0].data)
    assert hello.cipher_suite == 0xC02B
    assert hello.session_id == b""
    # Chromium would rather have SHA1_80, but the choice is the server's.
    chosen = UseSrtp.parse(hello.extensions[ExtensionType.USE_SRTP])
    assert chosen == UseSrtp([SrtpProfile.AEAD_AES_128_GCM])
    assert ServerKeyExchange.parse(messages[2].data).group == 29


def test_nothing_is_answered_before_the_whole_hello_is_there(pair: Pair) -> None:
    first, second = capture("chromium_156")
    pair.to_server([first, first])
    assert pair.from_server() == []
    assert pair.server.state is ConnectionState.HELLO
    pair.to_server([second])
    assert len(pair.from_server()) == 1


@pytest.mark.rfc("6347", "4.2.4")
def test_a_repeated_hello_brings_the_answer_again_but_not_twice_for_its_two_halves(pair: Pair) -> None:
    hello = capture("firefox_153")
    pair.to_server(hello, now=0.0)
    assert len(pair.from_server()) == 1
    pair.to_server(hello, now=0.050)
    assert len(pair.from_server(0.050)) == 1
    pair.to_server(hello, now=0.051)
    assert pair.from_server(0.051) == []


@EVERY_CAPTURE
@pytest.mark.parametrize("version", [DtlsVersion.DTLS_1_3])
@pytest.mark.parametrize("groups", [CLASSICAL_GROUPS, POST_QUANTUM_GROUPS], ids=["X25519", "X25519MLKEM768"])
@pytest.mark.parametrize("reverse", [False, True], ids=["as sent", "reversed"])
def test_the_answer_in_dtls_1_3(
    name: str, groups: tuple[NamedGroup, ...], reverse: bool, make_pair: MakePair, wire: Wire
) -> None:
    pair = make_pair(groups=groups)
    pair.to_server(reversed(capture(name)) if reverse else capture(name))
    answer = pair.from_server()
    (first, *rest) = wire.fragments(answer)
    assert first.msg_type == HandshakeType.SERVER_HELLO
    hello = ServerHello.parse(b"".join(piece.data for piece in (first, *rest)))
    assert (hello.cipher_suite, hello.session_id) == (0x1301, b"")
    assert parse_chosen_version(hello.extensions[ExtensionType.SUPPORTED_VERSIONS]) == 0xFEFC
    chosen = KeyShareEntry.parse(hello.extensions[ExtensionType.KEY_SHARE]).group
    hybrid = groups == POST_QUANTUM_GROUPS and "without" not in name
    assert chosen == (NamedGroup.X25519MLKEM768 if hybrid else NamedGroup.X25519)
    # The first protected record travels with the ServerHello: alone it could come first and would be thrown away. A
    # hybrid ServerHello fills its datagram to the last octet.
    assert [len(datagram) for datagram in answer][:-1] == ([1199] if hybrid else [])
    assert answer[0][0] == 22


@EVERY_CAPTURE
@pytest.mark.parametrize("version", [DtlsVersion.DTLS_1_2])
def test_a_hello_for_dtls_1_3_alone_is_refused_with_its_own_reason(name: str, pair: Pair, wire: Wire) -> None:
    hello = ClientHello.parse(body(capture(name), wire))
    hello.extensions[ExtensionType.SUPPORTED_VERSIONS] = serialize_supported_versions([0xFEFC])
    changed = wire.rewrite(capture("chromium_156_without_post_quantum"), 1, lambda _: hello.serialize())
    pair.to_server(changed)
    (event,) = pair.server_events
    assert isinstance(event, ConnectionFailed)
    assert event.error.reason is DtlsReason.UNSUPPORTED_VERSION


@pytest.mark.parametrize("version", [DtlsVersion.DTLS_1_2])
@pytest.mark.rfc("8446", "4.1.3")
def test_no_downgrade_mark_while_1_2_is_the_best_we_speak(make_pair: MakePair, wire: Wire) -> None:
    """A browser that offered 1.3 would hang up on the mark; see `negotiation.py`."""
    for seed in range(20):
        pair = make_pair(seed=seed)
        pair.to_server(capture("chromium_156"))
        hello = ServerHello.parse(wire.fragments(pair.from_server())[0].data)
        assert not hello.random.endswith((b"DOWNGRD\x01", b"DOWNGRD\x00"))
