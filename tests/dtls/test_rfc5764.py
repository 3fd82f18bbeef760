"""DTLS-SRTP keying: the exporter and the order in which its bytes become keys."""

from __future__ import annotations

import pytest

from voicegate.dtls import CipherSuite, SrtpProfile
from voicegate.dtls.cipher_suites import CipherProfile
from voicegate.dtls.dtls12.key_schedule import MasterSecret, prf
from voicegate.dtls.srtp_keying import EXPORTER_LABEL, keying_material_bytes, split_keying_material


@pytest.mark.rfc("5764", "4.2")
def test_the_label_is_the_registered_one() -> None:
    assert EXPORTER_LABEL == b"EXTRACTOR-dtls_srtp"


@pytest.mark.rfc("5705", "4")
def test_the_exporter_is_the_prf_over_both_randoms_the_clients_first() -> None:
    client_random, server_random = b"c" * 32, b"s" * 32
    master_secret = MasterSecret(b"m" * 48, client_random, server_random)
    expected = prf(b"m" * 48, b"EXTRACTOR-dtls_srtp", client_random + server_random, 60)
    assert master_secret.export(EXPORTER_LABEL, 60) == expected
    profile = CipherProfile(CipherSuite.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
    # The key block is bound to the same randoms the other way round, so the two can never coincide.
    assert master_secret.export(b"key expansion", 16) != master_secret.record_keys(profile)[0].key


@pytest.mark.rfc("5764", "4.2")
@pytest.mark.parametrize(
    ("profile", "key", "salt", "total"),
    [
        (SrtpProfile.AES128_CM_SHA1_80, 16, 14, 60),
        (SrtpProfile.AEAD_AES_128_GCM, 16, 12, 56),
        (SrtpProfile.AEAD_AES_256_GCM, 32, 12, 88),
    ],
)
def test_keys_first_then_salts_and_the_client_before_the_server(
    profile: SrtpProfile, key: int, salt: int, total: int
) -> None:
    assert keying_material_bytes(profile) == total
    block = bytes(range(total))
    client = split_keying_material(profile, block, is_client=True)
    server = split_keying_material(profile, block, is_client=False)
    assert client.local_key == server.remote_key == bytes(range(key))
    assert client.remote_key == server.local_key == bytes(range(key, 2 * key))
    assert client.local_salt == server.remote_salt == bytes(range(2 * key, 2 * key + salt))
    assert client.remote_salt == server.local_salt == bytes(range(2 * key + salt, total))


@pytest.mark.rfc("7714", "14.2")
def test_profile_numbers_are_those_of_the_registry() -> None:
    assert {profile.name: profile.value for profile in SrtpProfile} == {
        "AES128_CM_SHA1_80": 0x0001,
        "AEAD_AES_128_GCM": 0x0007,
        "AEAD_AES_256_GCM": 0x0008,
    }
