"""Emu3: an image as rows of visual tokens in the text vocabulary, each row ended by a token of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mllmrisk.errors import UsageError
from mllmrisk.generators.base import Request
from mllmrisk.generators.guarded import random_streams
from mllmrisk.generators.pixels import to_uint8
from mllmrisk.generators.sampling import Sampler, greedy, processors

#: The authors' (baaivision/Emu3, image_generation.py): guidance 3.
_GUIDANCE = 3.0
_ROW_END = "<|extra_200|>"
#: End of frame, end of image, end of text: `decode_image_tokens` cuts these three off.
_TAIL = 3


class Emu3:
    """Draws images with an `Emu3ForConditionalGeneration`.

    Attributes:
        takes: optional keys of :class:`~mllmrisk.generators.transformers.Parameters` that have an effect.
        effective: how it draws, for the record.
        networks: where its time goes, by name.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"negative_prompt", "ratio", "area", "suffix"})

    def __init__(self, model: Any, processor: Any, parameters: Any) -> None:
        """Takes a loaded model.

        Args:
            model: in evaluation mode, on its device.
            processor: its `Emu3Processor`.
            parameters: :class:`~mllmrisk.generators.transformers.Parameters`.

        Raises:
            UsageError: the size that `ratio` and `area` ask for has no tokens.
        """
        self._model = model
        self._processor = processor
        parts = model.model
        self.networks = {"text_model": parts.text_model, "vqmodel.decoder": parts.vqmodel.decoder}
        self._size = {"ratio": parameters.ratio or "1:1", "image_area": parameters.area or processor.image_area}
        self._suffix = parameters.suffix or ""
        self._negative = parameters.negative_prompt or ""
        stored = model.generation_config.guidance_scale
        self._guidance = parameters.guidance if parameters.guidance is not None else stored or _GUIDANCE
        self._draw = {name: getattr(parameters, name) for name in ("temperature", "top_k", "top_p")}
        self._height, self._width = self._inputs([""]).image_sizes[0]
        if self._height < 1 or self._width < 1:
            raise UsageError(f"an area of {parameters.area} pixels is less than one token each way")
        self._allowed = grid(model, processor.tokenizer, self._height, self._width)
        self.effective: dict[str, Any] = {
            "guidance": self._guidance,
            **self._draw,
            "negative_prompt": self._negative,
            "suffix": self._suffix,
            "tokens": self._height * self._width,
            "grid": [self._height, self._width],
        }

    def tokens(self, requests: Sequence[Request]) -> tuple[Any, list[bool]]:
        """Text token ids of the whole grid, (n, height * (width + 1) + 3) long, and which rows' logits broke."""
        inputs = self._inputs([request.prompt + self._suffix for request in requests])
        empty = self._inputs([self._negative] * len(requests))
        sampler = Sampler(random_streams(requests), allowed=self._allowed, **self._draw)
        length = self._height * (self._width + 1) + _TAIL
        device = self._model.device
        ids = self._model.generate(
            input_ids=inputs.input_ids.to(device),
            attention_mask=inputs.attention_mask.to(device),
            negative_prompt_ids=empty.input_ids.to(device),
            negative_prompt_attention_mask=empty.attention_mask.to(device),
            generation_config=greedy(self._model, guidance_scale=self._guidance, max_new_tokens=length),
            logits_processor=processors(sampler),
        )
        return ids[:, inputs.input_ids.shape[1] :], sampler.failed

    def pixels(self, ids: Any) -> list[NDArray[np.uint8] | None]:
        """Token ids → pixels, rounded down as the authors and transformers do."""
        kind = self._processor.image_processor
        decoded = self._model.decode_image_tokens(image_tokens=ids, height=self._height, width=self._width)
        return to_uint8(decoded, layout="NCHW", rounding="down", mean=kind.image_mean, std=kind.image_std)

    def _inputs(self, texts: list[str]) -> Any:
        return self._processor(
            text=texts,
            padding=True,
            padding_side="left",
            return_tensors="pt",
            return_for_image_generation=True,
            **self._size,
        )


def grid(model: Any, tokenizer: Any, height: int, width: int) -> Callable[[int], Any]:
    """Which tokens can stand where: visual ones, a row's end after each `width`, then the three that end an image.

    The documented `prefix_allowed_tokens_fn` gives the same; it makes a list of 32,768 ids for every row and step,
    though the place depends on the step alone.
    """
    import torch

    device = model.device
    visual = torch.tensor(model.vocabulary_mapping.image_tokens, device=device)
    row_end = torch.tensor([tokenizer.convert_tokens_to_ids(_ROW_END)], device=device)
    tail = [
        torch.tensor([one], device=device)
        for one in (tokenizer.eof_token_id, tokenizer.eoi_token_id, tokenizer.eos_token_id)
    ]

    def allowed(step: int) -> Any:
        row, column = divmod(step, width + 1)
        if row >= height:
            return tail[step - height * (width + 1)]
        return row_end if column == width else visual

    return allowed
