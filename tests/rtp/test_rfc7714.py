"""RFC 7714: the published vectors hold for GCM as this file does it, and our profile 0x0007 does the same."""

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from voicegate.rtp import SrtpReceiver, SrtpSender

AEAD_AES_128_GCM = 0x0007
KEY = bytes(range(16))
SALT = b"Quid pro quo"

# §16.1.1
RTP = bytes.fromhex("8040f17b8041f8d35501a0b2") + b"Gallia est omnis divisa in partes tres"
SRTP = bytes.fromhex(
    "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f"
    "42a5f47a51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce"
)
# §17.1
RTCP_INDEX = 0x000005D4
RTCP = bytes.fromhex(
    "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeefdeadbeefdeadbeefdeadbeefdeadbeef"
)
SRTCP = bytes.fromhex(
    "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b4686303ded0bb9275b"
    "c84aa45896cf4d2fc5abf87245d9eade800005d4"
)

DeriveKey = Callable[[bytes, bytes, int, int], bytes]


def protect_rtp_by_the_book(key: bytes, salt: bytes, packet: bytes, rollover_counter: int = 0) -> bytes:
    """RFC 7714 §8.1: the nonce is SSRC, roll-over counter and sequence number, over the salt."""
    nonce = b"\0\0" + packet[8:12] + rollover_counter.to_bytes(4, "big") + packet[2:4]
    return packet[:12] + AESGCM(key).encrypt(over(nonce, salt), packet[12:], packet[:12])


def protect_rtcp_by_the_book(key: bytes, salt: bytes, packet: bytes, index: int) -> bytes:
    """RFC 7714 §9.1, §9.2: the index, with its encryption flag, is authenticated and comes last."""
    flagged_index = (0x80000000 | index).to_bytes(4, "big")
    nonce = b"\0\0" + packet[4:8] + b"\0\0" + index.to_bytes(4, "big")
    encrypted = AESGCM(key).encrypt(over(nonce, salt), packet[8:], packet[:8] + flagged_index)
    return packet[:8] + encrypted + flagged_index


def over(nonce: bytes, salt: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(nonce, salt, strict=True))


@pytest.mark.rfc("7714", "16.1.1")
def test_published_srtp_vector() -> None:
    assert protect_rtp_by_the_book(KEY, SALT, RTP) == SRTP


@pytest.mark.rfc("7714", "17.1")
def test_published_srtcp_vector() -> None:
    assert protect_rtcp_by_the_book(KEY, SALT, RTCP, RTCP_INDEX) == SRTCP


# The vectors give session keys; libsrtp takes master keys, so the derivation (RFC 3711's vector tests it) lies between.


@pytest.mark.rfc("7714", "8.1")
def test_sender_protects_rtp_by_the_book(derive_key: DeriveKey) -> None:
    session_key, session_salt = derive_key(KEY, SALT, 0, 16), derive_key(KEY, SALT, 2, 12)
    protected = SrtpSender(AEAD_AES_128_GCM, KEY, SALT).protect_rtp(RTP)
    assert protected == protect_rtp_by_the_book(session_key, session_salt, RTP)
    assert SrtpReceiver(AEAD_AES_128_GCM, KEY, SALT).unprotect_rtp(protected) == RTP


@pytest.mark.rfc("7714", "9.1")
def test_sender_protects_rtcp_by_the_book(derive_key: DeriveKey) -> None:
    session_key, session_salt = derive_key(KEY, SALT, 3, 16), derive_key(KEY, SALT, 5, 12)
    protected = SrtpSender(AEAD_AES_128_GCM, KEY, SALT).protect_rtcp(RTCP)
    index = int.from_bytes(protected[-4:], "big") & 0x7FFFFFFF
    assert protected == protect_rtcp_by_the_book(session_key, session_salt, RTCP, index)


@pytest.mark.rfc("7714", "9.1")
def test_receiver_opens_rtcp_made_by_the_book(derive_key: DeriveKey) -> None:
    session_key, session_salt = derive_key(KEY, SALT, 3, 16), derive_key(KEY, SALT, 5, 12)
    protected = protect_rtcp_by_the_book(session_key, session_salt, RTCP, RTCP_INDEX)
    assert SrtpReceiver(AEAD_AES_128_GCM, KEY, SALT).unprotect_rtcp(protected) == RTCP
