"""The test vectors of RFC 5769."""

import hashlib

import pytest

from voicegate.ice.stun import (
    BINDING_REQUEST,
    BINDING_SUCCESS,
    FINGERPRINT,
    ICE_CONTROLLED,
    MESSAGE_INTEGRITY,
    SOFTWARE,
    XOR_MAPPED_ADDRESS,
    StunMessage,
    xor_address_value,
)

PASSWORD = b"VOkJxbRl1RmTxUk/WvJxBt"
TRANSACTION_ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")

SAMPLE_REQUEST = bytes.fromhex(
    """
    00010058 2112a442 b7e7a701 bc34d686 fa87dfae
    80220010 5354554e 20746573 7420636c 69656e74
    00240004 6e0001ff
    80290008 932ff9b1 51263b36
    00060009 6576746a 3a683676 59202020
    00080014 9aeaa70c bfd8cb56 781ef2b5 b2d3f249 c1b571a2
    80280004 e57a3bcf
    """
)

SAMPLE_IPV4_RESPONSE = bytes.fromhex(
    """
    0101003c 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220
    00200008 0001a147 e112a643
    00080014 2b91f599 fd9e90c3 8c7489f9 2af9ba53 f06be7d7
    80280004 c07d4c96
    """
)

SAMPLE_IPV6_RESPONSE = bytes.fromhex(
    """
    01010048 2112a442 b7e7a701 bc34d686 fa87dfae
    8022000b 74657374 20766563 746f7220
    00200014 0002a147 0113a9fa a5d3f179 bc25f4b5 bed2b9d9
    00080014 a382954e 4be67bf1 1784c97c 8292c275 bfe3ed41
    80280004 c8fb0b4c
    """
)

SAMPLE_LONG_TERM_REQUEST = bytes.fromhex(
    """
    00010060 2112a442 78ad3433 c6ad72c0 29da412e
    00060012 e3839ee3 8388e383 aae38383 e382afe3 82b90000
    0015001c 662f2f34 39396b39 35346436 4f4c3334 6f4c3946 53547679 36347341
    0014000b 6578616d 706c652e 6f726700
    00080014 f6702465 6dd64a3e 02b8e071 2e85c9a2 8ca89666
    """
)


@pytest.mark.rfc("5769", "2.1")
def test_sample_request() -> None:
    message = StunMessage.parse(SAMPLE_REQUEST)
    assert message.message_type == BINDING_REQUEST
    assert message.transaction_id == TRANSACTION_ID
    assert message.attributes[SOFTWARE] == b"STUN test client"
    assert message.priority == 0x6E0001FF
    assert message.attributes[ICE_CONTROLLED] == bytes.fromhex("932ff9b151263b36")
    assert message.username == b"evtj:h6vY"
    assert message.verify_integrity(PASSWORD)
    assert not message.verify_integrity(PASSWORD + b"x")
    assert message.has_valid_fingerprint


@pytest.mark.rfc("5769", "2.2")
def test_sample_ipv4_response() -> None:
    message = StunMessage.parse(SAMPLE_IPV4_RESPONSE)
    assert message.message_type == BINDING_SUCCESS
    assert message.attributes[SOFTWARE] == b"test vector"
    assert message.xor_mapped_address == ("192.0.2.1", 32853)
    assert xor_address_value(("192.0.2.1", 32853), TRANSACTION_ID) == message.attributes[XOR_MAPPED_ADDRESS]
    assert message.verify_integrity(PASSWORD)
    assert message.has_valid_fingerprint


@pytest.mark.rfc("5769", "2.3")
def test_sample_ipv6_response() -> None:
    message = StunMessage.parse(SAMPLE_IPV6_RESPONSE)
    address = ("2001:db8:1234:5678:11:2233:4455:6677", 32853)
    assert message.xor_mapped_address == address
    assert xor_address_value(address, TRANSACTION_ID) == message.attributes[XOR_MAPPED_ADDRESS]
    assert message.verify_integrity(PASSWORD)
    assert message.has_valid_fingerprint


@pytest.mark.rfc("5769", "2.4")
def test_sample_request_with_long_term_authentication() -> None:
    message = StunMessage.parse(SAMPLE_LONG_TERM_REQUEST)
    assert message.username == "\u30de\u30c8\u30ea\u30c3\u30af\u30b9".encode()
    # RFC 8489 §9.2.2 derives the long-term key so; ours is built from the password as SASLprep leaves it.
    key = hashlib.md5(message.username + b":example.org:TheMatrIX", usedforsecurity=False).digest()
    assert message.verify_integrity(key)
    assert not message.has_valid_fingerprint
    # This vector pads with zeros as we do (the others use spaces), so it can be rebuilt to the octet.
    assert message.serialize(key, fingerprint=False) == SAMPLE_LONG_TERM_REQUEST


@pytest.mark.parametrize("vector", [SAMPLE_REQUEST, SAMPLE_IPV4_RESPONSE, SAMPLE_IPV6_RESPONSE])
def test_vectors_survive_a_rebuild(vector: bytes) -> None:
    original = StunMessage.parse(vector)
    rebuilt = StunMessage.parse(original.serialize(PASSWORD))
    assert rebuilt.verify_integrity(PASSWORD)
    assert rebuilt.has_valid_fingerprint
    trailers = {MESSAGE_INTEGRITY, FINGERPRINT}
    assert [item for item in rebuilt.attributes.items() if item[0] not in trailers] == [
        item for item in original.attributes.items() if item[0] not in trailers
    ]
