"""Detection and laundering against what people use today: file to logit, JPEG through memory, many perturbations.

One process, one thread on each side, the sides taken in turn, results compared before anything is timed:

- `forensic` from file to logit against Pillow, the NumPy twins of the features that it reads, and scikit-learn;
- JPEG encoding and decoding against simplejpeg (libjpeg-turbo's Python binding);
- the `fake` suite's perturbations from one decoding against a decoding for each.

`python benches/end_to_end_detect.py` prints median times and their ratio.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

os.environ.update(
    dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"), "1")
)

import numpy as np
import simplejpeg
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "oracle" / "features"))
sys.path.insert(0, str(Path(__file__).parent))

from twins import COSTLY

import comparison
from comparison import Row
from end_to_end_decode import photograph
from mllmrisk import config, features, perturb
from mllmrisk.detectors.fitting import Fitted, Rows, _fit_trees, fit
from mllmrisk.detectors.forensic import Card, Forensic, to_onnx
from mllmrisk.experiments.forensic import FEATURES, VECTOR
from mllmrisk.experiments.laundering import laundered

ROUNDS = 9
#: Files per call, on both sides: the library is made for many.
FILES = 4
CHAINS = {"native": "native", "recompressed": "crop:256+jpeg:90:420"}


def measured(
    work: str,
    baseline: str,
    ours: Callable[[], object],
    other: Callable[[], object],
    units: int = 1,
    goal: float | None = None,
) -> Row:
    """CPU time of both calls in turn, per unit of work."""
    mine, theirs = comparison.interleaved(ours, other, rounds=ROUNDS)
    return Row(work, baseline, mine / units, theirs / units, goal)


def model() -> Fitted:
    """A blend of both parts of the classifier, fitted on patches of photographs, half of them smoothed."""
    pixels = photograph(1024)
    patches = [pixels[y : y + 128, x : x + 128].copy() for y in range(0, 896, 128) for x in range(0, 896, 128)]
    labels = np.arange(len(patches)) % 2 == 1
    chains = ["blur:0.6" if fake else "native" for fake in labels]
    values = features.extract(patches, FEATURES, chains=chains, threads=1).values
    count = len(patches)
    rows = Rows(values, labels, np.arange(count) // 4, np.arange(count), np.ones(count), np.ones(count, dtype=bool))
    every = np.ones(count, dtype=bool)
    return fit(rows, seed=0)._replace(share=0.4, curved=_fit_trees(rows, every, 0))


def usual(fitted: Fitted, file: Path, view: str) -> float:
    """The logit of a file by Pillow, NumPy and scikit-learn."""
    image = Image.open(file).convert("RGB")
    if view == "recompressed":
        left, top = (image.width - 256) // 2, (image.height - 256) // 2
        buffer = io.BytesIO()
        image.crop((left, top, left + 256, top + 256)).save(buffer, "JPEG", quality=90, subsampling="4:2:0")
        image = Image.open(buffer).convert("RGB")
    pixels = np.asarray(image)
    vector = np.concatenate([COSTLY[name](pixels) for name in FEATURES]).astype(np.float32)
    return float(fitted.logits(vector[None])[0])


def detection(folder: Path) -> list[Row]:
    """`forensic` from JPEG files of 512x512 to logits, in both views that a detector file can carry."""
    fitted = model()
    files = []
    for i in range(FILES):
        files.append(folder / f"{i}.jpg")
        files[-1].write_bytes(perturb.encode(np.rot90(photograph(512), i).copy(), "jpeg:90"))
    made = []
    for view, chain in CHAINS.items():
        card = Card(
            kind="forensic",
            features=list(features.names(FEATURES)),
            chains=[chain],
            view=view,
            thresholds={},
            training={},
        )
        detector = Forensic(to_onnx(fitted, card))
        expected = [usual(fitted, file, view) for file in files]
        got = [score.value for score in detector.score(files, threads=1)]
        np.testing.assert_allclose(np.array(got, dtype=np.float64), expected, rtol=2e-3, atol=2e-3)
        made.append(
            measured(
                f"forensic, JPEG file of 512x512 to logit, {view}",
                "Pillow + NumPy + scikit-learn",
                lambda d=detector: d.score(files, threads=1),
                lambda v=view: [usual(fitted, file, v) for file in files],
                FILES,
            )
        )
    return made


def jpeg() -> list[Row]:
    """Encoding and decoding. Below quality 96 the binding has only libjpeg's fast transform for encoding.

    So pixels are compared with its own at 96 and above, and with Pillow's, which encodes as we do, below.
    """
    made = []
    for side in (512, 1024):
        pixels = photograph(side)
        for quality, sampling in ((98, "420"), (96, "444"), (90, "420"), (75, "420")):
            chain = f"jpeg:{quality}:{sampling}"

            def binding(pixels: np.ndarray = pixels, quality: int = quality, sampling: str = sampling) -> np.ndarray:
                data = simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling=sampling, fastdct=False)
                return simplejpeg.decode_jpeg(data, fastdct=False, fastupsample=False)

            def through_pillow(
                pixels: np.ndarray = pixels, quality: int = quality, sampling: str = sampling
            ) -> np.ndarray:
                buffer = io.BytesIO()
                Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=":".join(sampling))
                return np.asarray(Image.open(buffer))

            same = binding if quality >= 96 else through_pillow
            np.testing.assert_array_equal(perturb.apply(pixels, chain), same(), err_msg=chain)
            work = f"{chain} of {side}x{side}, encode and decode"
            made.append(measured(work, "simplejpeg", lambda p=pixels, c=chain: perturb.apply(p, c), binding))
    return made


def laundering(folder: Path) -> list[Row]:
    """The perturbations of the suite `fake`: one decoding for all, against one for each; the values are the same."""
    suite = config.suite("fake").value
    asked = next(table["perturbations"] for table in suite.experiments if table["kind"] == "laundering")
    chains = [laundered(perturb.canonical(text)).chain(None) for text in asked]  # type: ignore[arg-type]
    made = []
    for encoding in ("jpeg:90", "png"):
        file = folder / f"laundered.{encoding[:3]}"
        file.write_bytes(perturb.encode(photograph(1024), encoding))

        def together(file: Path = file) -> list[np.ndarray]:
            found = features.extract_chains([file], [chains], VECTOR, threads=1)
            return [one.values for one in found]

        def each(file: Path = file) -> list[np.ndarray]:
            return [features.extract([file], VECTOR, chains=chain, threads=1).values for chain in chains]

        np.testing.assert_array_equal(np.stack(together()), np.stack(each()))
        work = f"{len(chains)} perturbations of one {encoding[:4].rstrip(':')} of 1024x1024"
        made.append(measured(work, "a decoding for each", together, each))
    return made


def rows() -> list[Row]:
    """Every comparison; raises where the results are not the same."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return [*detection(folder), *jpeg(), *laundering(folder)]


if __name__ == "__main__":
    comparison.say(rows())
