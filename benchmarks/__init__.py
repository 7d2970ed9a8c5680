"""Measurements behind the numbers of the documentation; each module runs with ``python -m benchmarks.<name>``."""
