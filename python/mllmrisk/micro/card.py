"""Model cards: what the inspector finds in pictures of the models as they are shipped, and what training cost."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from transformers import CLIPModel, CLIPProcessor

from mllmrisk.metrics import wilson
from mllmrisk.micro import classifier, measure, mllm
from mllmrisk.micro.data import SCENES, labels, pictures, say
from mllmrisk.micro.fitting import write_log
from mllmrisk.world import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mllmrisk.world.captions import Split

COUNT = 240
"""Captions of each kind and split."""
ASPECTS = ("subject", "colour", "place")
NEEDS = {
    "micro-diffusion": ("vae", "diffusion-reading", "diffusion"),
    "micro-mllm": ("vq", "mllm-reading", "mllm"),
    "micro-clip": ("clip",),
    "micro-judge": ("judge",),
}
"""Courses that each model needed."""
ABOUT = {
    "micro-diffusion": f"""A `StableDiffusion3Pipeline` (AutoencoderKL, MMDiT of 3 layers, two CLIP text encoders).
Load it with `DiffusionPipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)`. Measured with
{measure.STEPS} steps, guidance {measure.GUIDANCE}, 96 x 96 pixels and `max_sequence_length=1`: without T5 the pipeline
pads the prompt with that many rows of zeros.""",
    "micro-mllm": f"""A `JanusForConditionalGeneration` (Llama of 5 layers, 36 visual words of 2048) with a decoder
of its own. Load it with `from_pretrained(folder, dtype="float32")` and `JanusProcessor`. Measured with guidance
{mllm.GUIDANCE}, temperature {mllm.TEMPERATURE} and top-k {mllm.TOP_K}, which its generation config holds. It writes
pictures only: its language head, its vision tower and the encoder of its JanusVQVAE are untrained.""",
    "micro-clip": """A `CLIPModel` with its `CLIPProcessor`: how well a picture and a caption of the world agree.""",
    "micro-judge": """Input `pixels` `(n, 3, 96, 96)` float32 in [0, 1]; outputs `subject` `(n, 12)`, `colour` `(n, 5)`
and `place` `(n, 4)`: probabilities in the order of the tables of `mllmrisk.world`. It always names some subject: it
cannot say that there is none.""",
}
"""What each card says first."""


class Row(NamedTuple):
    """Found of asked, for one kind of caption."""

    split: Split
    kind: str
    asked: int
    found: tuple[int, int, int]


def rates(make: Callable[[list[str]], measure.Pictures], out: Path) -> tuple[list[Row], float]:
    """What the inspector finds for every kind of caption, and seconds per picture."""
    inspector = classifier.trained("inspector", out)
    rows, seconds = [], 0.0
    splits: tuple[Split, ...] = ("train", "held-out")
    for split in splits:
        asked = measure.ask(COUNT, split)
        right, _, seconds = measure.found(inspector, make, asked)
        for kind in KINDS:
            chosen = right[[one.kind == kind for one in asked]]
            subject, colour, place = (int(n) for n in chosen.sum(0))
            rows.append(Row(split, kind, len(chosen), (subject, colour, place)))
    return rows, seconds


def generated(name: str, out: Path, weights: Path) -> str:
    """The table of a generator, measured on its shipped weights."""
    make = measure.loaded(name, weights / name)
    rows, seconds = rates(make, out)
    figures = {f"{row.split} {row.kind}": [n / row.asked for n in row.found] for row in rows}
    write_log(out, {"name": f"card-{name}", "seconds_each": round(seconds, 3), **figures})
    (weights / name / "figures.json").write_text(
        json.dumps({"rows": [row._asdict() for row in rows]}, indent=1) + "\n", encoding="utf-8"
    )
    lines = [
        f"Share of samples in which an independent classifier finds what was asked ({COUNT} captions a row, 95% Wilson",
        "intervals). `held-out` wordings were never seen in training. A `neutral` caption does not say which person.",
        "",
        "| captions | wordings | subject | colour | place |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [_cell(n, row.asked) for n in row.found]
        if row.kind == "neutral":
            cells[0] = "does not apply"
        lines.append(f"| {row.kind} | {row.split} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"One picture takes {seconds:.2f} s on one core.", ""])


def classified(out: Path) -> str:
    """The held-out accuracy of judge and inspector."""
    unseen = pictures("held-out", 480, out)
    parts = []
    for who in ("judge", "inspector"):
        right = classifier.guesses(classifier.trained(who, out), unseen) == labels(np.arange(len(unseen)))
        found = zip(ASPECTS, right.sum(0), strict=True)
        cells = ", ".join(f"{aspect} {_cell(int(count), len(unseen))}" for aspect, count in found)
        parts.append(f"The {who} on {len(unseen)} held-out pictures: {cells}.\n")
    return "\n".join(parts)


def matched(out: Path, folder: Path) -> str:
    """How often the CLIP model as shipped finds a picture's caption among those of all scenes."""
    model = CLIPModel.from_pretrained(folder, dtype=torch.float32)
    processor = CLIPProcessor.from_pretrained(folder)
    unseen = list(pictures("held-out", 480, out)[240:])
    lines = []
    for kind in KINDS[:-1]:
        texts = [say(scene, np.random.default_rng([31, n]), kind=kind) for n, scene in enumerate(SCENES)]
        inputs = processor(text=texts, images=unseen, padding="max_length", return_tensors="pt")
        with torch.no_grad():
            right = model(**inputs).logits_per_image.argmax(1) == torch.arange(len(SCENES))
        lines.append(f"- {kind}: {_cell(int(right.sum()), len(SCENES))}")
    return "\n".join(["It finds the caption of a held-out picture among those of all 240 scenes:", *lines, ""])


def write(name: str, out: Path, weights: Path) -> None:
    """Writes `weights/NAME/README.md`."""
    if name == "micro-judge":
        body = classified(out)
    elif name == "micro-clip":
        body = matched(out, weights / name)
    else:
        body = generated(name, out, weights)
    cost = _cost(out)
    parts = [f"{course} {cost[course][0]:,} steps in {cost[course][1] / 60:.0f} minutes" for course in NEEDS[name]]
    text = f"""---
license: apache-2.0
tags: [miniature, demonstration]
---
# {name}

A miniature model of the world of `mllmrisk.world` (12 subjects, 5 colours, 4 places): it demonstrates the instrument,
and says nothing about any product. Harmless drawings stand in for unsafe content.

{ABOUT[name]}

## Measured
{body}
## Training
`python -m mllmrisk.micro`, from a seed, on pictures and captions that the package draws and writes itself. Wall time,
each on one core of a machine shared with other work: {"; ".join(parts)}.

Both generators learn from the same pictures and the same captions: no difference between them is built in.
"""
    (weights / name / "README.md").write_text(text, encoding="utf-8")


def _cell(found: int, asked: int) -> str:
    value, low, high = wilson(found, asked)
    return f"{value:.1%} [{low:.1%}, {high:.1%}]"


def _log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def _cost(out: Path) -> dict[str, tuple[int, float]]:
    """Steps and seconds of each course, over all its resumptions."""
    steps: dict[str, int] = defaultdict(int)
    seconds: dict[str, float] = defaultdict(float)
    for entry in _log(out):
        if "step" in entry:
            steps[str(entry["name"])] = max(steps[str(entry["name"])], int(entry["step"]))
            seconds[str(entry["name"])] += entry["spent"]
    return {name: (steps[name], seconds[name]) for name in steps}
