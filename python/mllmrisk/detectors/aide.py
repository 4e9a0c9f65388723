"""AIDE (Yan 2025): a network of two inputs, four patches of an image and the image as a whole.

Both are made by the Rust core: the patches are the windows of 32 px with the lowest and the highest frequencies.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mllmrisk import config, images
from mllmrisk.detectors.onnx import raw_scores
from mllmrisk.detectors.recipe import Output
from mllmrisk.detectors.single import Picture, SingleDetector, SingleRecipe, one_row

#: The whole image: data/datasets.py squashes it to 256 px without antialiasing.
IMAGE = images.Preprocessing(
    crop_mode="squash",
    size=(256, 256),
    interpolation="bilinear",
    antialias=False,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
OUTPUT = Output(name="logits", kind="softmax2", labels=["real", "fake"])
PATCHES, PIXELS = "patches", "pixel_values"


def made(table: dict[str, Any], folder: Path, *, device: str = "cpu") -> AideDetector:
    """The detector of a TOML of the kind `aide`."""
    return AideDetector(config.converted(table, SingleRecipe), folder, device=device)


class AideDetector(SingleDetector):
    """Raw score: logit of fake minus logit of real."""

    inputs = (PATCHES, PIXELS)
    way = "aide 1"

    def logit(self, picture: Picture, *, chain: str | None, threads: int | None, seed: int) -> float:
        """As :meth:`SingleDetector.logit`; an image needs 32 px a side."""
        patches = one_row(images.patches([picture], chains=[chain], threads=threads, seed=seed))
        whole = one_row(images.prepare([picture], IMAGE, chains=[chain], threads=threads, seed=seed))
        return float(raw_scores(self.run(OUTPUT.name, **{PATCHES: patches, PIXELS: whole}), OUTPUT)[0])
