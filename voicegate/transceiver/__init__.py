"""The transceiver: the only owner of session state.

Read `session.py` (one call), then `endpoint.py` (all of them behind one socket), `path.py`, `audio.py`, `clock.py`.
The process that puts them together with signaling is not built yet.
"""
