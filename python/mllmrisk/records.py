"""The records that stages hand to each other, one frozen struct per word of the design.

They know no files and no computation. A missing number is `None` with a reason beside it, never NaN and never 0.
"""

from __future__ import annotations

import hashlib
import math
from enum import StrEnum
from typing import Any, ClassVar, Literal, get_args

import msgspec

#: `unknown` only where images are scored without labels (`mllmrisk detect`); no estimate counts such an image.
Label = Literal["real", "fake", "unknown"]
#: `real` stands in the paradigm column of photographs, so that figures about them have a group of their own.
Paradigm = Literal["real", "diffusion", "mllm", "mllm-conditioned", "unknown"]
PARADIGMS: tuple[str, ...] = get_args(Paradigm)

ExperimentKind = Literal[
    "unsafe",
    "corrupted",
    "contrast",
    "filter",
    "detection",
    "retrain",
    "richness",
    "laundering",
    "agreement",
    "leak",
]
EXPERIMENTS: tuple[str, ...] = get_args(ExperimentKind)


class Outcome(StrEnum):
    """How a sample ended."""

    OK = "ok"
    REFUSED = "refused"
    FILTERED = "filtered"
    FAILED = "failed"


class Prompt(msgspec.Struct, frozen=True, kw_only=True):
    """A text that asks for an image.

    Attributes:
        id: unique within a run: `SET/KEY`.
        language: BCP 47 tag of the text.
        level: richness (`v0`, `v1`, `v2`), where the set has levels.
        category: the kind of unsafe content that it asks for; None for a benign prompt.
        twin_of: id of the unsafe prompt whose safe twin this is: the same words but for the unsafe one.
        concept: prompts of one concept ask for the same picture in other words (longer, slang, another language), so
            that they can be compared in pairs.
        extra: the source's other columns, untouched.
    """

    id: str
    text: str
    prompt_set: str
    language: str = "en"
    level: str | None = None
    category: str | None = None
    twin_of: str | None = None
    concept: str | None = None
    extra: dict[str, str] = {}


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """Images that an experiment asks generators for.

    Attributes:
        prompt_set: name of a prompt set.
        samples: images per prompt and generator.
        take: at most so many prompts of the set, chosen by the hash of their ids; None for all.
    """

    prompt_set: str
    samples: int = 1
    take: int | None = None


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One request and what came of it; a given image is a sample whose outcome is `ok`.

    Attributes:
        id: stable name within a run.
        label: `real` (a photograph), `fake` (made by a generator) or `unknown`.
        image: sha256 of the stored bytes, None unless the outcome is `ok`.
        source: group for splits: images of one source never stand on both sides.
        path: where the image came from, as its manifest wrote it.
        extra: the manifest's other columns, untouched.
    """

    id: str
    label: Label
    paradigm: Paradigm
    generator: str | None = None
    prompt_id: str | None = None
    prompt: str | None = None
    prompt_set: str | None = None
    level: str | None = None
    language: str | None = None
    index: int = 0
    seed: int | None = None
    source: str | None = None
    outcome: Outcome = Outcome.OK
    reason: str | None = None
    image: str | None = None
    path: str | None = None
    extra: dict[str, str] = {}


class Score(msgspec.Struct, frozen=True):
    """What a detector or judge says of one image: a value, or *unscored* with a reason.

    Attributes:
        value: a raw output (a logit where the model has one); None if unscored.
        reason: one word for an unscored image (`too_small`, `corrupt`, ...); None if scored.
        stratum: which of several models gave it (the cross-validation fold); values are comparable within one.
    """

    value: float | None
    reason: str | None = None
    stratum: int = 0

    def __post_init__(self) -> None:
        """Refuses a score that is neither a finite value nor a reason."""
        if (self.value is None) == (self.reason is None):
            raise ValueError("a score is either a value or a reason")
        if self.value is not None and not math.isfinite(self.value):
            raise ValueError(f"a score must be finite, not {self.value}")


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The way back from a figure to its images: which scores, of which samples.

    Attributes:
        scorer: name of the stored scores, None for a figure made of scores of several scorers.
        perturbation: the view under which they were made.
        where: sample columns and the value that they must have; a list means any of.
        against: the same for the images on the other side (the photographs of an AUC).
    """

    scorer: str | None
    perturbation: str
    where: dict[str, str | list[str]]
    against: dict[str, str | list[str]] | None = None


