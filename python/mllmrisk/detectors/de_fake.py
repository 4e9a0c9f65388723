"""DE-FAKE (Sha et al., arXiv 2210.06998): does the picture agree with what a captioner says of it?

BLIP captions the image, a fine-tuned CLIP embeds image and caption, and a perceptron reads both. The caption is half of
the evidence, and it moves with how rich a prompt was: so it is recorded beside each score (:meth:`DeFake.captioned`),
and it can be held fixed (:meth:`DeFake.holding`, or a table in the TOML).

torch and transformers are imported inside functions only.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import config, images, perturb
from mllmrisk.detectors import captions, places
from mllmrisk.detectors.captions import Blip, Captioner, filled
from mllmrisk.detectors.networks import Loader, Network, single
from mllmrisk.detectors.recipe import Common, Place, Probe, Published, Threshold
from mllmrisk.errors import ImageError, UsageError
from mllmrisk.extras import optional
from mllmrisk.images import Preprocessing
from mllmrisk.inference import first_line
from mllmrisk.pictures import PICTURES
from mllmrisk.records import Score

Pixels = NDArray[np.uint8]

#: As the author's test.py: the whole picture squashed (Pillow's bicubic), then what CLIP's own preprocessing leaves.
INPUT = Preprocessing(
    crop_mode="squash",
    size=(224, 224),
    interpolation="bicubic",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
#: The perceptron's layers, by the names of the author's module; its dropout is none once trained.
LAYERS = ("fc1", "fc2", "fc3")


class Eye(Network, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The CLIP, and how pixels become its input."""

    input: Preprocessing = INPUT

    def __post_init__(self) -> None:
        """Refuses a CLIP that is nowhere."""
        super().__post_init__()
        if self.folder is None and self.hub is None:
            raise ValueError("give either folder, or hub and commit")


