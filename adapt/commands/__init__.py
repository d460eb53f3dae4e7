"""The commands of `uda-adapt`, one per file. Torch is imported inside them: --help is quick."""
