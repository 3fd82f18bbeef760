"""The other side of a benchmark: programs that a benchmark starts as separate processes."""
