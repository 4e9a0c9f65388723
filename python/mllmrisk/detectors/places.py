"""Where detectors' weights are: the user's folder of weights, beside the TOML, in an installed package, on the hub."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from mllmrisk import config
from mllmrisk.detectors.recipe import Common, Hub, Place, Published
from mllmrisk.errors import MissingExtraError, UsageError
from mllmrisk.extras import optional


def home() -> Path:
    """The user's folder of weights: `MLLMRISK_WEIGHTS`, else `mllmrisk/weights` among the user's data."""
    return config.user_folder("weights", "MLLMRISK_WEIGHTS")


def exported(name: str) -> Path:
    """The TOML that `mllmrisk export-detector NAME` writes; it may not be there."""
    return home() / name / f"{name}.toml"


def content(place: Place, name: str, folder: Path) -> bytes:
    """The bytes of a file that a detector's TOML names, once their sha256 is the one that it gives.

    A file on the hub is taken from the local cache, and fetched into it where it is not there.

    Args:
        place: where it is.
        name: the detector's, for messages and for its part of the weights folder.
        folder: where the TOML is.

    Raises:
        UsageError: it is not there, cannot be read, or is another file.
        MissingExtraError: the package that holds it, or the hub's client, is not installed.
    """
    path = _path(place, name, folder)
    try:
        data = path.read_bytes()
    except OSError as wrong:
        raise UsageError(f"detector {name!r}: its model cannot be read: {path}: {wrong.strerror or wrong}") from wrong
    found = hashlib.sha256(data).hexdigest()
    if found != place.sha256:
        raise UsageError(
            f"detector {name!r}: {path} is not the file that its TOML names: its sha256 begins {found[:12]}, "
            f"not {place.sha256[:12]}"
        )
    return data


def here(place: Place, name: str, folder: Path) -> bool:
    """Whether the file is on this machine; its contents are not looked at."""
    try:
        if place.hub is not None:
            return _cached(place.hub) is not None
        return _path(place, name, folder).is_file()
    except (UsageError, MissingExtraError):
        return False


def absent(common: Common, published: Published | None) -> UsageError:
    """The error of a detector whose weights are not here: where they are, under which licence, and what to do."""
    restriction = f"; {common.restrictions}" if common.restrictions else ""
    where = f" They are published at {published.where}" if published else ""
    command = f" Then: {published.export}" if published and published.export else ""
    return UsageError(
        f"detector {common.name!r}: its weights are not in {home() / common.name}.{where} "
        f"(licence: {common.licence}{restriction}).{command}"
    )


def _path(place: Place, name: str, folder: Path) -> Path:
    if place.file is not None:
        beside = folder / place.file
        own = home() / name / place.file
        return own if not beside.is_file() and own.is_file() else beside
    if place.hub is not None:
        return _fetched(place.hub, name)
    # find_spec finds the folder without running the package's own code
    spec = importlib.util.find_spec(str(place.package))
    if spec is None or not spec.submodule_search_locations:
        if place.extra is None:
            raise UsageError(f"detector {name!r} needs the package {place.package!r}, which is not installed")
        runtime = [] if importlib.util.find_spec("onnxruntime") else ["cpu"]
        raise MissingExtraError(f"detector {name!r}", ",".join([*runtime, place.extra]))
    return Path(spec.submodule_search_locations[0]) / str(place.resource)


def _cached(hub: Hub) -> Path | None:
    """The file in the hub's local cache, if its client is installed and has it."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return None
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub.repo, hub.file, revision=hub.commit)
    return Path(found) if isinstance(found, str) else None


def _fetched(hub: Hub, name: str) -> Path:
    if (cached := _cached(hub)) is not None:
        return cached
    client = optional("huggingface_hub", f"detector {name!r}, whose weights are on the hub,", "gen")
    try:
        return Path(client.hf_hub_download(hub.repo, hub.file, revision=hub.commit))
    except Exception as wrong:  # the client's errors and its transport's share no base class
        reason = (str(wrong).strip().splitlines() or [type(wrong).__name__])[0][:200]
        raise UsageError(
            f"detector {name!r}: {hub.file} of {hub.repo} at {hub.commit[:12]} cannot be fetched from the hub: {reason}"
        ) from wrong
