"""The compiled core. `mypy.stubtest` compares this stub with the built module (docs/design/0005)."""

from collections.abc import Sequence
from typing import Any, Literal, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "RateCounter",
    "ScoreHistogram",
    "__version__",
    "build_info",
    "canonical_chain",
    "dct_coefficients",
    "decode",
    "describe_features",
    "describe_statistics",
    "encode",
    "extract",
    "extract_chains",
    "feature_names",
    "irfft2",
    "metrics_calibration_error",
    "metrics_cohen_kappa",
    "metrics_detection",
    "metrics_detection_difference",
    "metrics_detection_value",
    "metrics_difference",
    "metrics_fleiss_kappa",
    "metrics_holm",
    "metrics_krippendorff_alpha",
    "metrics_mean",
    "metrics_rate",
    "metrics_rogan_gladen",
    "metrics_share",
    "metrics_slope",
    "metrics_threshold_at_fpr",
    "metrics_tie_share",
    "metrics_wilson",
    "near_duplicates",
    "patches",
    "perturb",
    "perturbations",
    "prepare",
    "probe",
    "reencode",
    "resize",
    "rfft2",
    "statistics",
]
__version__: str
# codec

def decode(
    source: bytes | str, orient: bool = False, limits: tuple[int, int, int] | None = None
) -> npt.NDArray[np.uint8]: ...
def dct_coefficients(
    source: bytes | str, limits: tuple[int, int, int] | None = None
) -> list[tuple[npt.NDArray[np.int16], npt.NDArray[np.uint16], tuple[int, int]]]: ...
def probe(source: bytes | str, limits: tuple[int, int, int] | None = None) -> dict[str, Any]: ...
def build_info() -> dict[str, Any]: ...
def encode(array: npt.NDArray[np.uint8], spec: str) -> bytes: ...
def perturb(array: npt.NDArray[np.uint8], chain: str, seed: int = 0) -> npt.NDArray[np.uint8]: ...
def reencode(
    source: bytes | str | npt.NDArray[np.uint8], chain: str, seed: int = 0, limits: tuple[int, int, int] | None = None
) -> bytes: ...
def resize(array: npt.NDArray[np.uint8], width: int, height: int, kernel: str = "bicubic") -> npt.NDArray[np.uint8]: ...
def perturbations() -> list[dict[str, Any]]: ...
def canonical_chain(text: str) -> str: ...

# features

def describe_features() -> list[dict[str, Any]]: ...
def feature_names(features: Sequence[str]) -> list[str]: ...
def extract(
    sources: Sequence[str | bytes | npt.NDArray[np.uint8]],
    features: Sequence[str],
    threads: int,
    chains: Sequence[str | None] | None = None,
    seed: int = 0,
) -> tuple[npt.NDArray[np.float32], list[tuple[int, str, str]]]: ...

# metrics

_Floats = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.bool_]
_Ids = npt.NDArray[np.int64]
_Plan = tuple[int, int, float, int | None]
_Bounded = tuple[float, tuple[float, float] | None]
_Contrasted = tuple[float, tuple[float, float] | None, float]

