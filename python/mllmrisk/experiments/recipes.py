"""The recipes: what each trained detector and each leak probe reads."""

from __future__ import annotations

import numpy as np

from mllmrisk import features
from mllmrisk.experiments import probes
from mllmrisk.experiments.crossfit import Recipe
from mllmrisk.experiments.study import Study, Table
from mllmrisk.experiments.views import Arm

#: What `forensic` reads: ternary patterns of luma and chroma. In cross-source tests they carried the signal, and the
#: classic families beside them only diluted it (docs/forensic.md).
FEATURES = ("ternary", "ternary_residual")
#: What is computed of every image at once: beside the above, the radial spectrum for the report.
VECTOR = ("radial", *FEATURES)


def _size(study: Study, way: Arm) -> Table:
    table = study.container_facts(way)
    return table._replace(values=table.values[:, probes.SIZE_COLUMNS])


def _captions(study: Study, _: Arm) -> Table:
    told = [s for s in study.samples if s.prompt]
    values = [probes.caption_vector(s.prompt or "") for s in told]
    reasons = {s.id: "no_caption" for s in study.samples if not s.prompt}
    return Table(told, np.stack(values) if values else np.zeros((0, 0), np.float32), reasons)


def _patterns(study: Study, way: Arm) -> Table:
    table = study.features(way, VECTOR)
    if not table.samples:  # no image was large enough for features under this arm
        return table
    names = features.names(VECTOR)
    wanted = set(features.names(FEATURES))
    return table._replace(values=table.values[:, [i for i, name in enumerate(names) if name in wanted]])


FORENSIC = Recipe("forensic", _patterns, columns=FEATURES, augmented=True)

#: Detectors that are trained on the images of a run.
TRAINED = {FORENSIC.name: FORENSIC}

PROBES = {
    "container": Recipe("container", lambda study, way: study.container_facts(way)),
    "size": Recipe("size", _size),
    "content": Recipe("content", lambda study, way: study.thumbnails(way)),
    "caption": Recipe("caption", _captions),
}
