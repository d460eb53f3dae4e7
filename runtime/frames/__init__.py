"""Conversion of frames and image files to encoder pixels."""
