"""`laundering`: what is left of detection after what happens to images on their way to a viewer.

Every image is perturbed, then cropped and encoded alike, so that neither size nor container can tell; the detector and
its thresholds come from the undisturbed `recompressed` view and are carried along.
"""

from __future__ import annotations

import re

import msgspec

from mllmrisk import perturb
from mllmrisk.experiments import detecting, forensic
from mllmrisk.experiments.examined import Division, LooksAtDetectors
from mllmrisk.experiments.study import Study
from mllmrisk.experiments.views import CROP, ENCODER, Arm
from mllmrisk.records import Estimate


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite may set.

    Attributes:
        perturbations: chains (see `mllmrisk list perturbations`).
        detectors, device: as in `detection`.
        repeats, folds: as in `detection`; the same numbers reuse its models.
        rate: false-alarm rate of the carried thresholds.
    """

    perturbations: tuple[str, ...]
    detectors: tuple[str, ...] = ()
    device: str = "auto"
    repeats: int = 4
    folds: int = 3
    rate: float = 0.05


def laundered(perturbation: str) -> Arm:
    """The perturbation, then one crop and one encoder; the crop shrinks as the perturbation shrinks images."""
    stands_for = {about.name: about.chain for about in perturb.describe()}
    steps = "+".join(stands_for.get(part) or part for part in perturbation.split("+"))
    scale = 1.0
    for factor in re.findall(r"resize:([0-9.]+)", steps):
        scale *= min(1.0, float(factor))
    chain = f"{perturbation}+crop:{round(CROP * scale)}+{ENCODER}"
    return Arm(perturbation, lambda _: chain)


class Laundering(LooksAtDetectors[Parameters]):
    """Detection against perturbation, per paradigm."""

    kind = "laundering"
    accepts = Parameters

    def __init__(self, parameters: Parameters) -> None:
        """Takes the suite's parameters; a chain that cannot be read is refused here, before any work."""
        super().__init__(parameters)
        self.perturbations = [perturb.canonical(chain) for chain in parameters.perturbations]

    def estimates(self, study: Study) -> list[Estimate]:
        """AUC and carried detection rate, undisturbed and under each perturbation."""
        p = self.parameters
        division = Division(p.repeats, p.folds, (p.rate,))
        arms = [study.arm("recompressed"), *(laundered(chain) for chain in self.perturbations)]
        if any(detector.name == forensic.NAME for detector in self.detectors):
            study.feature_tables(arms, forensic.VECTOR)  # one decoding of each image for all perturbations
        found: list[Estimate] = []
        for detector in self.detectors:
            for name, scored in detector.under(study, "recompressed", arms, division).items():
                scorer = detector.scorer("recompressed")
                where = detecting.Where("laundering", detector.name, name, scorer, detector.trained_on)
                rows: list[Estimate] = []
                for group in detecting.groups(study.samples, len(study.samples) + 1):
                    rows += detecting.figures(study, scored, where, group, (p.rate,), short=True)
                rows += [r for r in detecting.false_alarms(study, scored, where, (p.rate,)) if r.generator is None]
                found += detector.stamped(study, rows)
        return found
