"""Prometheus metrics of several processes on one page.

1. A part of the program counts in plain integers of its own and registers a function that reads them.
2. When a scrape comes, each process takes a `snapshot`: plain data that goes through JSON.
3. The process that serves the scrape merges the snapshots (each sample gets the label `process`) and renders the text.

    worker 0 ── snapshot ──┐
    worker 1 ── snapshot ──┼─▶ render({"relay-0": …, "relay-1": …})  ─▶  text/plain; version=0.0.4
    transceiver 0 ─────────┘

Counting costs an integer addition; everything else happens at scrape time. Names follow the field's habit: a prefix, a
unit, `_total` for counters.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import TypedDict

from voicegate.errors import LocalError

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds for durations that people feel."""

Number = int | float

LabelValues = tuple[str, ...]


class Sample(TypedDict):
    """One line of the page: the family's name and this `suffix`, these labels, this value."""

    suffix: str
    labels: dict[str, str]
    value: Number


class Family(TypedDict):
    """A metric with its samples."""

    name: str
    kind: str
    help: str
    samples: list[Sample]


Snapshot = list[Family]
"""All metrics of one process at one moment; can be written as JSON."""


class Counter:
    """Something that only grows. For counts off the packet path; there, count in plain integers and use
    `read_counter`."""

    kind = "counter"

    def __init__(self, label_names: Sequence[str] = ()) -> None:
        self._label_names = tuple(label_names)
        self._values: dict[LabelValues, Number] = {}

    def add(self, amount: Number = 1, **labels: str) -> None:
        """Count `amount` more under these labels."""
        key = _label_values(self._label_names, labels)
        self._values[key] = self._values.get(key, 0) + amount

    def samples(self) -> list[Sample]:
        """The current values."""
        return _samples(self._label_names, self._values)


class Gauge:
    """Something that goes up and down."""

    kind = "gauge"

    def __init__(self, label_names: Sequence[str] = ()) -> None:
        self._label_names = tuple(label_names)
        self._values: dict[LabelValues, Number] = {}

    def set(self, value: Number, **labels: str) -> None:
        """The value under these labels from now on."""
        self._values[_label_values(self._label_names, labels)] = value

    def samples(self) -> list[Sample]:
        """The current values."""
        return _samples(self._label_names, self._values)


class Histogram:
    """A distribution over ascending upper `bounds`; what is above the last one is counted too."""

    kind = "histogram"

    def __init__(self, bounds: Sequence[float] = LATENCY_BUCKETS_S, label_names: Sequence[str] = ()) -> None:
        self._bounds = tuple(bounds)
        self._label_names = tuple(label_names)
        self._counts: dict[LabelValues, list[int]] = {}
        self._sums: dict[LabelValues, float] = {}

    def observe(self, value: float, **labels: str) -> None:
        """Count one observation."""
        key = _label_values(self._label_names, labels)
        counts = self._counts.get(key)
        if counts is None:
            counts = self._counts[key] = [0] * (len(self._bounds) + 1)
            self._sums[key] = 0.0
        counts[bisect_left(self._bounds, value)] += 1
        self._sums[key] += value

    def samples(self) -> list[Sample]:
        """Cumulative buckets, sum and count for each combination of labels."""
        return [
            sample
            for key, counts in self._counts.items()
            for sample in _buckets(self._label_names, key, self._bounds, counts, self._sums[key])
        ]


