"""First checks as Chromium 156 and Firefox 153 really send them, captured on the wire."""

import pytest

from voicegate.ice import StunMessage, is_binding_request, is_stun, server_ufrag_untrusted
from voicegate.ice.stun import (
    BINDING_REQUEST,
    FINGERPRINT,
    ICE_CONTROLLING,
    MESSAGE_INTEGRITY,
    PRIORITY,
    USE_CANDIDATE,
    USERNAME,
)

NETWORK_INFO = 0xC057
DTLS_IN_STUN = 0xC070
DTLS_IN_STUN_ACK = 0xC071

CHROMIUM_FIRST = bytes.fromhex(
    """
    0001004c2112a4426f345649506f62636a43726c00060009737276553a6a385252000000c057000400010000802a0008
    ef7cc7ab37fa552a002400046e7e1eff00080014809d43f6d1f6bde75efc3e13ee60b38416cd051680280004475e5ba6
    """
)

CHROMIUM_SECOND = bytes.fromhex(
    """
    000100502112a44258794776525436315962704200060009737276553a6a385252000000c057000400010000802a0008
    ef7cc7ab37fa552a00250000002400046e7e1eff000800148c7ab6bc146bb8d22f13df8e05388bfead379b3380280004
    5ec1a453
    """
)

# With the field trial WebRTC-IceHandshakeDtls: a ClientHello fragment inside the check.
CHROMIUM_DTLS_IN_STUN = bytes.fromhex(
    """
    000103d82112a442563570672f4471386f34327a00060009737276553a4a4b5857000000c057000400010000802a0008
    9c68ba22cd04d4c9002400046e7e1effc0710000c070038416feff000000000000000003770100058500000000000003
    6bfefdc19489901557d7212f68a853efb234c02081498fd8dc0fc82641b5f8ed4fdf5a0000001c130113021303c02bc0
    2fcca9cca8c009c013c00ac014009c002f00350100053f000e0009000600010008000700000b00020100ff0100010000
    0d0014001204030804040105030805050108060601020100170000002b000504fefcfefd003304ea04e811ec04c0c3b3
    a51b21a9891b12ab011a5f17312f7c82f44bc746b0275375c409f1a8b24b0b229380651b1e0615c1eb4470b9c7349f87
    86119ac9c699b1d7905116b8994dab04e9c53c91573b3fd88fb5d09fbae41c93a347f28813465407da8579e7e75f29b3
    8210e13c2eb7af6e258b3b902a14836ac64c802d7525e12101c7e55431c80e2c93427a32ba01473e5bbba58645a4a5c6
    3d55183ba75b0426dc12da71933cc5a5cfda14e9c2a1c9210142f59d7071ac38685069c5618004a655dcadb14b593921
    56345c111a7bb074ca8407267bd30cc963d6512f8c40a88a80b7a814ea591990d020d38b04788c4ebe5414084775f218
    6281185a4cd692c3a6199ed058962a5af70cb2d0b63683db8883fa5054e794d990512d44c3047b221d14537d0b49e6b5
    271d0abe91d119b78aa47cb77fb3d6426285a0b1bb02b45aa353a5acb63200afe0b2b996c2cb1274c82601d92550fd14
    cd715c771aa2c02f8b45e0b47a88f7803ca0b22d9c4a6a07bb5e076b68c6a1f4900fa8b934ca502cea285aeffc2f0667
    9e0b5a6047663f00db78091477bc217cb82b490f1c0bf8325b913b4063c1a75c3b16a4a6206dd8408b55b015815f2276
    5eae2a1b83358155e791095b4f298068a567b6bc35c22b4c31036c223aac54aa31cd9b2247da004afef72d2589b5c0aa
    0d31301d5240b55356cd0410926dc9b3b228802b1985f99349db4460da62701cf74f097503fc169fcb9a71f1ba908a23
    bc8c288ad1718ed1c13f8ab2a203a055eafb6bd9196758457f4af2ae712a52db49877c89ad3a2bbf1c7aa304890efc70
    93ba4b2e03395ad21b2e74d74f0356036e74ce23d347b562a0c91ca50c22c7d19199587965c35125ebd92a939b77c7d9
    786ca0accf660c566945cc8349ff7269e40a852f8c3cc9762867d645f3124caaf6408e49ce3e17648e01823e4427efb0
    adf224140260175e970daf745cc46cbbd6758c652b4911362f596236907b369f0997d9ca0faf8167172b91c50a99eed9
    61d17c91efbc03dcd5713cab00080014f748dbfe8d242d6e030e4f1280f42b0794b654d3802800040f603160
    """
)

FIREFOX_FIRST = bytes.fromhex(
    """
    0001004c2112a442cf2bdd79a8806b0c9b671ea30006000d737276553a35323163633538310000000025000000240004
    6e7c00ff802a000839d46ff3319bfc00000800145027ac27cc05164cb8544a11f849365cb4d2fd1d802800049c5ac747
    """
)

ALL = [CHROMIUM_FIRST, CHROMIUM_SECOND, CHROMIUM_DTLS_IN_STUN, FIREFOX_FIRST]


@pytest.mark.parametrize("data", ALL)
def test_a_browsers_check_is_recognised(data: bytes) -> None:
    assert is_stun(data)
    assert is_binding_request(data)
    assert server_ufrag_untrusted(data) == b"srvU"
    message = StunMessage.parse(data)
    assert message.message_type == BINDING_REQUEST
    assert message.has_valid_fingerprint
    assert message.unknown_required == []
    assert not message.verify_integrity(b"not the password")


@pytest.mark.parametrize("data", ALL)
def test_what_we_would_send_in_its_place_is_the_same_up_to_the_signature(data: bytes) -> None:
    rebuilt = StunMessage.parse(data).serialize(b"another key")
    unsigned = slice(0, -32)
    assert rebuilt[unsigned] == data[unsigned]
    assert len(rebuilt) == len(data)


def test_chromium_first_check() -> None:
    message = StunMessage.parse(CHROMIUM_FIRST)
    assert list(message.attributes) == [
        USERNAME,
        NETWORK_INFO,
        ICE_CONTROLLING,
        PRIORITY,
        MESSAGE_INTEGRITY,
        FINGERPRINT,
    ]
    assert message.username == b"srvU:j8RR"
    assert message.priority == 0x6E7E1EFF
    assert not message.use_candidate
    assert StunMessage.parse(CHROMIUM_SECOND).use_candidate


def test_chromium_carries_dtls_in_stun() -> None:
    message = StunMessage.parse(CHROMIUM_DTLS_IN_STUN)
    assert message.attributes[DTLS_IN_STUN_ACK] == b""
    assert len(message.attributes[DTLS_IN_STUN]) == 900
    assert message.attributes[DTLS_IN_STUN].startswith(bytes.fromhex("16feff"))


def test_firefox_first_check_marks_the_pair_at_once() -> None:
    message = StunMessage.parse(FIREFOX_FIRST)
    assert message.username == b"srvU:521cc581"
    assert message.use_candidate
    assert list(message.attributes)[1] == USE_CANDIDATE
    assert message.priority == 0x6E7C00FF
