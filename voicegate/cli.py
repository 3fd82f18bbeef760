"""The `voicegate` command."""

import argparse
import os
import secrets
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from voicegate.client import command as call_command
from voicegate.config import parse_number
from voicegate.routing import (
    ConfigurationError,
    FleetKeys,
    Hint,
    HintCodec,
    HintKind,
    HintRefusal,
    key_configuration,
    parse_key,
)
from voicegate.routing.hint import NONCE_LENGTH, UNROUTABLE
from voicegate.up import command as up_command

SECRET_OCTETS = 32


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit status. Everything that is wrong with the words is said in one line."""
    parser = argparse.ArgumentParser(prog="voicegate", description="Relay and transceiver for real-time voice AI.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    up_command.add_commands(commands)
    call_command.add_arguments(commands.add_parser("call", help="call a voicegate, or any server that speaks WebRTC"))
    _add_hint_arguments(commands.add_parser("hint", help="make and read routing hints, rotate their keys"))
    parsed = parser.parse_args(arguments)
    if parsed.command == "call":
        return call_command.run(parsed)
    if parsed.command == "hint":
        try:
            return {"decode": decode_hint, "mint": mint_hint, "rotate": rotate_secrets}[parsed.hint_command](parsed)
        except ConfigurationError as error:
            print(f"voicegate hint: {error}", file=sys.stderr)
            return 2
    return up_command.run(parsed)


def _add_hint_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="hint_command", required=True, metavar="decode|mint|rotate")
    decode = commands.add_parser("decode", help="say what a ufrag means")
    decode.add_argument("ufrag")
    mint = commands.add_parser("mint", help="make the ufrag of a session, and its password where the secret is known")
    for flag, default, what in (
        ("--cluster", "0", "number of the cluster"),
        ("--slot", "0", "slot of the session"),
        ("--generation", "1", "generation of the slot"),
    ):
        mint.add_argument(flag, default=default, help=f"{what} [{default}]", metavar="N")
    for command in (decode, mint):
        command.add_argument("--key", metavar="[ID:]HEX", help="the hint key of a key configuration")
        command.add_argument("--secret", metavar="[ID:]HEX,…", help="or the fleet's secrets, which all keys come from")
    rotate = commands.add_parser("rotate", help="take the next of the three steps of a key rotation")
    rotate.add_argument("file", type=Path, help="the --secret-file of the fleet; made if it does not exist")


def _keys(words: argparse.Namespace) -> tuple[HintCodec, FleetKeys | None]:
    if (words.key is None) == (words.secret is None):
        raise ConfigurationError("one of --key and --secret is needed")
    if words.secret is not None:
        keys = FleetKeys.parse(words.secret)
        return keys.hint_codec(), keys
    configuration, key = parse_key(words.key, max_octets=16)
    return HintCodec({configuration: key}, configuration), None


def decode_hint(words: argparse.Namespace) -> int:
    """Say what a ufrag means under a hint key. Raises ConfigurationError."""
    codec, keys = _keys(words)
    ufrag = words.ufrag.encode("utf-8", "replace")
    hint = codec.open_untrusted(ufrag)
    if isinstance(hint, HintRefusal):
        print(f"voicegate hint: {hint.value}", file=sys.stderr)
        return 1
    print(f"kind {hint.kind.name.lower()}, cluster {hint.cluster}, slot {hint.slot}", end=", ")
    configuration = key_configuration(words.ufrag)
    print(f"generation {hint.generation}, nonce {hint.nonce.hex()}, key configuration {configuration}")
    return _decode_sealed(keys, ufrag) if hint.kind is HintKind.DEFERRED else 0


def _decode_sealed(keys: FleetKeys | None, ufrag: bytes) -> int:
    """Say what stands in the second part of a deferred hint, which a hint key alone does not open."""
    if keys is None:
        print("sealed for transceivers: with --secret its second part can be read")
        return 0
    deferred = keys.deferred_codec().open_untrusted(ufrag)
    if isinstance(deferred, HintRefusal):
        print(f"voicegate hint: {deferred.value}", file=sys.stderr)
        return 1
    expiry = datetime.fromtimestamp(deferred.expires_at, UTC).isoformat()
    binding = deferred.binding.hex() if deferred.binding else "nobody"
    print(f"expires {expiry}, DTLS {'server' if deferred.is_passive else 'client'}, bound to {binding}")
    return 0


def mint_hint(words: argparse.Namespace) -> int:
    """Print a new ufrag, and its ice-pwd if the secret is known. Raises ConfigurationError."""
    codec, keys = _keys(words)
    hint = Hint(
        HintKind.PINNED,
        parse_number(words.cluster, "--cluster", 0, 0xFFFF),
        parse_number(words.slot, "--slot", 0, 0xFFFF),
        parse_number(words.generation, "--generation", 0, 0xFF),
        secrets.token_bytes(NONCE_LENGTH),
    )
    ufrag = codec.mint(hint)
    print(f"ice-ufrag {ufrag}")
    if keys is not None:
        print(f"ice-pwd {keys.ice_pwd(ufrag)}")
    return 0


def rotate_secrets(words: argparse.Namespace) -> int:
    """Take the next step of a rotation in the file with the fleet's secrets, and say what comes then.

        0:old            one secret
        0:old,1:new      relays and transceivers learn the new one, and go on with the old one
        1:new,0:old      everybody mints and sends with the new one, and still understands the old one
        1:new            the last session of the old one is over

    Raises ConfigurationError.
    """
    path: Path = words.file
    parts = _read_parts(path)
    if not parts:
        step, after = [(0, secrets.token_bytes(SECRET_OCTETS))], "the fleet has a secret"
    elif len(parts) == 1:
        (current, _), following = parts[0], (parts[0][0] + 1) % UNROUTABLE
        step = [*parts, (following, secrets.token_bytes(SECRET_OCTETS))]
        after = f"step 1 of 3: key configuration {following} can be learnt, {current} is still in use"
    elif len(parts) == 2 and parts[1][0] == (parts[0][0] + 1) % UNROUTABLE:  # noqa: PLR2004 - old and new
        step = [parts[1], parts[0]]
        after = f"step 2 of 3: key configuration {parts[1][0]} is in use, {parts[0][0]} is still understood"
    elif len(parts) == 2:  # noqa: PLR2004 - new and old
        step, after = parts[:1], f"step 3 of 3: only key configuration {parts[0][0]} is left"
    else:
        raise ConfigurationError(f"{path}: {len(parts)} secrets; a rotation has two at most")
    _write_parts(path, step)
    print(after)
    print("give the file to every relay first and then to every transceiver; SIGHUP has them read it again")
    return 0


def _read_parts(path: Path) -> list[tuple[int, bytes]]:
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read") from error
    FleetKeys.parse(text)
    return [parse_key(part) for part in text.split(",")]


def _write_parts(path: Path, parts: list[tuple[int, bytes]]) -> None:
    text = ",".join(f"{configuration}:{secret.hex()}" for configuration, secret in parts) + "\n"
    try:
        # Beside it and then in its place, so that nobody ever reads half a secret; readable by its owner only.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as file:
            file.write(text)
        os.replace(file.name, path)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from error
