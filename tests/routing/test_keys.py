"""Keys are derived apart, passwords follow from ufrags, and what people write is checked without being repeated."""

import hmac
from base64 import b64encode
from hashlib import sha256

import pytest

from voicegate.errors import LocalError
from voicegate.ice import IceCredentials
from voicegate.routing import ConfigurationError, FleetKeys, Hint, HintKind, derive_ice_pwd, parse_key

SECRET = bytes(range(32))


def expand(secret: bytes, info: bytes, length: int) -> bytes:
    """HKDF-SHA256 without salt, by RFC 5869 §2, for at most one block of output."""
    pseudo_random_key = hmac.digest(bytes(32), secret, sha256)
    return hmac.digest(pseudo_random_key, info + b"\x01", sha256)[:length]


@pytest.mark.rfc("5869", "2.2")
def test_keys_are_derived_as_the_page_says() -> None:
    keys = FleetKeys.from_secret(SECRET, configuration=3)
    assert keys.hint_keys == {3: expand(SECRET, b"voicegate hint 3", 16)}
    assert keys.pwd_keys == {3: expand(SECRET, b"voicegate pwd 3", 32)}
    assert keys.hop_keys == {3: expand(SECRET, b"voicegate hop 3", 32)}
    assert keys.flow_keys == {3: expand(SECRET, b"voicegate flow 3", 32)}
    assert keys.current == 3


def test_no_two_keys_of_a_fleet_are_alike() -> None:
    keys = FleetKeys.from_secrets({0: SECRET, 1: SECRET}, current=0)
    maps = (keys.hint_keys, keys.pwd_keys, keys.hop_keys, keys.flow_keys)
    assert len({key[:16] for keys_of_one_purpose in maps for key in keys_of_one_purpose.values()}) == 8


def test_the_password_is_derived_from_the_ufrag_and_fits_ice(keys: FleetKeys) -> None:
    ufrag = keys.hint_codec().mint(Hint(HintKind.PINNED, 1, 2, 3, b"nonce"))
    expected = b64encode(hmac.digest(keys.pwd_keys[5], ufrag.encode(), sha256)[:18]).decode()
    assert keys.ice_pwd(ufrag) == derive_ice_pwd(keys.pwd_keys[5], ufrag) == expected
    assert len(expected) == 24
    assert IceCredentials(ufrag, expected).pwd == expected


def test_the_password_key_is_that_of_the_ufrags_configuration() -> None:
    old = FleetKeys.from_secret(SECRET, configuration=0)
    both = FleetKeys.from_secrets({0: SECRET, 1: SECRET[::-1]}, current=1)
    ufrag = old.hint_codec().mint(Hint(HintKind.PINNED, 1, 2, 3, b"nonce"))
    assert both.ice_pwd(ufrag) == old.ice_pwd(ufrag)
    with pytest.raises(LocalError):
        FleetKeys.from_secret(SECRET[::-1], configuration=1).ice_pwd(ufrag)


def test_a_part_may_hold_the_keys_of_one_purpose_only() -> None:
    all_keys = FleetKeys.from_secret(SECRET)
    reader = FleetKeys(all_keys.hint_keys, {}, {}, {}, current=0)
    ufrag = all_keys.hint_codec().mint(Hint(HintKind.PINNED, 1, 2, 3, b"nonce"))
    assert reader.hint_codec().route_untrusted(ufrag.encode()) == Hint(HintKind.PINNED, 1, 2, 3, b"nonce").route
    with pytest.raises(LocalError):
        reader.ice_pwd(ufrag)


def test_keys_do_not_show_in_logs(keys: FleetKeys) -> None:
    assert repr(keys) == "FleetKeys(current=5)"


@pytest.mark.parametrize(
    ("secrets", "current"),
    [({0: bytes(15)}, 0), ({0: bytes(65)}, 0), ({7: SECRET}, 7), ({0: SECRET}, 1)],
)
def test_secrets_that_cannot_be_used_are_refused(secrets: dict[int, bytes], current: int) -> None:
    with pytest.raises(ConfigurationError):
        FleetKeys.from_secrets(secrets, current)


