"""Independent NumPy/SciPy twins of the costly families: double precision, the plain formula, no care for speed.

Each module has one function of an (H, W, 3) uint8 array to a float64 vector, in the order of the family's columns.
"""

from collections.abc import Callable

import numpy as np

from . import aide, cfa_em, ela, ghost, glcm, phase, srm30

TWINS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "srm30": srm30.values,
    "ghost": ghost.values,
    "ela": ela.values,
    "cfa_em": cfa_em.values,
    "glcm": glcm.values,
    "aide": aide.values,
    "phase": phase.values,
}
