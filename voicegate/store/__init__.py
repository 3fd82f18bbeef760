"""What relays and transceivers of a fleet tell each other through Redis: who holds which slots, and where flows lead.

    transceivers ── leases of slots ──▶ Redis ── snapshot of the registry ──▶ relays
    relays ─────── rows of flows ─────▶ Redis ── rows on a miss ────────────▶ relays

Only supervisors speak to Redis, never the process of a worker or a transceiver, and nothing waits for it: a Redis that
is slow, full, gone or emptied costs new knowledge and no call. Everything in it is authenticated with the fleet's keys.
Read `link` (the connection), `flows`, `records`, `leases`, `snapshot`.
"""

from voicegate.store.flows import FlowStore
from voicegate.store.leases import SlotLeases
from voicegate.store.link import RedisLink, StoreDownError
from voicegate.store.snapshot import RegistryReader

__all__ = ["FlowStore", "RedisLink", "RegistryReader", "SlotLeases", "StoreDownError"]
