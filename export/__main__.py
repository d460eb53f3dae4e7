"""Run `uda-export`, also as `python -m export`."""

from __future__ import annotations

from runtime.startup import run


def main() -> None:
    """Run the program."""
    run("export.cli")


if __name__ == "__main__":
    main()
