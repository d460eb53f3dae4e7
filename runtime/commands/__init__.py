"""The commands of `uda-runtime`; what is heavy is imported inside them: --help is quick."""
