"""What several tests of this room share."""

from collections.abc import Callable
from typing import TypeAlias

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

DeriveKey: TypeAlias = Callable[[bytes, bytes, int, int], bytes]


@pytest.fixture(scope="session")
def derive_key() -> DeriveKey:
    """RFC 3711 §4.3: `derive_key(master_key, master_salt, label, length)`, key derivation rate 0."""

    def derive(master_key: bytes, master_salt: bytes, label: int, length: int) -> bytes:
        # RFC 7714 §11: a salt of 12 octets is filled up with zeros at its end.
        counter = bytearray(master_salt.ljust(14, b"\0") + b"\0\0")
        counter[7] ^= label
        stream = Cipher(algorithms.AES(master_key), modes.CTR(bytes(counter))).encryptor()
        return stream.update(bytes(length))

    return derive
