"""Key shares: both halves agree, and no bytes from the peer do harm."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.dtls import CLASSICAL_GROUPS, POST_QUANTUM_GROUPS, DtlsError, DtlsReason, NamedGroup, key_exchange
from voicegate.dtls.key_exchange import KeyShare, available_groups, respond

EVERY_GROUP = pytest.mark.parametrize("group", available_groups(POST_QUANTUM_GROUPS), ids=lambda group: group.name)


def share(group: NamedGroup, seed: int = 0) -> KeyShare:
    return KeyShare.generate(group, random.Random(seed).randbytes)


@EVERY_GROUP
def test_both_halves_agree(group: NamedGroup) -> None:
    ours = share(group, 1)
    theirs, secret = respond(group, ours.public, random.Random(2).randbytes)
    assert ours.public != theirs
    assert ours.exchange(theirs) == secret
    assert len(secret) in {32, 48, 64}


def test_sizes_of_the_hybrid_group() -> None:
    """A share is the ML-KEM half and then the X25519 half, in both directions."""
    if not available_groups((NamedGroup.X25519MLKEM768,)):
        pytest.skip("this machine's library has no ML-KEM")
    ours = share(NamedGroup.X25519MLKEM768)
    answer, secret = respond(NamedGroup.X25519MLKEM768, ours.public, random.Random(2).randbytes)
    assert (len(ours.public), len(answer), len(secret)) == (1184 + 32, 1088 + 32, 32 + 32)


def test_a_machine_without_ml_kem_goes_on_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_exchange, "_HAS_MLKEM", False)
    assert available_groups(POST_QUANTUM_GROUPS) == CLASSICAL_GROUPS


@pytest.mark.rfc("7748", "6.1")
@EVERY_GROUP
def test_a_useless_half_is_refused(group: NamedGroup) -> None:
    good, _ = respond(group, share(group, 3).public, random.Random(4).randbytes)
    compressed = bytes([2]) + good[1 : 1 + len(good) // 2]
    for public in (b"", b"\x04", bytes(len(good)), good[:-1], good + b"\x00", compressed):
        for use in (share(group).exchange, lambda public: respond(group, public, random.Random(5).randbytes)):
            with pytest.raises(DtlsError) as caught:
                use(public)
            assert caught.value.reason is DtlsReason.ILLEGAL_PARAMETER


@pytest.mark.rfc("8446", "4.2.8.2")
def test_a_point_off_the_curve_is_refused() -> None:
    good = share(NamedGroup.SECP256R1).public
    modulus = 2**256 - 2**224 + 2**192 + 2**96 - 1
    points = [
        good[:-1] + bytes([good[-1] ^ 1]),
        b"\x04" + bytes(64),
        b"\x00",
        b"\x06" + good[1:],
        b"\x04" + modulus.to_bytes(32, "big") + good[33:],
    ]
    for point in points:
        with pytest.raises(DtlsError):
            respond(NamedGroup.SECP256R1, point, random.Random(5).randbytes)


def test_either_half_of_the_hybrid_group_must_be_usable() -> None:
    """An encapsulation key with coefficients beyond the modulus (FIPS 203 §7.2), and X25519 shares of small order."""
    group = NamedGroup.X25519MLKEM768
    if not available_groups((group,)):
        pytest.skip("this machine's library has no ML-KEM")
    ours = share(group)
    answer, _ = respond(group, ours.public, random.Random(2).randbytes)
    for public in (b"\xff" * 1184 + ours.public[1184:], ours.public[:1184] + bytes(32)):
        with pytest.raises(DtlsError):
            respond(group, public, random.Random(5).randbytes)
    for public in (answer[:1088] + bytes(32), answer[:1088], answer[1088:]):
        with pytest.raises(DtlsError):
            ours.exchange(public)


@EVERY_GROUP
def test_no_bytes_raise_anything_but_dtls_error(group: NamedGroup) -> None:
    ours = share(group)

    @settings(deadline=None, max_examples=40)
    @given(st.one_of(st.binary(max_size=100), st.binary(min_size=64, max_size=64).map(b"\x04".__add__)))
    def fuzz(public: bytes) -> None:
        for use in (ours.exchange, lambda public: respond(group, public, random.Random(5).randbytes)):
            with contextlib.suppress(DtlsError):
                use(public)

    fuzz()
