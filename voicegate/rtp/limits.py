"""The limits of the RTP room, each with its reason."""

#: RFC 3550 §A.1: a source is valid after this many packets in sequence; one stray packet makes no stream.
MIN_SEQUENTIAL = 2
#: RFC 3550 §A.1: a forward jump below this is a gap (a minute of 20 ms packets), above it a restarted sender.
MAX_DROPOUT = 3000
#: RFC 3550 §A.1: a packet at most this far behind is reordering, further behind a restarted sender.
MAX_MISORDER = 100

#: RFC 3550 §6.4.1: the count field of a report has five bits.
MAX_REPORT_BLOCKS = 31

#: Packets that one peer may have in flight out of order before SRTP calls the oldest a replay: 20 s of 20 ms audio.
SRTP_REPLAY_WINDOW = 1024
#: Synchronisation sources one peer may use in one direction: audio, RED, a few restarts. libsrtp keeps state for each.
MAX_SRTP_STREAMS = 16

#: Longest span of audio that waits in the jitter buffer: a conversation is worse off with more delay than with a gap.
MAX_BUFFERED_MS = 500
#: Packets that may wait, whatever their timestamps say: 500 ms of 10 ms packets.
MAX_BUFFERED_PACKETS = 50
#: Concealment longer than this is a drone, not speech: after it the listener gets silence.
MAX_CONCEALED_MS = 100
#: A packet this much earlier or later than its timestamp says belongs to a new timeline, not to jitter.
RESYNCHRONISE_MS = 2000

FIRST_REPORT_S = 0.1
"""The first report goes out this soon, so that the peer can relate RTP to wall time and measure the round trip."""

SECOND_REPORT_S = 1.0
"""How long after the first the second follows; from then on each waits twice as long as the one before it."""

REPORT_INTERVAL_S = 5.0
"""The longest wait between reports, the one that RFC 3550 §6.2 recommends and that browsers keep. Who has just called
wants to know the round trip soon; later a report tells little, and making and reading one costs as much as echoing five
frames."""
