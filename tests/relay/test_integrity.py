"""A relay that checks MESSAGE-INTEGRITY, and keys that change while calls go on."""

from __future__ import annotations

import pytest

from tests.relay.conftest import (
    BINDING_REQUEST,
    CLIENT,
    RTP,
    USERNAME,
    FakeTransceiver,
    Fleet,
    binding_request,
    binding_response,
)
from voicegate.ice import StunMessage
from voicegate.routing import ANSWERED, VALIDATED, FleetKeys, Hint, HintKind, HopSender, pack_entry, with_flags

OLD, NEW = "ab" * 32, "cd" * 32
OLD_ONLY, BOTH, TURNED, NEW_ONLY = (
    FleetKeys.parse(text) for text in (f"0:{OLD}", f"0:{OLD},1:{NEW}", f"1:{NEW},0:{OLD}", f"1:{NEW}")
)


def fleet_of(relay: FleetKeys, transceiver: FleetKeys, *, checks: bool = True) -> Fleet:
    """Transceivers with their keys, and a relay with its own."""
    fleet = Fleet(transceiver_count=1)
    fleet.transceivers = [FakeTransceiver(fleet, 0, transceiver)]
    fleet.restart(relay, pwd_keys=relay.pwd_keys if checks else None)
    return fleet


@pytest.fixture
def fleet() -> Fleet:
    return fleet_of(OLD_ONLY, OLD_ONLY)


def nothing_was_learned(fleet: Fleet) -> bool:
    flows = fleet.flows
    return not (len(flows) or flows._per_hint or flows._learned or fleet.transceivers[0].received or fleet.to_clients)


class TestChecks:
    def test_with_the_password_of_the_hint_they_pass(self, fleet: Fleet) -> None:
        first = fleet.transceivers[0]
        hint = first.hint()
        check = binding_request(hint, OLD_ONLY.ice_pwd(hint))
        fleet.from_client(check)
        assert first.payloads == [check]
        assert fleet.drops() == {}

    def test_with_another_password_they_are_dropped_before_anything_is_learned(self, fleet: Fleet) -> None:
        first = fleet.transceivers[0]
        hint, other = first.hint(), first.hint()
        for pwd in ("", "wrong", OLD_ONLY.ice_pwd(other), OLD_ONLY.ice_pwd(hint)[:-1], hint):
            fleet.from_client(binding_request(hint, pwd))
        assert fleet.drops() == {"BAD_INTEGRITY": 5}
        assert nothing_was_learned(fleet)

    def test_without_integrity_they_are_dropped(self, fleet: Fleet) -> None:
        fleet.from_client(binding_request(fleet.transceivers[0].hint(), None))
        assert fleet.drops() == {"BAD_INTEGRITY": 1}
        assert nothing_was_learned(fleet)

    def test_every_octet_that_is_covered_counts(self, fleet: Fleet) -> None:
        hint = fleet.transceivers[0].hint()
        check = binding_request(hint, OLD_ONLY.ice_pwd(hint))
        for place in range(len(check)):
            fleet.from_client(check[:place] + bytes([check[place] ^ 1]) + check[place + 1 :])
        # Of FINGERPRINT, which is not covered, only the framing counts here: the value is the transceiver's affair.
        assert len(fleet.transceivers[0].received) <= 4 + 4
        assert sum(fleet.drops().values()) >= len(check) - 8
        assert {"BAD_INTEGRITY", "BAD_HINT", "NO_USERNAME", "UNKNOWN_FLOW"} >= fleet.drops().keys()

    def test_that_cannot_be_parsed_are_dropped(self, fleet: Fleet) -> None:
        """The USERNAME comes first and can be read, what follows is none of STUN."""
        hint = fleet.transceivers[0].hint().encode()
        head = StunMessage(BINDING_REQUEST, bytes(12), {USERNAME: hint + b":client"}).serialize(fingerprint=False)
        body = head[20:] + b"\x00\x08\x00\xff" + bytes(20)
        fleet.from_client(head[:2] + len(body).to_bytes(2, "big") + head[4:20] + body)
        assert fleet.drops() == {"BAD_INTEGRITY": 1}
        assert nothing_was_learned(fleet)

    def test_of_a_live_client_that_are_forged_neither_move_nor_feed_its_flow(self, fleet: Fleet) -> None:
        first = fleet.transceivers[0]
        hint = first.hint()
        fleet.from_client(binding_request(hint, OLD_ONLY.ice_pwd(hint)))
        flow = fleet.flows.from_client(0, CLIENT)
        assert flow is not None
        before = flow.up_octets, flow.last_heard, flow.asked
        fleet.now += 1
        fleet.from_client(*(binding_request(first.hint(), "forged") for _ in range(10)))
        assert (flow.up_octets, flow.last_heard, flow.asked) == before
        assert len(first.received) == 1
        assert fleet.drops() == {"BAD_INTEGRITY": 10}

    def test_of_another_relays_client_are_looked_at_too(self, fleet: Fleet) -> None:
        hint = fleet.transceivers[0].hint()
        entry = pack_entry(*CLIENT, 0, 4, 0, 0)
        fleet.router._slots._ingresses[4] = (("10.1.0.4", 5000),)
        for pwd in ("forged", OLD_ONLY.ice_pwd(hint)):
            fleet.router.deliver(entry, binding_request(hint, pwd), ("10.1.0.4", 5000), fleet.now)
        fleet.router.flush()
        assert fleet.drops() == {"BAD_INTEGRITY": 1}
        assert len(fleet.transceivers[0].received) == 1

    def test_bad_hints_are_told_apart_from_bad_passwords(self, fleet: Fleet) -> None:
        fleet.from_client(binding_request("x" * 23, "any"), StunMessage(BINDING_REQUEST, bytes(12)).serialize(b"any"))
        assert fleet.drops() == {"BAD_HINT": 1, "NO_USERNAME": 1}

    def test_without_keys_the_transceiver_alone_decides(self) -> None:
        fleet = fleet_of(OLD_ONLY, OLD_ONLY, checks=False)
        fleet.from_client(binding_request(fleet.transceivers[0].hint(), None))
        assert len(fleet.transceivers[0].received) == 1


