"""The shapes as the `openai` package has them: a second opinion about everything that goes over the wire."""

from __future__ import annotations

import json
import typing
from typing import Any

from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent
from pydantic import BaseModel


def _by_type(union: Any) -> dict[str, type[BaseModel]]:
    while typing.get_origin(union) is typing.Annotated:
        union = typing.get_args(union)[0]
    models: tuple[type[BaseModel], ...] = typing.get_args(union)
    return {typing.get_args(model.model_fields["type"].annotation)[0]: model for model in models}


OFFICIAL_SERVER_EVENTS = _by_type(RealtimeServerEvent)
OFFICIAL_CLIENT_EVENTS = _by_type(RealtimeClientEvent)


def official(text: str) -> BaseModel:
    """A server event as the package reads it. Fails for what it would not accept: no coercion."""
    return OFFICIAL_SERVER_EVENTS[json.loads(text)["type"]].model_validate_json(text, strict=True)
