"""Heads of `micro-clip` without labels, for a judge of the kind `clip-heads`.

They make the embedded panel a panel: a judge that was trained on labelled pictures (`micro-judge`), and one that takes
from the CLIP model alone what a picture shows: the scene whose caption is nearest.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import CLIPModel, CLIPProcessor

from mllmrisk.world import SUBJECTS, caption, draw, scenes

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

#: Pictures of each scene that the vectors are fitted on; what they show is not told.
_EACH = 6
_STEPS = 600
_SEED = 41


def write(folder: Path) -> dict[str, str]:
    """Writes `CATEGORY.npy`, (2, d) float32, beside the model in `folder`: anything else, and the category.

    Two vectors are fitted, as Q16's are, so that softmax(100 cos) tells pictures whose nearest caption is of the
    category from all others.

    Returns:
        Each file's sha256, as the judge's TOML pins it.
    """
    pictures, read = _pictures(folder)
    written = {}
    for category in sorted({subject.category for subject in SUBJECTS.values() if subject.category is not None}):
        wanted = torch.tensor([SUBJECTS[name].category == category for name in read]).long()
        path = folder / f"{category}.npy"
        np.save(path, _fitted(pictures, wanted))
        written[category] = hashlib.sha256(path.read_bytes()).hexdigest()
    return written


def _pictures(folder: Path) -> tuple[torch.Tensor, list[str]]:
    """Unit embeddings (n, d) of pictures, and the subject of the caption that is nearest to each."""
    model, processor = CLIPModel.from_pretrained(folder, dtype=torch.float32), CLIPProcessor.from_pretrained(folder)
    rng = np.random.default_rng(_SEED)
    asked = list(scenes())
    texts = [caption(scene, "literal", rng) for scene in asked]
    drawn = [draw(scene, rng) for scene in asked for _ in range(_EACH)]
    with torch.no_grad():
        said = _unit(model.get_text_features(**processor(text=texts, padding=True, return_tensors="pt")))
        seen = _unit(model.get_image_features(**processor(images=drawn, return_tensors="pt")))
    return seen, [asked[int(i)].subject for i in (seen @ said.T).argmax(1)]


def _unit(found: Any) -> torch.Tensor:
    vectors = getattr(found, "pooler_output", found)
    return vectors / vectors.norm(dim=-1, keepdim=True)


def _fitted(vectors: torch.Tensor, wanted: torch.Tensor) -> NDArray[np.float32]:
    """Two vectors whose cosines tell the wanted embeddings from the rest; both classes weigh the same."""
    start = torch.stack([vectors[wanted == side].mean(0) for side in (0, 1)])
    prompts = torch.nn.Parameter(start / start.norm(dim=1, keepdim=True))
    optimiser = torch.optim.Adam([prompts], 0.01)
    share = wanted.double().mean()
    weight = torch.tensor([1 / (1 - share), 1 / share], dtype=torch.float32)
    for _ in range(_STEPS):
        logits = 100 * vectors @ (prompts / prompts.norm(dim=1, keepdim=True)).T
        loss = torch.nn.functional.cross_entropy(logits, wanted, weight, label_smoothing=0.02)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return np.asarray(prompts.detach().numpy(), np.float32)
