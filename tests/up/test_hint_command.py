"""`voicegate hint decode`: what a ufrag means, or why it means nothing."""

from __future__ import annotations

import pytest

from voicegate.cli import main
from voicegate.routing import DeferredHint, FleetKeys, Hint, HintKind

SECRET = b"a secret of some fleet"
KEYS = FleetKeys.from_secret(SECRET, 3)
KEY = KEYS.hint_keys[3].hex()
UFRAG = KEYS.hint_codec().mint(Hint(HintKind.PINNED, 7, 300, 2, bytes.fromhex("0102030405")))


def test_what_a_ufrag_means(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hint", "decode", UFRAG, "--key", f"3:{KEY}"]) == 0
    printed = capsys.readouterr().out
    assert printed == "kind pinned, cluster 7, slot 300, generation 2, nonce 0102030405, key configuration 3\n"


DEFERRED = KEYS.deferred_codec().mint(
    DeferredHint(Hint(HintKind.DEFERRED, 7, 300, 2, bytes(5)), 1_800_000_000, True, bytes(range(15)))
)
ROUTE = "kind deferred, cluster 7, slot 300, generation 2, nonce 0000000000, key configuration 3\n"


def test_what_a_deferred_ufrag_means(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hint", "decode", DEFERRED, "--key", f"3:{KEY}"]) == 0
    assert capsys.readouterr().out == ROUTE + "sealed for transceivers: with --secret its second part can be read\n"
    secret = ["--secret", f"3:{SECRET.hex()}"]
    assert main(["hint", "decode", DEFERRED, *secret]) == 0
    sealed = "expires 2027-01-15T08:00:00+00:00, DTLS server, bound to 000102030405060708090a0b0c0d0e\n"
    assert capsys.readouterr().out == ROUTE + sealed
    assert main(["hint", "decode", DEFERRED[:-4] + "AAAA", *secret]) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err[:40]) == (ROUTE, "voicegate hint: the second part was not ")


@pytest.mark.parametrize(
    ("ufrag", "key", "status", "sentence"),
    [
        (UFRAG, KEY, 1, "no key for this key configuration"),
        (UFRAG, f"3:{'00' * 16}", 1, "the fixed octets of the block do not match"),
        (UFRAG[:-1], f"3:{KEY}", 1, "neither 23 nor 71 characters"),
        ("é" * 23, f"3:{KEY}", 1, "neither 23 nor 71 characters"),
        ("*" * 23, f"3:{KEY}", 1, "a character outside"),
        (UFRAG, "3:xyz", 2, "key: only hexadecimal digits"),
        (UFRAG, "9:" + KEY, 2, "key: the configuration before ':'"),
        (UFRAG, KEY[:10], 2, "key: 10 hexadecimal digits"),
    ],
)
def test_why_it_means_nothing(
    ufrag: str, key: str, status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hint", "decode", ufrag, "--key", key]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"voicegate hint: {sentence}")
    assert captured.err.count("\n") == 1
    assert KEY not in captured.err
