"""`uda-export`: the group; each command is a file of `export.commands`."""

from __future__ import annotations

import click

from export.commands.onnx import onnx
from export.commands.triton import triton
from export.commands.trt import trt
from export.commands.verify import verify
from runtime.console import UdaGroup


@click.group(cls=UdaGroup)
@click.version_option(package_name="uda-edge")
def main() -> None:
    """Export task artifacts to bundles, engines and model repositories."""


for _command in (onnx, trt, triton, verify):
    main.add_command(_command)

if __name__ == "__main__":
    main()