class TestRotation:
    def check(self, fleet: Fleet, keys: FleetKeys) -> bytes:
        hint = keys.hint_codec().mint(Hint(HintKind.PINNED, 0, 5, 1, bytes(5)))
        return binding_request(hint, keys.ice_pwd(hint))

    def call(self, fleet: Fleet, keys: FleetKeys, port: int) -> None:
        """A new call of a session whose ufrag was minted with these keys."""
        first, address = fleet.transceivers[0], ("192.0.2.10", port)
        fleet.from_client(self.check(fleet, keys), address=address)
        first.send(first.received[-1][2], binding_response(), ANSWERED | VALIDATED)
        fleet.from_client(RTP, address=address)
        assert first.received[-1][0] == address
        assert first.payloads[-1] == RTP
        first.send(first.received[-1][2], RTP, ANSWERED | VALIDATED)
        assert fleet.heard(address)[-1] == RTP

    @pytest.mark.parametrize("transceiver", [BOTH, TURNED], ids=["mints with the old one", "mints with the new one"])
    @pytest.mark.parametrize("relay", [BOTH, TURNED], ids=["sends with the old one", "sends with the new one"])
    def test_both_secrets_are_understood_while_it_lasts(self, relay: FleetKeys, transceiver: FleetKeys) -> None:
        fleet = fleet_of(relay, transceiver)
        for port, keys in enumerate((OLD_ONLY, NEW_ONLY, transceiver), 1):
            self.call(fleet, keys, port)
        assert fleet.drops() == {}

    def test_a_configuration_that_the_relay_does_not_have(self) -> None:
        fleet = fleet_of(OLD_ONLY, TURNED)
        fleet.from_client(self.check(fleet, NEW_ONLY))
        assert fleet.drops() == {"BAD_HINT": 1}
        entry = pack_entry(*CLIENT, 0, 3, 2, ANSWERED | VALIDATED)
        fleet.transceivers[0].send(entry, RTP, ANSWERED | VALIDATED)
        assert fleet.drops() == {"BAD_HINT": 1, "UNKNOWN_KEY": 1}
        assert nothing_was_learned(fleet)

    def test_a_configuration_without_a_password_key(self) -> None:
        fleet = fleet_of(BOTH, BOTH)
        fleet.router.use_keys(BOTH.hint_codec(), OLD_ONLY.pwd_keys)
        fleet.from_client(self.check(fleet, NEW_ONLY))
        assert fleet.drops() == {"BAD_INTEGRITY": 1}
        assert nothing_was_learned(fleet)

    def test_the_same_configuration_with_another_secret_is_another_fleet(self) -> None:
        foreign = FleetKeys.parse(f"0:{NEW}")
        fleet = fleet_of(OLD_ONLY, OLD_ONLY)
        fleet.from_client(self.check(fleet, foreign))
        bundle = HopSender[None](0, foreign.hop_keys[0], 0x8001, 1).bundle([(pack_entry(*CLIENT, 0, 3, 2, 3), RTP)])
        fleet.router.receive_from_hop(bundle, fleet.transceivers[0].address)
        assert fleet.drops() == {"BAD_HINT": 1, "TAG": 1}

    def test_a_running_call_outlives_the_change(self) -> None:
        """Every relay gets the new secret beside the old one; then both ends use it; then the old one goes."""
        fleet = fleet_of(OLD_ONLY, BOTH)
        first = fleet.transceivers[0]
        self.call(fleet, OLD_ONLY, 1)
        entry = first.received[-1][2]
        receiver, sender = fleet.router._receiver, fleet.router._sender

        def use(keys: FleetKeys) -> None:
            fleet.router.use_keys(keys.hint_codec(), keys.pwd_keys)
            receiver.use_keys(keys.hop_keys)
            sender.use_key(keys.current, keys.hop_keys[keys.current])

        use(BOTH)
        self.call(fleet, NEW_ONLY, 2)
        use(TURNED)
        first._sender.use_key(1, NEW_ONLY.hop_keys[1])
        self.call(fleet, NEW_ONLY, 3)
        self.call(fleet, OLD_ONLY, 4)
        use(NEW_ONLY)
        fleet.from_client(RTP + b"still", address=("192.0.2.10", 1))
        assert first.payloads[-1] == RTP + b"still"
        first.send(entry, RTP + b"here", ANSWERED | VALIDATED)
        assert fleet.heard(("192.0.2.10", 1))[-1] == RTP + b"here"
        assert fleet.drops() == {}
        fleet.from_client(self.check(fleet, OLD_ONLY), address=("192.0.2.10", 9))
        first._sender.use_key(0, OLD_ONLY.hop_keys[0])
        fleet.router.receive_from_hop(first.bundle([(with_flags(entry, 3), RTP)]), first.address)
        assert fleet.drops() == {"BAD_HINT": 1, "UNKNOWN_KEY": 1}
