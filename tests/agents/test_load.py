"""From a name to an agent, or to one sentence that says why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from voicegate.agents import BUILT_IN, AgentNotFoundError, load_agent
from voicegate.agents.gateway import RealtimeAgent

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_built_in(name: str) -> None:
    assert load_agent(name) is BUILT_IN[name]


def test_module_and_function_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_fine_agent.py").write_text("async def answer(call):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_agent("my_fine_agent:answer").__name__ == "answer"


@pytest.mark.parametrize("url", ["wss://api.example.com/v1/realtime?model=m", "ws://127.0.0.1:8080"])
def test_the_url_of_a_realtime_server(url: str) -> None:
    agent = load_agent(url)
    assert isinstance(agent, RealtimeAgent)
    assert agent.speaks_realtime


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nobody", "no agent 'nobody': use echo, parrot, module:function or wss://HOST/PATH"),
        ("nobody:", "no agent 'nobody:': use echo, parrot, module:function or wss://HOST/PATH"),
        ("wss://", "no agent 'wss://': not ws://HOST… or wss://HOST…"),
        ("ws://host:0/", "no agent 'ws://host:0/': not ws://HOST… or wss://HOST…"),
        ("ws://host:port/", "no agent 'ws://host:port/': Port could not be cast"),
        ("ws://ho st/", "no agent 'ws://ho st/': a URL has no spaces"),
        ("no_such_module:x", "cannot import 'no_such_module'"),
        ("json:nothing", "module 'json' has no 'nothing'"),
        ("json:dumps", "'json:dumps' is not an async function that takes one call"),
        ("faulty_agent:agent", "cannot import 'faulty_agent' for agent 'faulty_agent:agent': ZeroDivisionError"),
        ("broken_agent:agent", "cannot import 'broken_agent' for agent 'broken_agent:agent': SyntaxError"),
        ("greedy_agent:agent", "'greedy_agent:agent' is not an async function that takes one call"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    name: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faulty_agent.py").write_text("1 / 0\n")
    (tmp_path / "broken_agent.py").write_text("async def agent(call:\n")
    (tmp_path / "greedy_agent.py").write_text("async def agent(call, more):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(AgentNotFoundError) as refusal:
        load_agent(name)
    assert str(refusal.value).startswith(sentence)
    assert "\n" not in str(refusal.value)
