"""DTLS 1.3 (RFC 9147), the parts that differ from DTLS 1.2.

From the wire upwards: `header.py` (the unified header), `protection.py` (records), `acknowledgement.py` (ACK),
`key_schedule.py` (secrets), `handshake.py` (what both roles share), `server.py` and `client.py` (the states).
"""
