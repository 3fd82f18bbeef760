"""STUN messages survive the wire, and nothing on the wire surprises the parser."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voicegate.errors import LocalError
from voicegate.ice.stun import (
    BINDING_ERROR,
    BINDING_REQUEST,
    BINDING_SUCCESS,
    ERROR_CODE,
    FINGERPRINT,
    MESSAGE_INTEGRITY,
    PRIORITY,
    ROLE_CONFLICT,
    SOFTWARE,
    UNKNOWN_ATTRIBUTES,
    USE_CANDIDATE,
    USERNAME,
    XOR_MAPPED_ADDRESS,
    StunError,
    StunErrorReason,
    StunMessage,
    error_code_value,
    unknown_attributes_value,
    xor_address_value,
)

KEY = b"a password of some length"
ID = bytes(range(12))
TRAILERS = {MESSAGE_INTEGRITY, 0x001C, FINGERPRINT}
FIXED = {PRIORITY: 4, USE_CANDIDATE: 0, 0x8029: 8, 0x802A: 8}


def attributes() -> st.SearchStrategy[dict[int, bytes]]:
    free = st.dictionaries(
        st.integers(0, 0xFFFF).filter(lambda kind: kind not in TRAILERS | FIXED.keys()),
        st.binary(max_size=200),
        max_size=12,
    )
    return st.builds(
        lambda chosen, fixed: chosen | {kind: bytes(FIXED[kind]) for kind in fixed},
        free,
        st.sets(st.sampled_from(sorted(FIXED))),
    )


@settings(deadline=None, max_examples=150)
@given(
    st.integers(0, 0x3FFF),
    st.binary(min_size=12, max_size=12),
    attributes(),
    st.none() | st.binary(min_size=1),
    st.booleans(),
)
def test_round_trip(
    message_type: int, transaction_id: bytes, values: dict[int, bytes], key: bytes | None, fingerprint: bool
) -> None:
    data = StunMessage(message_type, transaction_id, values).serialize(key, fingerprint=fingerprint)
    parsed = StunMessage.parse(data)
    assert parsed.message_type == message_type
    assert parsed.transaction_id == transaction_id
    assert {kind: value for kind, value in parsed.attributes.items() if kind not in TRAILERS} == values
    assert list(parsed.attributes)[: len(values)] == list(values)
    assert parsed.has_valid_fingerprint == fingerprint
    if key is not None:
        assert parsed.verify_integrity(key)
        assert not parsed.verify_integrity(key + b"x")
    assert parsed.serialize(key, fingerprint=fingerprint) == data


def read_everything(data: bytes) -> None:
    message = StunMessage.parse(data)
    _ = (message.has_valid_fingerprint, message.verify_integrity(KEY), message.unknown_required, message.username)
    _ = (message.priority, message.use_candidate, message.xor_mapped_address, message.error_code)


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_stun_error(data: bytes) -> None:
    with suppress(StunError):
        read_everything(data)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_any_damage_to_a_message_is_a_message_or_a_stun_error(data: st.DataObject) -> None:
    octets = bytearray(
        StunMessage(
            BINDING_ERROR,
            ID,
            {
                USERNAME: b"a:b",
                ERROR_CODE: error_code_value(ROLE_CONFLICT),
                XOR_MAPPED_ADDRESS: xor_address_value(("::1", 5), ID),
            },
        ).serialize(KEY)
    )
    for position in data.draw(st.lists(st.integers(0, len(octets) - 1), min_size=1, max_size=6)):
        octets[position] = data.draw(st.integers(0, 255))
    with suppress(StunError):
        read_everything(bytes(octets))


@settings(deadline=None)
@given(st.ip_addresses(), st.integers(0, 0xFFFF), st.binary(min_size=12, max_size=12))
def test_xor_mapped_address_round_trip(host: object, port: int, transaction_id: bytes) -> None:
    message = StunMessage(BINDING_SUCCESS, transaction_id)
    message.attributes[XOR_MAPPED_ADDRESS] = xor_address_value((str(host), port), transaction_id)
    read = message.xor_mapped_address
    assert read is not None
    mapped = getattr(host, "ipv4_mapped", None)
    assert read == (str(mapped or host), port)


def test_an_ipv4_address_of_a_dual_stack_socket_is_sent_as_ipv4() -> None:
    assert xor_address_value(("::ffff:192.0.2.1", 7), ID) == xor_address_value(("192.0.2.1", 7), ID)


def test_the_zone_of_a_link_local_address_is_not_sent() -> None:
    assert xor_address_value(("fe80::1%eth0", 7, 0, 2), ID) == xor_address_value(("fe80::1", 7), ID)


def test_a_name_is_no_address() -> None:
    with pytest.raises(LocalError, match="example"):
        xor_address_value(("host.example", 7), ID)


def reason_of(data: bytes) -> StunErrorReason:
    with pytest.raises(StunError) as caught:
        read_everything(data)
    assert isinstance(caught.value.reason, StunErrorReason)
    return caught.value.reason


HEADER = bytes.fromhex("0001 0000 2112a442") + ID


def with_length(body: bytes, length: int | None = None) -> bytes:
    return HEADER[:2] + (len(body) if length is None else length).to_bytes(2) + HEADER[4:] + body


@pytest.mark.rfc("8489", "5")
def test_malformed_frames_are_named() -> None:
    assert reason_of(HEADER[:19]) is StunErrorReason.TRUNCATED
    assert reason_of(b"\x40" + HEADER[1:]) is StunErrorReason.NOT_STUN
    assert reason_of(HEADER[:4] + b"\x21\x12\xa4\x43" + ID) is StunErrorReason.NOT_STUN
    assert reason_of(with_length(bytes(8), 4)) is StunErrorReason.BAD_LENGTH
    assert reason_of(with_length(bytes(6))) is StunErrorReason.BAD_LENGTH
    assert reason_of(with_length(bytes.fromhex("0006 0005 61626364"))) is StunErrorReason.ATTRIBUTE_OVERRUN
    assert reason_of(with_length(bytes.fromhex("0024 0003 61626364"))) is StunErrorReason.BAD_ATTRIBUTE_SIZE
    assert reason_of(with_length(bytes.fromhex("8028 0004 61626364 0025 0000"))) is (
        StunErrorReason.FINGERPRINT_NOT_LAST
    )
    assert reason_of(with_length(bytes.fromhex("8022 0000") * 33)) is StunErrorReason.TOO_MANY_ATTRIBUTES
    assert reason_of(with_length(bytes.fromhex("0020 0008 0003 0000 00000000"))) is StunErrorReason.BAD_ADDRESS
    assert reason_of(with_length(bytes.fromhex("0020 0008 0002 0000 00000000"))) is StunErrorReason.BAD_ADDRESS
    assert reason_of(with_length(bytes.fromhex("0009 0004 0000 0263"))) is StunErrorReason.BAD_ERROR_CODE
    assert reason_of(with_length(bytes.fromhex("0009 0000"))) is StunErrorReason.BAD_ERROR_CODE


def test_as_many_attributes_as_allowed_are_read() -> None:
    assert StunMessage.parse(with_length(bytes.fromhex("8022 0000") * 32)).attributes == {SOFTWARE: b""}


@pytest.mark.rfc("8489", "14.5")
def test_what_follows_message_integrity_is_ignored() -> None:
    signed = StunMessage(BINDING_REQUEST, ID, {USERNAME: b"a:b"}).serialize(KEY, fingerprint=False)
    smuggled = bytes.fromhex("0025 0000")
    data = signed[:2] + (len(signed) + 4 - 20).to_bytes(2) + signed[4:] + smuggled
    message = StunMessage.parse(data)
    assert message.verify_integrity(KEY)
    assert not message.use_candidate


@pytest.mark.rfc("8489", "14")
def test_the_first_of_two_equal_attributes_counts() -> None:
    first, second = bytes.fromhex("0024 0004 00000001"), bytes.fromhex("0024 0004 00000002")
    assert StunMessage.parse(with_length(first + second)).priority == 1


@pytest.mark.rfc("8489", "14.7")
def test_a_wrong_or_missing_fingerprint_shows() -> None:
    data = StunMessage(BINDING_REQUEST, ID).serialize()
    assert StunMessage.parse(data).has_valid_fingerprint
    assert not StunMessage.parse(data[:-1] + bytes([data[-1] ^ 1])).has_valid_fingerprint
    assert not StunMessage.parse(StunMessage(BINDING_REQUEST, ID).serialize(fingerprint=False)).has_valid_fingerprint


@pytest.mark.rfc("8489", "14.8")
def test_error_code_round_trip() -> None:
    for code in (400, 401, 420, 487, 300, 699):
        message = StunMessage(BINDING_ERROR, ID, {ERROR_CODE: error_code_value(code)})
        assert StunMessage.parse(message.serialize()).error_code == code
    assert error_code_value(487)[4:] == b"Role Conflict"


@pytest.mark.rfc("8489", "6.3.1")
def test_unknown_required_attributes_are_listed() -> None:
    message = StunMessage(BINDING_REQUEST, ID, {USERNAME: b"", 0x0030: b"", 0x7FFF: b"", 0x8000: b"", 0x0014: b""})
    assert message.unknown_required == [0x0030, 0x7FFF]
    answer = StunMessage(BINDING_ERROR, ID, {UNKNOWN_ATTRIBUTES: unknown_attributes_value([0x0030, 0x7FFF])})
    assert StunMessage.parse(answer.serialize()).attributes[UNKNOWN_ATTRIBUTES] == bytes.fromhex("0030 7fff")


def test_attributes_that_we_do_not_know_can_be_read_and_added() -> None:
    data_attribute, acknowledgement = 0xC070, 0xC071
    datagram = bytes(range(256)) * 4
    message = StunMessage(BINDING_SUCCESS, ID, {acknowledgement: b"", data_attribute: datagram})
    parsed = StunMessage.parse(message.serialize(KEY))
    assert parsed.attributes[data_attribute] == datagram
    assert parsed.attributes[acknowledgement] == b""
    assert parsed.unknown_required == []
