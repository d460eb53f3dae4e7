"""The commands of `uda-runtime`; heavy imports happen inside them, so that --help is quick."""
