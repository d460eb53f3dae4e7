"""Print the resident bytes of a process that only runs a bundle: `... BUNDLE BACKEND`."""

from __future__ import annotations

import gc
import resource
import sys
from pathlib import Path

import numpy as np

from runtime.sessions.session import Session


def resident() -> int:
    """Return the resident bytes of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


if __name__ == "__main__":
    with Session.open(sys.argv[1], backend=sys.argv[2], threads=2) as session:
        for task in session.tasks[-2:]:
            session.predict(np.zeros((224, 224, 3), np.uint8), task)
        print(resident())
