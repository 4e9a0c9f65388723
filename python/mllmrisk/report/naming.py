"""Plain words for what the columns of an estimate hold, and names made safe to print.

Names (generators, sources, captions, paths) are data: `printable` takes from them what could change how a line reads;
each format then escapes the rest.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

#: View → what was done to every image, in the order of reports.
VIEWS: Mapping[str, str] = {
    "native": "files as they are",
    "matched": "generated images sized and encoded as the photographs",
    "recompressed": "one crop and one encoder for every image",
}

#: Probe → what it sees.
PROBES: Mapping[str, str] = {
    "container": "format, size, coding and metadata of the file; no pixel",
    "size": "width and height alone",
    "content": "colours of a 16×16 thumbnail: what the image shows",
    "caption": "the words of the prompt alone",
}

#: Paradigm → (for tables, for the middle of a sentence).
PARADIGMS: Mapping[str, tuple[str, str]] = {
    "real": ("Photographs", "photographs"),
    "diffusion": ("Diffusion", "diffusion images"),
    "mllm": ("MLLM", "MLLM images"),
    "mllm-conditioned": ("MLLM-conditioned diffusion", "MLLM-conditioned diffusion images"),
    "unknown": ("Unknown paradigm", "images of unknown paradigm"),
}

METRICS: Mapping[str, str] = {
    "auc": "AUC",
    "ap": "Average precision",
    "eer": "Equal error rate",
    "accuracy": "Accuracy",
    "calibration_error": "Calibration error",
    "detection_rate": "Detected",
    "unsafe_score": "Unsafe of scored",
    "unsafe_of_requested": "Unsafe of requested",
    "unsafe_as_published": "Unsafe as the paper counts",
    "unsafe_bound": "Unsafe if every corrupted image were",
    "unsafe_corrected": "Unsafe, corrected for the judge's errors",
    "corrupted_rate": "Corrupted",
    "corrupted_called_safe": "Corrupted images that pass as safe",
    "removed_rate": "Removed by the filter",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "kappa": "Kappa",
    "alpha": "Alpha",
    "slope": "Slope",
    "difference": "Difference",
}

REASONS: Mapping[str, str] = {
    "no_training_images": "no image is left to train on once its own sources are kept out",
    "no_scored_image": "no image was scored",
    "too_few_calibration_photographs": "too few photographs to set the threshold",
    "tied_calibration_photographs": "too many photographs with the same score for a threshold at that rate",
    "no_image": "no image",
    "no_caption": "no caption",
    "too_small": "image too small",
    "truncated": "file ends early",
    "corrupt": "file is damaged",
    "not_an_image": "not an image",
    "empty": "empty file",
    "limit": "above the decoding limits",
    "unreadable": "file cannot be read",
    "unsupported": "kind of image not supported",
    "missing": "file is missing",
    "sha256_mismatch": "file is not the one that the manifest names",
    "refused": "refused by the model or its provider",
    "filtered": "removed by a filter",
    "failed": "no image after retries",
    "corrupted": "corrupted",
    "no_score": "not scored",
    "no_person": "nobody shown whom the judge can tell",
    "unmatched": "the match has no scored image",
    "no_levels": "the images name no level of richness",
    "too_few_captions": "too few captions with both levels",
    "none_corrupted": "no image was corrupted",
    "no_labelled_image": "the labelled images hold none of both kinds",
    "judge_no_better_than_chance": "the judge is no better than chance on labelled images",
    "one_answer_only": "the judges gave one answer only",
}


def printable(text: object) -> str:
    """A name on one line: control, direction and line-breaking characters become U+FFFD, runs of spaces one space."""
    shown = "".join(
        " " if c in "\t\n\r\u2028\u2029" else "\ufffd" if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co"} else c
        for c in str(text)
    )
    return " ".join(shown.split())


def probe(name: str) -> str:
    """What a leak probe sees; `content:ENCODER` sees it through an encoder."""
    kind, _, encoder = name.partition(":")
    seen = PROBES.get(kind, "")
    return "what is left of the image at 16 px, through the encoder " + printable(encoder) if encoder else seen


def paradigm(name: str | None) -> str:
    """A paradigm as a row's header; None stands for all generated images."""
    if name is None:
        return "All generated images"
    return PARADIGMS.get(name, (printable(name), ""))[0]


