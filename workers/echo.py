"""A worker that draws coloured stripes out of a prompt and a seed: an example, and what the tests speak with.

mllmrisk doctor --worker "python workers/echo.py"
"""

from __future__ import annotations

import hashlib
from typing import Any

import mllmrisk_worker as base

DEFAULTS = {"width": 64, "height": 64, "stripe": 8, "refuse": ""}


class Stripes:
    """Draws; `refuse` is a word that it will not draw."""

    def __init__(self, arguments: dict[str, Any], device: str) -> None:
        self.settings = base.settings(arguments, DEFAULTS)
        self.hello = {
            "name": "echo/1",
            "model": "stripes",
            "revision": "1",
            "device": "cpu",
            "dtype": "uint8",
            "versions": base.versions(),
            "arguments": dict(self.settings, device=device),
            "batch": 4,
        }

    def draw(self, prompt: str, seed: int) -> base.Pixels:
        """The same stripes for the same prompt and seed, whatever else is asked for."""
        if self.settings["refuse"] and self.settings["refuse"] in prompt:
            raise base.DeclinedError("word_refused")
        width, height, stripe = (self.settings[name] for name in ("width", "height", "stripe"))
        rows = []
        for y in range(height):
            text = f"{seed}\n{y // stripe}\n{prompt}"
            rows.append(hashlib.sha256(text.encode()).digest()[:3] * width)
        return base.Pixels(width, height, b"".join(rows))


if __name__ == "__main__":
    base.serve(Stripes)
