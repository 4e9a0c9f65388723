"""The worker's side of mllmrisk's protocol, in one file that needs Python 3.8 and nothing else.

Copy it beside a worker script, or leave both in this folder:

    import mllmrisk_worker as base

    def load(arguments, device):
        settings = base.settings(arguments, {"model": base.REQUIRED, "steps": 50})
        pipeline = ...                                      # heavy imports go in here
        return Painter(pipeline, settings)

    class Painter:
        hello = {"name": "mine/1", "model": "owner/model", "versions": base.versions("torch")}
        def draw(self, prompt, seed):                       # one image: (H, W, 3) uint8, a PIL image, or Pixels
            return ...

    base.serve(load)

What it takes care of: stdout belongs to the protocol alone (whatever a library prints goes to stderr, from C too), one
request's exception is one `failed` outcome, "out of memory" is told as such, images are written as PNG by a temporary
name and a rename, and the process ends when its parent is gone. The protocol itself is described in docs/workers.md.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import struct
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

PROTOCOL = 1


class UnfitError(Exception):
    """The worker cannot start or go on; the message is for a person, and says what to do."""


class DeclinedError(Exception):
    """The model refused a prompt (`refused`) or a filter of its own removed the image (`filtered`)."""

    def __init__(self, reason: str, outcome: str = "refused", **facts: str) -> None:
        super().__init__(reason)
        self.reason, self.outcome, self.facts = reason, outcome, facts


class Pixels(NamedTuple):
    """An image without any library: `rgb` is height * width * 3 bytes, row by row."""

    width: int
    height: int
    rgb: bytes


class Required:
    """Stands for the value of a setting that has no default."""


REQUIRED = Required()


def settings(arguments: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The arguments of hello over the defaults; an unknown, missing or wrongly typed one is an error."""
    unknown = sorted(set(arguments) - set(defaults))
    if unknown:
        raise UnfitError(f"this worker has no argument {unknown[0]!r}; it has {', '.join(sorted(defaults))}")
    found = dict(defaults, **arguments)
    for name, value in found.items():
        default = defaults[name]
        if value is REQUIRED:
            raise UnfitError(f"the table `arguments` of the generator's TOML needs {name!r}")
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            found[name] = float(value)
        elif default is not REQUIRED and default is not None and type(value) is not type(default):
            raise UnfitError(f"argument {name!r} is a {type(default).__name__}, not {value!r}")
    return found


def versions(*distributions: str) -> dict[str, str]:
    """Versions of Python and of those of the packages that are installed, without importing them."""
    from importlib import metadata

    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in distributions:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def repository(marker: str, url: str) -> str:
    """The working folder, once it is known to be a checkout of `url`; it is put first on the import path.

    Args:
        marker: a file that the checkout has.
        url: what to clone where it is missing.
    """
    here = Path.cwd()
    if not (here / marker).exists():
        raise UnfitError(
            f"no {marker} in {here}: clone {url}, install what it asks for in an environment of its own, and set `cwd` "
            "and `python` of the generator's TOML to the two"
        )
    sys.path.insert(0, str(here))
    return str(here)


def one_gpu(device: str) -> str:
    """Makes the asked GPU the only one that this process sees; call it before torch is imported.

    Returns:
        `cuda`; research code moves things to "cuda" by that name.
    """
    if device == "cpu":
        raise UnfitError("this model's code runs on an NVIDIA GPU only")
    if device.startswith("cuda:"):
        visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        index = int(device.partition(":")[2])
        if visible and index >= len(visible):
            raise UnfitError(f"there is no {device}: CUDA_VISIBLE_DEVICES names {len(visible)} GPU(s)")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[index] if visible else str(index)
    return "cuda"


def need_gpu() -> None:
    """Ends with a sentence where torch sees no GPU."""
    import torch

    if not torch.cuda.is_available():
        raise UnfitError(f"torch {torch.__version__} sees no GPU here (a build without CUDA, or no driver)")


