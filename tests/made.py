"""Images made for tests: enough structure for every feature, and a trace that a detector can find."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image


def scene(rng: np.random.Generator, width: int, height: int, grain: float) -> np.ndarray:
    """A picture with shading, edges and grain: enough structure for every feature to be defined."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.zeros((height, width, 3))
    for channel in range(3):
        a, b, c = rng.uniform(0.01, 0.08, 3)
        image[..., channel] = 120 + 50 * np.sin(a * x + 6 * c) + 40 * np.cos(b * y)
    for _ in range(6):
        cx, cy, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(10, 40)
        image[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = rng.uniform(20, 235, 3)
    image += rng.normal(0, grain, image.shape)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def make_collection(folder: Path, per_source: int = 6, seed: int = 0) -> Path:
    """Photograph-like and generated-like images of 4 + 4 sources, two paradigms, with a manifest.

    The generated ones carry the trace of a 2× nearest-neighbour decoder, so that a detector has something to find.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for label, sources in (("real", 4), ("fake", 4)):
        for source in range(sources):
            for i in range(per_source):
                width, height = int(rng.integers(40, 48)) * 8, int(rng.integers(36, 44)) * 8
                if label == "real":
                    pixels = scene(rng, width, height, grain=6.0)
                    paradigm, generator = "real", f"camera {source}"
                else:
                    small = scene(rng, width // 2, height // 2, grain=4.0)
                    pixels = small.repeat(2, axis=0).repeat(2, axis=1)
                    paradigm = "diffusion" if source % 2 == 0 else "mllm"
                    generator = f"{paradigm} {source}"
                name = f"{label}_{source}_{i}.{'jpg' if label == 'real' else 'png'}"
                Image.fromarray(pixels).save(folder / name, quality=90)
                rows.append([name, label, paradigm, generator, f"source {label} {source}"])
    manifest = folder / "manifest.csv"
    with manifest.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["path", "label", "paradigm", "generator", "source"])
        writer.writerows(rows)
    return manifest


def photograph(height: int, width: int, seed: int) -> np.ndarray:
    """Shading, edges, texture in places, coloured noise: what a photograph has, from a seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(float)
    shade = 110 + 60 * np.sin(x / 37 + np.arange(3)[:, None, None]) * np.cos(y / 53)
    edges = 25 * (((x // 40) + (y // 27)) % 2 * 2 - 1)
    texture = 12 * np.sin(x * 1.7) * np.sin(y * 1.3) * (x > width / 2)
    noise = rng.normal(0, 4, (height, width)) + rng.normal(0, 2, (3, height, width))
    return np.clip(shade + edges + texture + noise, 0, 255).astype(np.uint8).transpose(1, 2, 0).copy()
