"""Two small classifiers of the world's pictures: the judge, which is shipped, and the inspector, which only measures.

Both tell subject, colour and place. They differ in width and in their pictures: none is shared, with each other or with
the generators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, cross_entropy, interpolate

from mllmrisk.micro import graph
from mllmrisk.micro.data import labels, pictures
from mllmrisk.micro.fitting import Course, fit, load_average
from mllmrisk.micro.readers import SIZES
from mllmrisk.micro.vae import tensor

if TYPE_CHECKING:
    from pathlib import Path

    from mllmrisk.micro.data import Part

COUNT = 4800
"""Pictures that each classifier learns from."""


class Plan(NamedTuple):
    """The shape and course of one classifier."""

    part: Part
    widths: tuple[int, ...]
    course: Course
    seed: int


PLANS: dict[str, Plan] = {
    "inspector": Plan("inspector", (24, 48, 96, 128), Course(300, 48, 3e-3, memory=0.99), 20),
    "judge": Plan("judge", (16, 32, 64, 96), Course(400, 48, 3e-3, memory=0.99), 21),
}


class Classifier(nn.Module):
    """Convolutions of stride 2 down to 6 x 6 cells, then a linear layer for subject, colour and place together."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((3, *widths), widths, strict=False):
            layers += [nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(8, after), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Conv2d(widths[-1], 48, 3, 1, 1), nn.SiLU(), nn.Flatten())
        self.head = nn.Linear(48 * 36, sum(SIZES))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """`(n, 3, 96, 96)` in [-1, 1] to the logits of subject, colour and place."""
        return self.head(self.body(pixels)).split(SIZES, 1)


def worn(pixels: torch.Tensor) -> torch.Tensor:
    """Pictures as generators and cameras may spoil them: blur, noise, loss of resolution, shift, another exposure."""
    count = len(pixels)
    pixels = torch.roll(pixels, tuple(int(n) for n in torch.randint(-3, 4, (2,))), (2, 3))
    kind = int(torch.randint(4, ()))
    if kind == 1:
        pixels = avg_pool2d(pixels, 3, 1, 1, count_include_pad=False)
    elif kind == 2:
        pixels = interpolate(avg_pool2d(pixels, 2), scale_factor=2, mode="bilinear")
    elif kind == 3:
        pixels = interpolate(avg_pool2d(pixels, 3), scale_factor=3, mode="bicubic")
    rough = interpolate(torch.randn(count, 3, 12, 12), scale_factor=8, mode="bilinear")
    pixels = pixels + 0.12 * torch.rand(count, 1, 1, 1) * rough
    pixels = pixels * (1 + 0.15 * torch.randn(count, 1, 1, 1)) + 0.05 * torch.randn(count, 3, 1, 1)
    return (pixels + 0.15 * torch.rand(count, 1, 1, 1) * torch.randn_like(pixels)).clamp(-1, 1)


def train(name: str, out: Path, until: float | None = None) -> bool:
    """Trains `inspector` or `judge`; resumes."""
    plan = PLANS[name]
    drawn, unseen = pictures(plan.part, COUNT, out), pictures("held-out", 480, out)
    torch.manual_seed(plan.seed)
    model = Classifier(plan.widths)

    def loss(rng: np.random.Generator, batch: int) -> torch.Tensor:
        chosen = np.sort(rng.choice(COUNT, batch, replace=False))
        wanted = torch.from_numpy(labels(chosen))
        parts = [cross_entropy(logits, wanted[:, at]) for at, logits in enumerate(model(worn(tensor(drawn[chosen]))))]
        return torch.stack(parts).mean()

    def probe() -> dict[str, float]:
        right = (guesses(model, unseen) == labels(np.arange(len(unseen)))).mean(0)
        return dict(zip(("subject", "colour", "place"), (float(r) for r in right), strict=True))

    return fit(name, model, loss, plan.course, out, probe=probe, probe_every=300, until=until)


def trained(name: str, out: Path) -> Classifier:
    """A trained classifier."""
    return load_average(out / f"{name}.pt", Classifier(PLANS[name].widths))


@torch.no_grad()
def guesses(model: Classifier, seen: np.ndarray) -> np.ndarray:
    """`(n, 3)`: the likeliest subject, colour and place of each `(n, 96, 96, 3)` uint8 picture."""
    parts = [model(tensor(seen[at : at + 64])) for at in range(0, len(seen), 64)]
    return np.concatenate([np.stack([logits.argmax(1).numpy() for logits in part], 1) for part in parts])


def export(out: Path, path: Path) -> None:
    """Writes the judge as ONNX: input `pixels`, outputs `subject`, `colour` and `place`, any batch size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(graph.model(trained("judge", out), SIZES).SerializeToString(deterministic=True))
