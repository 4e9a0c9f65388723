"""Does the picture show what was asked for? Cosine of image and prompt in a CLIP or SigLIP, by transformers.

The score `unrelated` is *minus* the cosine: more is worse, as with every judge. No constant says what is too much: a
cosine means nothing across models, languages and kinds of pictures. So this judge has no threshold of its own
(infinity), and gives its vectors to be stored: the threshold is the run's own null, made when estimates are made
(:func:`mllmrisk.experiments.corruption.null_threshold`).
"""

from __future__ import annotations

import contextlib
import math
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mllmrisk import config
from mllmrisk.judges.described import Described, digest, finite, unscored, upright
from mllmrisk.judges.networks import Loader, Network, each
from mllmrisk.records import Score

#: A unit vector (d,) float32, or the reason why there is none.
Vector: TypeAlias = NDArray[np.float32] | str

UNRELATED = "unrelated"

#: Prompts whose vectors are kept: one is asked once per image.
_KEPT = 4096

#: Share of a prompt's letters that must be Latin for a model that reads only those.
_LATIN = 0.5


class Recipe(Described, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole TOML.

    Attributes:
        model: a CLIP or SigLIP with both towers.
        scripts: `latin` for a model that learned English: another prompt is unscored (`script`), and its images are
            never called unrelated because the model cannot read. `any` for a multilingual one.
    """

    kind: Literal["alignment"]
    model: Network
    scripts: Literal["latin", "any"] = "any"


def made(table: dict[str, Any], folder: Path, *, device: str = "auto") -> Alignment:
    """The judge of a TOML of the kind `alignment`."""
    return Alignment(config.converted(table, Recipe), folder, device=device)


class Alignment:
    """A two-tower network as a judge of alignment.

    Attributes:
        name, version, categories, attributes, threshold: see :class:`~mllmrisk.judges.base.Judge`; the version ends
            in a digest of the network, its tokenizer and its preprocessing. The threshold is infinite: see above.
        reads_prompts: True.
    """

    categories: tuple[str, ...] = (UNRELATED,)
    attributes: tuple[str, ...] = ()
    reads_prompts = True

    def __init__(self, recipe: Recipe, folder: Path, *, device: str = "auto") -> None:
        """Loads both towers.

        Raises:
            MissingExtraError: torch or transformers is not installed.
            UsageError: no such model or device, or the model has not two towers.
        """
        self.name = recipe.name
        self.threshold = {UNRELATED: math.inf}
        self._network = recipe.model
        self._latin = recipe.scripts == "latin"
        loader = Loader(recipe.model, folder, device=device, what=f"judge {recipe.name!r}")
        self._model = loader.model("AutoModel")
        self._tokenizer = loader.part("AutoTokenizer")
        self._processor = loader.part("AutoImageProcessor", backend="pil")
        self._device = loader.device
        self._longest = int(self._model.config.text_config.max_position_embeddings)
        # SigLIP learned to read its padding
        siglip = str(self._model.config.model_type).startswith("siglip")
        self._reads = ("input_ids",) if siglip else ("input_ids", "attention_mask")
        self._known: dict[str, NDArray[np.float32]] = {}
        preprocessing = (type(self._processor).__name__, self._processor.to_json_string(), self._longest)
        deciding = (loader.fingerprint(), recipe.model.dtype, preprocessing, recipe.scripts)
        self.version = f"{recipe.version}-{digest(*deciding)}"

    def score(self, images: Sequence[bytes], *, threads: int) -> list[dict[str, Score]]:
        """Scores nothing: without its prompt no image is related or unrelated."""
        return self.score_prompted(images, [None] * len(images), threads=threads)

    def score_prompted(
        self, images: Sequence[bytes], prompts: Sequence[str | None], *, threads: int
    ) -> list[dict[str, Score]]:
        """Minus the cosine of each image with its prompt, in [-1, 1].

        Returns:
            For each image `unrelated`; unscored with the reason of its vector or its prompt's.
        """
        if len(images) != len(prompts):
            raise ValueError(f"{len(prompts)} prompts for {len(images)} images")
        texts = self.text_vectors(prompts, threads=threads)
        return [
            unscored(self.categories, text)
            if isinstance(text, str)
            else unscored(self.categories, image)
            if isinstance(image, str)
            else {UNRELATED: finite(-float(image @ text))}
            for image, text in zip(self.image_vectors(images, threads=threads), texts, strict=True)
        ]

    def image_vectors(self, images: Sequence[bytes], *, threads: int) -> list[Vector]:
        """Unit vectors of encoded images, to be stored; or the reason why there is none."""
        return each(upright(images, threads), self._images, network=self._network, device=self._device, threads=threads)

    def text_vectors(self, prompts: Sequence[str | None], *, threads: int) -> list[Vector]:
        """Unit vectors of prompts, to be stored; or `no_prompt`, or `script` for one that the model cannot read.

        A prompt that is longer than the model takes is cut at its end.
        """
        with _at_work(threads):
            return [self._text(prompt) for prompt in prompts]

    def _text(self, prompt: str | None) -> Vector:
        if not prompt:
            return "no_prompt"
        if self._latin and latin(prompt) < _LATIN:
            return "script"
        if prompt not in self._known:
            if len(self._known) == _KEPT:
                self._known.clear()
            # One shape for all prompts: the vector does not move with the company.
            asked = self._tokenizer(
                [prompt], padding="max_length", max_length=self._longest, truncation=True, return_tensors="pt"
            )
            inputs = {name: asked[name].to(self._device) for name in self._reads}
            self._known[prompt] = _units(self._model.get_text_features(**inputs))[0]
        return self._known[prompt]

    def _images(self, pictures: list[Any]) -> list[NDArray[np.float32]]:
        inputs = self._processor(images=pictures, return_tensors="pt").to(self._device, self._model.dtype)
        return list(_units(self._model.get_image_features(**inputs)))


def latin(text: str) -> float:
    """Share of Latin letters among a text's letters; 1 for a text without letters."""
    letters = [letter for letter in text if letter.isalpha()]
    return sum("LATIN" in unicodedata.name(letter, "") for letter in letters) / len(letters) if letters else 1.0


def _units(features: Any) -> NDArray[np.float32]:
    """Rows of unit length, (n, d) float32."""
    # transformers 4 gives the tensor itself, 5 the tower's whole output
    pooled = getattr(features, "pooler_output", features)
    rows = pooled.double().cpu().numpy()
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)


@contextlib.contextmanager
def _at_work(threads: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)
