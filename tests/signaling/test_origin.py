"""Where a request comes from: who is believed, what is ignored, and that both doors see the same."""

import json
from ipaddress import ip_network
from typing import Any
from urllib.parse import quote

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio_websocket import open_websocket_url

from voicegate.routing import ConfigurationError
from voicegate.signaling import (
    SUBPROTOCOL,
    Location,
    Origin,
    RequestContext,
    SignalingServer,
    origin_of,
    parse_networks,
)

PROXIES = parse_networks("10.0.0.0/8, 2001:db8::/32, fe80::/10")
PROXY, STRANGER = "10.1.2.3", "198.51.100.9"
MUNICH = [(b"cf-iplatitude", b"48.13743"), (b"cf-iplongitude", b"11.57549")]
CLOUDFLARE = [*MUNICH, (b"cf-ipcountry", b"DE"), (b"cf-ipcontinent", b"EU"), (b"cf-connecting-ip", b"203.0.113.7")]
IN_MUNICH = Origin(None, Location(48.13743, 11.57549), "DE", "EU", "geo headers", "203.0.113.7")


def at(latitude: bytes, longitude: bytes) -> Origin:
    return origin_of(PROXY, [(b"cf-iplatitude", latitude), (b"cf-iplongitude", longitude)], "", PROXIES)


# Whom to believe.


@pytest.mark.parametrize(
    "peer", ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3", "2001:db8:ffff::1", "fe80::1%eth0", "fe80::1"]
)
def test_a_trusted_proxys_geo_headers_are_believed(peer: str) -> None:
    assert origin_of(peer, CLOUDFLARE, "", PROXIES) == IN_MUNICH


@pytest.mark.parametrize(
    "peer", ["11.0.0.0", "9.255.255.255", "2001:db9::1", "::ffff:11.0.0.1", "::1", "", "localhost"]
)
def test_anybody_elses_geo_headers_are_ignored(peer: str) -> None:
    assert origin_of(peer, CLOUDFLARE, "", PROXIES) == Origin()
    assert origin_of(peer, CLOUDFLARE, "region=us-east", PROXIES) == Origin("us-east", source="query")


def test_nobody_is_trusted_unless_named() -> None:
    assert origin_of("127.0.0.1", CLOUDFLARE, "", ()) == Origin()


def test_field_names_have_no_letter_case() -> None:
    assert origin_of(PROXY, [(name.upper(), value) for name, value in CLOUDFLARE], "", PROXIES) == IN_MUNICH


# What they say.


@pytest.mark.parametrize(
    ("latitude", "longitude", "location"),
    [
        (b"0", b"0", Location(0, 0)),
        (b"-90", b"180", Location(-90, 180)),
        (b"-33.86882", b"151.20929", Location(-33.86882, 151.20929)),
    ],
)
def test_degrees_are_decimal(latitude: bytes, longitude: bytes, location: Location) -> None:
    assert at(latitude, longitude) == Origin(location=location, source="geo headers")


@pytest.mark.parametrize(
    "number",
    [
        *(b"", b"nan", b"inf", b"-inf", b"1e1", b"4_8", b"48,1", b"48.", b".5", b"+48", b"0x10", b"N48", b"\xff"),
        *(b"91", b"-90.1", b"999", b"48" + b"0" * 5_000, b"1." + b"0" * 5_000, b"48.1, 48.1", "\u0664\u0668".encode()),
    ],
)
def test_a_bad_number_is_no_location(number: bytes) -> None:
    assert at(number, b"11.5") == Origin()
    # A longitude may be 91 or 90.1; none of the others is one either.
    if number not in {b"91", b"-90.1"}:
        assert at(b"48.1", number) == Origin()


def test_half_a_location_is_none() -> None:
    for field in MUNICH:
        assert origin_of(PROXY, [field], "", PROXIES) == Origin()
    assert at(b"48.1", b"180.1") == Origin()


@pytest.mark.parametrize("name", [name for name, _ in CLOUDFLARE])
def test_what_is_said_twice_is_ignored(name: bytes) -> None:
    member = {b"cf-ipcountry": "country", b"cf-ipcontinent": "continent", b"cf-connecting-ip": "address"}
    value = dict(CLOUDFLARE)[name]
    for spelling in (name, name.upper()):
        origin = origin_of(PROXY, [*CLOUDFLARE, (spelling, value)], "", PROXIES)
        assert getattr(origin, member.get(name, "location")) is None
        assert origin.source == "geo headers"


@pytest.mark.parametrize("code", [b"", b"de", b"D", b"DEU", b"D1", b"DE,FR", b"\xc3\x84A", b"DE" * 5_000])
def test_what_is_no_code_is_ignored(code: bytes) -> None:
    assert origin_of(PROXY, [(b"cf-ipcountry", code), (b"cf-ipcontinent", code)], "", PROXIES) == Origin()


@pytest.mark.parametrize(
    ("text", "address"),
    [(b"203.0.113.7", "203.0.113.7"), (b"2001:DB8::7", "2001:db8::7"), (b"::ffff:203.0.113.7", "203.0.113.7")]
    + [(bad, None) for bad in (b"", b"203.0.113", b"203.0.113.7\r\nfake line", b"unknown", b"7" * 5_000)],
)
def test_the_callers_address_for_the_log_is_an_address(text: bytes, address: str | None) -> None:
    assert origin_of(PROXY, [(b"cf-connecting-ip", text)], "", PROXIES) == Origin(address=address)


