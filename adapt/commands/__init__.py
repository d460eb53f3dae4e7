"""The commands of `uda-adapt`, one per file. Torch is imported when they run."""
