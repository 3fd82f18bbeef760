"""RTP and its company: packets, RTCP, SRTP, stream statistics, and the jitter buffer. Sans-IO.

Reading order: `packet.py`, `rtcp.py`, `statistics.py`, `srtp.py`, `jitter.py`.
"""

from voicegate.rtp.jitter import Frame, JitterBuffer, JitterBufferStatistics, Lost
from voicegate.rtp.opus import opus_samples
from voicegate.rtp.packet import RtpError, RtpErrorReason, RtpPacket, audio_level, is_rtcp, pack_extensions
from voicegate.rtp.rtcp import (
    ExtendedReport,
    Goodbye,
    ReceiverDelay,
    ReceiverReport,
    ReportBlock,
    RtcpError,
    RtcpErrorReason,
    RtcpPacket,
    SenderReport,
    SourceDescription,
    parse_compound,
    serialize_compound,
)
from voicegate.rtp.session import RtpSession, RtpSessionStatistics
from voicegate.rtp.srtp import SrtpError, SrtpErrorReason, SrtpReceiver, SrtpSender
from voicegate.rtp.statistics import (
    RtpReceiverStatistics,
    RtpSenderStatistics,
    answer_reference_time,
    ntp_timestamp,
)

__all__ = [
    "ExtendedReport",
    "Frame",
    "Goodbye",
    "JitterBuffer",
    "JitterBufferStatistics",
    "Lost",
    "ReceiverDelay",
    "ReceiverReport",
    "ReportBlock",
    "RtcpError",
    "RtcpErrorReason",
    "RtcpPacket",
    "RtpError",
    "RtpErrorReason",
    "RtpPacket",
    "RtpReceiverStatistics",
    "RtpSenderStatistics",
    "RtpSession",
    "RtpSessionStatistics",
    "SenderReport",
    "SourceDescription",
    "SrtpError",
    "SrtpErrorReason",
    "SrtpReceiver",
    "SrtpSender",
    "answer_reference_time",
    "audio_level",
    "is_rtcp",
    "ntp_timestamp",
    "opus_samples",
    "pack_extensions",
    "parse_compound",
    "serialize_compound",
]
