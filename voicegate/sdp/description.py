"""The grammar of SDP (RFC 8866): lines, grouped into the session's own and one section for each m-line.

    v=0                                        ┐
    o=- 77246 2 IN IP4 127.0.0.1               │ session section
    a=group:BUNDLE 0                           ┘
    m=audio 9 UDP/TLS/RTP/SAVPF 111 63         ┐
    a=mid:0                                    │ media section 0
    a=rtpmap:111 opus/48000/2                  ┘

Lines stay as they are and in their order; what they mean is for `remote` to say. Reading is lenient about line ends
(applications trim and re-wrap what they post), writing is not: some parsers want CRLF everywhere, also after the last.
"""

import re
from dataclasses import dataclass, field

from voicegate.errors import LocalError
from voicegate.sdp.errors import SdpError, SdpReason
from voicegate.sdp.limits import MAX_LINES, MAX_MEDIA_SECTIONS, MAX_SDP_CHARACTERS, MAX_TOKEN_CHARACTERS


@dataclass(slots=True)
class Section:
    """Lines as (type letter, value); the m-line of a media section is not among them."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, value: str | None = None) -> None:
        """Append an attribute: `a=name` or `a=name:value`."""
        self.lines.append(("a", name if value is None else f"{name}:{value}"))

    def attributes(self, name: str) -> list[str]:
        """The values of all attributes of this name, in order; one without a value counts as empty."""
        prefix = name + ":"
        return [
            value[len(prefix) :]
            for letter, value in self.lines
            if letter == "a" and (value == name or value.startswith(prefix))
        ]

    def attribute(self, name: str) -> str | None:
        """The value of the first attribute of this name, or None."""
        return next(iter(self.attributes(name)), None)

    def has(self, name: str) -> bool:
        """Whether the attribute is there at all."""
        return self.attribute(name) is not None


@dataclass(slots=True)
class MediaSection(Section):
    """An m-line and what belongs to it. `kind` is its media type, `formats` what it lists (payload types for RTP)."""

    kind: str = ""
    port: int = 0
    protocol: str = ""
    formats: list[str] = field(default_factory=list)

    @property
    def mid(self) -> str | None:
        """The identification tag (RFC 5888), or None."""
        return self.attribute("mid")


@dataclass(slots=True)
class SessionDescription:
    """A whole description. Raises SdpError from `parse` for everything that is not SDP."""

    session: Section = field(default_factory=Section)
    media: list[MediaSection] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str) -> "SessionDescription":
        """Read a description with CRLF, LF or mixed line ends, with or without one after the last line."""
        if len(text) > MAX_SDP_CHARACTERS:
            raise SdpError(SdpReason.TOO_LARGE, f"{len(text)} characters")
        if text.startswith(_BYTE_ORDER_MARKS):
            raise SdpError(SdpReason.BYTE_ORDER_MARK, "send the text without it")
        description = cls()
        section = description.session
        raw_lines = text.split("\n")
        if len(raw_lines) > MAX_LINES:
            raise SdpError(SdpReason.TOO_LARGE, f"{len(raw_lines)} lines")
        for number, raw_line in enumerate(raw_lines, start=1):
            line = raw_line.rstrip(" \t\r")
            if not line:
                continue
            match = _LINE.fullmatch(line)
            if match is None:
                raise SdpError(SdpReason.MALFORMED_LINE, f"line {number}: {line[:60]!a}")
            letter, value = match.groups()
            # RFC 8866 §5: the version comes first, which also tells SDP from any other text at once.
            if not section.lines and section is description.session and (letter, value) != ("v", "0"):
                raise SdpError(SdpReason.NOT_SDP, f"line {number}: {line[:60]!a}")
            if letter == "m":
                section = _media_section(value, number)
                description.media.append(section)
                if len(description.media) > MAX_MEDIA_SECTIONS:
                    raise SdpError(SdpReason.TOO_MANY_MEDIA_SECTIONS, f"more than {MAX_MEDIA_SECTIONS}")
            else:
                section.lines.append((letter, value))
        if not description.session.lines:
            raise SdpError(SdpReason.NOT_SDP, "it is empty")
        return description

    def to_sdp(self) -> str:
        """The text, every line ended by CRLF. Raises LocalError if a value would break a line in two."""
        lines = list(self.session.lines)
        for media in self.media:
            lines.append(("m", " ".join([media.kind, str(media.port), media.protocol, *media.formats])))
            lines += media.lines
        for letter, value in lines:
            if _LINE.fullmatch(f"{letter}={value}") is None:
                raise LocalError(f"not an SDP line: {letter}={value!r}")
        return "".join([f"{letter}={value}\r\n" for letter, value in lines])


def parse_number(text: str, most: int) -> int | None:
    """A plain decimal number up to `most`, or None. (`int` would also take signs, underscores and foreign digits.)"""
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(most)):
        return None
    number = int(text)
    return number if number <= most else None


def is_token(text: str) -> bool:
    """Whether `text` may stand where SDP wants a token (RFC 8866 §9)."""
    return len(text) <= MAX_TOKEN_CHARACTERS and _TOKEN.fullmatch(text) is not None


_BYTE_ORDER_MARKS = ("\ufeff", "\u00ef\u00bb\u00bf")
"""As text, and as what UTF-8 read as Latin-1 makes of it."""

_LINE = re.compile("([a-z])=([^\0\r\n\ud800-\udfff]*)")
"""RFC 8866 §9: a letter and any text without NUL, CR and LF; half of a surrogate pair is no text."""

_TOKEN = re.compile("[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+")


def _media_section(value: str, number: int) -> MediaSection:
    where = f"line {number}: {value[:60]!a}"
    fields = value.split()
    if len(fields) < 4:  # noqa: PLR2004 - media type, port, protocol, one format
        raise SdpError(SdpReason.MALFORMED_LINE, f"{where} is not an m-line")
    kind, port_text, protocol, *formats = fields
    # RFC 8866 §5.14: `port/count` is for layered streams, which nobody sends with BUNDLE; the count is not used.
    port = parse_number(port_text.partition("/")[0], 0xFFFF)
    tokens = [kind, *protocol.split("/"), *formats]
    if port is None or not all(is_token(token) for token in tokens):
        raise SdpError(SdpReason.MALFORMED_LINE, f"{where} is not an m-line")
    return MediaSection(kind=kind, port=port, protocol=protocol, formats=formats)
