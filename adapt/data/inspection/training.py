"""Log and record the images that a training run takes."""

from __future__ import annotations

import logging
from typing import Any

from adapt.data.base import DomainPair
from adapt.data.inspection.repeats import warnings
from adapt.data.inventory import INVENTORY
from adapt.data.origin import IMAGES, Origin

_log = logging.getLogger(__name__)


def stored(pair: DomainPair) -> dict[str, Any]:
    """Return the members of an artifact's `optional` that record the images of a task.

    A path that is not valid UTF-8 is not recorded.
    """
    taken = {INVENTORY: pair.inventory.as_dict()} if pair.inventory else {}
    origin = pair.origin.as_dict() if pair.origin else None
    return taken | ({IMAGES: origin} if Origin.of(origin) else {})


def tell(pair: DomainPair) -> None:
    """Log which images are taken or left out, and warn of copies that distort training or test.

    The digests of the images are known at this point, so nothing is read again.

    Raises:
        DataError: A file no longer exists.
    """
    if pair.inventory is None:
        return
    _log.info("images: %s", pair.inventory.line())
    for warning in warnings(pair):
        _log.warning("%s", warning)
