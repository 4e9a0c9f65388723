"""What an expander is: it says a caption again, richer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import msgspec

from mllmrisk.records import Prompt

#: Where the text goes in an instruction.
SLOT = "{text}"


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """What every expander's TOML has, whatever its kind.

    Attributes:
        name: of letters, digits, dots and dashes; it names the file of what was answered.
        kind: `openai`, `transformers`, `file` or `grammar`.
        licence: of the model or the texts.
    """

    name: str
    version: str
    kind: str
    about: str
    licence: str = ""


class Instruction(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model is told.

    Attributes:
        text: `{text}` stands for the prompt that is to be expanded.
        system: what stands before it, where the model has a place for it.
    """

    text: str
    system: str = ""

    def __post_init__(self) -> None:
        """Refuses an instruction that shows no text."""
        if self.text.count(SLOT) != 1:
            raise ValueError(f"an instruction holds {SLOT} once")

    def about(self, text: str) -> str:
        """The instruction about one text, which may itself hold braces."""
        return self.text.replace(SLOT, text)

    @property
    def whole(self) -> str:
        """Both parts as one text, for records."""
        return f"{self.system}\n\n{self.text}" if self.system else self.text


class Wanted(NamedTuple):
    """One text that is to be expanded.

    Attributes:
        prompt: the caption that it goes back to.
        text: the caption, or what it has become so far.
        level: the level that is to be made: `v1`, `v2`.
    """

    prompt: Prompt
    text: str
    level: str


class Expanded(NamedTuple):
    """What came of it: a text, or one word for why there is none."""

    text: str | None
    reason: str | None = None


#: Called with the place of a wanted text and what came of it, as soon as that is known.
Tell = Callable[[int, Expanded], None]


class Identity(NamedTuple):
    """What decides an expansion, beside the text itself.

    Attributes:
        digest: of all that decides what the expander says, and of nothing that does not (patience, keys).
        model: that answers.
        instruction: that it gets.
    """

    digest: str
    model: str
    instruction: str


class Expander(Protocol):
    """Says texts again, richer.

    Attributes:
        name: of the TOML.
        identity: stands in every record.
        remembered: whether its answers are kept in the cache: those of a model are, for they cost.
    """

    name: str
    identity: Identity
    remembered: bool

    def expand(self, wanted: Sequence[Wanted], *, seed: int, tell: Tell) -> None:
        """Expands texts; `tell` is called once for each, in any order, and may be called from several threads.

        Raises:
            UsageError: no text could be expanded by it: a key is refused, or the captions are not of its world.
        """
        ...


class ExpanderKind(Protocol):
    """What the table of kinds holds: a class that makes an expander.

    Attributes:
        accepts: the keys of its TOML beyond :class:`Common`.
    """

    accepts: ClassVar[type[msgspec.Struct]]

    def __call__(self, common: Common, parameters: Any, folder: Path) -> Expander:
        """Takes the TOML's keys and loads what it needs.

        Raises:
            UsageError: a file, a key or a model is missing.
            MissingExtraError: a package is not installed.
        """
        ...
