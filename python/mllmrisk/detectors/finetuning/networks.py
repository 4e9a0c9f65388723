"""Networks of our own, in torch: rows of an image's pixels to one logit each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, conv2d

from mllmrisk.detectors.architectures.npr import NprNet, Sizes

if TYPE_CHECKING:
    from mllmrisk.detectors.finetuning.calibrate import Calibration


#: Luma and the two colour differences of JPEG (ITU-T T.871), from RGB; the latter doubled, since they vary less.
_LUMA_CHROMA = ((0.299, 0.587, 0.114), (-0.338, -0.662, 1.0), (1.0, -0.838, -0.162))


class MicroCnn(nn.Module):
    """A small network that reads what a picture looks like between neighbouring pixels, and not what it shows.

    Luma and chroma are halved in size, once and twice (what lies at 2 to 4 px outlives JPEG, docs/forensic.md); of
    each, pixels less their 3x3 mean, enlarged and bent by tanh, go through convolutions of stride 2; the mean and the
    deviation of every channel over the picture decide.
    """

    def __init__(
        self,
        widths: Sequence[int] = (16, 32),
        scales: Sequence[int] = (2, 4),
        dropout: float = 0.1,
        gain: float = 8.0,
    ) -> None:
        """Takes the channels of each convolution (multiples of 8), how often sizes are divided, and the enlargement."""
        super().__init__()
        self.gain, self.scales = gain, tuple(scales)
        self.register_buffer("mix", torch.tensor(_LUMA_CHROMA)[:, :, None, None], persistent=False)
        self.bodies = nn.ModuleList(_convolutions(widths) for _ in scales)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(2 * widths[-1] * len(scales), 1)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(m, 3, h, w) to (m,) logits."""
        planes = conv2d(pixel_values, self.mix)
        found = []
        for scale, body in zip(self.scales, self.bodies, strict=True):
            small = avg_pool2d(planes, scale)
            residual = small - avg_pool2d(small, 3, 1, 1, count_include_pad=False)
            maps = body(torch.tanh(self.gain * residual))
            mean = maps.mean((2, 3), keepdim=True)
            found += [mean.flatten(1), ((maps - mean).square().mean((2, 3)) + 1e-6).sqrt()]
        return self.classifier(self.dropout(torch.cat(found, 1)))[:, 0]


def _convolutions(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in zip((3, *widths), widths, strict=False):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.GroupNorm(8, after), nn.SiLU()]
    return nn.Sequential(*layers)


class Npr(NprNet):
    """NPR's network (:mod:`mllmrisk.detectors.architectures.npr`), started as its authors start it."""

    def __init__(self, blocks: Sequence[int] = (3, 4), width: int = 64) -> None:
        """Takes the blocks of the two stages and the channels of the first convolution."""
        super().__init__(Sizes(width=width, blocks=(blocks[0], blocks[1])))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(m, 3, h, w), both sides even, to (m,) logits."""
        return super().forward(pixel_values)[:, 0]


class Logit(nn.Module):
    """A classifier of transformers with one label, as a network of one logit."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(m, 3, h, w) to (m,) logits."""
        return self.model(pixel_values=pixel_values).logits[:, 0]


class Calibrated(nn.Module):
    """A network with its calibration behind it: what is carried away."""

    def __init__(self, network: nn.Module, calibration: Calibration) -> None:
        """Takes both; the calibration's numbers become constants of the graph."""
        super().__init__()
        self.network = network
        for name in ("knots", "values", "slopes"):
            self.register_buffer(name, torch.from_numpy(getattr(calibration, name)).float())

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """(m, 3, h, w) to (m, 1) calibrated logits."""
        x = self.network(pixel_values)[:, None].float()
        out = self.values[0] + self.slopes[0] * (x - self.knots[0]).clamp(max=0.0)
        out = out + self.slopes[-1] * (x - self.knots[-1]).clamp(min=0.0)
        if len(self.knots) > 1:
            steps = torch.minimum((x - self.knots[:-1]).clamp(min=0.0), self.knots[1:] - self.knots[:-1])
            out = out + (steps * self.slopes[1:-1]).sum(1, keepdim=True)
        return out
