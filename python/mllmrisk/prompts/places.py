"""Where files of prompts lie: beside the TOML that names them, or in the user's own folder."""

from __future__ import annotations

from pathlib import Path

from mllmrisk import config
from mllmrisk.errors import UsageError

#: No published set of prompts is larger by far; a file beyond it is something else.
LARGEST = 1 << 28


def home() -> Path:
    """The user's folder of prompts: `MLLMRISK_PROMPTS`, else `mllmrisk/prompts` among the user's data."""
    return config.user_folder("prompts", "MLLMRISK_PROMPTS")


def find(file: str, folder: Path) -> Path | None:
    """The file beside the TOML, else the one in the user's folder, else None."""
    places = (folder / Path(file).expanduser(), home() / file)
    return next((path for path in places if path.is_file()), None)


def missing(name: str, file: str, folder: Path, published: str, *, fetched: bool) -> UsageError:
    """The error of a file that is in neither place: what to do about it."""
    advice = f"mllmrisk prompts fetch {name} brings it" if fetched else published or "its TOML does not say where it is"
    return UsageError(f"prompt set {name}: no file {file} in {home()} (nor in {folder}): {advice}")


def content(path: Path) -> bytes:
    """The bytes of a file of prompts.

    Raises:
        UsageError: it cannot be read, or is larger than any set of prompts.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise UsageError(f"{path}: larger than {LARGEST >> 20} MiB: this is no file of prompts")
        return path.read_bytes()
    except OSError as wrong:
        raise UsageError(f"{path} cannot be read: {wrong.strerror}") from wrong


def decoded(data: bytes, path: Path) -> str:
    """UTF-8 text, with or without a byte order mark.

    Raises:
        UsageError: another encoding; the message names the line.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        line = data.count(b"\n", 0, wrong.start) + 1
        byte = f"byte 0x{data[wrong.start]:02x}"
        raise UsageError(f"{path}, line {line}: not UTF-8 ({byte}); save the file as UTF-8") from wrong
