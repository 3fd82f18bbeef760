"""Every number that bounds or paces ICE, each with the reason for its value."""

from typing import Final

# -- STUN codec -------------------------------------------------------------------------------------------------------

# Chromium sends 7 attributes, 9 with DTLS inside STUN; a parser's work per datagram must not be the sender's choice.
MAX_ATTRIBUTES: Final = 32
# RFC 8489 §14.3: a USERNAME is shorter than 509 bytes; RFC 8445 §7.1.1 makes it two ufrags of at most 256 and a colon.
MAX_USERNAME_BYTES: Final = 513

# Parsing an address costs more than the HMAC of a whole check; a peer's is the same in all of its checks.
CACHED_HOSTS: Final = 4096

# -- DTLS in STUN (dtls_in_stun.py) ------------------------------------------------------------------------------------

# libwebrtc's bound on the attributes before MESSAGE-INTEGRITY; with it and FINGERPRINT a message has 1220 bytes.
MAX_SPED_BODY_BYTES: Final = 1168
# The longest DTLS datagram that leaves room for everything else in a check, long ufrags included; libwebrtc's value.
SPED_DTLS_MTU: Final = 900
# draft-hancke-webrtc-sped: an ACK names at most four datagrams.
MAX_SPED_ACKNOWLEDGEMENTS: Final = 4
# A flight with post-quantum key shares and a long certificate has three datagrams; what is beyond goes by itself.
MAX_SPED_FLIGHT_DATAGRAMS: Final = 8
# The header of a plaintext record (RFC 6347 §4.1); encrypted ones are longer than that altogether.
MIN_DTLS_DATAGRAM_BYTES: Final = 13

# -- credentials and candidates ---------------------------------------------------------------------------------------

# RFC 8839 §5.4: both strings have a floor (entropy) and the ceiling that keeps USERNAME within its bound.
MIN_UFRAG_CHARS: Final = 4
MAX_UFRAG_CHARS: Final = 256
MIN_PWD_CHARS: Final = 22
MAX_PWD_CHARS: Final = 256
# The longest sensible line is a 253-character name with a dozen extensions; longer ones are somebody's experiment.
MAX_CANDIDATE_CHARS: Final = 1024

# -- lite agent -------------------------------------------------------------------------------------------------------

# A phone has Wi-Fi, cellular and a VPN, each in two address families; more source addresses are rebinding or abuse.
MAX_PATHS: Final = 8
# Firefox marks every pair with USE-CANDIDATE while it still sorts them; after this time its choice has settled.
SETTLING_S: Final = 5.0
# A path that carried neither check nor media for this long loses to one that does: audio comes every 20 ms.
SILENT_S: Final = 1.0
# Longer than the slowest consent interval (RFC 7675: 5 s + 20 %), so only a path that is really gone is abandoned.
ABANDONED_S: Final = 7.0
# How long an offer may wait for its first check: a user may still be granting the microphone, but not for ever.
CONNECT_LIMIT_S: Final = 30.0

# -- full agent -------------------------------------------------------------------------------------------------------

# RFC 8445 §14.2 allows 5 ms to 50 ms; Firefox uses 20 ms and a handful of pairs is then tried within one round trip.
TA_S: Final = 0.020
# Shorter than RFC 8445 §14.3's 500 ms: a lost first check would cost half a second of silence (see spec/ice.md).
INITIAL_RTO_S: Final = 0.100
# The retransmission timer over a measured round trip: some jitter must not cause a second copy.
RTO_PER_ROUND_TRIP: Final = 1.5
# RFC 8489 §6.2.1: Rc transmissions, and Rm times the first RTO of waiting after the last one.
TRANSMISSIONS: Final = 7
LAST_WAIT_RTOS: Final = 16
# RFC 8445 §6.1.2.5: the default ceiling on a checklist; it also bounds what an authenticated peer can make us store.
MAX_PAIRS: Final = 100
# How long a valid pair waits for a better one before it is nominated; media already flows meanwhile.
NOMINATION_WAIT_S: Final = 0.200
# RFC 8863 §4: do not give up before this, because the peer's own checks may still open a path.
PATIENCE_S: Final = 39.5

# -- consent (both agents) --------------------------------------------------------------------------------------------

# RFC 7675 §5.1: one check every 5 s, spread by ± 20 % so that many sessions do not beat in time.
CONSENT_INTERVAL_S: Final = 5.0
CONSENT_SPREAD: Final = 0.2
# RFC 7675 §5.1: consent lasts 30 s after the last valid answer.
CONSENT_LIFETIME_S: Final = 30.0
# A consent check is sent once; its answer is waited for like that of a check with RFC 8489's plain RTO.
CONSENT_RTO_S: Final = 0.5
