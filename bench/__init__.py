"""Benchmarks that anyone can run: `python -m bench.NAME [--json FILE]`. They report; they never decide whether
tests pass."""
