"""What both generators' text halves learn first and go on learning: subject, colour and place of a caption."""

from __future__ import annotations

import torch

from mllmrisk.world import COLOURS, PLACES, SUBJECTS

SIZES = (len(SUBJECTS), len(COLOURS), len(PLACES))


class Reading(torch.nn.Module):
    """Linear heads on a caption's vector; used in training only, and not shipped."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = torch.nn.ModuleList(torch.nn.Linear(width, size) for size in SIZES)

    def forward(self, vectors: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean cross-entropy of `(n, 3)` labels, given `(n, width)` vectors."""
        losses = [
            torch.nn.functional.cross_entropy(head(vectors), labels[:, place]) for place, head in enumerate(self.heads)
        ]
        return torch.stack(losses).mean()
