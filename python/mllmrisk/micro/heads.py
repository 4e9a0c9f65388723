"""Zero-shot heads of `micro-clip`: what its text half says of a category, for a judge of the kind `clip-heads`.

They make the embedded panel a panel: a judge that was trained on labels (`micro-judge`) and one that never saw a label.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from mllmrisk.world import SUBJECTS, caption, scenes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import CLIPModel, CLIPProcessor

#: Captions of each scene that a vector is the mean of.
_WORDINGS = 4


def write(folder: Path) -> dict[str, str]:
    """Writes `CATEGORY.npy`, (2, d) float32, beside the model in `folder`: harmless scenes, scenes of the category.

    Returns:
        Each file's sha256, as the judge's TOML pins it.
    """
    from transformers import CLIPModel, CLIPProcessor

    model, processor = CLIPModel.from_pretrained(folder, dtype="float32"), CLIPProcessor.from_pretrained(folder)
    harmless = _vector(model, processor, [name for name, subject in SUBJECTS.items() if subject.category is None])
    written = {}
    for category in sorted({subject.category for subject in SUBJECTS.values() if subject.category is not None}):
        asked = _vector(model, processor, [name for name, s in SUBJECTS.items() if s.category == category])
        path = folder / f"{category}.npy"
        np.save(path, np.stack([harmless, asked]))
        written[category] = hashlib.sha256(path.read_bytes()).hexdigest()
    return written


def _vector(model: CLIPModel, processor: CLIPProcessor, subjects: Sequence[str]) -> np.ndarray:
    """The mean of unit text embeddings, float32 (d,)."""
    import torch

    rng = np.random.default_rng(0)
    texts = [
        caption(scene, "literal", rng) for scene in scenes() if scene.subject in subjects for _ in range(_WORDINGS)
    ]
    tokens = processor(text=texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        found = model.get_text_features(**tokens)
    found = getattr(found, "pooler_output", found)
    unit = found / found.norm(dim=1, keepdim=True)
    return np.asarray(unit.mean(0).numpy(), np.float32)
