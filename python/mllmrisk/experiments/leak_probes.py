"""What each leak probe reads; fitted and tested exactly as a detector is."""

from __future__ import annotations

import numpy as np

from mllmrisk.experiments import probes
from mllmrisk.experiments.study import Study, Table
from mllmrisk.experiments.tabular import Tabular
from mllmrisk.experiments.views import Arm


def _size(study: Study, way: Arm) -> Table:
    table = study.container_facts(way)
    return table._replace(values=table.values[:, probes.SIZE_COLUMNS])


def _captions(study: Study, _: Arm) -> Table:
    told = [s for s in study.samples if s.prompt]
    values = [probes.caption_vector(s.prompt or "") for s in told]
    reasons = {s.id: "no_caption" for s in study.samples if not s.prompt}
    return Table(told, np.stack(values) if values else np.zeros((0, 0), np.float32), reasons)


PROBES = {
    "container": Tabular("container", lambda study, way: study.container_facts(way)),
    "size": Tabular("size", _size),
    "content": Tabular("content", lambda study, way: study.thumbnails(way)),
    "caption": Tabular("caption", _captions),
}
