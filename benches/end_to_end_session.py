"""How busy a detector's model is: the share of the wall time of `score` that is spent inside the ONNX session.

A ViT-B/16 of random weights, exported by torch's dynamo exporter, scores real files through the whole path (read,
decode, resize, crop, normalise, batch of 8, logit), and beside it the same without the thread that prepares ahead.

    python benches/end_to_end_session.py FOLDER [IMAGES]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from transformers import ViTConfig, ViTForImageClassification

from mllmrisk import detectors, images, inference
from mllmrisk.detectors import card, onnx

RECIPE = {
    "name": "vit-b",
    "version": "random",
    "about": "ViT-B/16, random weights",
    "licence": "CC0",
    "citation": "none",
    "trained_on": "nothing",
    "input": {"crop_mode": "short", "size": [224, 224], "resize": 256, "mean": [0.5] * 3, "std": [0.5] * 3},
    "output": {"kind": "softmax2", "labels": ["real", "fake"]},
    "threshold": {"means": "nothing"},
}


class Logits(torch.nn.Module):
    """The network with its logits alone."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.network(pixel_values).logits


def exported(folder: Path) -> Path:
    """The detector on disk."""
    torch.manual_seed(0)
    network = Logits(ViTForImageClassification(ViTConfig(num_labels=2, attn_implementation="eager"))).eval()
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 3, 224, 224),),
        dynamo=True,
        input_names=["pixel_values"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("n", min=1, max=64)},),
        verbose=False,
    )
    program.save(folder / "plain.onnx", external_data=False)
    model = (folder / "plain.onnx").read_bytes()
    table = {**RECIPE, "probe": onnx.known_answers(model, RECIPE, tolerance=1e-3)}
    return card.save(folder / "vit-b.onnx", card.write(model, table, training={}), table)


def main() -> None:
    """Prints the shares."""
    files = sorted(p for p in Path(sys.argv[1]).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    files = files[: int(sys.argv[2]) if len(sys.argv) > 2 else 96]
    with tempfile.TemporaryDirectory() as folder:
        detector = detectors.load(str(exported(Path(folder))), device="auto")
    detector.score(files[:8])
    before = detector.timing
    scored = detector.score(files)
    session = detector.timing.session_seconds - before.session_seconds
    wall = detector.timing.wall_seconds - before.wall_seconds
    network, busy, began = detector._network, 0.0, time.perf_counter()
    for start in range(0, len(files), 8):  # one after the other, as without the thread
        prepared = images.prepare(files[start : start + 8], detector.recipe.input.preprocessing())
        at = time.perf_counter()
        inference.run(network._opened, "pixel_values", np.resize(prepared.values, (8, 3, 224, 224)), "logits")
        busy += time.perf_counter() - at
    alone = time.perf_counter() - began
    print(
        f"{len(files)} files, {sum(s.value is not None for s in scored)} scored, {len(os.sched_getaffinity(0))} cores"
    )
    print(f"{detector.provider}: ahead {session:.2f} of {wall:.2f} s inside the session = {session / wall:.4f}")
    print(f"one after the other: {busy:.2f} of {alone:.2f} s = {busy / alone:.4f}; ahead takes {wall / alone:.3f}")


if __name__ == "__main__":
    main()
