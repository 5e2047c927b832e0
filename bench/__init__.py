"""Benchmarks: every figure a ratio within one run, with its spread; results as JSON under bench/results/."""
