"""How an autoregressive model draws tokens: each row from its own seed, whatever else is in the batch.

`generate` of transformers draws a whole batch from one global generator, so that an image would depend on its
company. Here the draw is made by a logits processor that leaves one token possible, and `generate` is greedy.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from mllmrisk.extras import optional


class Sampler:
    """A logits processor, the last one, for one call of `generate`.

    It applies temperature, top-k and top-p in transformers' order and with its classes, then draws with
    `torch.multinomial` on the CPU, row by row, so that a device does not change the noise.

    Attributes:
        failed: for each row whether its logits were ever NaN, or had no finite value; its tokens then mean nothing.
    """

    def __init__(
        self,
        streams: Sequence[Any],
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        allowed: Callable[[int], Any] | None = None,
    ) -> None:
        """Prepares one call.

        Args:
            streams: a CPU torch.Generator per row.
            temperature: the logits are divided by it; above 0.
            top_k: only so many of the likeliest tokens can be drawn; None for all.
            top_p: only the likeliest tokens that make up this probability; None for all.
            allowed: the token ids, (n,) long on the scores' device, that can stand at a step, counted from 0; every
                row is at the same step.
        """
        library = optional("transformers.generation", "sampling", "gen")
        self._streams = streams
        self._allowed = allowed
        self._warpers: list[Any] = [library.TemperatureLogitsWarper(temperature)] if temperature != 1 else []
        self._warpers += [] if top_k is None else [library.TopKLogitsWarper(top_k)]
        self._warpers += [] if top_p is None else [library.TopPLogitsWarper(top_p)]
        self._step = 0
        self.failed = [False] * len(streams)

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Scores (rows, vocabulary) → the same shape, 0 at the drawn token and -inf elsewhere."""
        import torch

        columns = None if self._allowed is None else self._allowed(self._step)
        self._step += 1
        logits = (scores if columns is None else scores[:, columns]).float()
        broken = logits.isnan().any(1) | ~logits.isfinite().any(1)
        self.failed = [before or bool(now) for before, now in zip(self.failed, broken, strict=True)]
        logits = torch.where(broken[:, None], torch.zeros_like(logits), logits)
        for warp in self._warpers:
            logits = warp(input_ids, logits)
        chances = logits.softmax(-1).cpu()
        drawn = torch.stack(
            [torch.multinomial(row, 1, generator=stream) for row, stream in zip(chances, self._streams, strict=True)]
        ).to(scores.device)
        tokens = drawn if columns is None else columns[drawn]
        return torch.full_like(scores, -torch.inf).scatter_(1, tokens, 0.0)


def greedy(model: Any, **settings: Any) -> Any:
    """A model's generation settings with nothing drawn by `generate` itself."""
    kept = copy.deepcopy(model.generation_config)
    off = {"temperature": None, "top_k": None, "top_p": None, "max_length": None}
    kept.update(do_sample=False, num_beams=1, num_return_sequences=1, **(off | settings))
    return kept


def processors(draw: Callable[[Any, Any], Any]) -> Any:
    """One logits processor as `generate` takes it."""
    return optional("transformers.generation", "sampling", "gen").LogitsProcessorList([draw])


def guided(scores: Any, guidance: float) -> Any:
    """Classifier-free guidance.

    Args:
        scores: (2 n, vocabulary): the prompts' rows, then the empty prompts'.
        guidance: 0 is the empty prompt's scores, 1 the prompt's, more leads further the same way.

    Returns:
        (n, vocabulary).
    """
    prompted, empty = scores.chunk(2)
    return empty + (prompted - empty) * guidance
