"""How a detector is described: the head that every TOML has, and the structs of the kind `onnx`.

Everything that the author's own pipeline does to an image is written down here, since a detector that is fed otherwise
is another detector.
"""

from __future__ import annotations

import hashlib
import re
from typing import Literal

import msgspec

from mllmrisk import perturb
from mllmrisk.errors import UsageError
from mllmrisk.images import Preprocessing
from mllmrisk.pictures import PICTURES

#: Words that name a column of an output, lower case.
FAKE_WORDS = frozenset({"fake", "ai", "aigc", "generated", "synthetic", "artificial", "deepfake", "machine"})
REAL_WORDS = frozenset({"real", "human", "authentic", "natural", "photo", "photograph", "genuine"})
#: Words that turn the word beside them round: a label that has one is never guessed at.
_NEGATIONS = frozenset({"not", "non", "no", "un"})

_SHA256 = re.compile(r"[0-9a-f]{64}")


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """The keys that every detector's TOML has, whatever its kind.

    Attributes:
        name: its name in tables and commands.
        kind: which adapter runs it: a name of `detectors.KINDS`.
        version: of its weights, as the author names it; a digest is added to it.
        licence: of weights and code, as their owner states it; says so where there is none.
        restrictions: a use that the licence forbids, in a sentence; empty if none.
        citation: paper or model card.
        trained_on: what it was trained on and in which file format, since a detector of JPEG artefacts is one by that.
        extra: the optional dependency set that it needs beyond its kind's own.
    """

    name: str
    kind: str = "onnx"
    version: str
    about: str
    licence: str
    restrictions: str = ""
    citation: str
    trained_on: str
    extra: str | None = None


