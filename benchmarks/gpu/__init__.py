"""Tests and benchmarks for a machine with a GPU, and the calls of a short visit to one."""
