"""The family `probe:ENCODER`: a linear model or a small perceptron on frozen embeddings (docs/probe.md)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mllmrisk.detectors import encoders
from mllmrisk.detectors.encoders.base import Encoder
from mllmrisk.errors import MllmriskError, UsageError
from mllmrisk.experiments.crossfit import CARD_RATES, calibration, threshold
from mllmrisk.experiments.families import Scorer, Trained, Training
from mllmrisk.experiments.forensic import chain, digests
from mllmrisk.experiments.study import Study, Table
from mllmrisk.experiments.tabular import Tabular
from mllmrisk.experiments.views import Arm

if TYPE_CHECKING:
    from mllmrisk.detectors.fitting import Fitted, Rows
    from mllmrisk.detectors.probing import Head

NAME = "probe"

#: Training images on which a carried file is compared with the scores of its family.
_COMPARED = 8
#: By how much the known answers of a carried file may differ on another machine: integer arithmetic of 8-bit encoders
#: rounds differently from one type of processor to another.
_ELSEWHERE = 0.05


class Probe(Tabular):
    """A head on the embeddings of one encoder; a run keeps the head, the carried file holds both."""

    augmented = True

    def __init__(self, encoder: str) -> None:
        """Takes the encoder's name or file; its weights are loaded when they are first needed."""
        self.about = encoders.describe(encoder) if encoders.has_toml(encoder) else None
        super().__init__(f"{NAME}:{self.about.common.name if self.about else encoder}", self._embeddings)
        self._asked = encoder
        self._loaded: tuple[str, Encoder] | None = None

    def needs(self) -> Iterable[str]:
        """The optional dependency sets."""
        own = encoders.KINDS.extra(self.about.common.kind) if self.about else None
        return ("train", "cpu", *([own] if own and own != "cpu" else []))

    def encoder(self, device: str) -> Encoder:
        """The encoder on a device, loaded once.

        Raises:
            UsageError, MissingExtraError: see :func:`mllmrisk.detectors.encoders.load`.
        """
        if self._loaded is None or self._loaded[0] != device:
            self._loaded = device, encoders.load(self._asked, device=device)
        return self._loaded[1]

    def fit(self, rows: Rows, seed: int) -> Fitted:
        """The head: a logistic regression, or a perceptron where it pays."""
        from mllmrisk.detectors.fitting import PERCEPTRON, fit

        return fit(rows, seed=seed, choice=PERCEPTRON)

    def keep(self, fitted: Fitted, asked: Training, inner: dict[str, float], record: dict[str, Any]) -> bytes:
        """The head, with the encoder's name and version."""
        from mllmrisk.detectors.probing import Belongs, to_onnx

        assert self._loaded is not None  # the vectors that it was fitted on came from it
        encoder = self._loaded[1]
        record["encoder"] = {"name": encoder.name, "version": encoder.version, "licence": encoder.about.licence}
        record["calibration"] = "Platt, on inner scores of images whose group the scoring model had not seen"
        found = {str(rate): threshold(calibration(inner, asked.seen), rate) for rate in CARD_RATES}
        record["thresholds"] = {rate: value for rate, value in found.items() if isinstance(value, float)}
        belongs = Belongs(encoder=encoder.name, version=encoder.version, dimension=encoder.dimension, training=record)
        return to_onnx(fitted, belongs)

    def restore(self, study: Study, kept: Path) -> Scorer:
        """The stored head, run by onnxruntime, on the study's embeddings."""
        from mllmrisk.detectors.probing import Head

        head = Head(kept)
        head.check(self.encoder(study.device))
        return self.scorer(study, head.logits)

    def ship(self, study: Study, asked: Training, trained: Trained, out: Path) -> Path:
        """Encoder and head as one ONNX file, compared with the family's own scores, and its TOML.

        Raises:
            MllmriskError: the file does not give the scores of the family; it is not left there.
        """
        from mllmrisk.detectors import card
        from mllmrisk.detectors.onnx import known_answers
        from mllmrisk.detectors.probing import Head, grown

        assert trained.data is not None
        encoder, head = self.encoder(study.device), Head(trained.data)
        model = grown(encoder, head)
        recipe = _recipe(encoder, asked, trained)
        recipe["probe"] = known_answers(model, recipe, tolerance=_ELSEWHERE)
        data = card.write(model, recipe, seen=digests(asked.seen), training=trained.record)
        toml = card.save(out, data, recipe)
        self._compare(study, asked, head, toml)
        return toml

    def _compare(self, study: Study, asked: Training, head: Head, toml: Path) -> None:
        """Runs the written file as a stranger would, on training images; takes it away where scores differ."""
        from mllmrisk import detectors
        from mllmrisk.detectors.probing import TOLERANCE

        some = [study.path(s) for s in asked.seen[:: max(1, len(asked.seen) // _COMPARED)]]
        embedded = self.encoder(study.device).embed(some, chains=[chain(asked.view)] * len(some), threads=study.threads)
        expected = head.logits(embedded.values)
        for i, score in enumerate(detectors.load(str(toml)).score(some, threads=study.threads)):
            if i in embedded.errors and score.value is None:
                continue
            if score.value is None or not abs(score.value - expected[i]) <= TOLERANCE:  # NaN is not within it
                for file in (toml, toml.with_suffix(".onnx")):
                    file.unlink()
                raise MllmriskError(
                    f"{self.name}: the written file scores {some[i].name} {score.value}, the family {expected[i]:.6g}"
                )

    def _embeddings(self, study: Study, way: Arm) -> Table:
        return study.embeddings(way, self.encoder(study.device))


def _recipe(encoder: Encoder, asked: Training, trained: Trained) -> dict[str, Any]:
    """The TOML of the carried file, but for its known answers."""
    about, record = encoder.about, trained.record
    counted = f"{record['real']} photographs and {record['fake']} generated images"
    own = {key: value for key, value in msgspec.to_builtins(about.input).items() if value is not None}
    return {
        "name": f"{NAME}-{encoder.name}",
        "kind": "onnx",
        "version": encoder.version,
        "about": f"A probe, trained by mllmrisk, on embeddings. The encoder: {about.about}",
        "licence": f"encoder: {about.licence}; head: its owner's",
        "restrictions": about.restrictions,
        "citation": f"docs/probe.md; encoder: {about.citation}",
        "trained_on": f"{counted} ({asked.trained_on}), in the view {asked.view}: {chain(asked.view)}",
        "chain": chain(asked.view),
        "input": own,
        "output": {"name": "logit", "kind": "logit1"},
        "threshold": {"value": 0.0, "means": "probability 0.5 where photographs and generated images are as many"},
        "thresholds": record["thresholds"],
    }


def made(argument: str | None) -> Probe:
    """The family of an encoder.

    Raises:
        UsageError: no encoder is named, or there is none of that name.
    """
    if argument is None:
        raise UsageError(f"a probe reads embeddings: name the encoder, as probe:{encoders.ENCODERS.names()[0]}")
    return Probe(argument)
