"""Metrics: the text that Prometheus reads, and several processes on one page."""

import json

import pytest

from voicegate.errors import LocalError
from voicegate.net import MetricsRegistry, merge, render


def test_the_text_format() -> None:
    registry = MetricsRegistry()
    ends = registry.counter("voicegate_sessions_ended_total", "Sessions ended.", ["reason"])
    registry.gauge("voicegate_sessions", "Sessions now.").set(2)
    ends.add(reason="hung up")
    ends.add(2, reason='a "quoted"\\\nreason')
    assert render(registry.snapshot()) == (
        "# HELP voicegate_sessions_ended_total Sessions ended.\n"
        "# TYPE voicegate_sessions_ended_total counter\n"
        'voicegate_sessions_ended_total{reason="hung up"} 1\n'
        'voicegate_sessions_ended_total{reason="a \\"quoted\\"\\\\\\nreason"} 2\n'
        "# HELP voicegate_sessions Sessions now.\n"
        "# TYPE voicegate_sessions gauge\n"
        "voicegate_sessions 2\n"
    )


def test_a_histogram_is_cumulative() -> None:
    registry = MetricsRegistry()
    setup = registry.histogram("voicegate_setup_seconds", "Offer to media.", [0.1, 0.5])
    for value in (0.05, 0.1, 0.2, 3.0):
        setup.observe(value)
    assert render(registry.snapshot()).splitlines()[2:] == [
        'voicegate_setup_seconds_bucket{le="0.1"} 2',
        'voicegate_setup_seconds_bucket{le="0.5"} 3',
        'voicegate_setup_seconds_bucket{le="+Inf"} 4',
        "voicegate_setup_seconds_sum 3.35",
        "voicegate_setup_seconds_count 4",
    ]


def test_a_histogram_may_have_labels() -> None:
    registry = MetricsRegistry()
    setup = registry.histogram("voicegate_setup_seconds", "Offer to media.", [1.0], ["agent"])
    setup.observe(0.5, agent="echo")
    assert 'voicegate_setup_seconds_bucket{agent="echo",le="1.0"} 1' in render(registry.snapshot())


def test_values_kept_elsewhere_are_read_at_each_scrape() -> None:
    registry = MetricsRegistry()
    drops: dict[tuple[str, ...], int] = {("up", "unknown"): 0}
    registry.read_counter("voicegate_drops_total", "Drops.", lambda: drops, "direction", "reason")
    registry.read_gauge("voicegate_flows", "Flows.", lambda: {(): 7})
    drops["up", "unknown"] = 5
    text = render(registry.snapshot())
    assert 'voicegate_drops_total{direction="up",reason="unknown"} 5\n' in text
    assert "voicegate_flows 7\n" in text


def test_processes_share_a_page() -> None:
    snapshots = {}
    for process in ("relay-0", "relay-1"):
        registry = MetricsRegistry()
        registry.counter("voicegate_packets_total", "Packets.", ["direction"]).add(3, direction="up")
        snapshots[process] = json.loads(json.dumps(registry.snapshot()))
    snapshots["relay-1"][0]["samples"][0]["value"] = 4
    assert render(merge(snapshots)) == (
        "# HELP voicegate_packets_total Packets.\n"
        "# TYPE voicegate_packets_total counter\n"
        'voicegate_packets_total{direction="up",process="relay-0"} 3\n'
        'voicegate_packets_total{direction="up",process="relay-1"} 4\n'
    )


def test_merging_leaves_the_snapshots_alone() -> None:
    registry = MetricsRegistry()
    registry.gauge("voicegate_flows", "Flows.").set(1)
    snapshot = registry.snapshot()
    merge({"a": snapshot})
    assert render(snapshot).endswith("voicegate_flows 1\n")


def test_misuse_is_told() -> None:
    registry = MetricsRegistry()
    counter = registry.counter("voicegate_a_total", "A.", ["reason"])
    with pytest.raises(LocalError, match="already"):
        registry.gauge("voicegate_a_total", "A.")
    with pytest.raises(LocalError, match="no metric name"):
        registry.gauge("voicegate-a", "A.")
    with pytest.raises(LocalError, match="instead of"):
        counter.add()
    with pytest.raises(LocalError, match="instead of"):
        counter.add(cause="x")


def test_a_distribution_that_somebody_else_keeps_is_read_at_each_scrape() -> None:
    registry = MetricsRegistry()
    sizes: dict[tuple[str, ...], tuple[list[int], float]] = {("up",): ([0, 0, 0], 0.0)}
    registry.read_histogram("voicegate_batch_datagrams", "Datagrams.", [1.0, 8.0], lambda: sizes, "direction")
    sizes["up",] = [2, 3, 4], 55.5
    sizes["down",] = [1, 0, 0], 1.0
    assert render(registry.snapshot()) == (
        "# HELP voicegate_batch_datagrams Datagrams.\n"
        "# TYPE voicegate_batch_datagrams histogram\n"
        'voicegate_batch_datagrams_bucket{direction="up",le="1.0"} 2\n'
        'voicegate_batch_datagrams_bucket{direction="up",le="8.0"} 5\n'
        'voicegate_batch_datagrams_bucket{direction="up",le="+Inf"} 9\n'
        'voicegate_batch_datagrams_sum{direction="up"} 55.5\n'
        'voicegate_batch_datagrams_count{direction="up"} 9\n'
        'voicegate_batch_datagrams_bucket{direction="down",le="1.0"} 1\n'
        'voicegate_batch_datagrams_bucket{direction="down",le="8.0"} 1\n'
        'voicegate_batch_datagrams_bucket{direction="down",le="+Inf"} 1\n'
        'voicegate_batch_datagrams_sum{direction="down"} 1.0\n'
        'voicegate_batch_datagrams_count{direction="down"} 1\n'
    )


def test_a_distribution_without_labels_reads_like_one_that_was_observed() -> None:
    kept, observed = MetricsRegistry(), MetricsRegistry()
    histogram = observed.histogram("voicegate_setup_seconds", "Offer to media.", [0.5, 2.0])
    for value in (0.25, 1.0, 1.5, 4.0):
        histogram.observe(value)
    kept.read_histogram("voicegate_setup_seconds", "Offer to media.", [0.5, 2.0], lambda: {(): ([1, 2, 1], 6.75)})
    assert kept.snapshot() == observed.snapshot()
    assert json.loads(json.dumps(kept.snapshot())) == kept.snapshot()


def test_a_distribution_needs_one_bucket_more_than_bounds() -> None:
    registry = MetricsRegistry()
    registry.read_histogram("voicegate_setup_seconds", "Offer to media.", [0.5], lambda: {(): ([1], 0.1)})
    with pytest.raises(ValueError, match="zip"):
        registry.snapshot()
