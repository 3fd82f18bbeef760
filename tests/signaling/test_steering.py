"""The choice of an ingress: distances decide, a name only leads to a point, and every choice can be explained."""

import json
import logging
from contextlib import suppress
from math import inf, nan, pi
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicegate.routing import ConfigurationError
from voicegate.signaling import Ingress, Location, Origin, Steering, parse_ingresses
from voicegate.signaling.countries import CONTINENTS, COUNTRIES

SCHEMA = json.loads((Path(__file__).parents[2] / "spec" / "signaling.schema.json").read_text())

BERLIN, MUNICH, PARIS = Location(52.52, 13.405), Location(48.137, 11.575), Location(48.857, 2.352)
SYDNEY, SANTIAGO, FIJI, SAMOA = (
    Location(-33.87, 151.21),
    Location(-33.45, -70.67),
    Location(-18, 178),
    Location(-14, -172),
)

FRA = Ingress("fra", "eu-central", Location(50.11, 8.68), (("192.0.2.1", 3478), ("2001:db8::1", 3478)))
IAD = Ingress("iad", "us-east", Location(38.94, -77.46), (("192.0.2.2", 3478),))
NRT = Ingress("nrt", "asia-east", Location(35.76, 140.39), (("192.0.2.3", 3478),))
LAB = Ingress("lab", "lab", None, (("192.0.2.4", 3478),))
ALL = IAD, FRA, NRT, LAB

locations = st.builds(Location, st.floats(-90, 90), st.floats(-180, 180))


# The globe.


@pytest.mark.parametrize(
    ("one", "other", "km"),
    [
        (BERLIN, BERLIN, 0),
        (BERLIN, PARIS, 878),
        (SYDNEY, SANTIAGO, 11_340),  # across the Pacific, not across Africa
        (FIJI, SAMOA, 1_150),  # across the date line
        (Location(90, 0), Location(90, 180), 0),  # there is one north pole
        (Location(90, 0), Location(-90, 0), pi * 6371),
        (Location(0, -90), Location(0, 90), pi * 6371),
    ],
)
def test_distances_are_those_on_the_globe(one: Location, other: Location, km: float) -> None:
    assert one.distance_km(other) == pytest.approx(km, rel=0.01, abs=0.001)
    assert other.distance_km(one) == pytest.approx(one.distance_km(other))


@given(locations, locations)
def test_no_two_points_are_further_apart_than_half_the_equator(one: Location, other: Location) -> None:
    assert 0 <= one.distance_km(other) <= pi * 6371 + 1e-6


@pytest.mark.parametrize(
    ("latitude", "longitude"), [(90.1, 0), (-90.1, 0), (0, 180.1), (0, -180.1), (nan, 0), (0, nan), (inf, 0)]
)
def test_what_is_no_point_on_the_globe_is_no_location(latitude: float, longitude: float) -> None:
    with pytest.raises(ValueError, match="is no latitude and longitude"):
        Location(latitude, longitude)


def test_every_country_and_continent_is_on_the_globe() -> None:
    assert len(COUNTRIES) == 249 + 1
    assert set(CONTINENTS) == {"AF", "AN", "AS", "EU", "NA", "OC", "SA"}
    for code, degrees in (COUNTRIES | CONTINENTS).items():
        assert (len(code), code.isupper()) == (2, True)
        Location(*degrees)


@pytest.mark.parametrize(
    ("country", "city", "km"),
    [
        ("DE", BERLIN, 400),
        ("FR", PARIS, 300),
        ("CL", SANTIAGO, 150),
        ("SG", Location(1.35, 103.82), 20),
        ("RU", Location(55.75, 37.62), 800),
        ("IS", Location(64.15, -21.94), 100),
        ("NZ", Location(-36.85, 174.76), 400),
    ],
)
def test_a_country_is_where_its_people_are(country: str, city: Location, km: float) -> None:
    assert Location(*COUNTRIES[country]).distance_km(city) < km


# The choice.


