"""SDP offer and answer for one audio stream (RFC 8866, RFC 8829), text in and text out.

Read `description` (the grammar), `model` (the types), `remote` (what a peer said) and `local` (what we say).
"""

from voicegate.sdp.description import MediaSection, Section, SessionDescription
from voicegate.sdp.errors import SdpError, SdpReason
from voicegate.sdp.local import AnswerParameters, OfferParameters, build_answer, build_offer
from voicegate.sdp.model import (
    Answer,
    Codec,
    Direction,
    HeaderExtension,
    Offer,
    RemoteApplication,
    RemoteAudio,
    Setup,
)
from voicegate.sdp.remote import parse_answer, parse_offer

__all__ = [
    "Answer",
    "AnswerParameters",
    "Codec",
    "Direction",
    "HeaderExtension",
    "MediaSection",
    "Offer",
    "OfferParameters",
    "RemoteApplication",
    "RemoteAudio",
    "SdpError",
    "SdpReason",
    "Section",
    "SessionDescription",
    "Setup",
    "build_answer",
    "build_offer",
    "parse_answer",
    "parse_offer",
]
