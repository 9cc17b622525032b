"""Benchmarks: ``pytest bench/`` times single operations, ``python -m bench`` makes the table of ratios."""
