"""The cipher of a hint is the single pass of QUIC-LB: its published vector must come out of the same construction."""

from base64 import b64decode

from voicegate.routing import Hint, HintCodec, HintKind, HintRefusal

KEY = bytes.fromhex("8f95f09245765f80256934e50c66207f")
SERVER_ID_AND_NONCE = bytes.fromhex("ed793a51d49b8f5fee080dbf48c0d1e5")
CONNECTION_ID = bytes.fromhex("504dd2d05a7b0de9b2b9907afb5ecf8cc3")
"""Config id 2, so the first octet is 0b010 and, in QUIC, the length 16."""


def test_the_codecs_cipher_turns_the_drafts_plaintext_into_its_connection_id() -> None:
    assert HintCodec({2: KEY}, 2)._encrypt(SERVER_ID_AND_NONCE) == CONNECTION_ID[1:]
    assert HintCodec({2: KEY}, 2)._decrypt[2 << 5](CONNECTION_ID[1:]) == SERVER_ID_AND_NONCE


def test_the_first_octet_holds_the_key_configuration_as_in_the_draft_and_no_length() -> None:
    ufrag = HintCodec({2: KEY}, 2).mint(Hint(HintKind.PINNED, 1, 2, 3, bytes(5)))
    assert b64decode(ufrag + "=")[0] == CONNECTION_ID[0] & 0b11100000


def test_the_drafts_connection_id_is_no_hint() -> None:
    # Its first octet carries a length, which a hint does not have.
    refusal = HintCodec({2: KEY}, 2).open_untrusted(b"UE3S0Fp7DemyuZB6+17PjMM")
    assert b64decode(b"UE3S0Fp7DemyuZB6+17PjMM=") == CONNECTION_ID
    assert refusal is HintRefusal.NOT_CANONICAL
