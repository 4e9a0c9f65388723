"""Download of a published file, only when a person asks for it by name (`mllmrisk prompts fetch`)."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import shutil
import tempfile
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from mllmrisk.errors import UsageError
from mllmrisk.prompts.places import LARGEST

#: Seconds without a byte after which a server is given up.
PATIENCE = 30.0
_PIECE = 1 << 16


def download(urls: Sequence[str], target: Path, sha256: str | None) -> Path:
    """Brings a file from the first URL that gives the right one; `target` appears whole or not at all.

    Args:
        urls: https, or http on this machine.
        target: where it is to lie; its folder is made.
        sha256: what it must be; None where the true digest is unknown, and then any file is taken.

    Returns:
        `target`.

    Raises:
        UsageError: none of them gives it; the message has a reason for each.
    """
    reasons = []
    for url in urls:
        try:
            _get(url, target, sha256)
        except UsageError as wrong:
            reasons.append(f"{url}: {wrong}")
        except HTTPError as wrong:
            reasons.append(f"{url}: the server answers {wrong.code} {wrong.reason}")
        except (OSError, HTTPException) as wrong:  # URLError is an OSError
            reason = wrong.reason if isinstance(wrong, URLError) else wrong
            reasons.append(f"{url}: {reason}")
        else:
            return target
    raise UsageError("; ".join(reasons) or "no URL to fetch from")


def _get(url: str, target: Path, sha256: str | None) -> None:
    _check_address(url)
    opener = build_opener(_Redirects())
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".fetch-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as out, opener.open(Request(url), timeout=PATIENCE) as answer:
            length = answer.headers.get("Content-Length")
            size, digest = _copy(answer, out)
        if length is not None and length.isdigit() and int(length) != size:
            raise UsageError(f"the connection was cut after {size} of {length} bytes")
        if sha256 is not None and digest != sha256.lower():
            raise UsageError(f"another file than the pinned one: its sha256 is {digest}, not {sha256}")
        shutil.copymode(target, temporary) if target.exists() else temporary.chmod(0o644)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _copy(answer: Any, out: IO[bytes]) -> tuple[int, str]:
    """(bytes, sha256) of what came; one byte beyond the limit ends it."""
    digest = hashlib.sha256()
    size = 0
    while piece := answer.read(_PIECE):
        size += len(piece)
        if size > LARGEST:
            raise UsageError(f"larger than {LARGEST >> 20} MiB: this is no file of prompts")
        digest.update(piece)
        out.write(piece)
    return size, digest.hexdigest()


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and _here(parts.hostname or "")):
        raise UsageError("only https is fetched")


def _here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Redirects(HTTPRedirectHandler):
    """Follows redirects to addresses that could have been given, and to no others."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _check_address(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)
