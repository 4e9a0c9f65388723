"""`forensic`: features from the Rust core and a fitted classifier, as one ONNX file that a user can carry away.

The file holds everything that a score needs: the list of features, their normalisation, the classifier, its
calibration, and the view under which it looks at an image (JSON in the metadata key `mllmrisk`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import config, features, inference, perturb
from mllmrisk.detectors import places
from mllmrisk.detectors.card import METADATA
from mllmrisk.detectors.recipe import Common, Model, Published, Threshold
from mllmrisk.errors import MissingExtraError, UsageError
from mllmrisk.records import Score

if TYPE_CHECKING:
    from mllmrisk.detectors.fitting import Fitted

_OPSET = 17
_ML_OPSET = 3


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """What a detector file says of itself.

    Attributes:
        features: columns in the order of the model's input.
        chains: perturbation chains that an image passes before its features are taken; the scores are averaged.
        view: the view of the training images.
        thresholds: logit from which an image is called fake, by false-alarm rate (as text), from photographs
            whose group the scoring model had not seen.
        training: who trained it on what: counts, sources, inner AUC, versions.
        seen: first 16 hex digits of the sha256 of each training image.
    """

    kind: str
    features: list[str]
    chains: list[str]
    view: str
    thresholds: dict[str, float]
    training: dict[str, Any]
    seen: list[str] = []
    schema: int = 1


class Table(Common, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The TOML of a detector of this kind; without `model` it is still to be trained."""

    kind: Literal["forensic"]
    model: Model | None = None
    threshold: Threshold | None = None
    published: Published | None = None


def made(table: dict[str, Any], folder: Path, *, device: str = "cpu") -> Forensic:
    """The detector of a TOML of the kind `forensic`, or of a file of `mllmrisk train`."""
    described = config.converted(table, Table)
    if described.model is None:
        raise UsageError(
            f"the detector {described.name!r} is trained on your images (licence: {described.licence}): "
            f"mllmrisk train --images MANIFEST -o DETECTOR.onnx, then give the file"
        )
    return Forensic(places.content(described.model, described.name, folder), name=described.name, device=device)


class Forensic:
    """A trained `forensic` detector, run through onnxruntime."""

    name: str
    decision: float = 0.0

    def __init__(self, model: Path | bytes, *, name: str | None = None, device: str = "cpu") -> None:
        """Loads a detector file. A few thousand numbers per image: the CPU is the right device.

        Raises:
            UsageError: no such file, not ONNX, or not a detector of this package.
            MissingExtraError: onnxruntime is not installed.
        """
        data = _read(model)
        self.version = hashlib.sha256(data).hexdigest()[:16]
        self.name = name or (model.stem if isinstance(model, Path) else "forensic")
        self._session = inference.open_session(data, what=f"the detector {self.name!r}", device=device).session
        self.card = _card(self._session, self.name)
        known = set(features.names("all"))
        missing = [column for column in self.card.features if column not in known]
        if missing:
            raise UsageError(
                f"{self.name} needs the feature {missing[0]!r}, which this version does not compute; train it again"
            )
        self.seen = frozenset(self.card.seen)
        self.thresholds = {float(rate): value for rate, value in self.card.thresholds.items()}

    def logits(self, values: NDArray[np.float32]) -> NDArray[np.float64]:
        """(n,) logits of (n, d) feature values, columns as in `card.features`."""
        (logits,) = self._session.run(["logit"], {"features": np.ascontiguousarray(values, dtype=np.float32)})
        return np.asarray(logits, dtype=np.float64).reshape(-1)

    def score(
        self, images: Sequence[Path | bytes], *, chains: Sequence[str] | None = None, threads: int | None = None
    ) -> list[Score]:
        """Scores images, each under its chain (of `chains`, before the detector's own) and the detector's view."""
        before = ["native"] * len(images) if chains is None else list(chains)
        totals: list[list[float]] = [[] for _ in images]
        reasons: dict[int, str] = {}
        for own in self.card.chains:
            joined = [perturb.joined(chain, own) for chain in before]
            found = features.extract(images, features=self.card.features, threads=threads, chains=joined)
            good = [i for i in range(len(images)) if i not in found.errors]
            reasons.update({i: error.code for i, error in found.errors.items()})
            if good:
                for i, logit in zip(good, self.logits(found.values[good]), strict=True):
                    totals[i].append(float(logit))
        return [
            Score(None, reasons[i]) if i in reasons else Score(float(np.mean(logits)))
            for i, logits in enumerate(totals)
        ]


