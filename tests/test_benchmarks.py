"""Benchmarks, which no test runs whole, at least find what they import."""

import importlib
import pkgutil

import benchmarks


def test_every_benchmark_finds_what_it_imports():
    for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
