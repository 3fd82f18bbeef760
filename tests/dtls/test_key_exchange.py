"""Key shares: both halves agree, and no bytes from the peer do harm."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.dtls import DtlsError, DtlsReason
from voicegate.dtls.code_points import NamedGroup
from voicegate.dtls.key_exchange import SUPPORTED_GROUPS, KeyShare

EVERY_GROUP = pytest.mark.parametrize("group", SUPPORTED_GROUPS, ids=lambda group: group.name)


def share(group: NamedGroup, seed: int = 0) -> KeyShare:
    return KeyShare.generate(group, random.Random(seed).randbytes)


@EVERY_GROUP
def test_both_halves_agree(group: NamedGroup) -> None:
    ours, theirs = share(group, 1), share(group, 2)
    assert ours.public != theirs.public
    assert ours.exchange(theirs.public) == theirs.exchange(ours.public)


@pytest.mark.rfc("7748", "6.1")
@EVERY_GROUP
def test_a_useless_half_is_refused(group: NamedGroup) -> None:
    good = share(group, 3).public
    compressed = bytes([2]) + good[1 : 1 + len(good) // 2]
    for public in (b"", b"\x04", bytes(len(good)), good[:-1], good + b"\x00", compressed):
        with pytest.raises(DtlsError) as caught:
            share(group).exchange(public)
        assert caught.value.reason is DtlsReason.ILLEGAL_PARAMETER


@EVERY_GROUP
def test_no_bytes_raise_anything_but_dtls_error(group: NamedGroup) -> None:
    ours = share(group)

    @settings(deadline=None, max_examples=40)
    @given(st.one_of(st.binary(max_size=100), st.binary(min_size=64, max_size=64).map(b"\x04".__add__)))
    def fuzz(public: bytes) -> None:
        with contextlib.suppress(DtlsError):
            ours.exchange(public)

    fuzz()
