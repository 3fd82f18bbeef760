"""The parser and the published schema agree, whatever is said; and nothing that is said does harm."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio_websocket import ConnectionClosed

from voicegate.signaling.messages import (
    Bye,
    ErrorCode,
    MessageError,
    Offer,
    RemoteCandidate,
    parse_client_message,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
nearly_messages = st.fixed_dictionaries(
    {"type": st.sampled_from(["offer", "candidate", "bye", "answer", "Offer", ""]) | json_values},
    optional={
        "sdp": st.just("v=0\r\n") | st.text(max_size=50) | json_values,
        "dcid": st.integers(-2, 1026) | json_values,
        "candidate": st.just("candidate:1 …") | st.none() | json_values,
        "sdpMid": json_values,
        "reason": st.text(max_size=50) | json_values,
    },
)
anything_said = (
    st.text(max_size=200)
    | st.binary(max_size=200)
    | (json_values | nearly_messages).map(json.dumps)
    | (json_values | nearly_messages).map(lambda value: json.dumps(value, ensure_ascii=False))
)


VECTORS = json.loads((Path(__file__).parents[2] / "spec" / "signaling.json").read_text())["client_messages"]


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["text"][:40])
def test_the_published_vectors(vector: dict[str, Any], is_client_message: Callable[[object], bool]) -> None:
    if "error" in vector:
        with pytest.raises(MessageError) as refused:
            parse_client_message(vector["text"])
        assert refused.value.reason.value == vector["error"]
    else:
        assert is_client_message(json.loads(vector["text"]))
        assert parse_client_message(vector["text"]) == expected_message(**vector["message"])


def expected_message(type: str, **fields: Any) -> object:
    return {"offer": Offer, "candidate": RemoteCandidate, "bye": Bye}[type](**fields)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=json_values | nearly_messages)
def test_the_parser_takes_what_the_schema_takes_and_nothing_else(
    is_client_message: Callable[[object], bool], message: object
) -> None:
    try:
        parse_client_message(json.dumps(message))
    except MessageError:
        assert not is_client_message(message)
    else:
        assert is_client_message(message)


@settings(deadline=None, max_examples=300)
@given(said=anything_said)
def test_whatever_is_said_is_a_message_or_an_error_with_a_sentence(said: str | bytes) -> None:
    refusal = None
    try:
        parse_client_message(said)
    except MessageError as error:
        refusal = error
    assert refusal is None or (isinstance(refusal.reason, ErrorCode) and refusal.detail)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(conversation=st.lists(anything_said.filter(lambda said: not has_surrogates(said)), max_size=12))
async def test_any_conversation_gets_only_messages_of_the_schema_and_harms_nobody_else(
    dial_into: Any, conversation: list[str | bytes]
) -> None:
    async with trio.open_nursery() as nursery, dial_into(nursery) as other:
        async with dial_into(nursery) as client:
            try:
                for said in conversation:
                    await client.websocket.send_message(said)
                await client.say(type="bye")
                while (await client.hear())["type"] != "bye":
                    pass
            except ConnectionClosed:
                pass
        await other.call()


def has_surrogates(said: str | bytes) -> bool:
    """A text frame is UTF-8, so a client cannot say these, except escaped."""
    return isinstance(said, str) and any("\ud800" <= character <= "\udfff" for character in said)
