"""Measures the handler against what one would write instead: python -m benchmarks.handler."""
