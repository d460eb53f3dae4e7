"""The commands of `uda-export`, one per file. Torch is imported inside them: --help is quick."""
