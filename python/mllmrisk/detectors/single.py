"""Detectors whose network takes more than one prepared array: one image at a time, loaded and tried as any other.

A kind built on this says in :meth:`SingleDetector.logit` how a picture becomes its score.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import inference, trace
from mllmrisk.detectors import card, places
from mllmrisk.detectors.base import Timing
from mllmrisk.detectors.recipe import Common, Model, Probe, Published, Threshold
from mllmrisk.errors import ImageError, UsageError
from mllmrisk.pictures import PICTURES
from mllmrisk.records import Score

#: A picture as the core takes it.
Picture = Path | bytes | NDArray[np.uint8]


class SingleRecipe(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The TOML: as of the kind `onnx`, but input and output are the kind's own and cannot be told otherwise."""

    model: Model | None = None
    threshold: Threshold
    probe: list[Probe] = msgspec.field(default_factory=list)
    thresholds: dict[str, float] = msgspec.field(default_factory=dict)
    published: Published | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be trusted."""
        if self.model is not None and len({probe.image for probe in self.probe}) < 2:
            raise ValueError("two [[probe]] of two pictures are needed: a known-answer pair")


class SingleDetector:
    """A detector of one ONNX file that gets one image per call.

    Attributes:
        inputs: names of the model's inputs, all of them.
        way: version of the way in and out, part of the detector's version.
        name, version, thresholds, decision, seen: see :class:`~mllmrisk.detectors.base.Detector`.
        provider: the onnxruntime provider that runs it, verified.
        timing: where its time went, over all calls.
    """

    inputs: ClassVar[tuple[str, ...]]
    way: ClassVar[str]

    def __init__(self, recipe: SingleRecipe, folder: Path, *, device: str = "cpu") -> None:
        """Loads and tries the model; arguments and errors as :class:`~mllmrisk.detectors.onnx.OnnxDetector`."""
        if recipe.model is None:
            raise places.absent(recipe, recipe.published)
        model = places.content(recipe.model, recipe.name, folder)
        self.name = recipe.name
        decides = f"{recipe.model.sha256} {self.way}{' half' if recipe.model.half else ''}"
        digest = hashlib.sha256(decides.encode()).hexdigest()[:8]
        self.version = f"{recipe.version}-{digest}"
        self.thresholds = {float(rate): value for rate, value in recipe.thresholds.items()}
        self.decision = recipe.threshold.value
        self.seen = frozenset((card.read(model) or {}).get("seen", ()))
        self.timing = Timing()
        what = f"detector {self.name!r}"
        cores = len(os.sched_getaffinity(0))
        self._opened = inference.open_session(model, what=what, device=device, threads=cores, half=recipe.model.half)
        self.provider = self._opened.provider
        there = tuple(node.name for node in self._opened.session.get_inputs())
        if sorted(there) != sorted(self.inputs):
            raise UsageError(f"{what}: the model's inputs are {', '.join(there)}, not {', '.join(self.inputs)}")
        self._session_seconds = 0.0
        self._check_known_answers(recipe.probe)

    def logit(self, picture: Picture, *, chain: str | None, threads: int | None, seed: int) -> float:
        """The raw score of one picture.

        Raises:
            ImageError: it cannot be read, or is too small.
        """
        raise NotImplementedError

    def score(
        self, images: Sequence[Path | bytes], *, chains: Sequence[str] | None = None, threads: int | None = None
    ) -> list[Score]:
        """Scores images, in their order, each after its chain; see :class:`~mllmrisk.detectors.base.Detector`."""
        began, busy = time.perf_counter(), self._session_seconds
        found = []
        for i, image in enumerate(images):
            chain = None if chains is None or chains[i] == "native" else chains[i]
            try:
                value = self.logit(image, chain=chain, threads=threads, seed=i)
            except ImageError as wrong:
                found.append(Score(None, wrong.code))
            else:
                found.append(Score(value) if np.isfinite(value) else Score(None, "not_finite"))
        wall = time.perf_counter() - began
        before = self.timing
        self.timing = Timing(
            before.session_seconds + self._session_seconds - busy,
            before.wall_seconds + wall,
            before.images + len(images),
        )
        return found

    def run(self, output: str, **inputs: NDArray[np.float32]) -> NDArray[np.float64]:
        """One output of the model.

        Raises:
            UsageError: it does not run on these.
        """
        began = time.perf_counter()
        try:
            with trace.span("model"):
                (raw,) = self._opened.session.run([output], inputs)
        except Exception as wrong:  # onnxruntime's errors share no base class
            reason = inference.first_line(wrong)
            raise UsageError(f"detector {self.name!r}: the model does not run as its kind says: {reason}") from wrong
        self._session_seconds += time.perf_counter() - began
        return np.asarray(raw, np.float64)

    def _check_known_answers(self, probes: Sequence[Probe]) -> None:
        for probe in probes:
            found = self.logit(PICTURES[probe.image](), chain=None, threads=None, seed=0)
            if not abs(found - probe.logit) <= probe.tolerance:  # NaN is not within it
                raise UsageError(
                    f"detector {self.name!r} fails its probe: the picture {probe.image!r} scores {found:.6g}, not "
                    f"{probe.logit:.6g} ± {probe.tolerance:g}; weights, preprocessing or runtime are not the described"
                )


def one_row(prepared: Any) -> NDArray[np.float32]:
    """The values that one source gave.

    Raises:
        ImageError: it gave none.
    """
    for wrong in prepared.errors.values():
        raise wrong
    values: NDArray[np.float32] = prepared.values
    return values
