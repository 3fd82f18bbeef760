"""What the lite agent refuses, what it drops, and that neither helps an attacker."""

from collections.abc import Callable
from typing import Any

import pytest

from voicegate.ice import IceCredentials, StunMessage
from voicegate.ice.stun import (
    BINDING_ERROR,
    BINDING_INDICATION,
    BINDING_REQUEST,
    BINDING_SUCCESS,
    ICE_CONTROLLED,
    MESSAGE_INTEGRITY,
    PRIORITY,
    SOFTWARE,
    UNKNOWN_ATTRIBUTES,
    USERNAME,
)

ADDR = ("192.0.2.1", 40000)
ID = bytes(12)


def answer_to(agent: Any, data: bytes, drain_events: Callable[[Any], list[object]]) -> StunMessage | None:
    """The one answer to `data`, if any; a refusal must change nothing."""
    before = agent.next_timeout()
    agent.receive_datagram(data, ADDR, 1.0)
    answers = agent.datagrams_to_send(1.0)
    assert drain_events(agent) == []
    assert agent.selected_addr is None
    assert agent.next_timeout() == before
    if not answers:
        return None
    [(answer, addr)] = answers
    assert addr == ADDR
    message = StunMessage.parse(answer)
    if MESSAGE_INTEGRITY not in message.attributes:
        assert len(answer) <= len(data)
    return message


@pytest.mark.rfc("8489", "9.1.3")
@pytest.mark.parametrize(
    "wrong",
    [
        {"key": b"wrong password but long enough"},
        {"username": b"othr:cliU"},
        {"username": b"srvU:othr"},
        {"username": b"srvU"},
        {"username": b"srvUx:cliU"},
    ],
)
def test_a_wrong_password_or_name_is_refused_without_a_signature(
    make: Any, checks: Any, drain_events: Callable[[Any], list[object]], wrong: dict[str, bytes]
) -> None:
    agent = make.lite()
    answer = answer_to(agent, checks(**wrong), drain_events)
    assert answer is not None
    assert answer.message_type == BINDING_ERROR
    assert answer.error_code == 401
    assert MESSAGE_INTEGRITY not in answer.attributes
    assert agent.statistics.refused_unauthenticated == 1


@pytest.mark.rfc("8489", "9.1.3")
def test_missing_credentials_are_a_bad_request(make: Any, drain_events: Callable[[Any], list[object]]) -> None:
    agent = make.lite()
    long_enough = {SOFTWARE: b"a name", PRIORITY: b"1234"}
    for request in (
        StunMessage(BINDING_REQUEST, ID, long_enough | {USERNAME: b"srvU:cliU"}).serialize(),
        StunMessage(BINDING_REQUEST, ID, long_enough).serialize(b"srvU"),
    ):
        answer = answer_to(agent, request, drain_events)
        assert answer is not None
        assert answer.error_code == 400
        assert MESSAGE_INTEGRITY not in answer.attributes
    assert agent.statistics.refused_bad_request == 2


def test_an_answer_larger_than_the_question_is_not_given(
    make: Any, drain_events: Callable[[Any], list[object]]
) -> None:
    agent = make.lite()
    assert answer_to(agent, StunMessage(BINDING_REQUEST, ID).serialize(), drain_events) is None
    assert agent.statistics.errors_withheld == 1


@pytest.mark.rfc("8489", "6.3.1")
def test_unknown_required_attributes_are_named_in_a_signed_420(
    make: Any, checks: Any, drain_events: Callable[[Any], list[object]], server_credentials: IceCredentials
) -> None:
    answer = answer_to(make.lite(), checks(extra={0x7001: b"", 0x0003: bytes(4)}), drain_events)
    assert answer is not None
    assert answer.error_code == 420
    assert answer.attributes[UNKNOWN_ATTRIBUTES] == bytes.fromhex("7001 0003")
    assert answer.verify_integrity(server_credentials.pwd.encode())


def test_unknown_attributes_of_somebody_unauthenticated_are_none_of_our_business(
    make: Any, checks: Any, drain_events: Callable[[Any], list[object]]
) -> None:
    answer = answer_to(make.lite(), checks(extra={0x7001: b""}, key=b"wrong"), drain_events)
    assert answer is not None
    assert answer.error_code == 401


@pytest.mark.rfc("8445", "7.3.1.1")
def test_a_client_that_wants_to_be_controlled_must_control(
    make: Any, checks: Any, drain_events: Callable[[Any], list[object]], server_credentials: IceCredentials
) -> None:
    agent = make.lite()
    answer = answer_to(agent, checks(role=ICE_CONTROLLED), drain_events)
    assert answer is not None
    assert answer.error_code == 487
    assert answer.verify_integrity(server_credentials.pwd.encode())
    assert agent.statistics.refused_role_conflict == 1


@pytest.mark.rfc("8489", "6.3")
def test_a_damaged_or_missing_fingerprint_is_dropped_in_silence(
    make: Any, checks: Any, drain_events: Callable[[Any], list[object]]
) -> None:
    agent = make.lite()
    good = checks()
    assert answer_to(agent, good[:-1] + bytes([good[-1] ^ 1]), drain_events) is None
    unmarked = StunMessage(BINDING_REQUEST, ID, {USERNAME: b"srvU:cliU"}).serialize(b"x", fingerprint=False)
    assert answer_to(agent, unmarked, drain_events) is None
    assert agent.statistics.dropped_fingerprint == 2


def test_what_is_no_binding_request_is_dropped_in_silence(
    make: Any, drain_events: Callable[[Any], list[object]]
) -> None:
    agent = make.lite()
    other_method = 0x0003
    for message_type in (BINDING_INDICATION, BINDING_SUCCESS, BINDING_ERROR, other_method):
        assert answer_to(agent, StunMessage(message_type, ID).serialize(b"key"), drain_events) is None
    assert agent.statistics.dropped_unexpected == 4
    assert answer_to(agent, b"\x16\xfe\xff", drain_events) is None
    assert agent.statistics.dropped_malformed == 1
