"""Artifacts, which training writes: their format, their folders, and merging onto a base."""