class MetricsRegistry:
    """The metrics of one process. Names are unique; a second registration of one raises LocalError."""

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, str, Callable[[], list[Sample]]]] = {}

    def counter(self, name: str, description: str, label_names: Sequence[str] = ()) -> Counter:
        """A new counter."""
        counter = Counter(label_names)
        self._register(name, counter.kind, description, counter.samples)
        return counter

    def gauge(self, name: str, description: str, label_names: Sequence[str] = ()) -> Gauge:
        """A new gauge."""
        gauge = Gauge(label_names)
        self._register(name, gauge.kind, description, gauge.samples)
        return gauge

    def histogram(
        self,
        name: str,
        description: str,
        bounds: Sequence[float] = LATENCY_BUCKETS_S,
        label_names: Sequence[str] = (),
    ) -> Histogram:
        """A new histogram."""
        histogram = Histogram(bounds, label_names)
        self._register(name, histogram.kind, description, histogram.samples)
        return histogram

    def read_counter(
        self, name: str, description: str, read: Callable[[], Mapping[LabelValues, Number]], *labels: str
    ) -> None:
        """A counter whose values somebody else keeps: `read` is called at each scrape and gives {label values:
        value}."""
        self._register(name, "counter", description, lambda: _samples(labels, read()))

    def read_gauge(
        self, name: str, description: str, read: Callable[[], Mapping[LabelValues, Number]], *labels: str
    ) -> None:
        """A gauge whose values somebody else keeps, read like `read_counter`."""
        self._register(name, "gauge", description, lambda: _samples(labels, read()))

    def read_histogram(
        self,
        name: str,
        description: str,
        bounds: Sequence[float],
        read: Callable[[], Mapping[LabelValues, tuple[Sequence[int], float]]],
        *labels: str,
    ) -> None:
        """A distribution that somebody else keeps: `read` gives {label values: (how many in each bucket, one more than
        there are bounds; their sum)}."""

        def samples() -> list[Sample]:
            return [
                sample
                for key, (counts, total) in read().items()
                for sample in _buckets(labels, key, bounds, counts, total)
            ]

        self._register(name, "histogram", description, samples)

    def snapshot(self) -> Snapshot:
        """All values now."""
        return [
            Family(name=name, kind=kind, help=description, samples=read())
            for name, (kind, description, read) in self._families.items()
        ]

    def _register(self, name: str, kind: str, description: str, read: Callable[[], list[Sample]]) -> None:
        if not _NAME.fullmatch(name):
            raise LocalError(f"{name!r} is no metric name")
        if name in self._families:
            raise LocalError(f"the metric {name} is registered already")
        self._families[name] = (kind, description, read)


def merge(snapshots: Mapping[str, Snapshot]) -> Snapshot:
    """One snapshot of several: families of one name become one, samples get the label `process`."""
    merged: dict[str, Family] = {}
    for process, snapshot in snapshots.items():
        for family in snapshot:
            target = merged.setdefault(family["name"], Family(**{**family, "samples": []}))
            for sample in family["samples"]:
                target["samples"].append(Sample(**{**sample, "labels": {**sample["labels"], "process": process}}))
    return list(merged.values())


def render(snapshot: Snapshot) -> str:
    """The Prometheus text format of a snapshot."""
    lines: list[str] = []
    for family in snapshot:
        name = family["name"]
        description = family["help"].replace("\\", r"\\").replace("\n", r"\n")
        lines += [f"# HELP {name} {description}", f"# TYPE {name} {family['kind']}"]
        for sample in family["samples"]:
            labels = ",".join(f'{label}="{_escaped(value)}"' for label, value in sample["labels"].items())
            lines.append(f"{name}{sample['suffix']}{'{' + labels + '}' if labels else ''} {sample['value']!r}")
    return "".join(f"{line}\n" for line in lines)


_NAME = re.compile("[a-zA-Z_:][a-zA-Z0-9_:]*")


def _label_values(names: LabelValues, labels: Mapping[str, str]) -> LabelValues:
    if labels.keys() != set(names):
        raise LocalError(f"labels {sorted(labels)} were given instead of {sorted(names)}")
    return tuple(labels[name] for name in names)


def _samples(names: Sequence[str], values: Mapping[LabelValues, Number]) -> list[Sample]:
    return [Sample(suffix="", labels=dict(zip(names, key, strict=True)), value=value) for key, value in values.items()]


def _buckets(
    names: Sequence[str], key: LabelValues, bounds: Sequence[float], counts: Sequence[int], total: float
) -> list[Sample]:
    labels = dict(zip(names, key, strict=True))
    samples: list[Sample] = []
    so_far = 0
    for bound, count in zip([*map(repr, bounds), "+Inf"], counts, strict=True):
        so_far += count
        samples.append(Sample(suffix="_bucket", labels={**labels, "le": bound}, value=so_far))
    samples.append(Sample(suffix="_sum", labels=labels, value=total))
    samples.append(Sample(suffix="_count", labels=labels, value=so_far))
    return samples


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
