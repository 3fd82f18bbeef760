"""Who does not hold the offer's certificate gets nowhere, whatever else he knows."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from voicegate.agents import Call
from voicegate.agents.echo import echo
from voicegate.client import session as client_session
from voicegate.client.errors import CallFailure
from voicegate.dtls import (
    NOTHING_IN_COMMON,
    Certificate,
    CipherSuite,
    ConnectionFailed,
    DtlsConnection,
    DtlsError,
    DtlsReason,
    DtlsRole,
    DtlsVersion,
    NamedGroup,
    SrtpProfile,
)
from voicegate.transceiver import handshakes
from voicegate.transceiver.ends import EndReason
from voicegate.transceiver.limits import HANDSHAKE_RETRY_S, HANDSHAKE_STALL_S

if TYPE_CHECKING:
    from tests.transceiver.conftest import OpenHouse

WORDS = b"\xf8words"  # Opus, as far as its first octet goes
STUN_SUCCESS, STUN_ERROR = b"\x01\x01", b"\x01\x11"


@pytest.mark.parametrize("impostor_is_first", [False, True])
async def test_two_clients_with_one_ufrag_the_one_whose_fingerprint_matches_keeps_the_session(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, impostor_is_first: bool, dtls_client: str
) -> None:
    async with open_house(echo) as house:
        caller = house.caller(40_000)
        impostor = house.caller(50_000)
        impostor.impersonate(caller)
        caller.payload = impostor.payload = WORDS
        offer = caller.offer(dtls_client)
        session, answer = house.answer(offer)
        first, second = (impostor, caller) if impostor_is_first else (caller, impostor)
        first.core.apply_answer(answer, trio.current_time())
        await house.pass_time(1.0, first)
        second.core.apply_answer(answer, trio.current_time())
        await house.pass_time(8.0, caller, impostor)
        assert caller.is_secured
        assert len(caller.audio) > 100
        assert impostor.words == []
        assert session.end_reason is None
        # Nor can he take it afterwards.
        assert await house.audio_in(2.0, caller, impostor) > 90


WHOLE, DTLS_SILENT, HELLO_ONLY = "all of DTLS", "no DTLS", "a hello and no more"


@pytest.mark.parametrize("says", [WHOLE, DTLS_SILENT, HELLO_ONLY])
@pytest.mark.parametrize("lead_s", [0.0, 0.01, HANDSHAKE_STALL_S + 0.5])
async def test_an_impostor_with_a_lead_delays_the_rightful_client_and_does_not_shut_him_out(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, lead_s: float, says: str, dtls_client: str
) -> None:
    async with open_house(echo) as house:
        caller = house.caller(40_000)
        impostor = house.caller(50_000)
        impostor.impersonate(caller)
        caller.payload = impostor.payload = WORDS
        house.line.silenced[impostor.address] = {
            WHOLE: lambda data: False,
            DTLS_SILENT: lambda data: 20 <= data[0] < 64,
            HELLO_ONLY: lambda data: 20 <= data[0] < 64 and not (data[0] == 22 and data[13] in {1, 2}),
        }[says]
        offer = caller.offer(dtls_client)
        session, answer = house.answer(offer)
        impostor.core.apply_answer(answer, trio.current_time())
        await house.pass_time(lead_s, impostor)
        caller.core.apply_answer(answer, trio.current_time())
        # One attempt may have to stall first, and then the caller has to say its hello once more.
        await house.pass_time(HANDSHAKE_STALL_S + 1.0, impostor, caller)
        assert caller.is_secured
        await house.pass_time(1.0, impostor, caller)
        assert len(caller.audio) > 40
        assert impostor.words == []
        assert session.end_reason is None


async def test_silent_impostors_are_not_tried_twice_before_the_rightful_client(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, dtls_client: str
) -> None:
    async with open_house(echo) as house:
        caller = house.caller(40_000)
        offer = caller.offer(dtls_client)
        session, answer = house.answer(offer)
        impostors = [house.caller(port) for port in (50_000, 50_001, 50_002)]
        for impostor in impostors:
            impostor.impersonate(caller)
            caller.payload = impostor.payload = WORDS
            impostor.core.apply_answer(answer, trio.current_time())
            # Each says a hello, so that as a server we are busy with it, too.
            house.line.silenced[impostor.address] = lambda data: (
                20 <= data[0] < 64 and not (data[0] == 22 and data[13] == 1)
            )
        await house.pass_time(0.1, *impostors)
        caller.core.apply_answer(answer, trio.current_time())
        await house.pass_time(3 * HANDSHAKE_STALL_S + 1.0, *impostors, caller)
        assert caller.is_secured
        assert session.end_reason is None


@pytest.mark.parametrize("source", [50_000, 40_000])
async def test_what_an_impostor_sends_into_a_secured_session_changes_nothing(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, source: int, dtls_client: str
) -> None:
    """From a path of his own (he knows the password), and with the caller's address as his source."""

    async def silent(call: Call) -> None:
        """A frame of silence every 20 ms, whatever comes."""
        await call.wait_ended()

    async with open_house(silent) as house:
        caller = house.caller(40_000)
        impostor = house.caller(50_000)
        impostor.impersonate(caller)
        caller.payload = impostor.payload = WORDS
        offer = caller.offer(dtls_client)
        session, answer = house.answer(offer)
        caller.core.apply_answer(answer, trio.current_time())
        await house.pass_time(1.0, caller)
        impostor.core.apply_answer(answer, trio.current_time())
        await house.pass_time(1.0, caller, impostor)
        assert ("192.0.2.10", 50_000, 0) in session.paths
        stranger = DtlsConnection(
            DtlsRole.CLIENT,
            Certificate.generate(),
            peer_fingerprints=(),
            srtp_profiles=(SrtpProfile.AEAD_AES_128_GCM,),
            random_bytes=secrets.token_bytes,
            round_trip_s=None,
        )
        stranger.start(0.0)
        plaintext = b"\xfe\xfd" + bytes(8)
        datagrams = [
            *stranger.datagrams_to_send(0.0),
            b"\x15" + plaintext + b"\x00\x02\x02\x28",  # fatal handshake_failure
            b"\x15" + plaintext + b"\x00\x02\x01\x00",  # close_notify
            b"\x17" + plaintext + b"\x00\x04data",
            b"\x16" + plaintext + b"\x00\x0c" + b"\x14" + bytes(11),  # an empty Finished
            b"\x80\x6f" + bytes(60),  # RTP
            b"\x80\xc8" + bytes(60),  # RTCP
        ]
        dtls, path, rtp = session._handshakes.connection, session.media_path, session.rtp
        for _ in range(3):
            house.line.from_client(("192.0.2.10", source), *datagrams)
            await house.pass_time(1.0, caller, impostor)
        assert (session._handshakes.connection, session.media_path, session.rtp) == (dtls, path, rtp)
        assert session.end_reason is None
        assert caller.failures == []
        assert len(caller.audio) > 4.5 / 0.02
        assert [data for data in house.line.said[impostor.address] if 128 <= data[0] < 192] == []
        assert path is not None
        assert path.address[1] == caller.address[1]