def seed_all(seed: int) -> None:
    """Seeds every generator that research code draws from without being given one."""
    import random

    import numpy
    import torch

    random.seed(seed)
    numpy.random.seed(seed)
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def revision(model: str) -> str:
    """Commit of a model's folder, as a hub's cache, a hub's download or a git clone tells it; empty where none does."""
    path = Path(model)
    if not path.is_dir():
        return ""
    resolved = path.resolve()
    if resolved.parent.name == "snapshots":
        return resolved.name
    for told in sorted(resolved.glob(".cache/huggingface/download/*.metadata")):
        return told.read_text(encoding="utf-8").split("\n")[0]
    return commit(str(resolved)) if (resolved / ".git").exists() else ""


def commit(folder: str) -> str:
    """The git commit that a checkout stands at, empty where git does not say."""
    import subprocess

    try:
        done = subprocess.run(
            ["git", "-C", folder, "rev-parse", "HEAD"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode().strip()


def serve(load: Callable[[dict[str, Any], str], Any]) -> None:
    """Speaks the protocol until it is told to end; does not return.

    Args:
        load: gets the arguments and the device (`auto`, `cpu`, `cuda`, `cuda:1`) and gives an object with `hello` (a
            dict: `model`, and where known `name`, `revision`, `device`, `dtype`, `versions`, `arguments`, `batch`) and
            either `draw(prompt, seed)` or, for batches, `draw_all(prompts, seeds)` that returns a list.
    """
    talk = _Channel()
    code = 1
    try:
        code = _serve(talk, load)
    except UnfitError as wrong:
        talk.send({"type": "error", "reason": str(wrong)})
    except KeyboardInterrupt:
        code = 130
    except BaseException as wrong:
        traceback.print_exc()
        talk.send({"type": "error", "reason": f"{type(wrong).__name__}: {_one_line(wrong)}"})
    sys.stderr.flush()
    os._exit(code)  # libraries leave threads behind that would keep the process, and the GPU


def _serve(talk: _Channel, load: Callable[[dict[str, Any], str], Any]) -> int:
    start = talk.receive()
    if start is None:
        return 0
    if start.get("type") != "hello" or start.get("protocol") != PROTOCOL:
        raise UnfitError(f"this worker speaks protocol {PROTOCOL} and was greeted with {start.get('protocol')!r}")
    painter = load(start.get("arguments", {}), start.get("device", "auto"))
    talk.send(dict({"versions": versions()}, **painter.hello, type="hello", protocol=PROTOCOL))
    while True:
        order = talk.receive()
        if order is None:
            return 0
        if order["type"] == "bye":
            talk.send({"type": "bye"})
            return 0
        if order["type"] == "generate":
            for outcome in _outcomes(painter, order["requests"]):
                talk.send(dict(outcome, type="outcome"))


def _outcomes(painter: Any, requests: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """One outcome per request. A batch that fails is tried one by one, unless it was too large."""
    if len(requests) > 1 and hasattr(painter, "draw_all"):
        try:
            pictures = _drawn_together(painter, requests)
        except Exception as wrong:
            if _out_of_memory(wrong):
                for one in requests:
                    yield {"id": one["id"], "outcome": "failed", "reason": "out_of_memory"}
                return
            traceback.print_exc()
        else:
            for one, picture in zip(requests, pictures):  # noqa: B905 -- Python 3.8 has no `strict`
                yield _written(one, lambda picture=picture: picture)
            return
    for one in requests:
        yield _written(one, lambda one=one: _drawn(painter, one))


def _drawn_together(painter: Any, requests: list[dict[str, Any]]) -> list[Any]:
    pictures = painter.draw_all([one["prompt"] for one in requests], [one["seed"] for one in requests])
    if len(pictures) != len(requests):
        raise ValueError(f"{len(pictures)} images for {len(requests)} prompts")
    return list(pictures)


def _drawn(painter: Any, one: dict[str, Any]) -> Any:
    if hasattr(painter, "draw"):
        return painter.draw(one["prompt"], one["seed"])
    return painter.draw_all([one["prompt"]], [one["seed"]])[0]


def _written(one: dict[str, Any], picture: Callable[[], Any]) -> dict[str, Any]:
    try:
        pixels = _pixels(picture())
        write_png(one["path"], pixels)
    except DeclinedError as no:
        return {"id": one["id"], "outcome": no.outcome, "reason": no.reason, "facts": no.facts}
    except Exception as wrong:
        if _out_of_memory(wrong):
            return {"id": one["id"], "outcome": "failed", "reason": "out_of_memory"}
        traceback.print_exc()
        facts = {"error": _one_line(wrong)}
        return {"id": one["id"], "outcome": "failed", "reason": type(wrong).__name__, "facts": facts}
    return {
        "id": one["id"],
        "outcome": "ok",
        "path": one["path"],
        "width": pixels.width,
        "height": pixels.height,
    }


def _pixels(picture: Any) -> Pixels:
    """Pixels of a PIL image, of a (height, width, 3) uint8 array, or as they are."""
    if isinstance(picture, Pixels):
        found = picture
    elif hasattr(picture, "convert"):
        found = Pixels(picture.size[0], picture.size[1], picture.convert("RGB").tobytes())
    elif getattr(picture, "dtype", None) == "uint8" and len(picture.shape) == 3 and picture.shape[2] == 3:
        found = Pixels(picture.shape[1], picture.shape[0], picture.tobytes())
    else:
        raise TypeError(f"an image is a PIL image, a (height, width, 3) uint8 array or Pixels, not {type(picture)}")
    if found.width < 1 or found.height < 1 or len(found.rgb) != found.width * found.height * 3:
        raise ValueError(f"{len(found.rgb)} bytes are no {found.width} x {found.height} RGB image")
    return found


def write_png(path: str, pixels: Pixels) -> None:
    """Writes an 8-bit RGB PNG; the file is there as a whole or not at all."""
    stride = pixels.width * 3
    rows = b"".join(b"\0" + pixels.rgb[at : at + stride] for at in range(0, len(pixels.rgb), stride))
    head = struct.pack(">IIBBBBB", pixels.width, pixels.height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows, 4)), (b"IEND", b""))
    part = Path(path + ".part")
    with part.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for name, data in parts:
            file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))
    part.replace(path)


