"""`micro-diffusion`: a Stable-Diffusion-3-style pipeline (two CLIP text encoders, MMDiT, flow matching) on latents."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from mllmrisk.micro import vae
from mllmrisk.micro.data import labels
from mllmrisk.micro.fitting import Course, fit, load_average
from mllmrisk.micro.readers import Reading
from mllmrisk.micro.vae import COUNT
from mllmrisk.micro.words import LENGTH, VOCABULARY, WORDINGS, bank, clip_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 64
"""Width of each text encoder."""
READING = Course(steps=500, batch=48, rate=2e-3, ease=0.3, memory=0.98)
COURSE = Course(steps=4000, batch=32, rate=1e-3, ease=0.6, memory=0.998, decay=0.01)
UNGUIDED = 0.1
"""Share of captions that are replaced by an empty one, for classifier-free guidance."""
SUBJECT = slice(2, 10)
"""Rows and columns of the latents that hold the subject; their loss weighs three times as much."""


def text_encoder(seed: int) -> CLIPTextModelWithProjection:
    """One of the two untrained text encoders."""
    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=LENGTH,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return CLIPTextModelWithProjection(config)


def transformer() -> SD3Transformer2DModel:
    """The untrained transformer: 1.7 million parameters."""
    torch.manual_seed(2)
    return SD3Transformer2DModel(
        sample_size=12,
        patch_size=2,
        in_channels=4,
        num_layers=3,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=128,
        pooled_projection_dim=2 * WIDTH,
        out_channels=4,
        pos_embed_max_size=12,
        qk_norm="rms_norm",
    )


class Painter(torch.nn.Module):
    """All that is trained together: two text encoders, the transformer, and the heads that read captions."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = text_encoder(0), text_encoder(1)
        self.transformer = transformer()
        self.reading = Reading(4 * WIDTH)

    def read(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Captions as the pipeline has them: `(n, LENGTH + 1, 128)`, T5's zeros the last, and `(n, 128)` pooled."""
        made = [encoder(ids, output_hidden_states=True) for encoder in (self.first, self.second)]
        rows = torch.cat([one.hidden_states[-2] for one in made], -1)
        return torch.nn.functional.pad(rows, (0, 0, 0, 1)), torch.cat([one.text_embeds for one in made], -1)

    def understand(self, ids: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """The loss of reading subject, colour and place."""
        rows, pooled = self.read(ids)
        return self.reading(torch.cat([pooled, rows.mean(1)], -1), wanted)


class Shelf:
    """Captions and latents of the training pictures, in tensors."""

    def __init__(self, out: Path, *, with_latents: bool = True) -> None:
        tokenizer = clip_tokenizer()
        self.captions, _ = bank(tokenizer)
        self.empty = tokenizer("", padding="max_length", return_tensors="pt")["input_ids"][0]
        self.latents = vae.latents(out) if with_latents else torch.empty(COUNT, 0)

    def draw(self, rng: np.random.Generator, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Captions' ids, latents and labels of some pictures."""
        chosen = rng.choice(COUNT, count, replace=False)
        ids = self.captions[chosen % len(self.captions), rng.integers(WORDINGS, size=count)]
        return ids, self.latents[chosen], torch.from_numpy(labels(chosen))


def train(out: Path, until: float | None = None) -> bool:
    """Trains reading first, then everything by the flow loss; resumes."""
    painter = Painter()
    if not (out / "diffusion.pt").exists():
        words_only = Shelf(out, with_latents=False)

        def reading(rng: np.random.Generator, batch: int) -> torch.Tensor:
            ids, _, wanted = words_only.draw(rng, batch)
            return painter.understand(ids, wanted)

        if not fit("diffusion-reading", painter, reading, READING, out, until=until):
            return False
    shelf = Shelf(out)
    weight = torch.ones(1, 1, 12, 12)
    weight[..., SUBJECT, SUBJECT] = 3.0
    weight /= weight.mean()

    def loss(rng: np.random.Generator, batch: int) -> torch.Tensor:
        ids, clean, wanted = shelf.draw(rng, batch)
        ids[torch.rand(batch) < UNGUIDED] = shelf.empty
        rows, pooled = painter.read(ids)
        noise, sigma = torch.randn_like(clean), torch.sigmoid(torch.randn(batch))
        share = sigma[:, None, None, None]
        mixed = (1 - share) * clean + share * noise
        flow = painter.transformer(mixed, rows, pooled, 1000 * sigma, return_dict=False)[0]
        kept = (ids != shelf.empty).any(1)
        reading = painter.reading(torch.cat([pooled, rows.mean(1)], -1)[kept], wanted[kept])
        return (weight * (flow - (noise - clean)) ** 2).mean() + 0.05 * reading

    return fit("diffusion", painter, loss, COURSE, out, until=until)


def trained(out: Path) -> StableDiffusion3Pipeline:
    """The pipeline with what the checkpoints hold."""
    painter = load_average(out / "diffusion.pt", Painter())
    return StableDiffusion3Pipeline(
        transformer=painter.transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae.trained(out),
        text_encoder=painter.first,
        text_encoder_2=painter.second,
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=None,
        tokenizer_3=None,
    )
