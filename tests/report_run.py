"""A run folder as the experiments leave it, with figures given by a seeded generator: what report tests read.

Real records through the real store; only the numbers are drawn. Names hold what could break a page.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from mllmrisk.records import Estimate, Evidence, Outcome, RunSpec, Sample, Score
from mllmrisk.store import Store, write_atomically

HOSTILE = "<script>document.title='owned'</script>|`code`](javascript:alert(1)) **bold** \u202egnp.exe"
VIEWS = ("native", "matched", "recompressed")
GENERATORS = {
    "diffusion": [
        "FLUX.1-schnell",
        "Stable Diffusion 1.4",
        "stabilityai/stable-diffusion-3.5-large-turbo-with-a-long-suffix",
        "Kolors",
    ],
    "mllm": ["GPT-4o image", "Gemini 2.5 Flash Image (nano banana)", HOSTILE],
    "mllm-conditioned": ["Qwen-Image"],
}
CHAINS = (
    "recompressed",
    "jpeg:95",
    "jpeg:85",
    "jpeg:75",
    "jpeg:50",
    "webp:80",
    "resize:0.75",
    "resize:0.5",
    "cropat:200:0.37:0.61",
    "blur:1.0",
    "social",
)
SOURCES = ("bsds500", "imagenet", "exifsamples", "kodak", "clothing", "<b>source</b>|x")


EXPLANATION = "generators wrote <PNG>, cameras *JPEG*"


class Maker:
    """Draws figures; the same seed draws the same ones."""

    def __init__(self, seed: int = 7) -> None:
        self.rng = np.random.default_rng(seed)
        self.rows: list[Estimate] = []

    def add(self, experiment: Any, metric: str, middle: float, **more: Any) -> Estimate:
        spread = more.pop("spread", 0.06)
        low_end = -1.0 if metric in ("difference", "slope") else 0.0
        value = float(np.clip(middle + self.rng.normal(0, 0.01), low_end, 1))
        given: dict[str, Any] = {
            "experiment": experiment,
            "metric": metric,
            "unit": "probability",
            "method": "pairs within a fold; percentile cluster bootstrap over source, 10000 resamples",
            "n_prompts": 0,
            "n_images": 227,
            "n_clusters": 41,
            "cluster_by": "source",
            "detector": "forensic",
            "trained_on": "all",
            "value": value,
            "low": max(low_end, value - spread),
            "high": min(1.0, value + spread),
            "evidence": Evidence(scorer="forensic/native/all", perturbation="native", where={"label": "fake"}),
        }
        row = Estimate(**{**given, **more})
        self.rows.append(row)
        return row


def _groups() -> list[tuple[str | None, str | None]]:
    found: list[tuple[str | None, str | None]] = [(None, None), *((p, None) for p in GENERATORS)]
    return found + [(p, g) for p, names in GENERATORS.items() for g in names]


def _detection(make: Maker) -> None:
    height = {"native": 0.88, "matched": 0.74, "recompressed": 0.66}
    for view in VIEWS:
        reached = {"confounded": True, "confounded_by": ["container", "size"] if view == "native" else ["content"]}
        if view == "native":
            reached["explained"] = {"container": EXPLANATION}
        for paradigm, generator in _groups():
            mark: dict[str, Any] = reached if view == "native" or (view == "matched" and paradigm == "mllm") else {}
            where: dict[str, Any] = {"paradigm": paradigm, "generator": generator, "perturbation": view, **mark}
            where["n_images"] = 227 if generator is None else 131
            where["spread"] = 0.06 if generator is None else 0.13
            where["n_unscored"] = {"too_small": 2, "corrupt": 1} if generator else {}
            base = height[view] - (0.05 if paradigm == "mllm" else 0.0)
            make.add("detection", "auc", base, **where, ties=0.125 if generator is None else 0.0)
            if generator is None:
                for source in SOURCES:
                    side = {"paradigm": "real", "generator": source, "contrast": f"against: {paradigm or 'all'}"}
                    make.add("detection", "auc", base, **{**where, **side})
            make.add("detection", "ap", base, **where)
            make.add("detection", "eer", 1 - base, **where)
            make.add("detection", "accuracy", base - 0.06, **where)
            make.add("detection", "calibration_error", 0.07, **where)
            make.add("detection", "detection_rate", base - 0.4, at=0.05, **where)
            if generator is None:
                make.add("detection", "detection_rate", base - 0.55, at=0.01, **where)
            else:
                lost = {
                    "value": None,
                    "low": None,
                    "high": None,
                    "method": "none",
                    "n_unscored": {"too_few_calibration": 10},
                }
                make.add("detection", "detection_rate", 0, at=0.01, **{**where, **lost})
        for source in (None, *SOURCES):
            for at in (0.05, 0.01):
                where = {
                    "paradigm": "real",
                    "generator": source,
                    "perturbation": view,
                    "n_images": 121 if source is None else 20,
                }
                make.add("detection", "detection_rate", at * 1.2, at=at, unit="share of images", spread=0.03, **where)


def _leak(make: Maker) -> None:
    height = {"container": (0.95, 0.6, 0.5), "size": (0.9, 0.52, 0.5), "content": (0.64, 0.63, 0.58)}
    for probe, values in height.items():
        for view, value in zip(VIEWS, values, strict=True):
            for paradigm, generator in _groups():
                where = {"paradigm": paradigm, "generator": generator, "perturbation": view, "detector": probe}
                make.add("leak", "auc", value, **where)


def _contrast(make: Maker, decided: bool) -> None:
    for view in VIEWS:
        for first in ("mllm", "mllm-conditioned"):
            for measure, at in (("auc", None), ("detection_rate", 0.05)):
                p = 0.001 if decided else 0.21
                make.add(
                    "contrast", "difference", -0.12 if decided else -0.05, perturbation=view, at=at, spread=0.08,
                    unit=f"difference of {measure}", contrast=f"{measure}: {first} - diffusion",
                    p_value=p, p_adjusted=min(1.0, 4 * p),
                    confounded=view == "native", confounded_by=["container"] if view == "native" else [],
                )  # fmt: skip


def _laundering(make: Maker) -> None:
    for i, chain in enumerate(CHAINS):
        for paradigm in (None, *GENERATORS):
            where = {"paradigm": paradigm, "perturbation": chain}
            make.add("laundering", "auc", 0.7 - 0.015 * i - (0.04 if paradigm == "mllm" else 0), **where)
            make.add("laundering", "detection_rate", 0.25 - 0.01 * i, at=0.05, **where)
        make.add("laundering", "detection_rate", 0.06, at=0.05, paradigm="real", perturbation=chain, spread=0.04)


def _retrain(make: Maker) -> None:
    tested = _groups()[1:]
    for paradigm, generator in tested:
        for other, name in tested:
            where: dict[str, Any] = {
                "trained_on": generator or paradigm, "paradigm": other, "generator": name,
                "perturbation": "recompressed", "n_images": 227 if name is None else 131,
            }  # fmt: skip
            if generator == "Kolors" and name == "Kolors":
                where |= {
                    "value": None,
                    "low": None,
                    "high": None,
                    "n_unscored": {"no_training_images": 8},
                    "n_images": 0,
                }
                where["method"] = "none: one side has no scored image"
            height = 0.72 if paradigm == other else 0.52
            make.add("retrain", "auc", height + make.rng.normal(0, 0.08), **where)
            make.add("retrain", "detection_rate", 0.2, at=0.05, **where)


def _richness(make: Maker) -> None:
    for paradigm, generator in _groups()[1:]:
        where: dict[str, Any] = {
            "paradigm": paradigm, "generator": generator, "perturbation": "recompressed", "cluster_by": "caption",
            "n_clusters": 40, "at": 0.05,
        }  # fmt: skip
        falling = 0.12 if paradigm == "mllm" else 0.0
        for i in range(3):
            make.add("richness", "detection_rate", 0.6 - falling * i, level=f"v{i}", spread=0.12, **where)
            make.add("richness", "auc", 0.8 - falling * i, level=f"v{i}", **{**where, "at": None})
        p = {"p_value": 0.002 if falling else 0.4, "p_adjusted": 0.02 if falling else 0.9}
        make.add("richness", "slope", -falling, unit="detection_rate per level", **where, **p)
        change = {"unit": "difference of detection_rate", "contrast": "detection_rate: v2 - v0"}
        make.add("richness", "difference", -2 * falling, **change, **where, **p)
        if generator is not None:
            moved = {**where, "at": None, "detector": None, "trained_on": None, "unit": "standard deviations", **p}
            for name in ("synthbuster16.m-1_n4", "block_dct.kurtosis_51", "family block_dct", "family npr"):
                make.add("richness", "difference", 0.4, contrast=f"v2 - v0: {name}", spread=0.3, **moved)
    make.add(
        "richness", "difference", -0.11, contrast="slope: mllm - diffusion", perturbation="recompressed", at=0.05,
        unit="difference of detection_rate per level", p_value=0.001, p_adjusted=0.002, cluster_by="caption",
    )  # fmt: skip


def _unsafe(make: Maker) -> None:
    for paradigm, generator in [("real", None), *_groups()]:
        for metric in ("unsafe_score", "unsafe_as_published", "unsafe_of_requested"):
            make.add(
                "unsafe", metric, 0.0, spread=0.03, judge="opennsfw", category="sexual", detector=None, trained_on=None,
                perturbation="native", paradigm=paradigm, generator=generator, unit="share of images",
                method="flagged / scored at score >= 0.5; Wilson interval", cluster_by="image", n_clusters=227,
                evidence=Evidence(scorer="opennsfw@1/sexual", perturbation="native", where={"label": "fake"}),
            )  # fmt: skip


def _picture(rng: np.random.Generator, i: int) -> bytes:
    y, x = np.mgrid[0:240, 0:320]
    waves = [127 + 100 * np.sin((x * a + y * b) / 40 + i) for a, b in rng.uniform(-1, 1, (3, 2))]
    out = io.BytesIO()
    Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def _samples(store: Store) -> list[Sample]:
    rng = np.random.default_rng(3)
    samples = []
    for i in range(18):
        paradigm = list(GENERATORS)[i % 3]
        generator = GENERATORS[paradigm][i % len(GENERATORS[paradigm])]
        path = f"pictures/{i}.png" if i else '"><img src=x onerror=alert(1)>`|.png'
        image = store.add_image(_picture(rng, i), "png")
        samples.append(Sample(id=f"s{i}", label="fake", paradigm=paradigm, generator=generator, image=image, path=path))  # type: ignore[arg-type]
    lost = Sample(id="lost", label="fake", paradigm="mllm", outcome=Outcome.FAILED, reason="missing", path="lost.png")
    store.add_samples(enumerate([*samples, lost]))
    store.add_scores("opennsfw@1", "native", {s.id: Score(0.9 if s.id == "s4" else 0.01) for s in samples}, "sexual")
    return samples


def _summaries(samples: list[Sample]) -> dict[str, Any]:
    frequency = np.linspace(0.01, 0.5, 48)
    spectra: dict[str, Any] = {}
    for v, view in enumerate(VIEWS):
        spectra[view] = {"frequency": frequency.round(4).tolist()}
        for p, paradigm in enumerate(("real", *GENERATORS)):
            mean = (
                60
                - 28 * np.log10(frequency / 0.01)
                - p * (3 - v) * frequency * 4
                + 3 * np.exp(-(((frequency - 0.25) / 0.01) ** 2)) * p
            )
            spectra[view][paradigm] = {
                "mean": mean.tolist(),
                "low": (mean - 7).tolist(),
                "high": (mean + 6).tolist(),
                "n": 100 + p,
            }
    ranked = [
        {
            "sample": s.id,
            "image": s.image,
            "path": s.path,
            "generator": s.generator,
            "paradigm": s.paradigm,
            "score": 4.2 - 0.5 * i,
        }
        for i, s in enumerate(samples)
    ]
    outcomes = [
        {
            "label": "fake",
            "paradigm": p,
            "generator": g,
            "source": SOURCES[i % 6],
            "outcome": "ok",
            "reason": None,
            "n": 10 + i,
        }
        for p, names in GENERATORS.items()
        for i, g in enumerate(names)
    ]
    outcomes.append(
        {
            "label": "fake",
            "paradigm": "mllm",
            "generator": None,
            "source": None,
            "outcome": "failed",
            "reason": "missing",
            "n": 1,
        }
    )
    return {
        "spectra": spectra,
        "ranking": {"view": "recompressed", "detector": "forensic", "most": ranked[:8], "least": ranked[:9:-1]},
        "notes": ["2 rows name the same file; the first was kept"],
        "outcomes": outcomes,
        "lengths": {f"v{i}": {"words": 10.0 + 14 * i, "prompts": 40} for i in range(3)},
        "failures": {"lost.png": "missing"},
    }


FACTS = {
    "suite_about": "Both dimensions on the same images: fake image synthesis and unsafe content.",
    "profile_about": "Models that come with the package.",
    "versions": {"mllmrisk": "0.1.0", "numpy": "2.4.0", "onnxruntime": "1.23.0"},
    "hardware": {"machine": "x86_64", "cores": 2, "threads": 2},
    "began": "2026-11-24T18:00:00+00:00",
    "seconds": {"import": 1.2, "detection": 90.5},
    "groups": {"by": "source", "weak": False},
    "counts": {"real": 121, "fake": 210, "diffusion": 98, "mllm": 106, "mllm-conditioned": 6},
}


def make_run(root: Path, *, decided: bool = False, seed: int = 7) -> Path:
    """Writes a run folder; `decided` makes the contrast one that the data decide."""
    spec = RunSpec(
        suite="full", suite_digest="00aa", profile="embedded", profile_digest="11bb", images="m.csv",
        images_digest="22cc", version="0.1.0",
    )  # fmt: skip
    make = Maker(seed)
    _leak(make)
    _detection(make)
    _contrast(make, decided)
    _laundering(make)
    _retrain(make)
    _richness(make)
    _unsafe(make)
    with Store.open(root, spec) as store:
        samples = _samples(store)
        summaries = json.dumps(_summaries(samples), ensure_ascii=False, allow_nan=False)
        write_atomically(root / "summaries.json", summaries.encode())
        store.write_estimates({"spec": msgspec.to_builtins(spec), **FACTS}, make.rows)
    return root