class Recipe(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole TOML.

    Attributes:
        mlp: the perceptron, a safetensors file; None in an entry whose weights the user must convert (`published`).
        batch: images per call on a GPU; a CPU takes one at a time, so that a caption depends on no other image.
        probe: known answers, asked for before the detector is trusted.
        thresholds: score from which an image is called fake, by false-alarm rate.
    """

    kind: Literal["de-fake"]
    caption: Captioner
    clip: Eye
    mlp: Place | None = None
    batch: int = 8
    threshold: Threshold
    probe: list[Probe] = msgspec.field(default_factory=list)
    thresholds: dict[str, float] = msgspec.field(default_factory=dict)
    published: Published | None = None

    def __post_init__(self) -> None:
        """Refuses a batch of none."""
        if self.batch < 1:
            raise ValueError("batch must be at least 1")


def made(table: dict[str, Any], folder: Path, *, device: str = "cpu") -> DeFake:
    """The detector of a TOML of the kind `de-fake`."""
    return DeFake(config.converted(table, Recipe), folder, device=device)


class DeFake:
    """BLIP, CLIP and the perceptron, in float32.

    Attributes:
        name, version, thresholds, seen, decision: see :class:`~mllmrisk.detectors.base.Detector`.
    """

    def __init__(self, recipe: Recipe, folder: Path, *, device: str = "cpu") -> None:
        """Loads and tries the networks.

        Args:
            recipe: the TOML.
            folder: where it is.
            device: `auto`, `cpu` or `cuda[:INDEX]`.

        Raises:
            MissingExtraError: torch, transformers or safetensors is not installed.
            UsageError: weights are not there (the message says where they are published), do not fit together, or
                give other known answers; no such device.
        """
        self.name = recipe.name
        self.thresholds = {float(rate): value for rate, value in recipe.thresholds.items()}
        self.seen: frozenset[str] = frozenset()
        self.decision = recipe.threshold.value
        self._what = f"detector {recipe.name!r}"
        if recipe.mlp is None:
            raise places.absent(recipe, recipe.published)
        self._recipe = recipe
        loader = Loader(recipe.name, folder, device=device)
        self._torch, self._device = optional("torch", self._what, "gen"), loader.device
        self._batch = recipe.batch if self._device.type == "cuda" else 1
        self._clip, self._words, clip = loader.load(recipe.clip, "CLIPModel")
        self._layers = self._perceptron(places.content(recipe.mlp, recipe.name, folder))
        size = self._clip.config.vision_config.image_size
        if recipe.clip.input.size != (size, size):
            raise UsageError(f"{self._what}: its CLIP takes {size} x {size}, not {recipe.clip.input.size}")
        self._deciding = (clip, recipe.mlp.sha256, recipe.caption, recipe.clip)
        self._blip: Blip | None = None
        self._captions: Mapping[str, str] = {}
        if recipe.caption.table is None:
            self._blip = Blip(recipe.caption, loader, what=self._what, batch=self._batch)
            self.version = self._versioned(self._blip.fingerprint)
            self._try()
        else:
            self._captions = captions.read(folder / recipe.caption.table)
            self.version = self._versioned(sorted(self._captions.items()))

    def score(
        self, images: Sequence[Path | bytes], *, chains: Sequence[str] | None = None, threads: int | None = None
    ) -> list[Score]:
        """Log odds of fake; see :class:`~mllmrisk.detectors.base.Detector`."""
        return [score for score, _ in self.captioned(images, chains=chains, threads=threads)]

    def captioned(
        self, images: Sequence[Path | bytes], *, chains: Sequence[str] | None = None, threads: int | None = None
    ) -> list[tuple[Score, str | None]]:
        """Scores with the captions behind them, without BLIP's prompt.

        Neither depends on the other images nor, on a CPU, on the number of threads.

        Returns:
            Unscored with `no_caption` where captions are given and the image has none.
        """
        before = ["native"] * len(images) if chains is None else list(chains)
        both = list(zip(images, before, strict=True))
        parts = [both[at : at + self._batch] for at in range(0, len(both), self._batch)]
        workers = 1 if self._device.type == "cuda" else threads or len(os.sched_getaffinity(0))
        one = self._torch.set_num_threads  # of each thread of ours, by each thread of ours
        with single(self._torch), ThreadPoolExecutor(workers, initializer=one, initargs=(1,)) as pool:
            return [found for part in pool.map(self._part, parts) for found in part]

    def holding(self, captions: Mapping[str, str]) -> DeFake:
        """The same detector with the caption input held fixed.

        Args:
            captions: by sha256 of the image file, before any chain; what is not in it is unscored (`no_caption`).
        """
        held = copy.copy(self)
        held._blip, held._captions = None, dict(captions)
        held.version = self._versioned(sorted(held._captions.items()))
        return held

    def _part(self, part: Sequence[tuple[Path | bytes, str]]) -> list[tuple[Score, str | None]]:
        """As many images as go through the networks together."""
        found: list[tuple[Score, str | None]] = []
        seen: list[int] = []
        pictures: list[Pixels] = []
        given: list[str] = []
        for i, (source, chain) in enumerate(part):
            read = self._read(source, chain)
            found.append((Score(None, read), None) if isinstance(read, str) else (Score(None, "unscored"), None))
            if not isinstance(read, str):
                seen.append(i)
                pictures.append(read[0])
                given.append(read[1])
        if pictures:
            texts = given if self._blip is None else self._blip.captions(pictures)
            for i, logit, text in zip(seen, self._logits(pictures, texts), texts, strict=True):
                found[i] = (Score(logit) if np.isfinite(logit) else Score(None, "not_finite"), text)
        return found

    def _read(self, source: Path | bytes, chain: str) -> tuple[Pixels, str] | str:
        """An image after its chain, with the caption that is given for it (empty where BLIP makes it); or a reason."""
        try:
            data = source if isinstance(source, bytes) else source.read_bytes()
            text = "" if self._blip else self._captions.get(hashlib.sha256(data).hexdigest())
            if text is None:
                return "no_caption"
            pixels = images.decode(data)
            return pixels if chain == "native" else perturb.apply(pixels, chain), text
        except OSError:
            return "unreadable"
        except ImageError as wrong:
            return wrong.code

    def _logits(self, pictures: Sequence[Pixels], texts: Sequence[str]) -> list[float]:
        """Log odds of fake of pictures with their captions."""
        torch = self._torch
        words = self._words(
            [*texts, *[""] * (self._batch - len(texts))],
            padding="max_length",
            truncation=True,  # the author's tokenizer would raise instead
            max_length=self._clip.config.text_config.max_position_embeddings,
            return_tensors="pt",
        )["input_ids"].to(self._device)
        pixels = torch.from_numpy(filled(pictures, self._recipe.clip.input, self._batch)).to(self._device)
        with torch.inference_mode():
            seen, read = self._clip.get_image_features(pixel_values=pixels), self._clip.get_text_features(words)
            # transformers 4 gives the tensors themselves
            values = torch.cat([getattr(part, "pooler_output", part) for part in (seen, read)], dim=1)
            for weight, bias in self._layers[:-1]:
                values = torch.relu(torch.nn.functional.linear(values, weight, bias))
            real, fake = torch.nn.functional.linear(values, *self._layers[-1]).double().unbind(dim=1)
            found: list[float] = (fake - real)[: len(pictures)].tolist()
            return found

    def _perceptron(self, data: bytes) -> list[tuple[Any, Any]]:
        """Weight and bias of each layer, once their shapes fit each other and the CLIP."""
        load = optional("safetensors.torch", self._what, "gen").load
        try:
            tensors = load(data)
            layers = [(tensors[f"{name}.weight"].float(), tensors[f"{name}.bias"].float()) for name in LAYERS]
        except Exception as wrong:  # SafetensorError, KeyError
            raise UsageError(f"{self._what}: its perceptron cannot be read: {first_line(wrong)}") from wrong
        width = 2 * self._clip.config.projection_dim
        for weight, bias in layers:
            if weight.ndim != 2 or weight.shape[1] != width or tuple(bias.shape) != (weight.shape[0],):
                raise UsageError(f"{self._what}: its perceptron does not fit: {tuple(weight.shape)} after {width}")
            width = weight.shape[0]
        if width != 2:
            raise UsageError(f"{self._what}: its perceptron has {width} outputs, not real and fake")
        return [(weight.to(self._device), bias.to(self._device)) for weight, bias in layers]

    def _try(self) -> None:
        """Asks for the known answers.

        Raises:
            UsageError: the detector says something else here.
        """
        for probe in self._recipe.probe:
            picture = perturb.encode(PICTURES[probe.image](), "native")
            ((score, text),) = self.captioned([picture], threads=1)
            if score.value is None or abs(score.value - probe.logit) > probe.tolerance:
                raise UsageError(
                    f"{self._what} is not to be trusted here: it says {score.value} of {probe.image!r} (caption "
                    f"{text!r}), where {probe.logit} is known"
                )

    def _versioned(self, captions: Any) -> str:
        """The author's version with a digest of everything that decides a score."""
        plain = msgspec.to_builtins((captions, self._deciding))
        digits = hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()[:8]
        return f"{self._recipe.version}-{digits}"
