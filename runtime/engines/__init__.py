"""Engines built for one platform, kept on disk, found again."""
