"""Commands that build engines, for the end of error messages."""

from __future__ import annotations

import re

SLOT = re.compile(
    r"(?P<stem>.+)-[0-9a-f]{16}\.tensorrt(?:_rtx)?\.(?P<generation>sm[0-9]+)(?P<gpu>\.[a-z0-9-]+)?"
)
"""`EngineFile.slot`, and so the name of an engine's JSON file without its end."""


def command(
    start: str, device: str = "", target: str = "", profile: str = "", *, baked: bool = False
) -> str:
    """Return the command that builds engines, for a message.

    Args:
        start: `uda-runtime build` with its bundle and folder of engines.
        device: GPU of this machine, as `cuda:1`; the first if not given. Ignored with a target.
        target: GPU generation, as `sm86`.
        profile: Name of the profile; the build's default if not given.
        baked: Whether weights become constants.
    """
    options = (
        f" --target {target}" if target else "",
        f" --device {device}" if device and not target else "",
        f" --profile {profile}" if profile else "",
        " --strategy engines" if baked else "",
    )
    return f"run: {start}{''.join(options)}"


def again(start: str, slot: str, device: str = "", profile: str = "") -> str:
    """Return the command that builds an engine again; all but its slot is as for `command`.

    Args:
        start: `uda-runtime build` with its bundle and folder of engines.
        slot: Slot of the engine; an unknown one stands for all engines.
        device: GPU of this machine that it is for.
        profile: Name of the profile, where it must be named.
    """
    found = SLOT.fullmatch(slot)
    if found is None:
        return command(start, device, "", profile)
    if found["stem"].startswith("baked-"):
        return "run again the uda-export trt --baked that built it"
    target = "" if found["gpu"] else found["generation"]
    return command(start, device, target, profile, baked=found["stem"].startswith("encoder-"))