def _out_of_memory(wrong: BaseException) -> bool:
    found = isinstance(wrong, MemoryError) or "OutOfMemory" in type(wrong).__name__ or "out of memory" in str(wrong)
    torch = sys.modules.get("torch")
    if found and torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    return found


def _one_line(wrong: BaseException) -> str:
    return " ".join(str(wrong).split())[:300]


class _Channel:
    """The protocol's two streams, taken away from everybody else."""

    def __init__(self) -> None:
        self._orders: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
        incoming = os.fdopen(os.dup(0), "r", encoding="utf-8", newline="\n")
        os.dup2(2, 1)  # what libraries print, in Python or in C, goes to stderr
        sys.stdout = sys.stderr
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)  # and nobody reads the protocol's stdin by accident
        os.close(null)
        threading.Thread(target=self._read, args=(incoming,), daemon=True).start()

    def send(self, message: dict[str, Any]) -> None:
        self._out.write(json.dumps(message, ensure_ascii=False, default=str) + "\n")
        self._out.flush()

    def receive(self) -> dict[str, Any] | None:
        """The next message; None when there will be no more."""
        return self._orders.get()

    def _read(self, incoming: Any) -> None:
        order = None
        for line in incoming:
            order = json.loads(line)
            self._orders.put(order)
        self._orders.put(None)
        if order is not None and order["type"] != "bye":  # the parent is gone: nobody waits for what is being made
            time.sleep(1.0)
            os._exit(3)
