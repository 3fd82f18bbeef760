"""The TLS 1.2 PRF against the vector that implementers of RFC 5246 share (there is none in the RFC itself)."""

import pytest

from voicegate.dtls.dtls12.key_schedule import prf


@pytest.mark.rfc("5246", "5")
def test_p_sha256_yields_the_shared_vector() -> None:
    secret = bytes.fromhex("9bbe436ba940f017b17652849a71db35")
    seed = bytes.fromhex("a0ba9f936cda311827a6f796ffd5198c")
    expected = bytes.fromhex(
        "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a"
        "6b301791e90d35c9c9a46b4e14baf9af0fa022f7077def17abfd3797c0564bab"
        "4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff701"
        "87347b66"
    )
    assert prf(secret, b"test label", seed, len(expected)) == expected
    assert prf(secret, b"test label", seed, 5) == expected[:5]