@pytest.mark.parametrize(
    ("query", "region"),
    [
        ("region=eu-central", "eu-central"),
        ("model=x&region=EU_1.a", "EU_1.a"),
        ("region=eu%2Dcentral", "eu-central"),
        ("region=" + "x" * 64, "x" * 64),
        ("", None),
        ("region", None),
        ("region=", None),
        ("Region=eu", None),
        ("region=eu&region=eu", None),
        ("region=" + "x" * 65, None),
        ("region=" + "x" * 9_000, None),
        ("region=eu&" + "x" * 9_000, None),
        ("region=eu&" + "a=1&" * 100, None),
        ("region=eu%0acentral", None),
        ("region=%ff", None),
        ("region=e+u", None),
        ("region=<b>", None),
    ],
)
def test_the_query_may_name_a_region(query: str, region: str | None) -> None:
    assert origin_of(STRANGER, [], query, PROXIES) == Origin(region, source="query" if region else "none")


def test_a_region_goes_before_geo_headers_and_keeps_them() -> None:
    origin = origin_of(PROXY, CLOUDFLARE, "region=us-east", PROXIES)
    assert (origin.region, origin.source) == ("us-east", "query")
    assert (origin.location, origin.country, origin.address) == (IN_MUNICH.location, "DE", "203.0.113.7")


def test_a_tokens_region_goes_before_the_querys() -> None:
    assert origin_of(STRANGER, [], "region=us-east", (), "asia-east") == Origin("asia-east", source="token")
    assert origin_of(STRANGER, [], "region=us-east", (), "not a region") == Origin("us-east", source="query")


names = st.sampled_from([name for name, _ in CLOUDFLARE] + [b"cf-region", b"\xff", b""])
values = st.binary(max_size=40) | st.from_regex(rb"-?[0-9]{0,4}[.]?[0-9]{0,30}") | st.sampled_from([b"nan", b"1e999"])


@given(st.lists(st.tuples(names, values), max_size=8), st.text() | st.text().map(lambda text: f"region={quote(text)}"))
def test_nothing_in_a_request_raises(headers: list[tuple[bytes, bytes]], query: str) -> None:
    origin = origin_of(PROXY, headers, query, PROXIES)
    assert (origin.source == "query") == (origin.region is not None)
    said = (origin.location, origin.country, origin.continent) != (None, None, None)
    assert (origin.source == "none") == (origin.region is None and not said)


@given(st.text(), st.text())
def test_no_peer_and_no_token_raises(peer: str, token_region: str) -> None:
    assert origin_of(peer, CLOUDFLARE, "", (), token_region).location is None


# What the operator says.


def test_networks_and_addresses_stand_between_commas() -> None:
    assert parse_networks("10.0.0.0/8,::1") == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert parse_networks(" 192.0.2.1 , ") == (ip_network("192.0.2.1/32"),)
    assert parse_networks("") == ()


@pytest.mark.parametrize("text", ["cloudflare", "10.0.0.0/33", "10.0.0.1/8", "10.0.0.0/8 ::1", "10.0.0.0/8;::1"])
def test_what_is_no_network_is_named(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--trusted-proxies: '.*' is no network or address"):
        parse_networks(f"192.0.2.1,{text}")


# Both doors, on real sockets.

LOOPBACK = parse_networks("127.0.0.0/8")
TRUSTED = [pytest.param(LOOPBACK, True, id="trusted"), pytest.param(PROXIES, False, id="untrusted")]


@pytest.fixture
def call_over_websocket(host: Any, counters: Any, listening_socket: Any, nursery: trio.Nursery) -> Any:
    """Make one call with Cloudflare's headers; the context that the host saw."""

    async def call(target: str, trusted_proxies: Any) -> RequestContext:
        listening = listening_socket()
        await nursery.start(SignalingServer(host, counters, trusted_proxies=trusted_proxies).serve, listening)
        url = f"ws://127.0.0.1:{listening.getsockname()[1]}{target}"
        async with open_websocket_url(url, subprotocols=[SUBPROTOCOL], extra_headers=CLOUDFLARE) as websocket:
            await websocket.send_message('{"type":"offer","sdp":"v=0"}')
            assert json.loads(await websocket.get_message())["type"] == "answer"
        context = host.calls[0].context
        assert isinstance(context, RequestContext)
        assert (context.via, context.client_host) == ("websocket", "127.0.0.1")
        return context

    return call


@pytest.mark.parametrize(("trusted", "is_trusted"), TRUSTED)
async def test_a_websocket_has_an_origin(call_over_websocket: Any, trusted: Any, is_trusted: bool) -> None:
    assert (await call_over_websocket("/", trusted)).origin == (IN_MUNICH if is_trusted else Origin())


async def test_a_websockets_query_names_a_region(call_over_websocket: Any) -> None:
    context = await call_over_websocket("/any?x=1&region=us%2Deast", ())
    assert context.origin == Origin("us-east", source="query")


@pytest.mark.parametrize(("trusted", "is_trusted"), TRUSTED)
async def test_a_call_over_http_has_an_origin(serve_http: Any, host: Any, trusted: Any, is_trusted: bool) -> None:
    http = await serve_http(trusted_proxies=trusted)
    headers = {"Content-Type": "application/sdp", **{name.decode(): value.decode() for name, value in CLOUDFLARE}}
    assert (await http.request("POST", "/v1/realtime/calls", headers, b"v=0")).status == 201
    assert host.calls[0].context.origin == (IN_MUNICH if is_trusted else Origin())


async def test_the_query_of_a_call_over_http_names_a_region(http: Any, host: Any) -> None:
    reply = await http.request(
        "POST", "/v1/realtime/calls?model=x&region=us%2Deast", {"Content-Type": "application/sdp"}, b"v=0"
    )
    assert reply.status == 201
    assert host.calls[0].context.origin == Origin("us-east", source="query")


def test_a_context_made_without_an_origin_knows_none() -> None:
    assert RequestContext("http", "192.0.2.1").origin == Origin()
