"""Any image classifier of transformers: network, labels and preprocessing from what `save_pretrained` wrote."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoModelForImageClassification

from mllmrisk.errors import UsageError
from mllmrisk.extras import quiet
from mllmrisk.inference import first_line

#: Pillow's filters by number, as an image processor gives them.
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box"}
#: What an image processor may say that changes pixels and that no recipe has a key for.
_UNKNOWN = ("do_pad", "do_flip_channel_order", "do_color_quantize", "do_reduce_labels", "rescale_offset")


class Logits(nn.Module):
    """The network without its dictionary: pixels → logits (n, labels)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(n, 3, h, w) → (n, labels)."""
        return self.network(pixel_values=pixel_values).logits


class Classifier(NamedTuple):
    """A folder's classifier.

    Attributes:
        module: :class:`Logits`.
        labels: in column order.
        preprocessing: keys of a recipe's `[input]`.
        author: (H, W, 3) uint8 pictures → the tensor that the folder's own processor makes of them.
        version: digest of the weights.
        licence: as the folder's model card says; "" if it does not.
    """

    module: Logits
    labels: list[str]
    preprocessing: dict[str, Any]
    author: Any
    version: str
    licence: str


def load(folder: Path) -> Classifier:
    """Loads network and processor from a folder; weights from safetensors only, and no code that the folder brings.

    Raises:
        UsageError: no such folder, it cannot be loaded, weights are missing, or its preprocessing cannot be written
            down as a recipe.
    """
    if not folder.is_dir():
        raise UsageError(f"no folder {folder}: give what save_pretrained wrote")
    arguments: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with quiet(transformers):
            network, report = AutoModelForImageClassification.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True, dtype=torch.float32, **arguments
            )
            processor = AutoImageProcessor.from_pretrained(folder, **arguments)
    except Exception as wrong:  # OSError, ValueError, KeyError, SafetensorError: as they come
        raise UsageError(f"{folder} cannot be loaded: {first_line(wrong)}") from wrong
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(str(name) for name in report.get(what) or ()):
            raise UsageError(f"{folder}: {what.replace('_', ' ')} in its weights: {', '.join(names[:3])}")
    if network.config.problem_type == "multi_label_classification":
        raise UsageError(f"{folder}: its labels do not exclude each other; a detector has one score")

    def author(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        return processor(images=[Image.fromarray(p) for p in pictures], return_tensors="pt")["pixel_values"].float()

    labels = [str(network.config.id2label[i]) for i in range(network.config.num_labels)]
    module = Logits(network).eval().requires_grad_(False)
    return Classifier(module, labels, preprocessing(processor), author, _version(folder), _licence(folder))


def preprocessing(processor: Any) -> dict[str, Any]:
    """The keys of a recipe's `[input]` that say what an image processor does.

    Raises:
        UsageError: it does something else.
    """
    said = {name: getattr(processor, name) for name in vars(processor) | vars(type(processor)) if name[0] != "_"}
    for name in _UNKNOWN:
        if said.get(name):
            raise UsageError(f"the image processor has {name} = {said[name]!r}, which no [input] can say")
    found: dict[str, Any] = _geometry(said, type(processor).__name__)
    if said.get("do_rescale", True):
        found["scale"] = float(said.get("rescale_factor") or 1 / 255)
    else:
        found["scale"] = 1.0
    if said.get("do_normalize", True):
        found["mean"] = [float(value) for value in said["image_mean"]]
        found["std"] = [float(value) for value in said["image_std"]]
    return found


def _geometry(said: dict[str, Any], kind: str) -> dict[str, Any]:
    size, crop = _sides(said.get("size")), _sides(said.get("crop_size"))
    if not said.get("do_resize") or said.get("resample") is None:
        raise UsageError(f"{kind}: an image processor that does not resize has no fixed input; write the TOML by hand")
    filter_ = {"interpolation": _FILTERS[int(said["resample"])]}
    crop_pct = said.get("crop_pct")
    if set(size) == {"height", "width"} and not said.get("do_center_crop") and not crop_pct:
        return {"crop_mode": "squash", "size": [size["height"], size["width"]], **filter_}
    if set(size) != {"shortest_edge"}:
        raise UsageError(f"{kind}: its size {size} cannot be written as [input]; write the TOML by hand")
    short = size["shortest_edge"]
    if crop_pct:  # ConvNeXT's processor: a margin is cut off below 384 px, and nothing above
        if short >= 384:
            return {"crop_mode": "squash", "size": [short, short], **filter_}
        return {"crop_mode": "short", "size": [short, short], "resize": int(short / crop_pct), **filter_}
    if not said.get("do_center_crop") or set(crop) != {"height", "width"}:
        raise UsageError(f"{kind}: without a centre crop inputs differ in size; write the TOML by hand")
    return {"crop_mode": "short", "size": [crop["height"], crop["width"]], "resize": short, **filter_}


def _sides(size: Any) -> dict[str, int]:
    given = dict(size) if size else {}
    return {name: int(value) for name, value in given.items() if value is not None}


def _version(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]


def _licence(folder: Path) -> str:
    card = folder / "README.md"
    if not card.is_file():
        return ""
    match = re.search(r"\A---\n.*?^license:\s*([\w.-]+)", card.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return match[1] if match else ""
