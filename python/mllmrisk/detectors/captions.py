"""Captions that a detector reads beside the image: made by BLIP (Li et al., arXiv 2201.12086), or given in a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from mllmrisk import images
from mllmrisk.detectors.networks import Loader, Network
from mllmrisk.errors import UsageError
from mllmrisk.extras import optional
from mllmrisk.images import Preprocessing

Pixels = NDArray[np.uint8]

#: As DE-FAKE's test.py: the short side to 224 (torchvision's bilinear), the centre, [0, 1] and no normalisation.
INPUT = Preprocessing(crop_mode="short", size=(224, 224), resize=224, interpolation="bilinear")


class Captioner(Network, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where captions come from: BLIP by beam search, without chance; or a table.

    Attributes:
        table: a JSONL of `sha256` (of the image file, before any chain) and `caption`, in place of BLIP.
        prompt: what every caption goes on from; it is cut off again.
        beams, shortest, longest: of the search; lengths in tokens, with the prompt's.
        input: how pixels become BLIP's input.
    """

    table: str | None = None
    prompt: str = "a picture of "
    beams: int = 3
    shortest: int = 5
    longest: int = 60
    input: Preprocessing = INPUT

    def __post_init__(self) -> None:
        """Refuses captions from nowhere, or from two places."""
        super().__post_init__()
        if sum(place is not None for place in (self.folder, self.hub, self.table)) != 1:
            raise ValueError("captions come from one of folder, hub, table")


class Line(msgspec.Struct, frozen=True):
    """One line of a table of captions; other columns are not looked at."""

    sha256: str
    caption: str


class Blip:
    """BLIP as a captioner; may be called from several threads.

    Attributes:
        fingerprint: what stands for its weights in a version.
    """

    def __init__(self, how: Captioner, loader: Loader, *, what: str, batch: int) -> None:
        """Loads it.

        Args:
            how: the `[caption]` of a TOML.
            loader: of the detector.
            what: whose, for messages.
            batch: images per call, always: the last call is filled up.

        Raises:
            MissingExtraError, UsageError: see :meth:`~mllmrisk.detectors.networks.Loader.load`.
        """
        self._torch = optional("torch", what, "gen")
        self._model, self._words, self.fingerprint = loader.load(how, "BlipForConditionalGeneration")
        self._how, self._batch, self._device = how, batch, loader.device
        self._prompt = self._words(how.prompt)["input_ids"]
        size = self._model.config.vision_config.image_size
        self._resized = how.input.size != (size, size)
        self._search = {
            "num_beams": how.beams,
            "min_length": how.shortest,
            "max_length": how.longest,
            "do_sample": False,
            "length_penalty": 1.0,
            "repetition_penalty": 1.0,
            "early_stopping": False,
        }

    def captions(self, pictures: Sequence[Pixels]) -> list[str]:
        """Captions of at most `batch` pictures, (h, w, 3) uint8, without the prompt."""
        with self._torch.inference_mode():
            pixels = self._torch.from_numpy(filled(pictures, self._how.input, self._batch)).to(self._device)
            written = self._model.generate(
                pixel_values=pixels,
                # BLIP puts its own first token in place of the tokenizer's, and takes the last off.
                input_ids=self._torch.tensor([self._prompt] * self._batch, device=self._device),
                interpolate_pos_encoding=self._resized,
                **self._search,
            )
        # That first token is one that a tokenizer of BERT need not know.
        texts = [
            self._words.decode(tokens[1:], skip_special_tokens=True, clean_up_tokenization_spaces=True)
            for tokens in written[: len(pictures)].tolist()
        ]
        return [text[len(self._how.prompt) :] for text in texts]


def filled(pictures: Sequence[Pixels], how: Preprocessing, batch: int) -> NDArray[np.float32]:
    """(batch, 3, h, w): pictures as a network's input, the rest black: with another size, sums run in another order."""
    values = images.prepare(list(pictures), how, threads=1).values
    rest = np.zeros((batch - len(values), *values.shape[1:]), np.float32)
    return np.concatenate([values, rest])


def read(path: Path) -> dict[str, str]:
    """Captions by sha256, from a JSONL.

    Raises:
        UsageError: no such file, a line without them, or two captions of one image.
    """
    found: dict[str, str] = {}
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as wrong:
        raise UsageError(f"no table of captions {path}: {wrong.strerror}") from wrong
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            line = msgspec.json.decode(text, type=Line)
        except msgspec.MsgspecError as wrong:
            raise UsageError(f"{path}, line {number}: {wrong}") from wrong
        if not re.fullmatch(r"[0-9a-f]{64}", line.sha256):
            raise UsageError(f"{path}, line {number}: sha256 is 64 lower-case hexadecimal digits")
        if found.setdefault(line.sha256, line.caption) != line.caption:
            raise UsageError(f"{path}, line {number}: a second caption of {line.sha256[:12]}")
    return found
