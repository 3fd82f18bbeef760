"""`voicegate hint decode`: what a ufrag means, or why it means nothing."""

from __future__ import annotations

import pytest

from voicegate.cli import main
from voicegate.routing import FleetKeys, Hint, HintKind

KEYS = FleetKeys.from_secret(b"a secret of some fleet", 3)
KEY = KEYS.hint_keys[3].hex()
UFRAG = KEYS.hint_codec().mint(Hint(HintKind.PINNED, 7, 300, 2, bytes.fromhex("0102030405")))


def test_what_a_ufrag_means(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hint", "decode", UFRAG, "--key", f"3:{KEY}"]) == 0
    printed = capsys.readouterr().out
    assert printed == "kind pinned, cluster 7, slot 300, generation 2, nonce 0102030405, key configuration 3\n"


@pytest.mark.parametrize(
    ("ufrag", "key", "status", "sentence"),
    [
        (UFRAG, KEY, 1, "no key for this key configuration"),
        (UFRAG, f"3:{'00' * 16}", 1, "the fixed octets of the block do not match"),
        (UFRAG[:-1], f"3:{KEY}", 1, "not 23 characters"),
        ("é" * 23, f"3:{KEY}", 1, "not 23 characters"),
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
