"""Any ONNX classifier as a judge: a small TOML says which file, how it is fed and what its output means.

The weights' sha256 is checked before they are loaded, the device is verified, and a known answer is asked for before
the first image is judged.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mllmrisk import config, images, inference, trace
from mllmrisk.errors import ImageError, MissingExtraError, UsageError
from mllmrisk.inference import CPU, first_line
from mllmrisk.judges.recipe import PICTURES, Model, Output, Recipe, prepare
from mllmrisk.records import Score

#: Images per call of the model. Fixed, so that a score depends neither on the thread count nor on the image's company.
_BATCH = 8
#: Images per call of the judge. Between calls the model waits for the first part of the next to be decoded.
_AT_ONCE, _AT_ONCE_ON_GPU = 32, 256


def made(table: dict[str, Any], folder: Path, *, device: str = "auto") -> OnnxJudge:
    """The judge of a TOML of the kind `onnx`."""
    return OnnxJudge(config.converted(table, Recipe), folder, device=device)


class OnnxJudge:
    """A judge that a :class:`~mllmrisk.judges.recipe.Recipe` describes.

    Attributes:
        name, version, categories, attributes, threshold: see :class:`~mllmrisk.judges.base.Judge`; the version ends
            in a digest of the weights and of the preprocessing.
        batch: images that it likes to get at once; the model gets them in calls of one size.
        provider, fallback: of its :class:`~mllmrisk.inference.Session`: what runs it, and why that is no GPU.
    """

    def __init__(self, recipe: Recipe, folder: Path, *, device: str = "auto") -> None:
        """Loads and tries the model.

        Args:
            recipe: the judge's TOML.
            folder: where the TOML is; `model.file` is relative to it.
            device: `auto`, `cpu`, `cuda` or `cuda:INDEX`.

        Raises:
            MissingExtraError: onnxruntime or the weights' package is not installed.
            UsageError: the weights are not there or not the ones that the TOML names; the device was not got; the
                model's inputs or outputs are not as written; the known answer does not come out.
        """
        self.recipe = recipe
        self.name = recipe.name
        self.version = f"{recipe.version}-{recipe.digest()}"
        self.categories = tuple(recipe.categories)
        self.attributes = tuple(recipe.attributes)
        self.threshold = {name: category.threshold for name, category in recipe.categories.items()}
        self._what = f"judge {recipe.name!r}"
        model = _checked_bytes(recipe.model, folder, self._what)
        extra = ",".join(("cpu", *([recipe.model.extra] if recipe.model.extra else [])))
        self._opened = inference.open_session(model, what=self._what, device=device, extra=extra)
        self.provider, self.fallback = self._opened.provider, self._opened.fallback
        self.batch = _AT_ONCE if self.provider == CPU else _AT_ONCE_ON_GPU
        self._check_names()
        self._check_known_answer()

    def score(self, images: Sequence[bytes], *, threads: int) -> list[dict[str, Score]]:
        """Scores encoded images on `threads` threads, each with its own part of them.

        Returns:
            For each image a score by category, raw (no threshold); an image that cannot be decoded is unscored with
            the :class:`~mllmrisk.errors.ImageError`'s code.
        """
        if threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        parts = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
        with ThreadPoolExecutor(threads) as pool:
            if self.provider != CPU:  # one model: this thread feeds it, the others decode what comes next
                return [scores for items in pool.map(self._decoded, parts) for scores in self._answered(items)]
            whole = pool.map(lambda part: self._answered(self._decoded(part)), parts)
            return [scores for of_part in whole for scores in of_part]

    def _decoded(self, part: Sequence[bytes]) -> list[NDArray[np.float32] | str]:
        with trace.span("decode"):
            return [self._prepared(data) for data in part]

    def _answered(self, prepared: Sequence[NDArray[np.float32] | str]) -> list[dict[str, Score]]:
        arrays = [array for array in prepared if not isinstance(array, str)]
        values = iter(self._run(np.stack(arrays)) if arrays else ())
        return [
            {name: Score(None, item) for name in (*self.categories, *self.attributes)}
            if isinstance(item, str)
            else self._scores(next(values))
            for item in prepared
        ]

    def _prepared(self, data: bytes) -> NDArray[np.float32] | str:
        """The model's input, or the reason why there is none."""
        try:
            return prepare(images.decode(data, orient=True), self.recipe.input)
        except ImageError as wrong:
            return wrong.code

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float64]:
        """Scores per label, (n, labels)."""
        with trace.span("model"):
            raw = inference.run(self._opened, self.recipe.input.name, batch, self.recipe.output.name)
        expected = (len(batch), len(self.recipe.output.labels))
        if raw.shape != expected:
            raise UsageError(f"{self._what}: output {self.recipe.output.name!r} is {raw.shape}, not {expected}")
        return _activated(raw.astype(np.float64), self.recipe.output)

    def _scores(self, by_label: NDArray[np.float64]) -> dict[str, Score]:
        found = {}
        for name, category in (self.recipe.categories | self.recipe.attributes).items():
            columns = [self.recipe.output.labels.index(label) for label in category.labels]
            value = by_label[columns].sum() if category.combine == "sum" else by_label[columns].max()
            found[name] = Score(float(value)) if np.isfinite(value) else Score(None, "not_finite")
        return found

    def _check_names(self) -> None:
        for word, wanted, there in (
            ("input", self.recipe.input.name, [node.name for node in self._opened.session.get_inputs()]),
            ("output", self.recipe.output.name, [node.name for node in self._opened.session.get_outputs()]),
        ):
            if wanted not in there:
                raise UsageError(f"{self._what}: the model has no {word} {wanted!r}; it has {', '.join(there)}")

    def _check_known_answer(self) -> None:
        """Weights, preprocessing and runtime together give what the author's pipeline gives, or nothing is judged."""
        probe = self.recipe.probe
        try:
            scores = self._scores(self._run(prepare(PICTURES[probe.image](), self.recipe.input)[np.newaxis])[0])
        except UsageError:
            raise
        except Exception as wrong:  # onnxruntime's errors share no base class
            raise UsageError(f"{self._what}: the model does not run as described: {first_line(wrong)}") from wrong
        for name, expected in probe.expected.items():
            value = scores[name].value
            if value is None or abs(value - expected) > probe.tolerance:
                raise UsageError(
                    f"{self._what} fails its probe: {name} of the picture {probe.image!r} is {value}, "
                    f"not {expected} ± {probe.tolerance}; weights, preprocessing or runtime are not the described ones"
                )


