"""An offer that cannot work is refused, with the reason that its sender needs."""

from collections.abc import Callable

import pytest

from voicegate.sdp import SdpError, SdpReason, parse_offer
from voicegate.sdp.limits import MAX_LINES, MAX_SDP_CHARACTERS

Change = Callable[[str], str]


def without(*starts: str) -> Change:
    return lambda text: "".join(line for line in text.splitlines(True) if not line.startswith(starts))


def replaced(old: str, new: str) -> Change:
    def change(text: str) -> str:
        assert old in text
        return text.replace(old, new)

    return change


def opus_only(rtpmap: str) -> Change:
    """Chromium's offer with one payload type left, and that one described otherwise."""
    return lambda text: text.replace("SAVPF 111 63 9 0 8 13 110 126", "SAVPF 111").replace(
        "a=rtpmap:111 opus/48000/2", rtpmap
    )


REFUSALS: list[tuple[str, SdpReason, Change]] = [
    ("nothing", SdpReason.NOT_SDP, lambda text: ""),
    ("blank lines only", SdpReason.NOT_SDP, lambda text: "\r\n \r\n"),
    ("json", SdpReason.MALFORMED_LINE, lambda text: '{"sdp": "v=0"}'),
    ("no version", SdpReason.NOT_SDP, without("v=")),
    ("another version", SdpReason.NOT_SDP, replaced("v=0", "v=1")),
    ("an m-line first", SdpReason.NOT_SDP, lambda text: text[text.index("m=") :]),
    ("byte order mark", SdpReason.BYTE_ORDER_MARK, lambda text: "\ufeff" + text),
    ("byte order mark read as latin-1", SdpReason.BYTE_ORDER_MARK, lambda text: "\u00ef\u00bb\u00bf" + text),
    ("too large", SdpReason.TOO_LARGE, lambda text: text + "a=" + "x" * MAX_SDP_CHARACTERS),
    ("too many lines", SdpReason.TOO_LARGE, lambda text: text + "a=x\n" * MAX_LINES),
    ("a line without =", SdpReason.MALFORMED_LINE, replaced("a=rtcp-mux", "rtcp-mux")),
    ("an indented line", SdpReason.MALFORMED_LINE, replaced("a=rtcp-mux", " a=rtcp-mux")),
    ("a carriage return inside", SdpReason.MALFORMED_LINE, replaced("a=rtcp-mux", "a=rtcp\r-mux")),
    ("a NUL", SdpReason.MALFORMED_LINE, replaced("a=rtcp-mux", "a=rtcp-mux\0x")),
    ("half a surrogate pair", SdpReason.MALFORMED_LINE, replaced("s=-", "s=\ud800")),
    ("an m-line cut short", SdpReason.MALFORMED_LINE, replaced(" webrtc-datachannel", "")),
    ("a port that is none", SdpReason.MALFORMED_LINE, replaced("m=audio 9 ", "m=audio 65536 ")),
    ("a port in other digits", SdpReason.MALFORMED_LINE, replaced("m=audio 9 ", "m=audio \u0669 ")),
    ("too many m-lines", SdpReason.TOO_MANY_MEDIA_SECTIONS, lambda text: text + "m=video 9 RTP/SAVPF 96\n" * 63),
    ("two equal mids", SdpReason.DUPLICATE_MID, replaced("a=mid:1", "a=mid:0")),
    ("a mid that is no token", SdpReason.MALFORMED_ATTRIBUTE, replaced("a=mid:1", "a=mid:a b")),
    ("no m-line", SdpReason.NO_AUDIO, lambda text: text[: text.index("m=")]),
    ("video only", SdpReason.NO_AUDIO, replaced("m=audio", "m=video")),
    ("audio without encryption", SdpReason.NO_AUDIO, replaced("UDP/TLS/RTP/SAVPF", "RTP/AVP")),
    ("audio with port 0", SdpReason.AUDIO_REJECTED, replaced("m=audio 9 ", "m=audio 0 ")),
    ("no codec of ours", SdpReason.UNSUPPORTED_CODECS, replaced("SAVPF 111 63 9 0 8", "SAVPF 63 9")),
    ("G.711 at another rate", SdpReason.UNSUPPORTED_CODECS, opus_only("a=rtpmap:111 PCMU/16000")),
    ("Opus not in the rtpmap", SdpReason.UNSUPPORTED_CODECS, opus_only("a=rtpmap:111 speex/16000")),
    ("Opus with one channel", SdpReason.UNSUPPORTED_CODECS, opus_only("a=rtpmap:111 opus/48000")),
    (
        "Opus where RTCP is",
        SdpReason.UNSUPPORTED_CODECS,
        lambda text: opus_only("a=rtpmap:111 opus/48000/2")(text).replace(" 111", " 72").replace(":111", ":72"),
    ),
    ("no rtcp-mux", SdpReason.NO_RTCP_MUX, without("a=rtcp-mux")),
    ("no ufrag", SdpReason.NO_ICE_CREDENTIALS, without("a=ice-ufrag")),
    ("no password", SdpReason.NO_ICE_CREDENTIALS, without("a=ice-pwd")),
    ("a ufrag too short", SdpReason.BAD_ICE_CREDENTIALS, replaced("a=ice-ufrag:j8RR", "a=ice-ufrag:j8R")),
    ("a ufrag too long", SdpReason.BAD_ICE_CREDENTIALS, replaced("a=ice-ufrag:j8RR", "a=ice-ufrag:" + "j" * 257)),
    ("a password too short", SdpReason.BAD_ICE_CREDENTIALS, replaced("xYvCPXqVgFAGC22xE2xKqCI5", "short")),
    ("no fingerprint", SdpReason.NO_FINGERPRINT, without("a=fingerprint")),
    ("a fingerprint of an old hash", SdpReason.NO_FINGERPRINT, replaced("fingerprint:sha-256", "fingerprint:md5")),
    ("a fingerprint cut short", SdpReason.NO_FINGERPRINT, replaced(":4F:6A", "")),
    ("no setup", SdpReason.NO_SETUP, without("a=setup")),
    ("holdconn", SdpReason.BAD_SETUP, replaced("setup:actpass", "setup:holdconn")),
    ("an unknown setup", SdpReason.BAD_SETUP, replaced("setup:actpass", "setup:both")),
]


@pytest.mark.parametrize(("reason", "change"), [pytest.param(*rest, id=what) for what, *rest in REFUSALS])
def test_refused(chromium: str, reason: SdpReason, change: Change) -> None:
    with pytest.raises(SdpError) as caught:
        parse_offer(change(chromium))
    assert caught.value.reason is reason
    assert caught.value.detail
    assert str(caught.value).isascii()


def test_a_malformed_line_is_named_by_its_number(chromium: str) -> None:
    with pytest.raises(SdpError, match="line 3: 'whatever'"):
        parse_offer("v=0\no=- 1 1 IN IP4 0.0.0.0\nwhatever\n")


def test_the_codecs_that_were_offered_are_named(chromium: str) -> None:
    with pytest.raises(SdpError, match=r"unsupported codecs.*cn, g722, red"):
        parse_offer(chromium.replace("SAVPF 111 63 9 0 8", "SAVPF 63 9"))
