"""`laundering`: what is left of detection after what happens to images on their way to a viewer.

Every image is perturbed, then cropped and encoded alike, so that neither size nor container can tell; the detector and
its thresholds come from the undisturbed `recompressed` view and are carried along.
"""

from __future__ import annotations

import re

import msgspec

from mllmrisk import perturb
from mllmrisk.experiments import detecting
from mllmrisk.experiments.base import WithParameters
from mllmrisk.experiments.crossfit import crossfit
from mllmrisk.experiments.detection import Parameters as DetectionParameters
from mllmrisk.experiments.detection import plan
from mllmrisk.experiments.recipes import FORENSIC, VECTOR
from mllmrisk.experiments.study import Study
from mllmrisk.experiments.views import CROP, ENCODER, Arm
from mllmrisk.records import Estimate


class Parameters(msgspec.Struct, frozen=True, kw_only=True):
    """What a suite may set.

    Attributes:
        perturbations: chains (see `mllmrisk list perturbations`).
        repeats, folds: as in `detection`; the same numbers reuse its models.
        rate: false-alarm rate of the carried thresholds.
    """

    perturbations: tuple[str, ...]
    repeats: int = 4
    folds: int = 3
    rate: float = 0.05


def laundered(perturbation: str) -> Arm:
    """The perturbation, then one crop and one encoder; the crop shrinks as the perturbation shrinks images."""
    scale = 1.0
    for factor in re.findall(r"resize:([0-9.]+)", perturbation):
        scale *= min(1.0, float(factor))
    chain = f"{perturbation}+crop:{round(CROP * scale)}+{ENCODER}"
    return Arm(perturbation, lambda _: chain)


class Laundering(WithParameters[Parameters]):
    """Detection against perturbation, per paradigm."""

    kind = "laundering"
    accepts = Parameters
    photographs = True

    def __init__(self, parameters: Parameters) -> None:
        """Takes the suite's parameters; a chain that cannot be read is refused here, before any work."""
        super().__init__(parameters)
        self.perturbations = [perturb.canonical(chain) for chain in parameters.perturbations]

    def estimates(self, study: Study) -> list[Estimate]:
        """AUC and carried detection rate, undisturbed and under each perturbation."""
        p = self.parameters
        asked = plan("recompressed", DetectionParameters(repeats=p.repeats, folds=p.folds, rates=(p.rate,)))
        arms = [study.arm("recompressed"), *(laundered(chain) for chain in self.perturbations)]
        study.feature_tables(arms, VECTOR)  # one decoding of each image for all perturbations
        found: list[Estimate] = []
        for name, scored in crossfit(study, FORENSIC, asked, arms).items():
            where = detecting.Where("laundering", FORENSIC.name, name, f"{FORENSIC.name}/recompressed/all", "all")
            for group in detecting.groups(study.samples, len(study.samples) + 1):
                found += detecting.figures(study, scored, where, group, (p.rate,), short=True)
            found += [row for row in detecting.false_alarms(study, scored, where, (p.rate,)) if row.generator is None]
        return found
