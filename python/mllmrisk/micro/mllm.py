"""`micro-mllm`: a Janus model (Llama that writes pictures word by visual word) on cached visual words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusImageProcessor,
    JanusProcessor,
    JanusVisionConfig,
    LlamaConfig,
)

from mllmrisk.micro import codes, vq
from mllmrisk.micro.data import SCENES, labels
from mllmrisk.micro.fitting import Course, fit, load_average
from mllmrisk.micro.readers import Reading
from mllmrisk.micro.vae import COUNT
from mllmrisk.micro.words import VOCABULARY, WORDINGS, bank, janus_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

WIDTH = 128
"""Width of the language model."""
TOKENS = codes.GRID**2
"""Visual words of a picture."""
READING = Course(steps=400, batch=48, rate=2e-3, ease=0.3, memory=0.98)
COURSE = Course(steps=4000, batch=32, rate=1.5e-3, ease=0.6, memory=0.998, decay=0.05)
UNGUIDED = 0.1
"""Share of captions that are blanked, as `generate` blanks them for classifier-free guidance."""
GUIDANCE = 1.5
"""The guidance scale that the model is shipped with."""
TEMPERATURE = 0.9
TOP_K = 100


def config() -> JanusConfig:
    """Configuration of the whole model."""
    text = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=5,
        num_attention_heads=4,
        max_position_embeddings=256,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    vision = JanusVisionConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        mlp_ratio=1.0,
        image_size=96,
        patch_size=16,
        projection_dim=WIDTH,
        num_image_tokens=TOKENS,
    )
    return JanusConfig(
        text_config=text.to_dict(),
        vision_config=vision.to_dict(),
        vq_config=vq.config(WIDTH).to_dict(),
        image_token_id=3,
        tie_word_embeddings=True,
    )


class Writer(torch.nn.Module):
    """The Janus model, and the heads that read captions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.janus = JanusForConditionalGeneration(config())
        self.reading = Reading(WIDTH)

    def read(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """`(n, WIDTH)`: the state in which a caption leaves the model, where the picture begins."""
        return self.janus.model.language_model(input_ids=ids, attention_mask=mask).last_hidden_state[:, -1]

    def write(self, ids: torch.Tensor, mask: torch.Tensor, seen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`(n, 36, 2048)` scores of each visual word after those before it, and the state of `read`."""
        text = self.janus.get_input_embeddings()(ids)
        image = self.janus.prepare_embeddings_for_image_generation(seen[:, :-1])
        both = torch.cat([text, image], 1)
        mask = torch.nn.functional.pad(mask, (0, TOKENS - 1), value=1)
        states = self.janus.model.language_model(inputs_embeds=both, attention_mask=mask).last_hidden_state
        states = states[:, ids.shape[1] - 1 :]
        return self.janus.model.generation_head(states), states[:, 0]


class Shelf:
    """Captions and visual words of the training pictures, in tensors."""

    def __init__(self, out: Path) -> None:
        self.tokenizer = janus_tokenizer()
        self.ids, self.mask = bank(self.tokenizer, "<boi>")
        self.words = torch.from_numpy(codes.load(out)[1])

    def draw(self, rng: np.random.Generator, count: int) -> tuple[torch.Tensor, ...]:
        """Captions' ids and masks, visual words and labels of some pictures."""
        chosen = rng.choice(COUNT, count, replace=False)
        said = chosen % len(SCENES), rng.integers(WORDINGS, size=count)
        return self.ids[said], self.mask[said], self.words[chosen], torch.from_numpy(labels(chosen))


def blanked(ids: torch.Tensor) -> torch.Tensor:
    """Captions as `generate` blanks them: every token but `<s>` and `<boi>` is padding."""
    return torch.where((ids == 1) | (ids == 4), ids, 0)


def train(out: Path, until: float | None = None) -> bool:
    """Trains reading first, then writing by the cross-entropy of the next visual word; resumes."""
    shelf, writer = Shelf(out), Writer()
    table = writer.janus.model.generation_embeddings.weight
    table.data = vq.network(codes.load(out)[0]).quantize.embedding.weight.data.clone()
    for part in (writer.janus.model.vqmodel, writer.janus.model.vision_model, writer.janus.model.aligner):
        part.requires_grad_(False)
    if not (out / "mllm.pt").exists():

        def reading(rng: np.random.Generator, batch: int) -> torch.Tensor:
            ids, mask, _, wanted = shelf.draw(rng, batch)
            return writer.reading(writer.read(ids, mask), wanted)

        if not fit("mllm-reading", writer, reading, READING, out, until=until):
            return False
    weight = torch.ones(codes.GRID, codes.GRID)
    weight[1:-1, 1:-1] = 2.0
    weight = (weight / weight.mean()).ravel()

    def loss(rng: np.random.Generator, batch: int) -> torch.Tensor:
        ids, mask, words, wanted = shelf.draw(rng, batch)
        blank = torch.rand(batch) < UNGUIDED
        ids = torch.where(blank[:, None], blanked(ids), ids)
        scores, state = writer.write(ids, mask, words)
        wrong = torch.nn.functional.cross_entropy(scores.flatten(0, 1), words.flatten(), reduction="none")
        return (wrong.view(batch, TOKENS) * weight).mean() + 0.1 * writer.reading(state[~blank], wanted[~blank])

    return fit("mllm", writer, loss, COURSE, out, until=until)


def trained(out: Path) -> tuple[JanusForConditionalGeneration, JanusProcessor]:
    """The model with what the checkpoints hold, its own pixel decoder in place, and its processor."""
    writer = load_average(out / "mllm.pt", Writer())
    janus, decoder = writer.janus, vq.trained(out)
    own = janus.model.vqmodel
    own.quantize.embedding, own.post_quant_conv, own.decoder = decoder.book, decoder.post, decoder.decoder
    tokenizer = janus_tokenizer()
    generation = GenerationConfig(
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        do_sample=True,
        guidance_scale=GUIDANCE,
        temperature=TEMPERATURE,
        top_k=TOP_K,
    )
    generation.generation_kwargs = {"boi_token_id": tokenizer.boi_token_id}
    janus.generation_config = generation
    sizes = {"height": 96, "width": 96}
    images = JanusImageProcessor(size=sizes, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    return janus.eval(), JanusProcessor(images, tokenizer, num_image_tokens=TOKENS)
