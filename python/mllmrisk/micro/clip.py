"""`micro-clip`: a small CLIP model that tells how well a picture and a caption of the world agree."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from mllmrisk.micro.classifier import worn
from mllmrisk.micro.data import SCENES, pictures
from mllmrisk.micro.fitting import Course, fit, load_average
from mllmrisk.micro.vae import tensor
from mllmrisk.micro.words import LENGTH, VOCABULARY, WORDINGS, bank, clip_tokenizer
from mllmrisk.world import COLOURS, PLACES, SUBJECTS

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 4800
"""Pictures that it learns from: the judge's, never a generator's."""
COURSE = Course(steps=1500, batch=60, rate=1.5e-3, ease=0.5, memory=0.99, decay=0.05)


def network() -> CLIPModel:
    """The untrained model."""
    torch.manual_seed(30)
    shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
    text = {
        **shape,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": LENGTH,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
    }
    vision = {**shape, "image_size": 96, "patch_size": 16}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))


class Reader(torch.nn.Module):
    """The model with a head that names the subject of a picture: it is left behind when training ends."""

    def __init__(self) -> None:
        super().__init__()
        self.model = network()
        self.subject = torch.nn.Linear(self.model.config.projection_dim, len(SUBJECTS))


def train(out: Path, until: float | None = None) -> bool:
    """Trains it by contrast, each batch of different scenes; resumes.

    It learns every wording, those too that are held out from the generators: it is an instrument and reads their
    prompts.

    In every other batch the scenes differ in their subjects alone, five times twelve of them: colour and place are
    easy to tell, and a batch of chance pairs is told apart by them.
    """
    drawn = pictures("judge", COUNT, out)
    unseen = tensor(pictures("held-out", 480, out)[240:])
    ids, _ = bank(clip_tokenizer(), splits=("train", "held-out"))
    reader = Reader()
    subject_of = torch.tensor([list(SUBJECTS).index(scene.subject) for scene in SCENES])
    alike = [[i for i, s in enumerate(SCENES) if (s.colour, s.place) == kind] for kind in product(COLOURS, PLACES)]

    def loss(rng: np.random.Generator, batch: int) -> torch.Tensor:
        if rng.integers(2):
            kinds = rng.choice(len(alike), batch // len(SUBJECTS), replace=False)
            scenes = np.concatenate([alike[kind] for kind in kinds])
        else:
            scenes = rng.choice(len(SCENES), batch, replace=False)
        shown = drawn[scenes + len(SCENES) * rng.integers(COUNT // len(SCENES), size=batch)]
        said = ids[scenes, rng.integers(WORDINGS, size=batch)]
        answer = reader.model(input_ids=said, pixel_values=worn(tensor(shown)), return_loss=True)
        named = torch.nn.functional.cross_entropy(reader.subject(answer.image_embeds), subject_of[scenes])
        return answer.loss + named

    def probe() -> dict[str, float]:
        scores = reader.model(input_ids=ids[:, 0], pixel_values=unseen).logits_per_image
        best = scores.argmax(1)
        return {
            "top1": float((best == torch.arange(len(SCENES))).float().mean()),
            "subject": float((subject_of[best] == subject_of).float().mean()),
        }

    return fit("clip", reader, loss, COURSE, out, probe=probe, probe_every=250, until=until)


def trained(out: Path) -> tuple[CLIPModel, CLIPProcessor]:
    """The trained model and its processor."""
    model = load_average(out / "clip.pt", Reader()).model
    sizes = {"height": 96, "width": 96}
    half = [0.5, 0.5, 0.5]
    images = CLIPImageProcessor(size=sizes, crop_size=sizes, image_mean=half, image_std=half)
    return model, CLIPProcessor(images, clip_tokenizer())
