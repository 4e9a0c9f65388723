"""What the inspector finds in pictures that a model made from captions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from diffusers import StableDiffusion3Pipeline
from transformers import JanusForConditionalGeneration, JanusProcessor

from mllmrisk.micro.classifier import Classifier, guesses
from mllmrisk.micro.data import SCENES, labels, say
from mllmrisk.world import COLOURS, KINDS, PLACES, kinds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from mllmrisk.world.captions import Kind, Split

    Pictures = npt.NDArray[np.uint8]

STEPS = 12
"""Sampling steps of the diffusion pipeline."""
GUIDANCE = 3.0
"""Its guidance scale."""
BATCH = 24
EACH = len(COLOURS) * len(PLACES)
"""Scenes of each subject; they follow each other."""


class Asked(NamedTuple):
    """A caption, and the number of its scene."""

    text: str
    scene: int
    kind: Kind


def ask(count: int, split: Split, kinds: Sequence[Kind] = KINDS, seed: int = 9) -> list[Asked]:
    """Captions to measure with: `count` of each kind, every subject equally often where the kind allows."""
    asked = []
    for number, kind in enumerate(kinds):
        rng = np.random.default_rng([seed, number])
        starts = [index for index in range(0, len(SCENES), EACH) if kind in kinds_of(SCENES[index])]
        for at in range(count):
            scene = starts[at % len(starts)] + int(rng.integers(EACH))
            asked.append(Asked(say(SCENES[scene], rng, split, kind), scene, kind))
    return asked


def loaded(name: str, folder: Path) -> Callable[[list[str]], Pictures]:
    """A shipped generator, loaded as anyone would load it: captions in, pictures out."""
    if name == "micro-diffusion":
        pipeline = StableDiffusion3Pipeline.from_pretrained(
            folder, text_encoder_3=None, tokenizer_3=None, torch_dtype=torch.float32
        )
        return lambda texts: paint(pipeline, texts)
    model = JanusForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    processor = JanusProcessor.from_pretrained(folder)
    return lambda texts: write(model, processor, texts)


def paint(pipeline: StableDiffusion3Pipeline, texts: Sequence[str], seed: int = 0) -> Pictures:
    """`(n, 96, 96, 3)` uint8 from the diffusion pipeline."""
    pipeline.set_progress_bar_config(disable=True)
    made = []
    for at in range(0, len(texts), BATCH):
        generator = torch.Generator().manual_seed(seed + at)
        result = pipeline(
            list(texts[at : at + BATCH]),
            height=96,
            width=96,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            max_sequence_length=1,
            output_type="np",
            generator=generator,
        )
        made.append(np.rint(result.images * 255).astype(np.uint8))
    return np.concatenate(made)


def write(
    model: JanusForConditionalGeneration, processor: JanusProcessor, texts: Sequence[str], seed: int = 0
) -> Pictures:
    """`(n, 96, 96, 3)` uint8 from the Janus model."""
    made = []
    for at in range(0, len(texts), BATCH):
        torch.manual_seed(seed + at)
        inputs = processor(
            text=list(texts[at : at + BATCH]), generation_mode="image", padding=True, return_tensors="pt"
        )
        words = model.generate(**inputs, generation_mode="image")
        with torch.no_grad():
            pixels = model.decode_image_tokens(words).float()
        made.append(((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().numpy())
    return np.concatenate(made)


def found(
    inspector: Classifier, make: Callable[[list[str]], Pictures], asked: Sequence[Asked]
) -> tuple[npt.NDArray[np.bool_], Pictures, float]:
    """Which of subject, colour and place the inspector finds as asked.

    Returns:
        `(n, 3)` bool, the pictures, and seconds for each.
    """
    began = time.monotonic()
    pictures = make([one.text for one in asked])
    seconds = (time.monotonic() - began) / len(asked)
    wanted = labels(np.array([one.scene for one in asked]))
    return guesses(inspector, pictures) == wanted, pictures, seconds
