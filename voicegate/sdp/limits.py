"""How much SDP is read, each limit with its reason."""

MAX_SDP_CHARACTERS = 65_536
"""A browser's offer with one microphone and a data channel is 2 kB, with every codec and forty candidates 20 kB."""

MAX_LINES = 4096
"""The same offers have 60 and 400 lines. Sections are searched line by line, so this bounds the time of reading one."""

MAX_MEDIA_SECTIONS = 64
"""Every section of an offer has to be answered, even if only by a refusal; a page has a few microphones and cameras."""

MAX_CANDIDATES = 64
"""More addresses than any real host has; the rest of a longer list is not looked at."""

MAX_TOKEN_CHARACTERS = 255
"""For names that an answer has to repeat (mid, media type, protocol, payload types): longer ones have no purpose."""

DEFAULT_MAX_MESSAGE_SIZE = 65_536
"""RFC 8841 §6.1: what a peer that says nothing is able to receive, in octets."""
