"""NumPy/SciPy twins of the feature families: what each formula says, in double precision, with none of Rust's tricks.

A twin takes an (H, W, 3) uint8 image and gives the family's values in the order of its columns.
"""

from collections.abc import Callable

import numpy as np

from . import (
    autocorrelation,
    benford,
    bits,
    block_dct,
    cfa,
    cooccurrence,
    cross_channel,
    directional,
    grid,
    npr,
    spectrum,
    srm3,
    synthbuster,
    ternary,
    ternary_residual,
    texture,
)

TWINS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "block_dct": block_dct.twin,
    "benford": benford.twin,
    "radial": spectrum.radial,
    "angular": spectrum.angular,
    "autocorrelation": autocorrelation.twin,
    "synthbuster8": synthbuster.period8,
    "synthbuster16": synthbuster.period16,
    "srm3": srm3.twin,
    "directional": directional.twin,
    "cooccurrence": cooccurrence.twin,
    "npr": npr.twin,
    "texture": texture.twin,
    "cross_channel": cross_channel.twin,
    "cfa": cfa.twin,
    "bits": bits.twin,
    "grid": grid.twin,
}
"""The `default` set, in its order."""

COSTLY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ternary": ternary.twin,
    "ternary_residual": ternary_residual.twin,
}
"""The costly families that `forensic` reads; the others have their twins in `features_costly`."""


def default_vector(image: np.ndarray) -> np.ndarray:
    """Every family of the `default` set, one after the other, each on its own."""
    return np.concatenate([twin(image) for twin in TWINS.values()])