class Hub(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of a repository on the Hugging Face hub, at one commit (40 hexadecimal digits)."""

    repo: str
    commit: str
    file: str

    def __post_init__(self) -> None:
        """Refuses a branch or a tag: they move."""
        if not re.fullmatch(r"[0-9a-f]{40}", self.commit):
            raise ValueError("hub.commit must be a whole commit, 40 lower-case hexadecimal digits")


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a file is: beside the TOML, in an installed package, or on the hub.

    Attributes:
        sha256: of the file; checked before it is loaded.
        file: beside the TOML, or in the detector's part of the weights folder.
        package, resource: an installed package, none of whose code is run, and a path in it.
        extra: the optional dependency set of mllmrisk that brings `package`.
    """

    sha256: str
    file: str | None = None
    package: str | None = None
    resource: str | None = None
    hub: Hub | None = None
    extra: str | None = None

    def __post_init__(self) -> None:
        """Refuses a file that is in no place, or in two."""
        if (self.package is None) != (self.resource is None):
            raise ValueError("package and resource go together")
        if sum(place is not None for place in (self.file, self.package, self.hub)) != 1:
            raise ValueError("give one of file, package and resource, hub")
        if not _SHA256.fullmatch(self.sha256):
            raise ValueError("sha256 must be 64 lower-case hexadecimal digits")


class Model(Place, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ONNX file. Weights in external files are not read: onnxruntime is given the bytes that were checked.

    Attributes:
        half: TensorRT may compute in 16 bits where that is faster; scores move, so that it is part of the version, and
            the known answers must still come within their tolerance. No other device does it.
    """

    half: bool = False


class Head(Place, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A linear head in a JSON file of its own, over an embedding that the graph gives: `weights`, (d,), and `bias`.

    Attributes:
        normalised: whether embeddings are brought to length 1 first.
    """

    normalised: bool = False


class Input(Preprocessing, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model's input: its name, and how pixels become it (:class:`mllmrisk.images.Preprocessing`).

    Attributes:
        batch: rows per call of the model, always: the last call is filled up, so that a score depends on no other
            image and a graph of one fixed batch size can run. 1 where the graph itself mixes its rows, as dynamic
            quantisation does, which takes one scale from the whole batch.
    """

    name: str = "pixel_values"
    batch: int = 8

    def preprocessing(self) -> Preprocessing:
        """The part that :func:`mllmrisk.images.prepare` takes."""
        return Preprocessing(**{field: getattr(self, field) for field in Preprocessing.__struct_fields__})


class Output(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The model's output.

    Attributes:
        name: of the ONNX output.
        kind: `logit1`, one logit of fake, (n,) or (n, 1), or a map of them, (n, 1, h, w), of which the mean counts;
            `softmax2`, logits of k >= 2 exclusive classes, (n, k), of which the score is the fake one's minus the
            logsumexp of the others, the logit of its softmax; `llr`, a log likelihood ratio, shaped as `logit1`.
        labels: of the columns, for `softmax2`.
        fake_index: the column that means fake, where the labels do not say.
        combine: how the tiles of an image make one score.
        head: a linear head that turns the output, (n, d), into one logit.
    """

    name: str = "logits"
    kind: Literal["logit1", "softmax2", "llr"]
    labels: list[str] = []
    fake_index: int | None = None
    combine: Literal["mean"] = "mean"
    head: Head | None = None

    def __post_init__(self) -> None:
        """Refuses columns without a meaning."""
        if self.kind == "softmax2":
            self.fake_column()
        elif self.labels or self.fake_index is not None:
            raise ValueError(f"an output of the kind {self.kind} has one column: no labels, no fake_index")
        if self.head is not None and self.kind != "logit1":
            raise ValueError("a head gives one logit: kind = 'logit1'")

    def fake_column(self) -> int:
        """The column of `softmax2` that means fake.

        Raises:
            ValueError: the labels do not say which, or say another one than `fake_index`.
        """
        return fake_column(self.labels, self.fake_index)


class Threshold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The author's own decision: fake from the raw score `value` upwards, which `means` what it says."""

    value: float = 0.0
    means: str


class Probe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A known answer: the raw score of a generated picture (:data:`mllmrisk.pictures.PICTURES`)."""

    image: str
    logit: float
    tolerance: float

    def __post_init__(self) -> None:
        """Refuses a picture that there is not."""
        if self.image not in PICTURES:
            raise ValueError(f"probe: no picture {self.image!r}: {', '.join(PICTURES)}")


class PublishedFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of published weights; `sha256` is empty where nobody here has seen the file."""

    name: str
    sha256: str = ""

    def __post_init__(self) -> None:
        """Refuses half a digest."""
        if self.sha256 and not _SHA256.fullmatch(self.sha256):
            raise ValueError("sha256 must be 64 lower-case hexadecimal digits, or empty")


class Published(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the weights are that a user must fetch, and the command that makes a detector of them."""

    where: str
    files: list[PublishedFile] = []
    export: str = ""


class Recipe(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole TOML of a detector of the kind `onnx`.

    Attributes:
        model: None in an entry whose ONNX file the user makes (`published`), and in a card, which is in the file.
        probe: the known-answer pair that is asked for before the detector is trusted; with `model` it must be there.
        thresholds: score from which an image is called fake, by false-alarm rate, from calibration photographs.
        chain: the perturbation chain that every image passes before the input, after any that the caller asks for:
            the view under which the detector was trained. The probe's pictures go without it.
    """

    kind: Literal["onnx"] = "onnx"
    model: Model | None = None
    input: Input
    output: Output
    threshold: Threshold
    probe: list[Probe] = []
    thresholds: dict[str, float] = {}
    chain: str = "native"
    published: Published | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be trusted."""
        if self.model is not None and len({probe.image for probe in self.probe}) < 2:
            raise ValueError("two [[probe]] of two pictures are needed: a known-answer pair")
        if self.input.batch < 1:
            raise ValueError("input.batch must be at least 1")
        for rate in self.thresholds:
            if not 0 < float(rate) < 1:
                raise ValueError(f"thresholds: {rate} is no false-alarm rate between 0 and 1")
        try:
            perturb.canonical(self.chain)
        except UsageError as wrong:
            raise ValueError(f"chain: {wrong}") from wrong

    def digest(self) -> str:
        """Eight digits over everything that decides a score: weights, chain, input, output."""
        decides = (
            None if self.model is None else self.model.sha256,
            msgspec.to_builtins(self.input),
            msgspec.to_builtins(self.output),
            *([] if self.chain == "native" else [self.chain]),
            *(["half"] if self.model is not None and self.model.half else []),
        )
        return hashlib.sha256(msgspec.json.encode(decides, order="sorted")).hexdigest()[:8]


def fake_column(labels: list[str], index: int | None = None) -> int:
    """The column that means fake.

    Published models have it at 0 as often as at 1, so it is read from the labels, never assumed.

    Args:
        labels: one per column: `Real`, `AI-generated`.
        index: what the caller says, for labels that do not speak for themselves; needed where there are none.

    Raises:
        ValueError: not exactly one label means fake, some label means neither or both, or `index` contradicts them.
    """
    if not labels:
        if index not in (0, 1):
            raise ValueError("which column means fake? give labels in column order, or fake_index (of two columns)")
        return index
    meanings = [_meaning(label) for label in labels]
    if index is not None:
        if not 0 <= index < len(labels):
            raise ValueError(f"fake_index {index} is not one of {len(labels)} columns")
        if meanings[index] == "real" or any(m == "fake" for i, m in enumerate(meanings) if i != index):
            raise ValueError(f"fake_index {index} contradicts the labels {', '.join(labels)}")
        return index
    if len(labels) < 2 or meanings.count("fake") != 1 or meanings.count("real") != len(labels) - 1:
        raise ValueError(f"the labels {', '.join(map(repr, labels))} do not say which one means fake: give fake_index")
    return meanings.index("fake")


def _meaning(label: str) -> Literal["fake", "real"] | None:
    """What a label means by its words; None for neither, both, or a negation."""
    words = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", label)}
    fake, real = bool(words & FAKE_WORDS), bool(words & REAL_WORDS)
    if fake == real or words & _NEGATIONS:
        return None
    return "fake" if fake else "real"
