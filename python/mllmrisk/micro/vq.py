"""The pixel decoder of `micro-mllm`: a JanusVQVAE whose decoder and codebook learn to show the visual words.

Only the way from words to pixels is trained: the vocabulary is fixed (`codes`), so nothing can collapse. GroupNorm has
32 groups in this class, so it is trained on whole pictures, as it is used. The encoder, which only a picture that the
model *reads* would pass, stays untrained, and the model card says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import JanusVQVAEConfig
from transformers.models.janus.modeling_janus import JanusVQVAE

from mllmrisk.micro import codes
from mllmrisk.micro.data import pictures
from mllmrisk.micro.fitting import Course, fit, load_average
from mllmrisk.micro.vae import COUNT, likeness, tensor

if TYPE_CHECKING:
    from pathlib import Path

COURSE = Course(steps=3200, batch=8, rate=2e-3, ease=0.6, memory=0.995)
WIDTH = 32
"""Numbers that describe a visual word to the decoder."""


def config(hidden: int) -> JanusVQVAEConfig:
    """The configuration, for a language model of the given width."""
    return JanusVQVAEConfig(
        embed_dim=WIDTH,
        num_embeddings=codes.WORDS,
        latent_channels=64,
        base_channels=32,
        channel_multiplier=(1, 1, 2, 2, 2),
        num_res_blocks=1,
        num_patches=codes.GRID,
        projection_dim=hidden,
        image_token_embed_dim=hidden,
    )


class Decoder(torch.nn.Module):
    """The half of a JanusVQVAE that turns words into pixels."""

    def __init__(self, whole: JanusVQVAE) -> None:
        super().__init__()
        self.book = whole.quantize.embedding
        self.post = whole.post_quant_conv
        self.decoder = whole.decoder

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        """`(n, 36)` words to `(n, 3, 96, 96)` in about [-1, 1], as `JanusVQVAE.decode` does."""
        rows = torch.nn.functional.normalize(self.book(words), dim=-1)
        grid = rows.view(-1, codes.GRID, codes.GRID, WIDTH).permute(0, 3, 1, 2).contiguous()
        return self.decoder(self.post(grid))


def network(book: codes.Codebook) -> JanusVQVAE:
    """The untrained model; words that look alike start with rows that are alike."""
    torch.manual_seed(0)
    whole = JanusVQVAE(config(codes.AXES))
    rows = torch.from_numpy(book.centres[:, : WIDTH - 1])
    rows = torch.cat([rows / rows.std(), torch.full((len(rows), 1), 2.0)], 1)
    whole.quantize.embedding.weight.data = torch.nn.functional.normalize(rows, dim=-1)
    return whole


def train(out: Path, until: float | None = None) -> bool:
    """Trains decoder and codebook; resumes."""
    book, words = codes.load(out)
    drawn = pictures("generators", COUNT, out)
    unseen = pictures("held-out", 480, out)[::7]
    read = torch.from_numpy(codes.words(unseen, book).astype(np.int64))
    model = Decoder(network(book))

    def loss(rng: np.random.Generator, batch: int) -> torch.Tensor:
        chosen = np.sort(rng.choice(COUNT, batch, replace=False))
        with torch.autocast("cpu", torch.bfloat16):
            made = model(torch.from_numpy(words[chosen]))
        return likeness(made.float(), tensor(drawn[chosen]))

    def probe() -> dict[str, float]:
        wanted = tensor(unseen)
        return {"psnr": float(10 * torch.log10(4 / ((model(read).clamp(-1, 1) - wanted) ** 2).mean((1, 2, 3))).mean())}

    return fit("vq", model, loss, COURSE, out, probe=probe, probe_every=500, until=until)


def trained(out: Path) -> Decoder:
    """The trained decoder, its codebook's rows of unit length."""
    model = Decoder(network(codes.load(out)[0]))
    load_average(out / "vq.pt", model)
    model.book.weight.data = torch.nn.functional.normalize(model.book.weight.data, dim=-1)
    return model
