"""Run `uda-runtime`, also as `python -m runtime`."""

from __future__ import annotations

from runtime.startup import run


def main() -> None:
    """Run the program."""
    run("runtime.cli")


if __name__ == "__main__":
    main()
