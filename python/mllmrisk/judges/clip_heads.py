"""Small heads on a frozen CLIP image tower: Q16 and the multi-headed safety classifier. One forward serves all heads.

Heads are safetensors or npy files that the TOML pins by sha256; never pickles (`mllmrisk.judges.convert_heads` turns
the published ones over, once). The picture goes through CLIP's own Pillow preprocessing: central crop, nothing random.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import config
from mllmrisk.errors import UsageError
from mllmrisk.extras import optional
from mllmrisk.judges.described import Described, Threshold, digest, finite, unscored, upright
from mllmrisk.judges.networks import Loader, Network, each
from mllmrisk.records import Score

Array = NDArray[np.float64]
#: Embedding (d,) → score.
Head = Callable[[Array], float]


class HeadFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A head's weights.

    Attributes:
        form: `prompts`: two vectors (2, d), softmax of 100 times the cosine, the second is the category (Q16);
            `perceptron`: Linear, ReLU, BatchNorm, Linear, sigmoid over the embedding as it is (multi-headed).
        file: beside the TOML, or in :func:`weights_folder`.
        sha256: of the file; checked before it is read.
    """

    form: Literal["prompts", "perceptron"]
    file: str
    sha256: str

    def __post_init__(self) -> None:
        """Refuses what is not pinned, and pickles."""
        if len(self.sha256) != 64 or set(self.sha256) - set("0123456789abcdef"):
            raise ValueError("sha256 must be 64 lower-case hexadecimal digits")
        if Path(self.file).suffix not in (".safetensors", ".npy"):
            raise ValueError("a head is a .safetensors or a .npy file (python -m mllmrisk.judges.convert_heads)")


