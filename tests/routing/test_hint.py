"""A hint survives the ufrag, and nothing else than a hint is taken for one."""

from base64 import b64encode
from string import ascii_letters, digits

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.errors import LocalError
from voicegate.routing import REFUSED, FleetKeys, Hint, HintCodec, HintKind, HintRefusal, key_configuration

CODEC = FleetKeys.from_secrets({0: bytes(range(32)), 5: bytes(range(32, 64))}, current=5).hint_codec()
HINT = Hint(HintKind.PINNED, cluster=1, slot=2, generation=3, nonce=b"nonce")
GOOD = CODEC.mint(HINT).encode()

hints = st.builds(
    Hint,
    kind=st.just(HintKind.PINNED),
    cluster=st.integers(0, 0xFFFF),
    slot=st.integers(0, 0xFFFF),
    generation=st.integers(0, 0xFF),
    nonce=st.binary(min_size=5, max_size=5),
)


@settings(deadline=None, max_examples=200)
@given(hints)
def test_what_was_minted_opens_to_the_same_hint(hint: Hint) -> None:
    ufrag = CODEC.mint(hint)
    assert len(ufrag) == 23
    assert set(ufrag) <= set(ascii_letters + digits + "+/")
    assert key_configuration(ufrag) == 5
    assert CODEC.open_untrusted(ufrag.encode()) == hint
    assert CODEC.route_untrusted(ufrag.encode()) == hint.route


@settings(deadline=None, max_examples=500)
@given(st.binary(max_size=40) | st.text(ascii_letters + digits + "+/=-", max_size=26).map(str.encode))
def test_any_bytes_are_refused_with_a_reason_and_raise_nothing(ufrag: bytes) -> None:
    assert isinstance(CODEC.open_untrusted(ufrag), HintRefusal)
    assert CODEC.route_untrusted(ufrag) == REFUSED


@pytest.mark.parametrize("place", range(23))
def test_a_hint_has_one_spelling_any_changed_character_is_refused(place: int) -> None:
    for character in ascii_letters + digits + "+/":
        changed = GOOD[:place] + character.encode() + GOOD[place + 1 :]
        if changed != GOOD:
            assert isinstance(CODEC.open_untrusted(changed), HintRefusal)


@pytest.mark.parametrize("spare_bits", [1, 2, 3])
def test_spare_bits_in_the_last_character_are_refused(spare_bits: int) -> None:
    alphabet = (ascii_letters[26:] + ascii_letters[:26] + digits + "+/").encode()
    last = alphabet.index(GOOD[-1])
    assert last & 0b11 == 0
    respelled = GOOD[:-1] + bytes([alphabet[last | spare_bits]])
    assert CODEC.open_untrusted(respelled) is HintRefusal.NOT_CANONICAL


@pytest.mark.parametrize("octets", [0, 1, 2, 15, 16, 18, 20, 33])
def test_base64_of_another_length_does_not_upset_the_kept_cipher(octets: int) -> None:
    # A cipher keeps what does not fill a block, and would put it before the next ufrag.
    codec = HintCodec({5: bytes(16)}, 5)
    good = codec.mint(HINT).encode()
    assert isinstance(codec.open_untrusted(b64encode((b"\xa0" + bytes(32))[:octets])[:-1]), HintRefusal)
    assert isinstance(codec.open_untrusted(b64encode((b"\xa0" + bytes(32))[:octets])), HintRefusal)
    assert codec.open_untrusted(good) == HINT


@pytest.mark.parametrize(
    ("ufrag", "reason"),
    [
        (b"", HintRefusal.LENGTH),
        (GOOD[:-1], HintRefusal.LENGTH),
        (GOOD + b"A", HintRefusal.LENGTH),
        (GOOD[:5] + b"-" + GOOD[6:], HintRefusal.ALPHABET),
        (GOOD[:5] + b"\xc3" + GOOD[6:], HintRefusal.ALPHABET),
        (b"p" + GOOD[1:], HintRefusal.NOT_CANONICAL),
        (b"gAAAAAAAAAAAAAAAAAAAAAA", HintRefusal.UNKNOWN_KEY_CONFIGURATION),
        (b"4AAAAAAAAAAAAAAAAAAAAAA", HintRefusal.UNKNOWN_KEY_CONFIGURATION),
        (b"oAAAAAAAAAAAAAAAAAAAAAA", HintRefusal.REDUNDANCY),
        (CODEC.mint(Hint(HintKind.DEFERRED, 1, 2, 3, b"nonce")).encode(), HintRefusal.KIND),
    ],
)
def test_each_refusal_names_its_reason(ufrag: bytes, reason: HintRefusal) -> None:
    assert CODEC.open_untrusted(ufrag) is reason
    assert CODEC.route_untrusted(ufrag) == REFUSED


@pytest.mark.parametrize("octet", range(5))
def test_each_octet_of_redundancy_counts(octet: int) -> None:
    block = bytearray(bytes(5) + b"\x01" + bytes(10))
    block[octet] = 1
    key = bytes(range(16))
    sealed = b"\x00" + Cipher(AES(key), ECB()).encryptor().update(bytes(block))  # noqa: S305 - one block
    assert HintCodec({0: key}, 0).open_untrusted(b64encode(sealed)[:23]) is HintRefusal.REDUNDANCY


def test_a_key_rotates_relays_first() -> None:
    old, new = bytes(16), bytes(range(16))
    before, both, after = HintCodec({0: old}, 0), HintCodec({0: old, 1: new}, 0), HintCodec({0: old, 1: new}, 1)
    early, late = before.mint(HINT).encode(), after.mint(HINT).encode()
    assert both.open_untrusted(early) == both.open_untrusted(late) == HINT
    assert before.open_untrusted(late) is HintRefusal.UNKNOWN_KEY_CONFIGURATION


def test_the_route_packs_cluster_slot_and_generation() -> None:
    assert Hint(HintKind.PINNED, 0x1234, 0x5678, 0x9A, bytes(5)).route == 0x1234_5678_9A


@pytest.mark.parametrize(
    "hint",
    [
        Hint(HintKind.PINNED, 0x10000, 0, 0, bytes(5)),
        Hint(HintKind.PINNED, 0, -1, 0, bytes(5)),
        Hint(HintKind.PINNED, 0, 0, 256, bytes(5)),
        Hint(HintKind.PINNED, 0, 0, 0, bytes(4)),
    ],
)
def test_a_hint_that_does_not_fit_is_the_callers_mistake(hint: Hint) -> None:
    with pytest.raises(LocalError):
        CODEC.mint(hint)


@pytest.mark.parametrize(("keys", "mint_with"), [({7: bytes(16)}, 7), ({0: bytes(15)}, 0), ({0: bytes(16)}, 1)])
def test_keys_that_cannot_be_used_are_refused(keys: dict[int, bytes], mint_with: int) -> None:
    with pytest.raises(LocalError):
        HintCodec(keys, mint_with)
