"""Frames to the pixels a graph takes."""
