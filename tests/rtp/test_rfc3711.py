"""RFC 3711: the published key derivation vector, and our profile 0x0001 against counter mode and HMAC."""

from collections.abc import Callable, Iterable

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.hmac import HMAC

from voicegate.rtp import RtpPacket, SrtpReceiver, SrtpSender

AES128_CM_SHA1_80 = 0x0001
# Appendix B.3
MASTER_KEY = bytes.fromhex("E1F97A0D3E018BE0D64FA32C06DE4139")
MASTER_SALT = bytes.fromhex("0EC675AD498AFEEBB6960B3AABE6")
CIPHER_KEY = bytes.fromhex("C61E7A93744F39EE10734AFE3FF7A087")
CIPHER_SALT = bytes.fromhex("30CBBC08863D8C85D49DB34A9AE1")
AUTH_KEY = bytes.fromhex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4")

DeriveKey = Callable[[bytes, bytes, int, int], bytes]


@pytest.mark.rfc("3711", "B.3")
def test_session_keys_come_out_as_published(derive_key: DeriveKey) -> None:
    assert derive_key(MASTER_KEY, MASTER_SALT, 0, 16) == CIPHER_KEY
    assert derive_key(MASTER_KEY, MASTER_SALT, 2, 14) == CIPHER_SALT
    assert derive_key(MASTER_KEY, MASTER_SALT, 1, 20) == AUTH_KEY


def protect_by_the_book(packet: bytes, rollover_counter: int) -> bytes:
    """RFC 3711 §4.1.1, §4.2.1 with the published session keys. Fixed header only."""
    ssrc, sequence_number = packet[8:12], int.from_bytes(packet[2:4], "big")
    index = rollover_counter << 16 | sequence_number
    iv = int.from_bytes(CIPHER_SALT, "big") << 16 ^ int.from_bytes(ssrc, "big") << 64 ^ index << 16
    stream = Cipher(algorithms.AES(CIPHER_KEY), modes.CTR(iv.to_bytes(16, "big"))).encryptor()
    encrypted = packet[:12] + stream.update(packet[12:])
    hmac = HMAC(AUTH_KEY, SHA1())  # noqa: S303 (the profile demands it)
    hmac.update(encrypted + rollover_counter.to_bytes(4, "big"))
    return encrypted + hmac.finalize()[:10]


@pytest.mark.rfc("3711", "4.1.1")
def test_sender_does_it_by_the_book() -> None:
    sender = SrtpSender(AES128_CM_SHA1_80, MASTER_KEY, MASTER_SALT)
    packet = RtpPacket(15, 0x1234, 0xDECAFBAD, 0xCAFEBABE, b"\xab" * 16).serialize()
    assert sender.protect_rtp(packet) == protect_by_the_book(packet, 0)


@pytest.mark.rfc("3711", "3.3.1")
@pytest.mark.parametrize("first", [0, 100, 0x7FFF, 0x8000, 0xFFF0])
@pytest.mark.parametrize("step", [1, 7, 20_000])
def test_every_roll_over_of_the_number_is_counted(first: int, step: int) -> None:
    assert_index_is_right(range(first, first + 40 * step, step))


@pytest.mark.rfc("3711", "3.3.1")
def test_large_step_before_the_first_rollover_is_a_step_ahead() -> None:
    assert_index_is_right([100, 40_000, 65_000, 65_636])


def assert_index_is_right(numbers: Iterable[int]) -> None:
    sender = SrtpSender(AES128_CM_SHA1_80, MASTER_KEY, MASTER_SALT)
    receiver = SrtpReceiver(AES128_CM_SHA1_80, MASTER_KEY, MASTER_SALT)
    for number in numbers:
        packet = RtpPacket(111, number & 0xFFFF, 0, 7, b"voice").serialize()
        protected = sender.protect_rtp(packet)
        assert protected == protect_by_the_book(packet, number >> 16)
        assert receiver.unprotect_rtp(protected) == packet
