"""Which session a request gets: what its token fixes, what it asks for itself, and the model in its URL.

1. What the token says stands. The request may add what the token leaves open; where both speak of one thing and differ,
   the request is refused: it holds a token for another session.
2. `?model=` counts where nobody else names a model. Stock clients write their default model into every URL, so it
   contradicts nobody.
"""

from collections.abc import Mapping
from typing import Any

from voicegate.realtime import EventError, SessionConfiguration
from voicegate.signaling.counters import SignalingCounters
from voicegate.signaling.responses import HttpError
from voicegate.signaling.tokens import Token

_NESTED = ("audio", "input", "output")
"""Objects whose members are set one by one; any other is one value."""


def bind_session(
    token: Token | None,
    asked: Mapping[str, Any] | None,
    model: str,
    counters: SignalingCounters,
    kind: str = "realtime",
) -> SessionConfiguration:
    """The configuration of a new session of this `kind` unless the token or the request names another. Raises
    HttpError."""
    fixed = token.session if token is not None else {}
    wanted = {"type": kind} if asked is None and not fixed else dict(asked or {})
    contradicted = _contradiction(fixed, wanted)
    if contradicted is not None:
        counters.sessions_refused["token_session_mismatch"] += 1
        param = f"session.{contradicted}"
        message = f"The client secret is for another session configuration: it fixes '{param}' to something else."
        raise HttpError(400, "token_session_mismatch", message, param=param)
    wanted = _merged(wanted, fixed)
    if model and not wanted.get("model"):
        wanted["model"] = model
    return configuration_of(wanted, counters)


def configuration_of(session: dict[str, Any], counters: SignalingCounters) -> SessionConfiguration:
    """The configuration that a session object asks for. Raises HttpError."""
    try:
        return SessionConfiguration.from_request(session)
    except EventError as error:
        counters.sessions_refused[error.code] += 1
        raise HttpError(400, error.code, error.message, param=error.param) from error


def _contradiction(fixed: Mapping[str, Any], asked: Mapping[str, Any], path: str = "") -> str | None:
    for name in fixed.keys() & asked.keys():
        mine, theirs = fixed[name], asked[name]
        if name in _NESTED and isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            found = _contradiction(mine, theirs, f"{path}{name}.")
            if found is not None:
                return found
        elif mine != theirs:
            return f"{path}{name}"
    return None


def _merged(asked: Mapping[str, Any], fixed: Mapping[str, Any]) -> dict[str, Any]:
    merged = {**asked, **fixed}
    for name in asked.keys() & fixed.keys():
        mine, theirs = fixed[name], asked[name]
        if name in _NESTED and isinstance(mine, Mapping) and isinstance(theirs, Mapping):
            merged[name] = _merged(theirs, mine)
    return merged
