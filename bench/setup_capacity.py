"""Capacity."""

from typing import Any


def measure_capacity() -> list[dict[str, Any]]:
    return []


def print_capacity(results: list[dict[str, Any]]) -> None:
    pass
