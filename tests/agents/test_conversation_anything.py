"""Whatever clients and an agent do, in any order: nothing fails, and every response ends."""

from __future__ import annotations

import contextlib
from typing import Any

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.agents.talk import TONE, Client, talk
from voicegate.agents import Call, Utterance
from voicegate.errors import LocalError
from voicegate.realtime.limits import ANSWER_LIMIT_S, STALL_LIMIT_S

IDS = st.sampled_from(["a", "b", "c", "root"])
MESSAGES = st.builds(
    lambda item_id, role, part: {"type": "message", "id": item_id, "role": role, "content": [part]},
    IDS,
    st.sampled_from(["user", "assistant", "system"]),
    st.sampled_from([{"type": "input_text", "text": "x"}, {"type": "output_text", "text": "x"}]),
)
CLIENT_ACTS = st.one_of(
    st.fixed_dictionaries({"type": st.just("conversation.item.create"), "item": MESSAGES, "previous_item_id": IDS}),
    st.fixed_dictionaries({"type": st.just("conversation.item.delete"), "item_id": IDS}),
    st.fixed_dictionaries(
        {"type": st.just("response.create")},
        optional={"response": st.sampled_from([{}, {"conversation": "none"}, {"output_modalities": ["text"]}])},
    ),
    st.sampled_from(
        [
            {"type": "response.cancel"},
            {"type": "output_audio_buffer.clear"},
            {"type": "input_audio_buffer.commit"},
            {"type": "input_audio_buffer.clear"},
            {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"turn_detection": None}}}},
            {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"turn_detection": 3}}}},
            {"type": "tool output"},
            {"type": "retrieve last"},
            {"type": "truncate last"},
        ]
    ),
)
AGENT_ACTS = st.sampled_from(["begin", "write", "words", "finish", "stop", "tool"])
TIMES = st.sampled_from([0.02, 0.1, 0.5, 6.0])
ACTS = st.lists(CLIENT_ACTS | AGENT_ACTS | TIMES, max_size=30)


class Puppet:
    """An agent whose strings the test pulls."""

    def __init__(self) -> None:
        self.call: Call
        self._utterances: list[Utterance] = []
        self._nursery: trio.Nursery

    async def __call__(self, call: Call) -> None:
        self.call = call
        call.turns()
        async with trio.open_nursery() as self._nursery:
            await call.wait_ended()
            self._nursery.cancel_scope.cancel()

    async def _ask(self) -> None:
        with contextlib.suppress(LocalError):  # The call ended before the answer.
            await self.call.call_tool("f", {})

    def do(self, act: str) -> None:
        latest = self._utterances[-1] if self._utterances else None
        if act == "begin":
            self._utterances.append(self.call.begin(transcript="so "))
        elif act == "stop":
            self.call.stop()
        elif act == "tool":
            self._nursery.start_soon(self._ask)
        elif latest is not None and act == "finish":
            latest.finish()
        elif latest is not None and not latest.is_finished:
            latest.add_transcript("on") if act == "words" else latest.write_nowait(TONE * 7)


def client_does(client: Client, act: dict[str, Any]) -> None:
    made = [event["item"]["id"] for event in client.all("conversation.item.added")]
    tools = [event["call_id"] for event in client.all("response.function_call_arguments.done")]
    match act["type"]:
        case "tool output":
            output = {"type": "function_call_output", "call_id": tools[-1] if tools else "call_x", "output": ""}
            client.send("conversation.item.create", item=output)
        case "retrieve last":
            client.send("conversation.item.retrieve", item_id=made[-1] if made else "x")
        case "truncate last":
            item_id = made[-1] if made else "x"
            client.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=100)
        case kind:
            client.send(kind, **{name: value for name, value in act.items() if name != "type"})


def check(client: Client) -> None:
    """What holds for every conversation that is over."""
    assert not [error for error in client.all("error") if error["error"]["type"] != "invalid_request_error"]
    begun = [event["response"]["id"] for event in client.all("response.created")]
    ended = [event["response"]["id"] for event in client.all("response.done")]
    assert sorted(begun) == sorted(ended)
    started = [event["response_id"] for event in client.all("output_audio_buffer.started")]
    over = client.all("output_audio_buffer.stopped") + client.all("output_audio_buffer.cleared")
    assert sorted(started) == sorted(event["response_id"] for event in over)
    added = [event["item"]["id"] for event in client.all("response.output_item.added")]
    done = [event["item"]["id"] for event in client.all("response.output_item.done")]
    assert sorted(added) == sorted(done)
    in_conversation = 0
    for event in client.told:
        if event["type"] == "response.created" and event["response"]["conversation_id"] is not None:
            in_conversation += 1
            assert in_conversation == 1
        elif event["type"] == "response.done" and event["response"]["conversation_id"] is not None:
            in_conversation -= 1


@settings(max_examples=100, deadline=None)
@given(ACTS)
def test_every_response_ends(acts: list[Any]) -> None:
    async def main() -> None:
        puppet = Puppet()
        async with talk(puppet) as t:
            for act in acts:
                if isinstance(act, str):
                    puppet.do(act)
                elif isinstance(act, float):
                    await t.pass_time(act)
                else:
                    client_does(t.client, act)
            for _ in range(round(3 * STALL_LIMIT_S + ANSWER_LIMIT_S) * 10):
                await trio.sleep(0.1)
                puppet.call.pull_frame()
            client = t.client
            begun = client.all("response.created")
            assert len(begun) == len(client.all("response.done"))
        check(client)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