def _activated(raw: NDArray[np.float64], output: Output) -> NDArray[np.float64]:
    if output.activation == "sigmoid":
        return 0.5 * (1 + np.tanh(raw / 2))
    if output.activation == "softmax":
        powers = np.exp(raw - raw.max(axis=1, keepdims=True))
        softmax: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return softmax
    return raw


def _checked_bytes(model: Model, folder: Path, what: str) -> bytes:
    """The model file's bytes, once their sha256 is the one that the TOML names."""
    path = _model_path(model, folder, what)
    try:
        data = path.read_bytes()
    except OSError as wrong:
        raise UsageError(f"{what}: its model cannot be read: {path}: {wrong.strerror or wrong}") from wrong
    found = hashlib.sha256(data).hexdigest()
    if found != model.sha256:
        raise UsageError(
            f"{what}: {path} is not the model that its TOML names: its sha256 begins {found[:12]}, "
            f"not {model.sha256[:12]}"
        )
    return data


def _model_path(model: Model, folder: Path, what: str) -> Path:
    if model.file is not None:
        return folder / model.file
    # find_spec finds the folder without running the package's own code
    spec = importlib.util.find_spec(str(model.package))
    if spec is None or not spec.submodule_search_locations:
        if model.extra is None:
            raise UsageError(f"{what} needs the package {model.package!r}, which is not installed")
        runtime = [] if importlib.util.find_spec("onnxruntime") else ["cpu"]
        raise MissingExtraError(what, ",".join([*runtime, model.extra]))
    return Path(spec.submodule_search_locations[0]) / str(model.resource)