#: The columns that name the group of an estimate (DESIGN 5.3), in the order of tables.
GROUP = (
    "generator",
    "paradigm",
    "prompt_set",
    "level",
    "language",
    "judge",
    "category",
    "detector",
    "trained_on",
    "perturbation",
    "contrast",
)


#: What the `contrast` column of a source of photographs says before the generated images that they stand against.
AGAINST = "against: "
#: What stands after it for generated images of all paradigms.
EVERY = "all"


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of a report: a tidy row of `estimates.json` (DESIGN 5.3).

    Attributes:
        value, low, high: the estimate and its 95% interval; None where nothing could be computed, and then
            `n_unscored` says why.
        n_prompts: distinct prompts behind it; 0 where the images carry none.
        n_images: images behind it (both sides of an AUC).
        n_unscored: images left out, by reason.
        method: how value and interval were computed, in words.
        at: the false-alarm rate of a detection rate.
        n_clusters, cluster_by: the resampled units of the interval and what they are.
        low_within, high_within: the interval for other images of the *same* sources, where `low` and `high` resample
            whole sources and so speak of images from elsewhere.
        ties: of a figure of ranks, the share of (photograph, generated) pairs scored by one model that have equal
            scores, which an AUC counts at half; None elsewhere.
        confounded, confounded_by: whether a leak probe reaches the figure, and which.
        explained: what suite or profile say of these probes; it stands beside the stamp and takes nothing from it.
    """

    experiment: ExperimentKind
    metric: str
    unit: str
    method: str
    n_prompts: int
    n_images: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n_unscored: dict[str, int] = {}
    generator: str | None = None
    paradigm: str | None = None
    prompt_set: str | None = None
    level: str | None = None
    language: str | None = None
    judge: str | None = None
    category: str | None = None
    detector: str | None = None
    trained_on: str | None = None
    perturbation: str | None = None
    contrast: str | None = None
    at: float | None = None
    p_value: float | None = None
    p_adjusted: float | None = None
    n_clusters: int | None = None
    cluster_by: str | None = None
    low_within: float | None = None
    high_within: float | None = None
    ties: float | None = None
    confounded: bool = False
    confounded_by: list[str] = []
    explained: dict[str, str] = {}
    evidence: Evidence | None = None

    def __post_init__(self) -> None:
        """Refuses a figure that breaks the contract."""
        numbers = [x for x in (self.value, self.low, self.high, self.p_value) if x is not None]
        if not all(math.isfinite(x) for x in numbers):
            raise ValueError(f"{self.experiment} {self.metric}: an estimate must be finite")
        if self.value is None and not self.n_unscored:
            raise ValueError(f"{self.experiment} {self.metric}: no value and no reason")

    @property
    def cell(self) -> str:
        """The figure's short name, the same in every run: what `mllmrisk show` takes."""
        key = [self.experiment, self.metric, self.at, *(getattr(self, name) for name in GROUP)]
        return hashlib.sha256(repr(key).encode()).hexdigest()[:8]

    def row(self) -> dict[str, Any]:
        """The figure as `estimates.json` holds it."""
        return {"cell": self.cell, **msgspec.to_builtins(self)}


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a run measures: two runs with the same spec give the same estimates.

    Thread count and device are not part of it: they change the time, not the figures.

    Attributes:
        suite, profile: the whole texts' digests stand beside the names, so that an edited file is another spec.
        images: the manifest of given images (or None) and its digest.
        limit: at most so many prompts or images per group.
        samples: images per prompt where the run generates.
        detectors: external detectors added to the profile's, name or file with digest.
        generators: digest of each generator's TOML.
        prompts: digest of each prompt set's TOML, texts and images per prompt.
    """

    suite: str
    suite_digest: str
    profile: str
    profile_digest: str
    images: str | None = None
    images_digest: str | None = None
    seed: int = 0
    limit: int | None = None
    samples: int | None = None
    detectors: dict[str, str] = {}
    generators: dict[str, str] = {}
    prompts: dict[str, str] = {}
    version: str = ""

    #: Keys that name places or builds rather than content: shown, not compared.
    NOT_COMPARED: ClassVar[tuple[str, ...]] = ("images", "version")

    def compared(self) -> dict[str, Any]:
        """The keys that say what work is asked for."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name not in self.NOT_COMPARED}

    def differences(self, other: RunSpec) -> list[str]:
        """The keys in which the two specs ask for different work."""
        theirs = other.compared()
        return [name for name, value in self.compared().items() if value != theirs[name]]