@pytest.mark.parametrize(
    ("origin", "name", "because"),
    [
        (Origin(region="asia-east", source="query"), "nrt", "nearest to region 'asia-east' (query): 0 km"),
        (Origin(region="Asia-EAST", source="token"), "nrt", "nearest to region 'Asia-EAST' (token): 0 km"),
        (Origin(region="lab", source="query"), "lab", "in region 'lab' (query)"),
        (Origin(region="us-east", location=MUNICH, source="query"), "iad", "nearest to region 'us-east' (query): 0 km"),
        (Origin(location=MUNICH, source="geo headers"), "fra", "nearest to 48.1, 11.6 (geo headers): 304 km"),
        (Origin(location=SYDNEY, country="DE", source="geo headers"), "nrt", "nearest to -33.9, 151.2 (geo headers): "),
        (Origin(country="CH", continent="SA", source="geo headers"), "fra", "nearest to country CH (geo headers): "),
        (Origin(country="MX", source="geo headers"), "iad", "nearest to country MX (geo headers): "),
        (Origin(country="T1", continent="OC", source="geo headers"), "nrt", "nearest to continent OC (geo headers): "),
        (Origin(country="XX", continent="T1", source="geo headers"), "iad", "the default, as nothing says where the "),
        (Origin(), "iad", "the default, as nothing says where the caller is"),
        (Origin(region="mars", source="query"), "iad", "no ingress in region 'mars' (query); the default, as nothing"),
        (
            Origin(region="mars", location=MUNICH, source="token"),
            "fra",
            "no ingress in region 'mars' (token); nearest to 48.1, 11.6 (geo headers): 304 km",
        ),
    ],
)
def test_the_first_source_that_leads_somewhere_decides(origin: Origin, name: str, because: str) -> None:
    choice = Steering(ALL).choose(origin)
    assert choice.ingress.name == name
    assert choice.reason.startswith(because)
    assert (choice.distance_km is None) == ("km" not in choice.reason)


@pytest.mark.parametrize("ingresses", [(IAD, FRA, NRT), (NRT, FRA, IAD), (FRA, IAD, NRT)])
@given(location=locations)
def test_no_other_ingress_is_nearer(ingresses: tuple[Ingress, ...], location: Location) -> None:
    choice = Steering(ingresses).choose(Origin(location=location))
    assert choice.ingress.location is not None
    assert choice.distance_km == choice.ingress.location.distance_km(location)
    assert choice.distance_km == min(at.location.distance_km(location) for at in ingresses if at.location)


def test_a_name_that_sounds_near_does_not_count() -> None:
    # In the far east of Russia; the "eu" in a name and the continent of the country say nothing.
    vladivostok = Origin(location=Location(43.12, 131.89), country="RU", continent="EU", source="geo headers")
    assert Steering(ALL).choose(vladivostok).ingress is NRT


def test_equal_distances_are_decided_by_the_order_of_the_list() -> None:
    twin = Ingress("twin", "eu-central", FRA.location, (("192.0.2.5", 3478),))
    for first, other in ((FRA, twin), (twin, FRA)):
        for origin in (Origin(location=MUNICH), Origin(region="eu-central", source="query")):
            choice = Steering((IAD, first, other), second=True).choose(origin)
            assert (choice.ingress, choice.second) == (first, other)


def test_the_first_ingress_of_a_region_stands_for_it() -> None:
    north = Ingress("north", "eu-central", BERLIN, (("192.0.2.5", 3478),))
    assert Steering((north, FRA)).choose(Origin(region="eu-central", source="query")).ingress is north


def test_the_default_is_the_named_one() -> None:
    assert Steering(ALL, "nrt").choose(Origin()).ingress is NRT
    assert Steering(ALL, "lab").choose(Origin()).ingress is LAB
    assert Steering(ALL, "nrt").choose(Origin(location=MUNICH)).ingress is FRA


def test_without_any_location_only_names_and_the_default_are_left() -> None:
    attic = Ingress("attic", "attic", None, (("192.0.2.5", 3478),))
    steering = Steering((LAB, attic))
    assert steering.choose(Origin(region="attic", source="query")).ingress is attic
    choice = steering.choose(Origin(location=MUNICH))
    assert (choice.ingress, choice.distance_km) == (LAB, None)
    assert choice.reason == "the default, as no ingress has a location"


@pytest.mark.parametrize(
    ("ingresses", "origin", "names"),
    [
        (ALL, Origin(location=MUNICH), ("fra", "iad")),
        (ALL, Origin(location=SYDNEY), ("nrt", "iad")),
        (ALL, Origin(region="asia-east", source="query"), ("nrt", "fra")),
        ((FRA, NRT, IAD), Origin(), ("fra", "iad")),  # as seen from the default
        ((LAB, NRT, FRA), Origin(), ("lab", "nrt")),  # nothing to measure from: in the order of the list
        ((FRA, LAB), Origin(location=MUNICH), ("fra", "lab")),
        ((FRA,), Origin(location=MUNICH), ("fra", None)),
    ],
)
def test_a_second_ingress_is_the_next_nearest_and_must_be_wanted(
    ingresses: tuple[Ingress, ...], origin: Origin, names: tuple[str, str | None]
) -> None:
    choice = Steering(ingresses, second=True).choose(origin)
    assert (choice.ingress.name, choice.second.name if choice.second else None) == names
    assert Steering(ingresses).choose(origin).second is None