def metrics_rate(values: _Floats, clusters: _Ids, plan: _Plan) -> _Bounded: ...
def metrics_mean(values: _Floats, clusters: _Ids, plan: _Plan) -> _Bounded: ...
def metrics_share(values: _Floats, clusters: _Ids, plan: _Plan) -> _Bounded: ...
def metrics_wilson(successes: int, trials: int, level: float) -> _Bounded: ...
def metrics_difference(
    values_a: _Floats,
    clusters_a: _Ids,
    values_b: _Floats,
    clusters_b: _Ids,
    paired: bool,
    shares: bool,
    plan: _Plan,
) -> _Contrasted: ...
def metrics_slope(values: _Floats, levels: _Ids, clusters: _Ids, plan: _Plan) -> _Contrasted: ...
def metrics_holm(p_values: list[float]) -> list[float]: ...
def metrics_detection_value(
    metric: str, scores: _Floats, labels: _Flags, strata: _Ids | None, thresholds: _Floats | None
) -> float: ...
def metrics_detection(
    metric: str,
    scores: _Floats,
    labels: _Flags,
    clusters: _Ids,
    strata: _Ids | None,
    thresholds: _Floats | None,
    plan: _Plan,
) -> _Bounded: ...
def metrics_detection_difference(
    metric: str,
    scores: _Floats,
    labels: _Flags,
    first: _Flags,
    clusters: _Ids,
    strata: _Ids | None,
    thresholds: _Floats | None,
    plan: _Plan,
) -> _Contrasted: ...
def metrics_tie_share(scores: _Floats, labels: _Flags) -> float: ...
def metrics_threshold_at_fpr(
    real_scores: _Floats, fpr: float
) -> tuple[float | None, float | None, Literal["too_few_reals", "ties"] | None]: ...
def metrics_calibration_error(
    probabilities: _Floats, labels: _Flags, clusters: _Ids, bins: int, equal_mass: bool, plan: _Plan
) -> _Bounded: ...
def metrics_cohen_kappa(first: _Ids, second: _Ids, clusters: _Ids, plan: _Plan) -> _Bounded: ...
def metrics_fleiss_kappa(counts: _Ids, categories: int, clusters: _Ids, plan: _Plan) -> _Bounded: ...
def metrics_krippendorff_alpha(ratings: _Ids, raters: int, clusters: _Ids, plan: _Plan) -> _Bounded: ...
def metrics_rogan_gladen(
    flags: _Floats, clusters: _Ids, validation: tuple[int, int, int, int], plan: _Plan
) -> _Bounded: ...

@final
class RateCounter:
    def __new__(cls) -> RateCounter: ...
    def update(self, flags: _Flags, clusters: _Ids) -> None: ...
    def merge(self, other: RateCounter) -> None: ...
    def seen(self) -> tuple[int, int]: ...
    def finish(self, plan: _Plan) -> _Bounded: ...

@final
class ScoreHistogram:
    def __new__(cls, low: float, high: float, bins: int) -> ScoreHistogram: ...
    def update(self, scores: _Floats, labels: _Flags) -> None: ...
    def merge(self, other: ScoreHistogram) -> None: ...
    def finish(self) -> tuple[float, float]: ...

def describe_statistics() -> list[tuple[str, str, str, str]]: ...
def statistics(
    sources: Sequence[str | bytes | npt.NDArray[np.uint8]], threads: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint64], list[tuple[int, str, str]]]: ...

_Sources = Sequence[str | bytes | npt.NDArray[np.uint8]]
_Rows = tuple[npt.NDArray[np.float32], tuple[int, int], npt.NDArray[np.int64], list[tuple[int, str, str]]]

def prepare(
    sources: _Sources,
    how: Any,
    threads: int,
    chains: Sequence[str | None] | None = None,
    seed: int = 0,
    seeds: Sequence[int] | None = None,
    views: Sequence[tuple[tuple[float, float] | None, bool]] | None = None,
    partial: bool = False,
) -> _Rows: ...
def patches(sources: _Sources, threads: int, chains: Sequence[str | None] | None = None, seed: int = 0) -> _Rows: ...
def near_duplicates(
    hashes: npt.NDArray[np.uint64], distance: int, groups: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int64]: ...
def extract_chains(
    sources: Sequence[str | bytes | npt.NDArray[np.uint8]],
    features: Sequence[str],
    threads: int,
    chains: Sequence[Sequence[str | None]],
    seeds: Sequence[int],
) -> tuple[npt.NDArray[np.float32], list[tuple[int, int, str, str]]]: ...

# transform

def rfft2(planes: npt.NDArray[np.float32 | np.uint8], threads: int) -> npt.NDArray[np.complex64]: ...
def irfft2(spectra: npt.NDArray[np.complex64], width: int, threads: int) -> npt.NDArray[np.float32]: ...