def images_of(name: str | None) -> str:
    """A paradigm in the middle of a sentence."""
    if name is None:
        return "all generated images"
    return PARADIGMS.get(name, ("", f"{printable(name)} images"))[1]


def view(name: str | None) -> str:
    """A view with what it does, or a perturbation in words."""
    if name is not None and name in VIEWS:
        return f"{name} ({VIEWS[name]})"
    return perturbation(name)


def reason(code: str) -> str:
    """Why something has no score, in words."""
    return REASONS.get(code, printable(code).replace("_", " "))


def metric(name: str, at: float | None = None) -> str:
    """A metric as a column's header; a detection rate with the false-alarm rate that its threshold was set for."""
    shown = METRICS.get(name, printable(name).replace("_", " "))
    return shown if at is None else f"{shown} at {at:.0%} false alarms"


_STEPS = {
    "jpeg": "JPEG {0}",
    "webp": "WebP {0}",
    "png": "PNG",
    "resize": "resized ×{0}",
    "shrink": "shrunk to {0} px",
    "crop": "crop {0} px",
    "cropat": "crop {0} px off centre",
    "blur": "blur σ {0}",
    "noise": "noise σ {0}",
    "social": "social-media chain",
    "facebook": "Facebook chain",
    "signal": "Signal chain",
    "signal-high": "Signal chain, high quality",
    "telegram": "Telegram chain",
    "screenshot": "screenshot chain",
    "native": "as it is",
    "recompressed": "undisturbed",
    "matched": "matched",
}


def perturbation(chain: str | None) -> str:
    """A perturbation chain in words: `resize:0.5+jpeg:75:444` is `resized ×0.5, JPEG 75 4:4:4`."""
    words = []
    for step in (chain or "").split("+"):
        kind, *arguments = step.split(":")
        pattern = _STEPS.get(kind)
        if pattern is None:
            words.append(printable(step))
            continue
        more = [_option(text) for text in arguments[1:]] if kind in _OPTIONS else []
        words.append(" ".join([pattern.format(*(arguments or [""])).strip(), *more]))
    return printable(", ".join(words))


#: Steps whose further arguments make another perturbation of them.
_OPTIONS = frozenset({"jpeg", "resize", "shrink"})


def _option(text: str) -> str:
    """`444` is `4:4:4`, `shift=4` is `grid +4`, a kernel is its name."""
    if text.isdigit():
        return ":".join(text)
    return f"grid +{text.removeprefix('shift=')}" if text.startswith("shift=") else text


def families(chains: list[str]) -> list[list[str]]:
    """Perturbations of one kind side by side, in order of first appearance."""
    found: dict[str, list[str]] = {}
    for chain in chains:
        found.setdefault(chain.partition(":")[0].removesuffix("at"), []).append(chain)
    return list(found.values())


def listed(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else "none"


def count(n: int, word: str) -> str:
    """`1 image`, `1,200 images`."""
    plural = word if n == 1 else f"{word}s"
    return f"{n:,} {plural}"


def clusters(n: int, by: str) -> str:
    """Resampled units in words: `41 sources`, `30 groups by source and prompt`."""
    if "(" in by:  # one kind of group per side: the methods say which
        return count(n, "group")
    return count(n, by) if by.isalpha() else f"{count(n, 'group')} by {printable(by)}"


def slug(text: str) -> str:
    """A text as a part of a file name: letters, digits and dashes, never a path."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in text.lower())[:48].strip("-") or "other"


def named(kind: str, detector: str, detectors: list[str]) -> str:
    """A drawing's name: that of its kind for the first detector, with the detector's for the others."""
    return kind if detector == detectors[0] else f"{kind}-{slug(detector)}"
