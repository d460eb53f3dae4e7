"""Default profile of a build: that of the existing engines."""

from __future__ import annotations

from runtime.backends.trt.engine_file import Platform
from runtime.backends.trt.profile import DEFAULT, PROFILES, Profile
from runtime.backends.trt.store import EngineStore
from runtime.bundles.bundle import Bundle
from runtime.errors import ConfigError


def default_profile(bundle: Bundle, store: EngineStore, platform: Platform) -> Profile:
    """Return the profile of a bundle's engines for a library and GPU; the default if none is there.

    That of the encoders, where they and the heads have not the same.

    Args:
        bundle: Bundle to build engines of.
        store: Store of the bundle's engines.
        platform: Platform to build for.

    Raises:
        ConfigError: Its encoders there are of several profiles.
    """
    graphs = {ref.sha256 for ref in bundle.manifest.graphs()}
    own = [e for e in store.engines(platform.slug) if e.recipe.graph in graphs]
    encoders = [e for e in own if e.stem.startswith("encoder")]
    found = {engine.recipe.profile: engine.recipe.profile.name for engine in encoders or own}
    if len(found) > 1:
        raise ConfigError(
            f"the engines for {platform} in '{store.folder}' are of the profiles "
            f"{' and '.join(sorted(found.values()))}; choose one with --profile"
        )
    return next(iter(found), PROFILES[DEFAULT])
