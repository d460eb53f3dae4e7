"""Latency, task switching and throughput on this machine."""
