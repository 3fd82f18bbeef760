"""voicegate: a relay and a transceiver for real-time voice AI, on trio.

The folders are the picture; read them from the ground up: protocol cores that take bytes and `now`
(`ice`, `dtls`, `rtp`, `sdp`, put together in `peer`), our own wire contracts (`routing`), the network (`net`),
and the programs on top (`media`, `agents`, `transceiver`, `signaling`, `relay`, `client`).
"""

__version__ = "0.1.0"
