"""Fetch pretrained weights by open_clip's tag, from its cache or the network.

The hub's client tries an unreachable server five times in half a minute and logs each try. Here one
request with a short limit goes first: without an answer nothing else is tried.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import HfHubHTTPError
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.pretrained import download_pretrained

from runtime.errors import BaseModelError
from runtime.storage import disk
from runtime.storage.files import expanded

PATIENCE = 5.0
"""Seconds that a server has for its first answer."""
_LONG = 80


def fetch(config: Mapping[str, Any], what: str, advice: str) -> Path:
    """Return the file of a pretrained tag.

    Args:
        config: Configuration of the tag in open_clip.
        what: Name of the weights, for messages.
        advice: Option that takes the downloaded file, for messages.

    Raises:
        BaseModelError: The weights are not in the cache and cannot be downloaded.
    """
    hub, _, file = str(config.get("hf_hub", "")).rpartition("/")
    names = (file,) if file else (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME)
    try:
        if hub:
            # What open_clip prefers: the safe twin of a file.
            for name in (*(f"{Path(name).stem}.safetensors" for name in names), *names):
                found = try_to_load_from_cache(hub, name)
                if isinstance(found, str):
                    return Path(found)
            _ask_hub(hub, names[0])
        elif "url" in config:
            _ask(str(config["url"]))
        return Path(download_pretrained(dict(config)))
    except Exception as error:  # urllib, hub, SSL, disk: whatever a network can raise
        files = "' or '".join(names)
        sources = [f"'{files}' of the Hugging Face repository '{hub}'"] if hub else []
        sources += [f"'{config['url']}'"] if config.get("url") else []
        raise BaseModelError(
            f"{what} are not on this machine and cannot be downloaded ({_short(error)}); fetch "
            f"{' or '.join(sources)} elsewhere, copy it here and pass {advice}"
        ) from error


def _ask_hub(repository: str, file: str) -> None:
    """Raise if the hub does not answer; the download handles any answer."""
    try:
        get_hf_file_metadata(hf_hub_url(repository, file), timeout=PATIENCE)
    except HfHubHTTPError:
        return


def _ask(url: str) -> None:
    if disk.is_file(expanded("~/.cache/clip") / Path(urlsplit(url).path).name):
        return  # where open_clip looks first
    request = urllib.request.Request(url, method="HEAD")  # noqa: S310 (of open_clip's own table)
    try:
        urllib.request.urlopen(request, timeout=PATIENCE).close()  # noqa: S310
    except urllib.error.HTTPError:
        return


def _short(error: Exception) -> str:
    """Return a foreign exception in a few words; a long one by its class, and never cut."""
    text = " ".join(str(error).split())
    return text if 0 < len(text) <= _LONG else type(error).__name__
