"""Datasets for PyTorch: files, WebDataset tars and Parquet to batches of decoded, perturbed and cropped images.

A batch is one call of the core: files are read, decoded, perturbed, cropped and normalised on as many threads as
wanted, outside the interpreter, and PyTorch gets the buffer without a copy. See `docs/torch.md`.

    import mllmrisk.torch as data
    from mllmrisk.images import Preprocessing

    recipe = data.Recipe(Preprocessing(crop_mode="centre", size=(224, 224)), random_crop=True, mirror=0.5)
    batches = data.ImageBatches(data.files("photographs/"), recipe, batch_size=64, shuffle=10_000)
    for images, labels, indices, errors in batches:
        ...
"""

from mllmrisk.extras import optional

optional("torch", "mllmrisk.torch", "gen")

from mllmrisk.torch.datasets import (  # noqa: E402  # not before it is known that torch is there
    ImageBatches,
    ImageDataset,
    SkippedImagesWarning,
    whole,
)
from mllmrisk.torch.recipe import Bad, Batch, Recipe  # noqa: E402
from mllmrisk.torch.sources import Images, files, parquet, tars  # noqa: E402

__all__ = [
    "Bad",
    "Batch",
    "ImageBatches",
    "ImageDataset",
    "Images",
    "Recipe",
    "SkippedImagesWarning",
    "files",
    "parquet",
    "tars",
    "whole",
]
