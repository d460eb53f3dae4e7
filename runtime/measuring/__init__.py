"""Latency, switching and throughput on this machine."""
