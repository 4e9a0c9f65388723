"""Any image classifier of transformers as a judge: which of its labels mean which category is the TOML's to say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from mllmrisk import config
from mllmrisk.errors import UsageError
from mllmrisk.judges.described import Described, digest, finite, unscored, upright
from mllmrisk.judges.networks import Loader, Network, each
from mllmrisk.judges.recipe import Attribute, Category
from mllmrisk.records import Score


class Recipe(Described, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole TOML.

    Attributes:
        activation: what turns logits into scores; `auto` does as transformers' own pipeline does (the model's
            `problem_type`, else sigmoid for one label and softmax for several).
    """

    kind: Literal["transformers-classifier"]
    model: Network
    categories: dict[str, Category]
    attributes: dict[str, Attribute] = msgspec.field(default_factory=dict)
    activation: Literal["auto", "softmax", "sigmoid", "none"] = "auto"

    def __post_init__(self) -> None:
        """Refuses a judge of nothing."""
        if not self.categories:
            raise ValueError("at least one category is needed")
        if twice := sorted(set(self.categories) & set(self.attributes)):
            raise ValueError(f"{twice[0]!r} is both a category and an attribute")


def made(table: dict[str, Any], folder: Path, *, device: str = "auto") -> Classifier:
    """The judge of a TOML of the kind `transformers-classifier`."""
    return Classifier(config.converted(table, Recipe), folder, device=device)


class Classifier:
    """An `AutoModelForImageClassification` behind its own image processor.

    Attributes:
        name, version, categories, attributes, threshold: see :class:`~mllmrisk.judges.base.Judge`; the version ends
            in a digest of weights, preprocessing and the labels' meaning.
        labels: the model's, in the order of its outputs.
    """

    def __init__(self, recipe: Recipe, folder: Path, *, device: str = "auto") -> None:
        """Loads the model.

        Raises:
            MissingExtraError: torch, transformers or (for a timm model) timm is not installed.
            UsageError: no such model or device, or the TOML names labels that the model does not have.
        """
        self.name = recipe.name
        self.categories = tuple(recipe.categories)
        self.attributes = tuple(recipe.attributes)
        self.threshold = {name: category.threshold for name, category in recipe.categories.items()}
        self._network = recipe.model
        loader = Loader(recipe.model, folder, device=device, what=f"judge {recipe.name!r}")
        self._model = loader.model("AutoModelForImageClassification")
        self._processor = loader.part("AutoImageProcessor")
        self._device = loader.device
        settings = self._model.config
        self.labels = [settings.id2label[index] for index in range(settings.num_labels)]
        self._columns = _columns(recipe, self.labels, loader.what)
        self._activation = _activation(recipe.activation, settings)
        meaning = {name: (part.labels, part.combine) for name, part in (recipe.categories | recipe.attributes).items()}
        preprocessing = (type(self._processor).__name__, self._processor.to_json_string())
        deciding = (loader.fingerprint(), recipe.model.dtype, preprocessing, meaning, self._activation)
        self.version = f"{recipe.version}-{digest(*deciding)}"

    def score(self, images: Sequence[bytes], *, threads: int) -> list[dict[str, Score]]:
        """Scores encoded images: per category the sum (or the largest) of its labels' scores."""
        names = (*self.categories, *self.attributes)
        answers = each(
            upright(images, threads), self._by_label, network=self._network, device=self._device, threads=threads
        )
        return [unscored(names, answer) if isinstance(answer, str) else self._scores(answer) for answer in answers]

    def _by_label(self, pictures: list[Any]) -> Any:
        """Scores per label, (n, labels) float64, as transformers' pipeline gives them."""
        inputs = self._processor(images=pictures, return_tensors="pt").to(self._device, self._model.dtype)
        logits = self._model(**inputs).logits.double().cpu()
        if self._activation == "softmax":
            return logits.softmax(dim=-1).numpy()
        return logits.sigmoid().numpy() if self._activation == "sigmoid" else logits.numpy()

    def _scores(self, by_label: Any) -> dict[str, Score]:
        return {
            name: finite(np.sum(by_label[columns]) if combine == "sum" else np.max(by_label[columns]))
            for name, (columns, combine) in self._columns.items()
        }


def _columns(recipe: Recipe, labels: list[str], what: str) -> dict[str, tuple[list[int], str]]:
    found: dict[str, tuple[list[int], str]] = {}
    for name, part in (recipe.categories | recipe.attributes).items():
        unknown = sorted(set(part.labels) - set(labels))
        if unknown or not part.labels:
            wrong = ", ".join(unknown) or "(none given)"
            raise UsageError(f"{what}: {name!r}: the model has no label {wrong}; it has {', '.join(labels)}")
        found[name] = ([labels.index(label) for label in part.labels], part.combine)
    return found


def _activation(asked: str, settings: Any) -> str:
    """What transformers' ImageClassificationPipeline would do."""
    if asked != "auto":
        return asked
    if settings.problem_type == "regression":
        return "none"
    if settings.problem_type == "multi_label_classification" or settings.num_labels == 1:
        return "sigmoid"
    return "softmax"
