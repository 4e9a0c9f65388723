"""What each leak probe reads; fitted and tested exactly as a detector is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from mllmrisk import perturb
from mllmrisk.experiments import probes
from mllmrisk.experiments.probe import Probe
from mllmrisk.experiments.study import Study, Table
from mllmrisk.experiments.tabular import Tabular
from mllmrisk.experiments.views import Arm

if TYPE_CHECKING:
    from mllmrisk.detectors.fitting import Fitted, Rows


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

#: What is left of an image for `content`, whatever looks at it.
_LITTLE = "shrink:16:box"


class Through(Tabular):
    """`content` through a frozen encoder: the head of a `probe` on images of which 16 px are left."""

    def __init__(self, family: Probe) -> None:
        """Takes the family whose encoder looks."""
        self.family = family
        super().__init__(f"content:{family.name.partition(':')[2]}", self._embeddings)

    def needs(self) -> Iterable[str]:
        """Those of the family."""
        return self.family.needs()

    def fit(self, rows: Rows, seed: int) -> Fitted:
        """As the family fits."""
        return self.family.fit(rows, seed)

    def _embeddings(self, study: Study, way: Arm) -> Table:
        little = Arm(f"{way.name}/16 px", lambda sample: perturb.joined(way.chain(sample), _LITTLE))
        return study.embeddings(little, self.family.encoder(study.device))
