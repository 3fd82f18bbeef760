"""The `voicegate` command."""

import argparse
import sys

from voicegate.client import command as call_command
from voicegate.routing import ConfigurationError, HintCodec, HintRefusal, parse_key
from voicegate.up import command as up_command


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status. Everything that is wrong with the words is said in one line."""
    parser = argparse.ArgumentParser(prog="voicegate", description="Relay and transceiver for real-time voice AI.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up_command.add_commands(commands)
    call_command.add_arguments(commands.add_parser("call", help="call a voicegate, or any server that speaks WebRTC"))
    hint = commands.add_parser("hint", help="look into the routing hint of a ufrag")
    decode = hint.add_subparsers(dest="hint_command", required=True, metavar="decode").add_parser("decode")
    decode.add_argument("ufrag")
    decode.add_argument(
        "--key", required=True, metavar="[ID:]HEX", help="the hint key of the ufrag's key configuration"
    )
    parsed = parser.parse_args(arguments)
    if parsed.command == "call":
        return call_command.run(parsed)
    if parsed.command == "hint":
        return decode_hint(parsed.ufrag, parsed.key)
    return up_command.run(parsed)


def decode_hint(ufrag: str, key_text: str) -> int:
    """Say what a ufrag means under a hint key."""
    try:
        configuration, key = parse_key(key_text, max_octets=16)
    except ConfigurationError as error:
        print(f"voicegate hint: {error}", file=sys.stderr)
        return 2
    hint = HintCodec({configuration: key}, configuration).open_untrusted(ufrag.encode("utf-8", "replace"))
    if isinstance(hint, HintRefusal):
        print(f"voicegate hint: {hint.value}", file=sys.stderr)
        return 1
    print(f"kind {hint.kind.name.lower()}, cluster {hint.cluster}, slot {hint.slot}", end=", ")
    print(f"generation {hint.generation}, nonce {hint.nonce.hex()}, key configuration {configuration}")
    return 0
