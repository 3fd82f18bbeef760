"""From the words on the command line to an agent: a built-in name, `module:function`, or the URL of a backend."""

import importlib
import inspect
import os
import sys
from pathlib import Path
from typing import cast

from voicegate.agents.call import Agent
from voicegate.agents.echo import echo
from voicegate.agents.gateway import BACKEND_KEY_VARIABLE, RealtimeAgent, is_backend_url
from voicegate.agents.parrot import parrot

BUILT_IN: dict[str, Agent] = {"echo": echo, "parrot": parrot}


class AgentNotFoundError(Exception):
    """No such agent; the text says what was looked for and what there is."""


def load_agent(name: str) -> Agent:
    """Find the agent called `name`: one of `BUILT_IN`, `module:function` importable from here or the current folder, or
    a Realtime server by its URL, such as `wss://host/v1/realtime?model=m` (its key is in `VOICEGATE_BACKEND_KEY`).

    Raises `AgentNotFoundError` with one clear sentence when there is no such thing or it is not an async function of
    one argument.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if is_backend_url(name):
        try:
            return RealtimeAgent(name, os.environ.get(BACKEND_KEY_VARIABLE, ""))
        except ValueError as error:
            raise AgentNotFoundError(f"no agent {name!r}: {error}") from error
    module_name, colon, function_name = name.partition(":")
    if not (colon and module_name and function_name):
        known = ", ".join(sorted(BUILT_IN))
        raise AgentNotFoundError(f"no agent {name!r}: use {known}, module:function or wss://HOST/PATH")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        # Whatever the module does when it is imported is its author's mistake and not ours.
        what = str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}"
        raise AgentNotFoundError(f"cannot import {module_name!r} for agent {name!r}: {what}") from error
    function = getattr(module, function_name, None)
    if function is None:
        raise AgentNotFoundError(f"module {module_name!r} has no {function_name!r}")
    if not inspect.iscoroutinefunction(function) or len(inspect.signature(function).parameters) != 1:
        raise AgentNotFoundError(f"{name!r} is not an async function that takes one call")
    return cast(Agent, function)
