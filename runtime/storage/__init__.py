"""Atomic writes, checksummed files, locks, and checks of untrusted input."""
