"""`uda-adapt`: the group; each command is a file of `adapt.commands`."""

from __future__ import annotations

import click

from adapt.commands.data import data
from adapt.commands.evaluate import evaluate
from adapt.commands.inspect import inspect
from adapt.commands.report import report
from adapt.commands.spot_check import spot_check
from adapt.commands.sweep import sweep
from adapt.commands.train import train
from runtime.console import UdaGroup


@click.group(cls=UdaGroup)
@click.version_option(package_name="uda-edge")
def main() -> None:
    """Adapt CLIP's image encoder to an unlabelled domain."""


for _command in (train, sweep, evaluate, report, spot_check, inspect, data):
    main.add_command(_command)

if __name__ == "__main__":  # for torchrun -m adapt.cli
    main()
