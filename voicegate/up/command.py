"""`voicegate up`, `voicegate relay`, `voicegate transceiver`: from words to a running supervisor."""

import argparse
import json
import logging
import sys
from collections.abc import Callable

import trio

from voicegate.config import HostPort
from voicegate.net import ChildDied
from voicegate.routing import ConfigurationError
from voicegate.up.flags import add_relay_arguments, add_transceiver_arguments, add_up_arguments
from voicegate.up.plan import Plan, plan_relay, plan_transceiver, plan_up
from voicegate.up.supervisor import Standing, supervise
from voicegate.up.transceivers import StartError

START_FAILED = 1
WRONG_ARGUMENT = 2

_PLANS: dict[str, Callable[[argparse.Namespace], Plan]] = {
    "up": plan_up,
    "relay": plan_relay,
    "transceiver": plan_transceiver,
}


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The three commands and their flags."""
    add_up_arguments(commands.add_parser("up", help="run everything on this machine"))
    add_relay_arguments(commands.add_parser("relay", help="run a relay by itself"))
    add_transceiver_arguments(commands.add_parser("transceiver", help="run transceivers with their signaling"))


def run(words: argparse.Namespace) -> int:
    """Run one of them until it is told to end; the exit status."""
    try:
        _log_to_stderr(words.log_level)
        plan = _PLANS[words.command](words)
    except ConfigurationError as error:
        print(f"voicegate {words.command}: {error}", file=sys.stderr)
        return WRONG_ARGUMENT
    announce = _announce_json if words.json else _announce
    status = 0
    try:
        trio.run(supervise, plan, announce)
    except* (ConfigurationError, StartError, ChildDied) as failures:
        print(f"voicegate {words.command}: {_first_of(failures)}", file=sys.stderr)
        status = START_FAILED
    return status


def _first_of(failures: BaseExceptionGroup[Exception]) -> BaseException:
    first: BaseException = failures
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    return first


def _announce_json(standing: Standing) -> None:
    print(json.dumps(standing.to_json()), flush=True)


def _announce(standing: Standing) -> None:
    lines = []
    for region in standing.regions:
        lines += [
            ("page", f"{region.http}   open it and press Talk"),
            ("signaling", region.signal),
            ("agent", region.agent),
        ]
        lines += [("transceiver", f"{HostPort(*record.hop)} (hop, UDP)") for record in region.registry]
    for name, addresses in standing.relays:
        title = "relay" if len(standing.relays) == 1 else name
        lines.append((title, ", ".join(f"{address} (UDP)" for address in addresses) or "(hop, UDP)"))
    if standing.admin is not None:
        lines.append(("operators", standing.admin))
    print("voicegate is up; Ctrl-C ends it")
    for what, where in lines:
        print(f"  {what:<12} {where}")
    sys.stdout.flush()


def _log_to_stderr(level: str) -> None:
    levels = {name: getattr(logging, name.upper()) for name in ("debug", "info", "warning", "error")}
    if level not in levels:
        raise ConfigurationError(f"--log-level: {level!r} is none of {', '.join(levels)}")
    logging.basicConfig(
        level=levels[level], stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
