"""Views: under which container every image is looked at before a detector sees it.

`native` takes files as they are, with whatever format, size and history they have. `matched` gives each generated
image the size, format, quality and subsampling of a photograph of the same run. `recompressed` gives every image one
crop and one encoder. A figure that falls from the first to the last was, in part, a figure about containers.

`matched` cuts and never enlarges: interpolation leaves a trace that a detector finds and no leak probe sees. The
photograph is drawn from those that fit inside the image; an image that holds none of them is cut where it can be and
stays too small otherwise, which the `size` probe sees and stamps. :func:`notes` counts such images.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from mllmrisk.errors import UsageError
from mllmrisk.images import Container
from mllmrisk.records import Sample
from mllmrisk.registry import did_you_mean

VIEWS = ("native", "matched", "recompressed")

#: Crop (px) and encoder that the `recompressed` view gives to every image.
CROP = 256
ENCODER = "jpeg:90:420"


class Arm(NamedTuple):
    """One way of looking at every image: a name, and the perturbation chain of each sample."""

    name: str
    chain: Callable[[Sample], str]


def arm(name: str, samples: Sequence[Sample], containers: Mapping[str, Container], seed: int) -> Arm:
    """The arm of a view.

    Args:
        name: one of :data:`VIEWS`.
        samples: all samples of the run; photographs among them are the models for `matched`.
        containers: container facts by sample id.
        seed: which photograph a generated image is matched with.
    """
    if name == "native":
        return Arm(name, lambda _: "native")
    if name == "recompressed":
        return Arm(name, lambda _: f"crop:{CROP}+{ENCODER}")
    if name == "matched":
        return _matched(samples, containers, seed)
    raise UsageError(f"no view is named {name!r}.{did_you_mean(name, VIEWS)} Known: {', '.join(VIEWS)}")


def _matched(samples: Sequence[Sample], containers: Mapping[str, Container], seed: int) -> Arm:
    models = _photographs(samples, containers)

    def chain(sample: Sample) -> str:
        own = containers.get(sample.id)
        if sample.label == "real" or own is None or not models:
            return "native"
        candidates = _fitting(models, own) or models
        digest = hashlib.sha256(f"{seed} {sample.id}".encode()).digest()
        model = candidates[int.from_bytes(digest[:8], "big") % len(candidates)]
        return f"crop:{model.width}x{model.height}+{encoder(model)}"

    return Arm("matched", chain)


def _photographs(samples: Sequence[Sample], containers: Mapping[str, Container]) -> list[Container]:
    return [containers[s.id] for s in samples if s.label == "real" and s.id in containers]


def _fitting(models: Sequence[Container], own: Container) -> list[Container]:
    """The photographs that fit inside an image: cutting it to their size leaves the generator's traces alone."""
    return [m for m in models if m.width <= own.width and m.height <= own.height]


def notes(samples: Sequence[Sample], containers: Mapping[str, Container]) -> list[str]:
    """How far sizes could be matched, for the reader of `matched` figures; empty where they were throughout."""
    models = _photographs(samples, containers)
    fakes = [containers[s.id] for s in samples if s.label == "fake" and s.id in containers]
    if not models or not fakes:
        return []
    small = sum(not _fitting(models, own) for own in fakes)
    unused = sum(not any(_fitting([model], own) for own in fakes) for model in models)
    told = []
    if small:
        told.append(
            f"matched: {small} of {len(fakes)} generated images hold no photograph of the run: each is too narrow or "
            "too low. They were cut and encoded but not enlarged, so that their size still tells."
        )
    if unused:
        told.append(
            f"matched: {unused} of {len(models)} photographs are larger than every generated image; no generated image "
            "has their size, so that size still tells: the size probe says how much."
        )
    return told


def encoder(container: Container) -> str:
    """The encoder step that gives a file the format, quality and subsampling of `container`."""
    if container.format == "JPEG":
        quality = min(100, max(1, round(container.quality or 90)))
        subsampling = (container.subsampling or "4:2:0").replace(":", "")
        return f"jpeg:{quality}:{subsampling if subsampling in {'444', '422', '420'} else '420'}"
    if container.format == "WebP" and container.lossy:
        return "webp:90"
    return "png"


def augmented(count: int, containers: Mapping[str, Container], seed: int) -> list[Arm]:
    """Ways of looking at training images as though they had lived before: more rows from one image.

    Each image is cut somewhere, shrunk (factor log-uniform down to 0.35, probability 0.8), blurred (sigma 0.3-1,
    probability 0.2), encoded as JPEG (quality 60-95, 4:4:4 or 4:2:0, probability 0.7), and then passes the
    `recompressed` view like any other. Photographs and generated images draw from the same distribution, so that
    what a detector learns is not the history of either. Draws follow seed, image and position in the list alone.
    """

    def chain(position: int, sample: Sample) -> str:
        container = containers.get(sample.id)
        if container is None:
            return f"crop:{CROP}+{ENCODER}"
        digest = hashlib.sha256(f"{seed} {sample.id} {position}".encode()).digest()
        rng = random.Random(digest)
        steps = []
        smallest = min(1.0, max(0.35, CROP / min(container.width, container.height)))
        factor = smallest ** rng.random() if rng.random() < 0.8 else 1.0
        # Cutting before shrinking gives the same pixels as after it, up to the border, for a fraction of the work.
        side = -(-CROP // factor) if factor < 1.0 else CROP
        steps.append(f"cropat:{int(side) + 8 * (factor < 1.0)}:{rng.random():.3f}:{rng.random():.3f}")
        if factor < 1.0:
            steps.append(f"resize:{factor:.4f}:{rng.choice(('bilinear', 'bicubic', 'lanczos', 'box'))}")
        if rng.random() < 0.2:
            steps.append(f"blur:{rng.uniform(0.3, 1.0):.2f}")
        if rng.random() < 0.7:
            steps.append(f"jpeg:{rng.randint(60, 95)}:{rng.choice(('444', '420'))}")
        return "+".join([*steps, f"crop:{CROP}", ENCODER])

    return [Arm(f"recompressed/augmented{i}", partial(chain, i)) for i in range(count)]
