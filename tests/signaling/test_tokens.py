"""Tokens: what they hold, how long, and what is not taken for one."""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicegate.routing import FleetKeys
from voicegate.signaling import TokenMint
from voicegate.signaling.tokens import TokenError, TokenRefusal, TokenTooLargeError

SESSION = {"type": "realtime", "model": "m", "instructions": "Be kind. \U0001f600"}


def refusal(mint: TokenMint, value: str) -> TokenRefusal:
    with pytest.raises(TokenError) as refused:
        mint.open_untrusted(value)
    assert isinstance(refused.value.reason, TokenRefusal)
    return refused.value.reason


def test_a_token_says_what_it_was_made_with(mint: TokenMint, wall_clock: Any) -> None:
    value, made = mint.make(SESSION, 600, "eu")
    assert set(value.removeprefix("ek_")) <= set(string.ascii_letters + string.digits + "-_")
    assert value.startswith("ek_")
    opened = mint.open_untrusted(value)
    assert opened == made
    assert (opened.session, opened.region, opened.expires_at) == (SESSION, "eu", int(wall_clock.now) + 600)


def test_a_token_is_good_again_and_again_until_it_expires(mint: TokenMint, wall_clock: Any) -> None:
    value, _ = mint.make({}, 600)
    for _ in range(3):
        wall_clock.now += 199.9
        mint.open_untrusted(value)
    wall_clock.now += 0.3
    assert refusal(mint, value) is TokenRefusal.EXPIRED


def test_its_holder_cannot_read_it(mint: TokenMint) -> None:
    value, _ = mint.make(SESSION, 600)
    same_length, _ = mint.make(SESSION, 600)
    assert "kind" not in value
    assert value != same_length


@given(place=st.integers(min_value=3, max_value=10_000), letter=st.sampled_from(string.ascii_letters + "-_!é "))
def test_not_one_letter_of_it_can_be_changed(place: int, letter: str) -> None:
    mint = TokenMint({0: bytes(32)}, 0, lambda: 0)
    value, _ = mint.make(SESSION, 600)
    # The last letter of base64 may hold bits that mean nothing.
    place = 3 + place % (len(value) - 4)
    changed = value[:place] + letter + value[place + 1 :]
    if changed == value:
        assert mint.open_untrusted(changed).session == SESSION
    else:
        assert refusal(mint, changed) is not TokenRefusal.EXPIRED


@given(st.text(max_size=200))
def test_whatever_is_shown_is_refused_and_nothing_else(text: str) -> None:
    mint = TokenMint({0: bytes(32)}, 0)
    assert refusal(mint, f"ek_{text}") is not TokenRefusal.EXPIRED
    assert refusal(mint, text.removeprefix("ek_")) is TokenRefusal.MALFORMED


def test_every_transceiver_of_a_fleet_opens_it() -> None:
    one, other = FleetKeys.parse("ab" * 16), FleetKeys.parse("ab" * 16)
    value, made = TokenMint(one.token_keys, one.current).make(SESSION, 600)
    assert TokenMint(other.token_keys, other.current).open_untrusted(value) == made


def test_tokens_outlive_the_rotation_of_the_secret_until_the_old_one_is_taken_away() -> None:
    def use(mint: TokenMint, text: str) -> None:
        keys = FleetKeys.parse(text)
        mint.use_keys(keys.token_keys, keys.current)

    old, new = "0:" + "ab" * 16, "1:" + "cd" * 16
    keys = FleetKeys.parse(old)
    mint = TokenMint(keys.token_keys, keys.current)
    before, _ = mint.make({}, 600)
    use(mint, f"{new},{old}")
    mint.open_untrusted(before)
    after, _ = mint.make({}, 600)
    use(mint, new)
    mint.open_untrusted(after)
    assert refusal(mint, before) is TokenRefusal.UNKNOWN_KEY
    use(mint, "0:" + "ef" * 16)
    assert refusal(mint, before) is TokenRefusal.FORGED


def test_a_configuration_that_does_not_fit_is_said_so(mint: TokenMint) -> None:
    words = " ".join(str(number * 7919) for number in range(6_000))
    with pytest.raises(TokenTooLargeError):
        mint.make({"instructions": words}, 600)
    # What compresses well is still bounded.
    with pytest.raises(TokenTooLargeError):
        mint.make({"instructions": "x" * 300_000}, 600)
    value, _ = mint.make({"instructions": "Speak slowly and clearly. " * 2_000}, 600)
    assert len(value) < 1_000