async def test_a_wrong_fingerprint_ends_in_handshake_failed(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, dtls_client: str
) -> None:
    async with open_house(echo) as house:
        caller = house.caller()
        stranger = house.caller(1)
        own, other = (c.core._certificate.fingerprint.to_sdp() for c in (caller, stranger))
        offer = caller.offer(dtls_client).replace(own, other)
        session, answer = house.answer(offer)
        caller.core.apply_answer(answer, trio.current_time())
        await house.pass_time(HANDSHAKE_RETRY_S + 1.0, caller)
        assert session.end_reason is EndReason.HANDSHAKE_FAILED
        assert caller.words == []
        assert session.rtp is None
        assert await session.wait_ended() == "handshake failed"
        assert "fingerprint" in session.end_detail
        # RFC 8122 §6.2: the caller was told by an alert (bad_certificate), not left to guess.
        assert [failure.failure for failure in caller.failures] == [CallFailure.DTLS_FAILED]
        assert "bad_certificate" in caller.failures[0].detail
        # The client of the handshake shows its certificate last, and hears silence until then. In checks that comes
        # later than the certificate does here, where nothing takes time.
        media = [data for data in house.line.said[caller.address] if 128 <= data[0] < 192]
        assert (media == []) is (dtls_client != "the client")
        await trio.testing.wait_all_tasks_blocked()
        assert house.transceiver.ends == {"handshake failed": 1}
        assert house.is_empty()


@pytest.mark.parametrize(
    ("option", "ours", "theirs", "detail"),
    [
        ("versions", [DtlsVersion.DTLS_1_2], [DtlsVersion.DTLS_1_3], "no common protocol version"),
        (
            "cipher_suites",
            [CipherSuite.TLS_AES_128_GCM_SHA256],
            [CipherSuite.TLS_CHACHA20_POLY1305_SHA256],
            "no common cipher suite",
        ),
        ("groups", [NamedGroup.SECP256R1], [NamedGroup.X25519], "no common key exchange group"),
        ("srtp_profiles", None, [SrtpProfile.AEAD_AES_256_GCM], "no common SRTP profile"),
        ("srtp_profiles", None, [], "peer does not speak DTLS-SRTP"),
    ],
)
async def test_a_client_without_anything_in_common_is_told_what(  # noqa: PLR0913, PLR0917
    autojump_clock: trio.testing.MockClock,
    open_house: OpenHouse,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    option: str,
    ours: list[Any] | None,
    theirs: list[Any],
    detail: str,
) -> None:
    def with_option(value: list[Any] | None) -> Any:
        changed = {} if value is None else {option: value}
        return lambda *arguments, **options: DtlsConnection(*arguments, **(options | changed))

    monkeypatch.setattr(handshakes, "DtlsConnection", with_option(ours))
    monkeypatch.setattr(client_session, "DtlsConnection", with_option(theirs))
    caplog.set_level("INFO")
    async with open_house(echo) as house:
        caller = house.caller()
        session, answer = house.answer(caller.offer("the client"))
        assert session.bye_detail == ""
        caller.core.apply_answer(answer, trio.current_time())
        await house.pass_time(HANDSHAKE_RETRY_S + 1.0, caller)
        assert await session.wait_ended() == EndReason.NOTHING_IN_COMMON.value == "nothing in common"
        assert session.bye_detail == detail
        assert session.end_detail.startswith(detail)
        assert f"handshake failed: {detail}" in caplog.text
        assert f"ended: nothing in common {detail}" in caplog.text
        assert [failure.failure for failure in caller.failures] == [CallFailure.DTLS_FAILED]
        alert = "protocol_version" if option == "versions" else "handshake_failure"
        assert alert in caller.failures[0].detail


