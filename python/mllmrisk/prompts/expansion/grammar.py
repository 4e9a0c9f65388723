"""Expansion of captions of the drawn world, by the world's own wordings; nothing else is understood.

So was the embedded set `benign` made: its v1 and v2 are what this makes of its v0.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

from mllmrisk.errors import UsageError
from mllmrisk.prompts.columns import normalised
from mllmrisk.prompts.embedded import RICHEST, filled, said
from mllmrisk.prompts.expansion.base import Common, Expanded, Identity, Tell, Wanted
from mllmrisk.world import COLOURS, PLACES, SUBJECTS, Scene
from mllmrisk.world.captions import TEMPLATES


class Parameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A grammar has no keys of its own."""


@functools.cache
def _scenes() -> dict[str, Scene]:
    """Every caption of every scene in English words that name it, as compared, and the scene."""
    every = [Scene(*parts) for parts in itertools.product(SUBJECTS, COLOURS, PLACES)]
    wordings = (*TEMPLATES["literal"], *TEMPLATES["long"], RICHEST)
    return {normalised(filled(wording, scene)): scene for scene in every for wording in wordings}


class Grammar:
    """v1 names the scene in a long sentence, v2 says all of it twice; the world has no more to tell.

    Attributes:
        name, identity, remembered: see :class:`~mllmrisk.prompts.expansion.base.Expander`.
    """

    accepts: ClassVar[type[msgspec.Struct]] = Parameters
    remembered = False

    def __init__(self, common: Common, parameters: Parameters, folder: Path) -> None:
        """Needs nothing."""
        del parameters, folder
        self.name = common.name
        wordings = "\n".join((TEMPLATES["long"][-1], RICHEST))
        digest = hashlib.sha256(wordings.encode()).hexdigest()[:16]
        self.identity = Identity(digest, "mllmrisk.world", wordings)

    def expand(self, wanted: Sequence[Wanted], *, seed: int, tell: Tell) -> None:
        """See :class:`~mllmrisk.prompts.expansion.base.Expander`."""
        del seed
        for place, each in enumerate(wanted):
            scene = _scenes().get(normalised(each.text))
            if scene is None:
                raise UsageError(
                    f"expander {self.name}: {each.prompt.id} is no caption of the drawn world, the only one that the "
                    "grammar has words for; other captions need a model (--with gpt-4o) or texts of your own"
                )
            if each.level == "v1":
                tell(place, Expanded(said(scene, "long")))
            elif each.level == "v2":
                tell(place, Expanded(filled(RICHEST, scene)))
            else:
                raise UsageError(f"expander {self.name}: the drawn world has nothing to add after v2: --levels 2")
