"""Any ONNX network as a detector: a TOML says which file, how it is fed and what its output means.

The weights' sha256 is checked before they are loaded, the device is verified, and a pair of known answers is asked for
before the first image is scored. While the model works on one batch, a thread decodes and prepares the next one in the
Rust core, so that the model never waits.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mllmrisk import config, inference, perturb, trace
from mllmrisk.detectors import card, places
from mllmrisk.detectors.base import Timing
from mllmrisk.detectors.recipe import Output, Probe, Recipe
from mllmrisk.errors import OutOfMemoryError, UsageError
from mllmrisk.images import Prepared, prepare
from mllmrisk.overlap import ahead
from mllmrisk.pictures import PICTURES
from mllmrisk.records import Score

#: A picture as the core takes it.
Picture = Path | bytes | NDArray[np.uint8]
Values = NDArray[np.float64]


def made(table: dict[str, Any], folder: Path, *, device: str = "cpu") -> OnnxDetector:
    """The detector of a TOML of the kind `onnx`."""
    return OnnxDetector(config.converted(table, Recipe), folder, device=device)


def known_answers(
    model: bytes, recipe: Mapping[str, Any], pictures: Sequence[str] = ("ellipse", "gradient"), *, tolerance: float
) -> list[dict[str, Any]]:
    """The `[[probe]]` tables of a model, as it answers now on the CPU.

    Whoever writes a detector calls it once the model has been checked against what it was made from.

    Args:
        model: the ONNX file.
        recipe: the TOML as a table; `model` and `probe` do not matter.
        pictures: two or more names of :data:`mllmrisk.pictures.PICTURES`.
        tolerance: by how much another machine's arithmetic may differ, in logits.

    Raises:
        UsageError: the model does not run as the recipe says.
    """
    plain = {key: value for key, value in recipe.items() if key not in ("model", "probe")}
    network = Network(model, config.converted(plain, Recipe), Path())
    logits = network.answers(pictures)
    return [
        {"image": picture, "logit": logit, "tolerance": tolerance}
        for picture, logit in zip(pictures, logits, strict=True)
    ]


class Part(NamedTuple):
    """Some pictures of a call as the model takes them: their rows, and the number of pictures."""

    prepared: Prepared
    pictures: int


class OnnxDetector:
    """A detector that a :class:`~mllmrisk.detectors.recipe.Recipe` describes.

    Attributes:
        name, version, thresholds, decision, seen: see :class:`~mllmrisk.detectors.base.Detector`; the version ends in
            a digest of weights, preprocessing and reading of the output.
        recipe: its TOML.
        provider, fallback: of its :class:`~mllmrisk.inference.Session`: what runs it, and why that is no GPU.
        timing: where its time went, over all calls.
    """

    def __init__(self, recipe: Recipe, folder: Path, *, device: str = "cpu") -> None:
        """Loads and tries the model.

        Args:
            recipe: the detector's TOML.
            folder: where the TOML is; `model.file` is relative to it.
            device: `auto`, `cpu`, `cuda[:INDEX]` or `tensorrt[:INDEX]`.

        Raises:
            MissingExtraError: onnxruntime or the weights' package is not installed.
            UsageError: the weights are not there or not the ones that the TOML names; the device was not got; the
                model's input or output are not as written; a known answer does not come out.
        """
        if recipe.model is None or _in_no_package(recipe, folder):
            raise places.absent(recipe, recipe.published)
        model = places.content(recipe.model, recipe.name, folder)
        self.recipe = recipe
        self.name = recipe.name
        self.version = f"{recipe.version}-{recipe.digest()}"
        self.thresholds = {float(rate): value for rate, value in recipe.thresholds.items()}
        self.decision = recipe.threshold.value
        self.seen = frozenset((card.read(model) or {}).get("seen", ()))
        self.timing = Timing()
        self._network = Network(model, recipe, folder, device=device)
        self.provider, self.fallback = self._network.provider, self._network.fallback
        self._check_known_answers(recipe.probe)

    def score(
        self, images: Sequence[Path | bytes], *, chains: Sequence[str] | None = None, threads: int | None = None
    ) -> list[Score]:
        """Scores images, in their order, each after its chain.

        Args:
            images: paths or encoded bytes.
            chains: perturbation chains, one per image, applied to the decoded pixels before anything else, the
                detector's own chain among it.
            threads: of the core, for decoding and preparing; scores do not depend on it.

        Returns:
            For each image its raw score, the mean over its tiles; an image that cannot be read or is too small is
            unscored with the :class:`~mllmrisk.errors.ImageError`'s code. Where a chain has chance in it, the i-th
            draws from i, as in :func:`mllmrisk.features.extract`.
        """
        return self.scored(ahead(self.parts(images, chains=chains, threads=threads)))

    def parts(
        self, images: Sequence[Path | bytes], *, chains: Sequence[str] | None = None, threads: int | None = None
    ) -> Iterator[Part]:
        """See :class:`~mllmrisk.detectors.base.Streaming`."""
        before = ["native"] * len(images) if chains is None else chains
        joined = [perturb.joined(chain, self.recipe.chain) for chain in before]
        return self._network.parts(images, chains=joined, threads=threads)

    def scored(self, parts: Iterable[Part]) -> list[Score]:
        """See :class:`~mllmrisk.detectors.base.Streaming`."""
        began, busy = time.perf_counter(), self._network.seconds
        logits = self._network.logits(parts)
        self.timing = Timing(
            self.timing.session_seconds + self._network.seconds - busy,
            self.timing.wall_seconds + time.perf_counter() - began,
            self.timing.images + len(logits),
        )
        return [_score(logit) for logit in logits]

    def _check_known_answers(self, probes: Sequence[Probe]) -> None:
        """Weights, preprocessing and runtime together give the answers that the TOML has, or nothing is scored."""
        found = self._network.answers([probe.image for probe in probes])
        for probe, logit in zip(probes, found, strict=True):
            if not abs(logit - probe.logit) <= probe.tolerance:  # NaN is not within it
                raise UsageError(
                    f"detector {self.name!r} fails its probe: the picture {probe.image!r} scores {logit:.6g}, not "
                    f"{probe.logit:.6g} ± {probe.tolerance:g}; weights, preprocessing or runtime are not the described"
                )


class Network:
    """A loaded ONNX model with its way in and its way out: pictures to raw scores.

    Attributes:
        provider, fallback: of its :class:`~mllmrisk.inference.Session`.
        seconds: spent inside the model so far.
    """

    def __init__(self, model: bytes, recipe: Recipe, folder: Path, *, device: str = "cpu") -> None:
        """Loads a model; the arguments are those of :class:`OnnxDetector`."""
        self._what = f"detector {recipe.name!r}"
        self._input, self._output = recipe.input, recipe.output
        self._head = None if recipe.output.head is None else _Head(recipe, folder)
        extra = ",".join(("cpu", *([recipe.model.extra] if recipe.model and recipe.model.extra else [])))
        # All cores, always: the order of a model's sums must not depend on an argument.
        cores = len(os.sched_getaffinity(0))
        half = recipe.model is not None and recipe.model.half
        self._opened = inference.open_session(
            model, what=self._what, device=device, threads=cores, extra=extra, half=half
        )
        self.provider = self._opened.provider
        self.fallback = self._opened.fallback
        self.seconds = 0.0
        self._size = 1 if self._input.crop_mode == "full" else self._input.batch
        self._check_names()

    def parts(
        self, pictures: Sequence[Picture], *, chains: Sequence[str] | None = None, threads: int | None = None
    ) -> Iterator[Part]:
        """The model's input part by part, in the Rust core; the i-th picture's chain draws from i."""
        step = 1 if self._input.crop_mode in ("full", "tiles") else self._input.batch
        how = self._input.preprocessing()
        plain = None if chains is None else [None if chain == "native" else chain for chain in chains]
        for at in range(0, len(pictures), step):
            part, own = pictures[at : at + step], None if plain is None else plain[at : at + step]
            with trace.span("decode"):
                prepared = prepare(part, how, chains=own, threads=threads, seed=at)
            yield Part(prepared, len(part))

    def logits(self, parts: Iterable[Part]) -> list[float | str]:
        """The raw score of each picture, or the reason why it has none."""
        found: list[float | str] = []
        for prepared, count in parts:
            scores: list[list[float]] = [[] for _ in range(count)]
            for row, logit in zip(prepared.rows, self._run(prepared.values), strict=True):
                scores[row].append(float(logit))
            found += [
                prepared.errors[i].code if i in prepared.errors else float(np.mean(of_one))
                for i, of_one in enumerate(scores)
            ]
        return found

    def answers(self, names: Sequence[str]) -> list[float]:
        """The raw scores of generated pictures.

        Raises:
            UsageError: the model does not run on what the recipe makes of them, or they are too small for it.
        """
        found = self.logits(self.parts([PICTURES[name]() for name in names]))
        for name, logit in zip(names, found, strict=True):
            if isinstance(logit, str):
                raise UsageError(f"{self._what}: the picture {name!r} is of no use as its probe: {logit}")
        return [logit for logit in found if isinstance(logit, float)]

    def _run(self, values: NDArray[np.float32]) -> Values:
        """(m,) raw scores of m rows, in calls of one size; half of it from the first call on that does not fit."""
        scores = np.empty(len(values))
        start = 0
        while start < len(values):
            rows = values[start : start + self._size]
            count = len(rows)
            if count < self._size:
                rows = np.concatenate([rows, np.zeros((self._size - count, *rows.shape[1:]), np.float32)])
            try:
                scores[start : start + count] = self._call(rows)[:count]
            except OutOfMemoryError as full:
                if self._size == 1:
                    raise UsageError(f"{self._what}: one image does not fit into memory: {full}") from full
                self._size //= 2
            else:
                start += count
        return scores

    def _call(self, rows: NDArray[np.float32]) -> Values:
        began = time.perf_counter()
        try:
            with trace.span("model"):
                raw = inference.run(self._opened, self._input.name, rows, self._output.name)
        except OutOfMemoryError:
            raise
        except Exception as wrong:  # onnxruntime's errors share no base class
            reason = inference.first_line(wrong)
            raise UsageError(f"{self._what}: the model does not run as described: {reason}") from wrong
        self.seconds += time.perf_counter() - began
        values = np.asarray(raw, np.float64)
        if len(values) != len(rows):
            raise UsageError(f"{self._what}: output {self._output.name!r} has {len(values)} rows for {len(rows)}")
        try:
            return raw_scores(values if self._head is None else self._head.logits(values), self._output)
        except ValueError as wrong:
            raise UsageError(f"{self._what}: output {self._output.name!r}: {wrong}") from wrong

    def _check_names(self) -> None:
        session = self._opened.session
        for word, wanted, there in (
            ("input", self._input.name, [node.name for node in session.get_inputs()]),
            ("output", self._output.name, [node.name for node in session.get_outputs()]),
        ):
            if wanted not in there:
                raise UsageError(f"{self._what}: the model has no {word} {wanted!r}; it has {', '.join(there)}")


def raw_scores(values: Values, output: Output) -> Values:
    """What a model's output says of each image, as the logit or log likelihood ratio of fake.

    Args:
        values: for `logit1` and `llr` (n,), (n, 1) or a map (n, 1, h, w); for `softmax2` (n, k).
        output: which of them it is.

    Returns:
        (n,) float64.

    Raises:
        ValueError: the shape is another.
    """
    if output.kind != "softmax2":
        if values.ndim > 1 and values.shape[1] != 1:
            raise ValueError(f"{values.shape} is not one logit per image")
        means: Values = values.reshape(len(values), -1).mean(axis=1)
        return means
    if values.ndim != 2 or values.shape[1] != (len(output.labels) or 2):
        raise ValueError(f"{values.shape} is not one logit for each of {len(output.labels) or 2} classes")
    fake = output.fake_column()
    others = np.delete(values, fake, axis=1)
    top = others.max(axis=1)
    scores: Values = values[:, fake] - top - np.log(np.exp(others - top[:, None]).sum(axis=1))
    return scores


class _Head:
    """The linear head of a recipe, read and checked."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        head = recipe.output.head
        assert head is not None
        data = places.content(head, recipe.name, folder)
        try:
            table = json.loads(data)
            self._weights = np.array(table["weights"], np.float64)
            self._bias = float(table["bias"])
        except (ValueError, KeyError, TypeError) as wrong:
            raise UsageError(f"detector {recipe.name!r}: its head is no {{weights, bias}}: {wrong}") from wrong
        self._normalised = head.normalised

    def logits(self, embeddings: Values) -> Values:
        """(n,) logits of (n, d) embeddings.

        Raises:
            ValueError: d is another than the head's.
        """
        if embeddings.shape[1:] != self._weights.shape:
            raise ValueError(f"embeddings are {embeddings.shape}, the head takes (n, {len(self._weights)})")
        if self._normalised:
            embeddings = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
        found: Values = embeddings @ self._weights + self._bias
        return found


def _in_no_package(recipe: Recipe, folder: Path) -> bool:
    """Whether the weights are published in a package that is no extra of mllmrisk, and is not installed."""
    place = recipe.model
    alone = place is not None and place.package is not None and place.extra is None and recipe.published is not None
    return place is not None and alone and not places.here(place, recipe.name, folder)


def _score(logit: float | str) -> Score:
    if isinstance(logit, str):
        return Score(None, logit)
    return Score(logit) if np.isfinite(logit) else Score(None, "not_finite")
