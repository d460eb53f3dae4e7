"""Tests, benchmarks and the plan of a visit for a machine with a GPU."""
