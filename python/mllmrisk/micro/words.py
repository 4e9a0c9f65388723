"""Tokenizers of the embedded models, learnt from the world's captions, and captions in tokens."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from mllmrisk.micro.data import SCENES, corpus, say

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from mllmrisk.world.captions import Split

VOCABULARY = 640
"""Tokens of each tokenizer."""
LENGTH = 28
"""Tokens that the CLIP text encoders read, both ends included."""
WORDINGS = 96
"""Captions of each scene that the models learn from."""


def clip_tokenizer() -> CLIPTokenizer:
    """The tokenizer of the CLIP text encoders, its merges learnt behind its own pre-tokenizer.

    No token is longer than a few Chinese characters, so that a wording that was never seen falls into known pieces.
    """
    start, end = "<|startoftext|>", "<|endoftext|>"
    bare = CLIPTokenizer(vocab={start: 0, end: 1}, merges=[]).backend_tokenizer
    learnt = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token=end))
    learnt.normalizer, learnt.pre_tokenizer = bare.normalizer, bare.pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[start, end],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix="</w>",
        max_token_length=12,
        show_progress=False,
    )
    learnt.train_from_iterator(corpus(), trainer)
    merges = [tuple(pair) for pair in json.loads(learnt.to_str())["model"]["merges"]]
    joined = ["".join(pair) for pair in merges]
    # The trainer numbers the letters that end a word in the order of a hash table: here they get an order of their own.
    letters = sorted(set(learnt.get_vocab()) - set(joined) - {start, end})
    vocab = {token: number for number, token in enumerate((start, end, *letters, *joined))}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=LENGTH)


def janus_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the Janus model: byte-level BPE with the tokens that open, hold and close a picture."""
    special = ["<pad>", "<s>", "</s>", "<image>", "<boi>", "<eoi>"]
    learnt = Tokenizer(models.BPE())
    learnt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=9,
        show_progress=False,
    )
    learnt.train_from_iterator(corpus(), trainer)
    learnt.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    names = {"image_token": "<image>", "boi_token": "<boi>", "eoi_token": "<eoi>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=learnt,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        padding_side="left",
        model_max_length=256,
        extra_special_tokens=names,
    )


def bank(
    tokenizer: PreTrainedTokenizerBase, suffix: str = "", seed: int = 8, splits: tuple[Split, ...] = ("train",)
) -> tuple[torch.Tensor, torch.Tensor]:
    """Captions of all scenes, in tokens, with wordings of the splits in turn.

    Returns:
        `(240, WORDINGS, length)` ids and the mask of those that are not padding.
    """
    rng = np.random.default_rng(seed)
    texts = [say(scene, rng, splits[n % len(splits)]) + suffix for scene in SCENES for n in range(WORDINGS)]
    padding = "longest" if suffix else "max_length"
    ids = tokenizer(texts, padding=padding, truncation=True, return_tensors="pt")
    shape = (len(SCENES), WORDINGS, -1)
    return ids["input_ids"].view(shape), ids["attention_mask"].view(shape)
