"""Janus and Janus-Pro: an image as one fixed-length sequence of VQ codes, drawn with a head of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mllmrisk.errors import UsageError
from mllmrisk.generators.base import Request
from mllmrisk.generators.guarded import random_streams
from mllmrisk.generators.pixels import to_uint8
from mllmrisk.generators.sampling import Sampler, greedy, guided, processors

#: The authors' (deepseek-ai/Janus, generation_inference.py): guidance 5, temperature 1, every code possible.
_GUIDANCE = 5.0


class Janus:
    """Draws images with a `JanusForConditionalGeneration`.

    Attributes:
        takes: optional keys of :class:`~mllmrisk.generators.transformers.Parameters` that have an effect.
        effective: how it draws, for the record.
        networks: where its time goes, by name.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"chat"})

    def __init__(self, model: Any, processor: Any, parameters: Any) -> None:
        """Takes a loaded model.

        Args:
            model: in evaluation mode, on its device.
            processor: its `JanusProcessor`.
            parameters: :class:`~mllmrisk.generators.transformers.Parameters`.

        Raises:
            UsageError: a chat template is asked for that is not there.
        """
        self._model = model
        self._processor = processor
        parts = model.model
        self.networks = {"language_model": parts.language_model, "vqmodel.decoder": parts.vqmodel.decoder}
        self._settings = _settings(model, processor.tokenizer)
        stored = model.generation_config.guidance_scale
        self._guidance = parameters.guidance if parameters.guidance is not None else stored or _GUIDANCE
        self._draw = {name: getattr(parameters, name) for name in ("temperature", "top_k", "top_p")}
        self._chat = bool(processor.chat_template) if parameters.chat is None else parameters.chat
        if self._chat and not processor.chat_template:
            raise UsageError("chat = true, and this model's processor has no chat template")
        config = model.config
        self.effective: dict[str, Any] = {
            "guidance": self._guidance,
            **self._draw,
            "chat": self._chat,
            "tokens": config.vision_config.num_image_tokens,
            "codes": config.vq_config.num_embeddings,
        }

    def tokens(self, requests: Sequence[Request]) -> tuple[Any, list[bool]]:
        """VQ codes, (n, tokens) long, and for each row whether its logits broke."""
        texts = [self._text(request.prompt) for request in requests]
        inputs = self._processor(text=texts, generation_mode="image", padding=True, return_tensors="pt")
        sampler = Sampler(random_streams(requests), **self._draw)

        def draw(input_ids: Any, scores: Any) -> Any:
            return sampler(input_ids, guided(scores, self._guidance))

        ids = self._model.generate(
            inputs=inputs.input_ids.to(self._model.device),
            attention_mask=inputs.attention_mask.to(self._model.device),
            generation_mode="image",
            generation_config=self._settings,
            logits_processor=processors(draw),
        )
        return ids, sampler.failed

    def pixels(self, ids: Any) -> list[NDArray[np.uint8] | None]:
        """Codes → pixels, rounded down as the authors and transformers do."""
        kind = self._processor.image_processor
        return to_uint8(
            self._model.decode_image_tokens(ids),
            layout="NHWC",
            rounding="down",
            mean=kind.image_mean,
            std=kind.image_std,
        )

    def _text(self, prompt: str) -> str:
        if not self._chat:
            return prompt
        said = [{"role": "user", "content": [{"type": "text", "text": prompt}]}]
        text: str = self._processor.apply_chat_template(said, add_generation_prompt=True)
        return text


def _settings(model: Any, tokenizer: Any) -> Any:
    """Greedy, with the ids of this checkpoint.

    A guidance of 1 keeps `generate` from adding its own: it would come after our draw.
    """
    settings = greedy(model, guidance_scale=1.0)
    for name in ("bos", "eos", "pad"):
        if getattr(settings, f"{name}_token_id") is None:
            setattr(settings, f"{name}_token_id", getattr(tokenizer, f"{name}_token_id"))
    kept = getattr(settings, "generation_kwargs", None) or {}
    settings.generation_kwargs = {"boi_token_id": tokenizer.boi_token_id} | kept
    return settings
