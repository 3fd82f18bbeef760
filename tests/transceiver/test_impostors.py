"""Who does not hold the offer's certificate gets nowhere, whatever else he knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from voicegate.agents.echo import echo
from voicegate.ice import IceCredentials
from voicegate.transceiver.limits import CONNECT_LIMIT_S

if TYPE_CHECKING:
    from tests.transceiver.conftest import OpenHouse


@pytest.mark.parametrize("client_is_active", [False, True])
@pytest.mark.parametrize("impostor_is_first", [False, True])
async def test_two_clients_with_one_ufrag_the_one_whose_fingerprint_matches_keeps_the_session(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, impostor_is_first: bool, client_is_active: bool
) -> None:
    async with open_house(echo) as house:
        caller = house.caller(40_000)
        impostor = house.caller(50_000)
        impostor.impersonate(caller)
        offer = caller.core.offer()
        if client_is_active:
            offer = offer.replace("a=setup:actpass", "a=setup:active")
        session, answer = house.answer(offer)
        first, second = (impostor, caller) if impostor_is_first else (caller, impostor)
        first.core.apply_answer(answer, trio.current_time())
        await house.pass_time(1.0, first)
        second.core.apply_answer(answer, trio.current_time())
        await house.pass_time(8.0, caller, impostor)
        assert caller.is_secured
        assert len(caller.audio) > 100
        assert impostor.audio == []
        assert session.end_reason is None
        # Nor can he take it afterwards.
        heard = len(caller.audio)
        await house.pass_time(2.0, caller, impostor)
        assert len(caller.audio) - heard > 90


@pytest.mark.parametrize("client_is_active", [False, True])
async def test_both_come_at_once(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, client_is_active: bool
) -> None:
    async with open_house(echo) as house:
        caller = house.caller(40_000)
        impostor = house.caller(50_000)
        impostor.impersonate(caller)
        offer = caller.core.offer()
        if client_is_active:
            offer = offer.replace("a=setup:actpass", "a=setup:active")
        session, answer = house.answer(offer)
        for client in (impostor, caller):
            client.core.apply_answer(answer, trio.current_time())
        await house.pass_time(12.0, impostor, caller)
        assert caller.is_secured
        assert len(caller.audio) > 100
        assert impostor.audio == []
        assert session.end_reason is None


async def test_a_wrong_fingerprint_ends_in_handshake_failed(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        caller = house.caller()
        stranger = house.caller(1)
        own, other = (c.core._certificate.fingerprint.to_sdp() for c in (caller, stranger))
        session, answer = house.answer(caller.core.offer().replace(own, other))
        caller.core.apply_answer(answer, trio.current_time())
        await house.pass_time(CONNECT_LIMIT_S, caller)
        assert caller.audio == []
        assert session.rtp is None
        assert await session.wait_ended() == "handshake failed"
        assert "fingerprint" in session.end_detail
        # The caller was told by an alert, not left to guess.
        assert [failure.failure.value for failure in caller.failures] != []
        await trio.testing.wait_all_tasks_blocked()
        assert house.transceiver.ends == {"handshake failed": 1}
        assert house.is_empty()


async def test_a_wrong_password_is_not_answered_as_a_check(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        caller, session = house.call()
        assert caller.core._ice is not None
        bystander, other = house.call(41_000)
        guess = IceCredentials(session.ufrag.decode(), "A" * 24)
        liar = house.caller(50_000)
        liar.impersonate(caller)
        _, answer = house.answer(house.caller(1).core.offer())
        own = next(line for line in answer.splitlines() if line.startswith("a=ice-ufrag"))
        password = next(line for line in answer.splitlines() if line.startswith("a=ice-pwd"))
        liar.core.apply_answer(
            answer.replace(own, f"a=ice-ufrag:{guess.ufrag}").replace(password, f"a=ice-pwd:{guess.pwd}"),
            trio.current_time(),
        )
        await house.pass_time(3.0, caller, bystander, liar)
        assert not liar.is_secured
        assert liar.address not in [path.address[:2] for path in session.paths.values()]
        assert session._ice.statistics.requests_answered > 0
        for talker in (caller, bystander):
            assert len(talker.audio) > 90
        assert other.end_reason is None


@pytest.mark.parametrize("spelling", ["unknown", "not canonical", "short", "empty"])
async def test_an_unknown_or_misspelt_ufrag_is_a_counted_drop(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, spelling: str
) -> None:
    async with open_house(echo) as house:
        caller, session = house.call()
        ufrag = session.ufrag.decode()
        _, answer = house.answer(house.caller(1).core.offer())
        sessions = dict(house.endpoint.sessions)
        # The last character of 23 carries two spare bits: another spelling of the same octets.
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        misspelt = ufrag[:-1] + alphabet[alphabet.index(ufrag[-1]) | 1]
        wrong = {"unknown": "A" * 23, "not canonical": misspelt, "short": ufrag[:8], "empty": "    "}[spelling]
        stranger = house.caller(50_000)
        stranger.impersonate(caller)
        own = next(line for line in answer.splitlines() if line.startswith("a=ice-ufrag"))
        if wrong.strip():
            stranger.core.apply_answer(answer.replace(own, f"a=ice-ufrag:{wrong}"), trio.current_time())
            await house.pass_time(1.0, stranger, caller)
        else:
            house.line.from_client(stranger.address, b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12))
            await house.pass_time(1.0, caller)
        assert house.endpoint.drops["unknown ufrag"] > 0
        assert house.line.inboxes[stranger.address] == []
        assert house.endpoint.sessions == sessions
        assert caller.is_secured
