"""SPAI (Karageorgiou 2025): an image at its own size, as patches of 224 px whose features one attention joins.

The model has two ways through: `patches` → `encoded`, and `features` (what was encoded of one image) → `logits`. So an
image of any size is encoded part by part, in the memory of one part.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mllmrisk import config, images
from mllmrisk.detectors.single import Picture, SingleDetector, SingleRecipe, one_row
from mllmrisk.inference import CPU

WHOLE = images.Preprocessing(crop_mode="full", size=None)
PATCHES, FEATURES, ENCODED, LOGITS = "patches", "features", "encoded", "logits"

#: Below so many patches the author's code takes the four corners and the centre instead.
_FEWEST = 4
#: Patches per call of the model.
_BATCH = 8

Values = NDArray[np.float32]


def made(table: dict[str, Any], folder: Path, *, device: str = "cpu") -> SpaiDetector:
    """The detector of a TOML of the kind `spai`."""
    return SpaiDetector(config.converted(table, SingleRecipe), folder, device=device)


class SpaiDetector(SingleDetector):
    """Raw score: the logit of fake."""

    inputs = (PATCHES, FEATURES)
    way = "spai 1"

    def logit(self, picture: Picture, *, chain: str | None, threads: int | None, seed: int) -> float:
        """As :meth:`SingleDetector.logit`; a side below a patch is padded by reflection."""
        pixels = one_row(images.prepare([picture], WHOLE, chains=[chain], threads=threads, seed=seed))[0]
        side, width = self._side_and_width()
        found, none = patches(pixels, side), np.zeros((1, 1, width), np.float32)
        encoded = [
            self.run(ENCODED, **{PATCHES: found[start : start + _BATCH], FEATURES: none})
            for start in range(0, len(found), _BATCH)
        ]
        features = np.concatenate(encoded)[None].astype(np.float32)
        # onnxruntime runs both ways, whichever is asked for: none on a CPU, one where an empty batch was never tried
        beside = found[:0] if self.provider == CPU else found[:1]
        return float(self.run(LOGITS, **{PATCHES: beside, FEATURES: features})[0, 0])

    def _side_and_width(self) -> tuple[int, int]:
        shapes = {node.name: node.shape for node in self._opened.session.get_inputs()}
        return int(shapes[PATCHES][-1]), int(shapes[FEATURES][-1])


def patches(pixels: Values, side: int) -> Values:
    """The patches of an image, (m, 3, side, side): side by side from the top left, what is left over is not seen.

    Args:
        pixels: (3, H, W).
        side: of a patch, px.
    """
    room = [max(side - length, 0) for length in pixels.shape[1:]]
    if any(room):
        pixels = np.pad(pixels, [(0, 0), *((gap // 2, gap - gap // 2) for gap in room)], mode="reflect")
    height, width = pixels.shape[1:]
    corners = [(top, left) for top in range(0, height - side + 1, side) for left in range(0, width - side + 1, side)]
    if len(corners) < _FEWEST:
        bottom, right = height - side, width - side
        corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (round(bottom / 2), round(right / 2))]
    return np.stack([pixels[:, top : top + side, left : left + side] for top, left in corners])
