"""The `uda-runtime` command group."""

from __future__ import annotations

import click

from runtime.commands.bench import bench
from runtime.commands.build import build
from runtime.commands.info import info
from runtime.commands.predict import predict
from runtime.commands.tasks import install, remove, rollback
from runtime.commands.watch import watch
from runtime.console import UdaGroup


@click.group(cls=UdaGroup)
@click.version_option(package_name="uda-edge")
def main() -> None:
    """Run adapted vision models and switch their task in place."""


for _command in (info, predict, watch, bench, build, install, remove, rollback):
    main.add_command(_command)

if __name__ == "__main__":
    main()
