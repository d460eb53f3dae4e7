"""Run `uda-adapt`, also as `python -m adapt`."""

from __future__ import annotations

from runtime.startup import run


def main() -> None:
    """Run the program."""
    run("adapt.cli")


if __name__ == "__main__":
    main()