def test_the_choice_is_explained_in_metadata_and_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "voicegate.signaling.steering")
    choice = Steering(ALL, second=True).choose(Origin(location=MUNICH, source="geo headers", address="198.51.100.9"))
    assert choice.to_json() == {
        "ingress": "fra",
        "region": "eu-central",
        "because": "nearest to 48.1, 11.6 (geo headers): 304 km",
        "distance_km": 304,
        "second": "iad",
    }
    assert caplog.messages == ["ingress fra for 198.51.100.9: nearest to 48.1, 11.6 (geo headers): 304 km"]
    assert Steering(ALL).choose(Origin()).to_json()["distance_km"] is None
    assert caplog.messages[1].startswith("ingress iad for a caller: the default")


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("origin", [Origin(), Origin(location=SYDNEY), Origin(region="mars", source="query")])
def test_the_metadata_are_those_of_the_schema(origin: Origin, second: bool) -> None:
    validator = jsonschema.Draft202012Validator({**SCHEMA, "$ref": "#/$defs/server_message"})
    steering = Steering(ALL, second=second).choose(origin).to_json()
    answer: dict[str, Any] = {"type": "answer", "call_id": "rtc_1", "sdp": "v=0\r\n"}
    validator.validate({**answer, "metadata": {"steering": json.loads(json.dumps(steering))}})
    for member in steering:
        lacking = {name: value for name, value in steering.items() if name != member}
        assert not validator.is_valid({**answer, "metadata": {"steering": lacking}})


@pytest.mark.parametrize(
    ("ingresses", "default", "complaint"),
    [
        ((), None, "at least one is needed"),
        ((FRA, FRA), None, "two have the same name"),
        ((FRA, IAD), "nrt", "the default 'nrt' is none of fra, iad"),
    ],
)
def test_a_steering_that_makes_no_sense_is_refused(
    ingresses: tuple[Ingress, ...], default: str | None, complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        Steering(ingresses, default)


# The document.

FIELDS: dict[str, Any] = {
    "name": "fra",
    "region": "eu-central",
    "location": [50.11, 8.68],
    "addresses": ["192.0.2.1:3478", "[2001:db8::1]:3478"],
}


def test_a_document_and_a_list_hold_ingresses() -> None:
    lab = {"name": "lab", "region": "lab", "addresses": ["192.0.2.4:3478"]}
    assert parse_ingresses({"ingresses": [FIELDS, lab]}) == parse_ingresses([FIELDS, lab]) == (FRA, LAB)
    assert parse_ingresses([{**lab, "location": None}]) == (LAB,)
    assert parse_ingresses([{**FIELDS, "location": [-90, 180]}])[0].location == Location(-90, 180)


@pytest.mark.parametrize(
    ("member", "value", "complaint"),
    [
        ("name", "", "needs a name"),
        ("name", 7, "needs a name"),
        ("region", None, "ingress 'fra': region: None is not a word"),
        ("region", "eu central", "region: 'eu central' is not a word"),
        ("location", "50, 8", r"location: '50, 8' is not \[latitude, longitude\]"),
        ("location", [50], r"location: \[50\] is not"),
        ("location", [50, 8, 100], "location: .* is not"),
        ("location", [91, 8], "location: .* is not"),
        ("location", [50, nan], "location: .* is not"),
        ("location", [50, True], "location: .* is not"),
        ("location", ["50", "8"], "location: .* is not"),
        ("location", [10**400, 8], "location: .* is not"),
        ("addresses", [], "addresses: a list of ADDRESS:PORT is expected"),
        ("addresses", "192.0.2.1:3478", "addresses: a list"),
        ("addresses", ["relay.example:3478"], "addresses: 'relay.example:3478' is not a numeric ADDRESS:PORT"),
        ("addresses", ["192.0.2.1"], "is not a numeric ADDRESS:PORT"),
        ("addresses", ["192.0.2.1:3478", "192.0.2.1:0"], "nobody can send to '192.0.2.1:0'"),
        ("addresses", ["0.0.0.0:3478"], "nobody can send to '0.0.0.0:3478'"),
        ("addresses", ["[::]:3478"], "nobody can send to"),
        ("colour", "green", "unknown member 'colour'"),
    ],
)
def test_a_mistake_in_the_document_is_named(member: str, value: object, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        parse_ingresses([{**FIELDS, member: value}])


@pytest.mark.parametrize("document", [None, "fra", {}, {"ingresses": {}}, [], {"ingresses": []}, ["fra"]])
def test_a_document_of_another_shape_is_refused(document: object) -> None:
    with pytest.raises(ConfigurationError, match="ingresses: "):
        parse_ingresses(document)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*FIELDS, "x"]), inner, max_size=4),
    max_leaves=9,
)


@given(st.sampled_from([*FIELDS, "ingresses"]), json_values)
def test_any_json_is_parsed_or_refused(member: str, value: object) -> None:
    with suppress(ConfigurationError):
        assert len(parse_ingresses([{**FIELDS, member: value}])) == 1