def test_explicit_keys_are_checked_by_purpose() -> None:
    with pytest.raises(ConfigurationError, match="hop key 0: 16 octets instead of 32"):
        FleetKeys({0: bytes(16)}, {}, {0: bytes(16)}, {}, current=0)
    with pytest.raises(ConfigurationError, match="configuration 9"):
        FleetKeys({9: bytes(16)}, {}, {}, {}, current=9)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00" * 16, (0, bytes(16))),
        (" 3:" + "fF" * 32 + "\n", (3, b"\xff" * 32)),
    ],
)
def test_a_key_is_read_with_or_without_its_configuration(text: str, expected: tuple[int, bytes]) -> None:
    assert parse_key(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "3:",
        ":" + "ab" * 16,
        "7:" + "ab" * 16,
        "ab" * 15,
        "ab" * 65,
        "a" * 33,
        "x" * 32,
        "ab cd" * 10,
        "\u0661" * 32,
    ],
)
def test_a_bad_key_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_key(text)
    digits = text.rpartition(":")[2]
    assert not digits or digits not in str(caught.value)


def test_the_expected_length_of_a_key_can_be_exact() -> None:
    assert parse_key("ab" * 16, min_octets=16, max_octets=16) == (0, b"\xab" * 16)
    with pytest.raises(ConfigurationError, match="34 hexadecimal digits instead of 32"):
        parse_key("ab" * 17, min_octets=16, max_octets=16)


OLD, NEW = "ab" * 32, "cd" * 24


def test_several_secrets_are_read_and_the_first_is_the_one_to_use() -> None:
    keys = FleetKeys.parse(f" 1:{NEW},\n0:{OLD} ")
    assert keys == FleetKeys.from_secrets({1: bytes.fromhex(NEW), 0: bytes.fromhex(OLD)}, 1)
    assert FleetKeys.parse(OLD) == FleetKeys.from_secret(bytes.fromhex(OLD))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "only hexadecimal digits"),
        (f"0:{OLD},", "only hexadecimal digits"),
        (f"0:{OLD},,1:{NEW}", "only hexadecimal digits"),
        (f"{OLD},{NEW}", "configuration 0 is given twice"),
        (f"1:{OLD},1:{OLD}", "configuration 1 is given twice"),
        (f"7:{OLD}", "none of 0 to 6"),
        (f"01:{OLD}", "none of 0 to 6"),
        (f"0:{OLD} 1:{NEW}", "none of 0 to 6"),
        (f"0:{OLD}\n1:{NEW}", "none of 0 to 6"),
        (f"0:{OLD};1:{NEW}", "none of 0 to 6"),
        (f"{OLD}:{NEW}", "none of 0 to 6"),
        (f"{OLD}:1", "none of 0 to 6"),
        (f"0:{OLD},1:{NEW}x", "only hexadecimal digits"),
        (f"0:{OLD},1:{NEW[:20]}", "20 hexadecimal digits instead of 32 to 128"),
        (f"0:{OLD},1:{OLD * 3}", "192 hexadecimal digits"),
        (f"0:{OLD},1:{NEW}a", "an even number"),
    ],
)
def test_a_mistake_among_several_secrets_is_named_without_repeating_any(text: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        FleetKeys.parse(text)
    said = str(caught.value)
    assert complaint in said
    assert "abab" not in said
    assert "cdcd" not in said


def test_the_middle_of_a_rotation_understands_both() -> None:
    relay, transceiver = FleetKeys.parse(f"0:{OLD},1:{NEW}"), FleetKeys.parse(f"1:{NEW},0:{OLD}")
    hint = Hint(HintKind.PINNED, 1, 2, 3, b"nonce")
    for keys in (relay, transceiver):
        ufrag = keys.hint_codec().mint(hint)
        for reader in (relay, transceiver):
            assert reader.hint_codec().route_untrusted(ufrag.encode()) == hint.route
            assert reader.ice_pwd(ufrag) == keys.ice_pwd(ufrag)
    assert relay.hop_keys == transceiver.hop_keys
    assert (relay.current, transceiver.current) == (0, 1)
