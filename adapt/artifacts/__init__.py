"""What training writes for one task: its format, where it lies, its merge onto a base."""
