"""ICE credentials: generated ones are strong enough, foreign ones are checked before they reach a key."""

import random

import pytest

from voicegate.ice import CredentialsError, IceCredentials


@pytest.mark.rfc("8445", "5.3")
def test_generated_credentials_have_the_required_length() -> None:
    credentials = IceCredentials.generate(random.Random(1).randbytes)
    assert len(credentials.ufrag) == 8
    assert len(credentials.pwd) == 24
    assert credentials != IceCredentials.generate(random.Random(2).randbytes)


def test_the_password_is_not_shown() -> None:
    assert "secret" not in repr(IceCredentials("abcd", "secret" * 4))


@pytest.mark.parametrize("ufrag", ["abcd", "a" * 256, "a+/b", "abc-_#="])
def test_ufrags_that_browsers_accept(ufrag: str) -> None:
    assert IceCredentials(ufrag, "p" * 22).ufrag == ufrag


@pytest.mark.parametrize("ufrag", ["", "abc", "a" * 257, "ab:cd", "ab cd", "abcd\n", "abcdé", "abc\ud800"])
def test_ufrags_that_cannot_stand_in_a_username(ufrag: str) -> None:
    with pytest.raises(CredentialsError):
        IceCredentials(ufrag, "p" * 22)


@pytest.mark.parametrize("pwd", ["", "p" * 21, "p" * 257, "p" * 22 + "\ud800"])
def test_passwords_of_wrong_length_or_characters(pwd: str) -> None:
    with pytest.raises(CredentialsError):
        IceCredentials("abcd", pwd)
