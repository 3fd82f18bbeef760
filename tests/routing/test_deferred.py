"""A deferred hint: relays read its first part, transceivers both, and nobody changes a bit of either."""

from dataclasses import replace
from string import ascii_letters, digits

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.errors import LocalError
from voicegate.routing import (
    REFUSED,
    UFRAG_LENGTH,
    DeferredCodec,
    DeferredHint,
    FleetKeys,
    Hint,
    HintKind,
    HintRefusal,
)

ALPHABET = ascii_letters + digits + "+/"
KEYS = FleetKeys.from_secrets({0: bytes(range(32)), 5: bytes(range(32, 64))}, current=5)
CODEC = KEYS.deferred_codec()
HINT = Hint(HintKind.DEFERRED, cluster=1, slot=2, generation=3, nonce=b"nonce")
DEFERRED = DeferredHint(HINT, expires_at=1_800_000_000, is_passive=False, binding=b"of fifteen oct.")
GOOD = CODEC.mint(DEFERRED).encode()

deferred_hints = st.builds(
    DeferredHint,
    hint=st.builds(
        Hint,
        kind=st.just(HintKind.DEFERRED),
        cluster=st.integers(0, 0xFFFF),
        slot=st.integers(0, 0xFFFF),
        generation=st.integers(0, 0xFF),
        nonce=st.binary(min_size=5, max_size=5),
    ),
    expires_at=st.integers(0, 0xFFFF_FFFF),
    is_passive=st.booleans(),
    binding=st.just(b"") | st.binary(min_size=15, max_size=15),
)


@settings(deadline=None, max_examples=200)
@given(deferred_hints)
def test_what_was_minted_opens_to_the_same_hint(deferred: DeferredHint) -> None:
    ufrag = CODEC.mint(deferred)
    assert len(ufrag) == 71
    assert set(ufrag) <= set(ALPHABET)
    assert CODEC.open_untrusted(ufrag.encode()) == deferred
    assert KEYS.hint_codec().open_untrusted(ufrag.encode()) == deferred.hint
    assert KEYS.hint_codec().route_untrusted(ufrag.encode()) == deferred.hint.route


@settings(deadline=None, max_examples=500)
@given(
    st.binary(max_size=90)
    | st.text(ALPHABET + "=-", min_size=69, max_size=73).map(str.encode)
    | st.text(ALPHABET + "=-\n\xe9", min_size=46, max_size=50).map(lambda rest: GOOD[:23] + rest.encode())
)
def test_any_bytes_are_refused_with_a_reason_and_raise_nothing(ufrag: bytes) -> None:
    assert isinstance(CODEC.open_untrusted(ufrag), HintRefusal)


@pytest.mark.parametrize("place", range(71))
def test_no_character_can_be_changed(place: int) -> None:
    for character in ALPHABET:
        changed = GOOD[:place] + character.encode() + GOOD[place + 1 :]
        if changed != GOOD:
            assert isinstance(CODEC.open_untrusted(changed), HintRefusal)
        if place < UFRAG_LENGTH and changed != GOOD:
            assert KEYS.hint_codec().route_untrusted(changed) == REFUSED


def test_parts_of_two_hints_do_not_go_together() -> None:
    other = CODEC.mint(replace(DEFERRED, hint=replace(HINT, nonce=b"other"))).encode()
    assert CODEC.open_untrusted(GOOD[:23] + other[23:]) is HintRefusal.SEAL
    under_another_key = FleetKeys.from_secret(bytes(32), 5).deferred_codec()
    assert under_another_key.open_untrusted(GOOD) is HintRefusal.REDUNDANCY
    hint_key_alone = DeferredCodec(KEYS.hint_codec(), {0: bytes(32)}, 0)
    assert hint_key_alone.open_untrusted(GOOD) is HintRefusal.UNKNOWN_KEY_CONFIGURATION


def test_each_kind_has_its_length() -> None:
    pinned = KEYS.hint_codec().mint(replace(HINT, kind=HintKind.PINNED)).encode()
    assert CODEC.open_untrusted(pinned) is HintRefusal.KIND
    for wrong in (pinned + GOOD[23:], GOOD[:23]):
        assert KEYS.hint_codec().open_untrusted(wrong) is HintRefusal.KIND
        assert KEYS.hint_codec().route_untrusted(wrong) == REFUSED


def test_a_relay_wants_the_second_part_spelled_as_base64() -> None:
    for wrong in (GOOD[:-1] + b"-", GOOD[:40] + b"\n" + GOOD[41:], GOOD[:40] + b"\xff" + GOOD[41:]):
        assert KEYS.hint_codec().open_untrusted(wrong) is HintRefusal.ALPHABET
        assert KEYS.hint_codec().route_untrusted(wrong) == REFUSED


def test_a_profile_of_the_future_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voicegate.routing.deferred._PASSIVE", 0b100)
    strange = CODEC.mint(replace(DEFERRED, is_passive=True)).encode()
    monkeypatch.undo()
    assert CODEC.open_untrusted(strange) is HintRefusal.PROFILE


@pytest.mark.parametrize(
    "deferred",
    [
        replace(DEFERRED, hint=replace(HINT, kind=HintKind.PINNED)),
        replace(DEFERRED, binding=b"short"),
        replace(DEFERRED, expires_at=1 << 32),
        replace(DEFERRED, expires_at=-1),
    ],
)
def test_what_does_not_fit_is_the_callers_mistake(deferred: DeferredHint) -> None:
    with pytest.raises(LocalError):
        CODEC.mint(deferred)
