"""The limits of the media room, each with its reason."""

#: Audio of a client that may wait to be played: half a minute, 1.4 MB. (What agents say: `voicegate/agents/limits.py`)
MAX_PLAYOUT_MS = 30_000

#: A WAV file that is read: an hour of telephone quality fits, a mistake (a film) does not.
MAX_WAV_BYTES = 64 * 1024 * 1024
#: Highest sample rate of a WAV file: no sound card records with more.
MAX_WAV_RATE_HZ = 384_000
#: Lowest: below it there is no speech.
MIN_WAV_RATE_HZ = 4_000
#: Most channels of a WAV file: 7.1 surround.
MAX_WAV_CHANNELS = 8

#: Longest Opus packet that is shown to a decoder: a datagram does not hold more.
MAX_OPUS_PAYLOAD_BYTES = 1500
#: Longest G.711 packet that is decoded: 120 ms, as with Opus. Telephones send 20 or 30.
MAX_G711_PAYLOAD_BYTES = 960