async def test_another_failure_behind_it_takes_the_detail_back(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    """Whatever the last attempt failed of is what is said."""
    async with open_house(echo) as house:
        session, _ = house.answer(house.caller().offer("the client"))
        own = session._handshakes
        for reason, lacking in (
            (DtlsReason.NO_COMMON_GROUP, "no common key exchange group"),
            (DtlsReason.BAD_SIGNATURE, ""),
        ):
            own._refuse(ConnectionFailed(DtlsError(reason, "what the peer sent")), trio.current_time())
            assert own.lacking == lacking


def test_the_page_about_signaling_lists_what_bye_may_say() -> None:
    page = (Path(__file__).parents[2] / "spec" / "signaling.md").read_text().partition("### 1.4")[2].partition("###")[0]
    assert all(f"`{reason.value}`" in page for reason in NOTHING_IN_COMMON)
    assert max(len(reason.value) for reason in NOTHING_IN_COMMON) <= 100


async def test_a_wrong_password_is_refused_and_changes_nothing(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse
) -> None:
    async with open_house(echo) as house:
        caller, session = house.call()
        bystander, other = house.call(41_000)
        await house.pass_time(1.0, caller, bystander)
        answered = session._ice.statistics.requests_answered
        session_paths = list(session.paths)
        liar = house.caller(50_000)
        liar.impersonate(caller)
        liar.core.apply_answer(
            re.sub("a=ice-pwd:[^\r]+", "a=ice-pwd:" + "A" * 24, house.answers[0]), trio.current_time()
        )
        caller_checks = len([data for data in house.line.said[caller.address] if data[:2] == STUN_SUCCESS])
        await house.pass_time(3.0, caller, bystander, liar)
        # Told apart from no answer at all: 401 (RFC 8489 §9.1.3), unsigned, and no longer than what was asked.
        assert session._ice.statistics.refused_unauthenticated > 0
        assert {data[:2] for data in house.line.said[liar.address]} == {STUN_ERROR}
        assert all(data[24:].startswith(b"\x00\x00\x04\x01") for data in house.line.said[liar.address])
        received, sent = house.line.octets[liar.address]
        assert 0 < sent <= received
        # Nothing was allocated, and nobody noticed.
        assert list(session.paths) == session_paths
        assert len(house.endpoint._flows) == 2
        caller_checks -= len([data for data in house.line.said[caller.address] if data[:2] == STUN_SUCCESS])
        assert session._ice.statistics.requests_answered == answered - caller_checks
        for talker in (caller, bystander):
            assert len(talker.audio) > 180
        assert session.end_reason is other.end_reason is None


@pytest.mark.parametrize("spelling", ["unknown", "not canonical", "short", "without USERNAME"])
async def test_an_unknown_or_misspelt_ufrag_is_a_counted_drop(
    autojump_clock: trio.testing.MockClock, open_house: OpenHouse, spelling: str
) -> None:
    async with open_house(echo) as house:
        caller, session = house.call()
        await house.pass_time(1.0, caller)
        ufrag = session.ufrag.decode()
        # The last character of 23 carries two spare bits: another spelling of the same octets.
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        misspelt = ufrag[:-1] + alphabet[alphabet.index(ufrag[-1]) | 1]
        stranger = house.caller(50_000)
        stranger.impersonate(caller)
        sessions, flows = dict(house.endpoint.sessions), dict(house.endpoint._flows)
        if spelling == "without USERNAME":
            house.line.from_client(stranger.address, b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12))
        else:
            wrong = {"unknown": "A" * 23, "not canonical": misspelt, "short": ufrag[:8]}[spelling]
            assert wrong != ufrag
            stranger.core.apply_answer(
                house.answers[0].replace(f"a=ice-ufrag:{ufrag}", f"a=ice-ufrag:{wrong}"), trio.current_time()
            )
        await house.pass_time(1.0, stranger, caller)
        assert house.endpoint.drops["unknown ufrag"] > 0
        assert house.line.said[stranger.address] == []
        assert house.endpoint.sessions == sessions
        assert house.endpoint._flows == flows
        assert len(caller.audio) > 90