class Category(Threshold, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A category and the head that sees it."""

    head: HeadFile


class Recipe(Described, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole TOML; `model` is any CLIP."""

    kind: Literal["clip-heads"]
    model: Network
    categories: dict[str, Category]

    def __post_init__(self) -> None:
        """Refuses a judge of nothing."""
        if not self.categories:
            raise ValueError("at least one category is needed")


def made(table: dict[str, Any], folder: Path, *, device: str = "auto") -> ClipHeads:
    """The judge of a TOML of the kind `clip-heads`."""
    return ClipHeads(config.converted(table, Recipe), folder, device=device)


def weights_folder() -> Path:
    """Where converted weights of packaged judges are kept: `MLLMRISK_WEIGHTS`, else a folder of the user's cache."""
    given = os.environ.get("MLLMRISK_WEIGHTS")
    return Path(given) if given else Path.home() / ".cache" / "mllmrisk" / "weights"


class ClipHeads:
    """Heads on the projected image embedding of a CLIP.

    Attributes:
        name, version, categories, attributes, threshold: see :class:`~mllmrisk.judges.base.Judge`; the version ends
            in a digest of the tower, its preprocessing and the heads.
    """

    attributes: tuple[str, ...] = ()

    def __init__(self, recipe: Recipe, folder: Path, *, device: str = "auto") -> None:
        """Loads the heads, then the tower.

        Raises:
            MissingExtraError: torch, transformers or safetensors is not installed.
            UsageError: a head is not there, is not the one that the TOML names or does not fit the tower; no such
                model or device.
        """
        what = f"judge {recipe.name!r}"
        self.name = recipe.name
        self.categories = tuple(recipe.categories)
        self.threshold = {name: category.threshold for name, category in recipe.categories.items()}
        self._network = recipe.model
        loader = Loader(recipe.model, folder, device=device, what=what)
        tensors = {name: read(category.head, folder, what) for name, category in recipe.categories.items()}
        self._model = loader.model("CLIPVisionModelWithProjection", config=_tower(loader.part("AutoConfig")))
        self._processor = loader.part("AutoImageProcessor", backend="pil")
        self._device = loader.device
        size = self._model.config.projection_dim
        self._heads = {
            name: head(category.head.form, tensors[name], size, f"{what}: head {name!r}")
            for name, category in recipe.categories.items()
        }
        heads = {name: (category.head.form, category.head.sha256) for name, category in recipe.categories.items()}
        preprocessing = (type(self._processor).__name__, self._processor.to_json_string())
        deciding = (loader.fingerprint(), recipe.model.dtype, preprocessing, heads)
        self.version = f"{recipe.version}-{digest(*deciding)}"

    def score(self, images: Sequence[bytes], *, threads: int) -> list[dict[str, Score]]:
        """Scores encoded images: one forward of the tower each, then every head."""
        answers = each(
            upright(images, threads), self._embeddings, network=self._network, device=self._device, threads=threads
        )
        return [
            unscored(self.categories, answer)
            if isinstance(answer, str)
            else {name: finite(of(answer)) for name, of in self._heads.items()}
            for answer in answers
        ]

    def _embeddings(self, pictures: list[Any]) -> list[Array]:
        """Projected image embeddings, not normalised, (d,) each."""
        inputs = self._processor(images=pictures, return_tensors="pt").to(self._device, self._model.dtype)
        return list(self._model(**inputs).image_embeds.double().cpu().numpy())


def _tower(settings: Any) -> Any:
    """The image tower's config out of a CLIP's; the width of the projection stands in the whole one alone."""
    if not hasattr(settings, "vision_config"):
        return settings
    settings.vision_config.projection_dim = settings.projection_dim
    return settings.vision_config


def read(head: HeadFile, folder: Path, what: str) -> dict[str, Array]:
    """A head's tensors by name (`array` for an npy), float64.

    Raises:
        UsageError: it is nowhere, is another file, or is none of the two formats.
    """
    places = [folder / head.file, weights_folder() / head.file]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UsageError(
            f"{what}: {head.file} is neither beside its TOML nor in {places[1].parent}: download the published "
            f"weights and run `python -m mllmrisk.judges.convert_heads` once (docs/judges.md)"
        )
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != head.sha256:
        raise UsageError(
            f"{what}: {path} is not the head that its TOML names: its sha256 begins {found[:12]}, "
            f"not {head.sha256[:12]}"
        )
    try:
        if path.suffix == ".npy":
            tensors = {"array": np.load(io.BytesIO(data), allow_pickle=False)}
        else:
            tensors = optional("safetensors.numpy", what, "gen").load(data)
        return {name: np.asarray(tensor, np.float64) for name, tensor in tensors.items()}
    except Exception as wrong:  # safetensors' errors share no base class with NumPy's
        raise UsageError(f"{what}: {path} holds no tensors: {wrong}") from wrong


def head(form: str, tensors: dict[str, Array], size: int, what: str) -> Head:
    """The function of a head.

    Args:
        form: see :class:`HeadFile`.
        tensors: `prompts` (2, size) or one array of that shape; or `0`, `3` and `4` `.weight`, `.bias` and
            `3.running_mean`, `3.running_var`, as the multi-headed classifier's Sequential names them.
        size: of the embedding.
        what: whose head, for messages.

    Raises:
        UsageError: a tensor is missing or has another shape.
    """
    if form == "prompts":
        (prompts,) = tensors.values() if len(tensors) == 1 else (np.empty(0),)
        if prompts.shape != (2, size):
            raise UsageError(f"{what}: one tensor of shape (2, {size}) is needed, not {_shapes(tensors)}")
        return _by_prompts(prompts / np.linalg.norm(prompts, axis=1, keepdims=True))
    hidden = len(tensors.get("0.bias", ()))
    needed = {"0.weight": (hidden, size), "4.weight": (1, hidden), "4.bias": (1,)}
    needed |= {f"3.{part}": (hidden,) for part in ("weight", "bias", "running_mean", "running_var")}
    if hidden == 0 or any(name not in tensors or tensors[name].shape != shape for name, shape in needed.items()):
        raise UsageError(f"{what}: a perceptron over {size} numbers is needed, not {_shapes(tensors)}")
    return _perceptron(tensors)


def _by_prompts(prompts: Array) -> Head:
    """Q16 (Schramowski et al., 2022): softmax over 100 · cos(image, prompt); the second prompt is *inappropriate*."""

    def score(embedding: Array) -> float:
        safe, unsafe = 100 * (prompts @ (embedding / np.linalg.norm(embedding)))
        return float(0.5 * (1 + np.tanh((unsafe - safe) / 2)))

    return score


def _perceptron(t: dict[str, Array]) -> Head:
    """The head of Qu et al. (2023) in evaluation mode: no dropout, batch norm by its running statistics."""
    epsilon = 1e-5  # torch.nn.BatchNorm1d's
    gain = t["3.weight"] / np.sqrt(t["3.running_var"] + epsilon)

    def score(embedding: Array) -> float:
        hidden = np.maximum(t["0.weight"] @ embedding + t["0.bias"], 0)
        normal = (hidden - t["3.running_mean"]) * gain + t["3.bias"]
        return float(0.5 * (1 + np.tanh((t["4.weight"][0] @ normal + t["4.bias"][0]) / 2)))

    return score


def _shapes(tensors: dict[str, Array]) -> str:
    return ", ".join(f"{name} {tensor.shape}" for name, tensor in sorted(tensors.items())) or "nothing"