def _read(model: Path | bytes) -> bytes:
    if isinstance(model, bytes):
        return model
    try:
        return model.read_bytes()
    except OSError as wrong:
        raise UsageError(f"no detector file {model}: {wrong.strerror}") from wrong


def _card(session: Any, name: str) -> Card:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA)
    if text is None:
        raise UsageError(f"{name}: an ONNX model, but not one that `mllmrisk train` wrote (no {METADATA!r} metadata)")
    try:
        return msgspec.json.decode(text, type=Card)
    except msgspec.ValidationError as wrong:
        raise UsageError(f"{name}: its metadata cannot be read: {wrong}") from wrong


def to_onnx(fitted: Fitted, card: Card) -> bytes:
    """The classifier as an ONNX model: input `features` (n, d) float32, output `logit` (n, 1) float32.

    The nodes are those of ONNX's own operator sets (`TreeEnsembleRegressor` for the gradient boosting), built from
    scikit-learn's public attributes.
    """
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ModuleNotFoundError as missing:
        raise MissingExtraError("writing a detector", "train") from missing
    linear = fitted.linear
    width = len(card.features)
    weight = fitted.slope * (1 - fitted.share)
    constants = {
        "mean": linear.mean,
        "inverse_scale": 1.0 / linear.scale,
        "coefficients": (weight * linear.coefficients)[:, None],
        "intercept": np.array([weight * linear.intercept + fitted.offset]),
        "low": np.array(-_clip()),
        "high": np.array(_clip()),
    }
    nodes = [
        helper.make_node("Sub", ["features", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "inverse_scale"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "low", "high"], ["standard"]),
        helper.make_node("MatMul", ["standard", "coefficients"], ["weighted"]),
        helper.make_node("Add", ["weighted", "intercept"], ["linear"]),
    ]
    if fitted.trees is not None:
        nodes += [
            helper.make_node(
                "TreeEnsembleRegressor",
                ["features"],
                ["trees"],
                domain="ai.onnx.ml",
                **_tree_attributes(fitted.trees, fitted.slope * fitted.share),
            ),
            helper.make_node("Add", ["linear", "trees"], ["logit"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["linear"], ["logit"]))
    graph = helper.make_graph(
        nodes,
        "forensic",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph,
        producer_name="mllmrisk",
        ir_version=9,
        opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)],
    )
    helper.set_model_props(model, {METADATA: msgspec.json.encode(card).decode()})
    checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data


def _clip() -> float:
    from mllmrisk.detectors.fitting import CLIP

    return CLIP


def _tree_attributes(trees: Any, weight: float) -> dict[str, Any]:
    """ONNX attributes of a fitted `GradientBoostingClassifier` whose leaves are scaled by `weight`."""
    nodes = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    targets = ("treeids", "nodeids", "ids", "weights")
    columns: dict[str, list[Any]] = {f"nodes_{name}": [] for name in nodes}
    columns |= {f"target_{name}": [] for name in targets}
    for tree_id, estimator in enumerate(trees.estimators_[:, 0]):
        tree = estimator.tree_
        for node in range(tree.node_count):
            leaf = tree.children_left[node] < 0
            columns["nodes_treeids"].append(tree_id)
            columns["nodes_nodeids"].append(node)
            columns["nodes_featureids"].append(0 if leaf else int(tree.feature[node]))
            columns["nodes_values"].append(0.0 if leaf else _not_above(float(tree.threshold[node])))
            columns["nodes_modes"].append("LEAF" if leaf else "BRANCH_LEQ")
            columns["nodes_truenodeids"].append(0 if leaf else int(tree.children_left[node]))
            columns["nodes_falsenodeids"].append(0 if leaf else int(tree.children_right[node]))
            if leaf:
                columns["target_treeids"].append(tree_id)
                columns["target_nodeids"].append(node)
                columns["target_ids"].append(0)
                columns["target_weights"].append(weight * trees.learning_rate * float(tree.value[node, 0, 0]))
    return {**columns, "n_targets": 1, "aggregate_function": "SUM", "post_transform": "NONE"}


def _not_above(threshold: float) -> float:
    """The largest float32 that is not above a float64 threshold: float32 inputs then take the same branch."""
    near = np.float32(threshold)
    return float(np.nextafter(near, np.float32(-np.inf)) if float(near) > threshold else near)
