"""Writes trained models as the package ships them: `save_pretrained` folders in half precision, the judge as ONNX."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mllmrisk.micro import classifier, clip, diffusion, heads, mllm
from mllmrisk.micro.fitting import write_log

if TYPE_CHECKING:
    from pathlib import Path


def ship(name: str, out: Path, weights: Path) -> None:
    """Writes a model from its checkpoints into `weights/NAME`; NAME is one of `card.NEEDS`."""
    folder = weights / name
    if name == "micro-judge":
        classifier.export(out, folder / "micro-judge.onnx")
    elif name == "micro-diffusion":
        diffusion.trained(out).to(torch.float16).save_pretrained(folder)
    else:
        model, processor = (mllm if name == "micro-mllm" else clip).trained(out)
        model.half().save_pretrained(folder)
        processor.save_pretrained(folder)
        if name == "micro-clip":
            write_log(
                out, {"name": "heads-micro-clip", **heads.write(folder)}
            )  # the digests that its judge's TOML pins
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    write_log(out, {"name": f"ship-{name}", "bytes": size})
