"""Tiny models of the real classes, built from config and saved with save_pretrained: the path of a hub id, in a second.

Weights are random but for one: the chat model's answer is written into its weights, so that a real `generate` says it.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# Before transformers is imported: nothing here may ask the hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

#: Vision towers here: 32 × 32 pixels in 8 × 8 patches.
_TOWER = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
_LANGUAGE = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 512,
}


def picture(seed: int, height: int = 40, width: int = 52) -> bytes:
    """A PNG of smooth random colours: resizing it leaves something to see."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def broken() -> list[bytes]:
    """Bytes that are no picture: `empty`, `not_an_image`, `truncated`."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture(0))).save(buffer, "JPEG")
    return [b"", b"no image at all", buffer.getvalue()[: len(buffer.getvalue()) // 2]]


def turned() -> bytes:
    """A JPEG that EXIF turns by a quarter."""
    image = Image.open(io.BytesIO(picture(3)))
    exif = image.getexif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif, quality=95)
    return buffer.getvalue()


def classifier(folder: Path, kind: str, labels: list[str], problem: str | None = None) -> Path:
    """A `vit` or `siglip` image classifier with its processor."""
    import torch
    import transformers as t

    torch.manual_seed(1)
    names = {"id2label": dict(enumerate(labels)), "label2id": {label: i for i, label in enumerate(labels)}}
    if kind == "vit":
        model: Any = t.ViTForImageClassification(t.ViTConfig(**_TOWER, **names, problem_type=problem))
        processor: Any = t.ViTImageProcessor(size={"height": 32, "width": 32})
    else:
        config = t.SiglipConfig(vision_config=dict(_TOWER), **names, problem_type=problem)
        model = t.SiglipForImageClassification(config)
        processor = t.SiglipImageProcessor(size={"height": 32, "width": 32})
    for parameter in model.parameters():  # a default initialisation answers the same to every picture
        torch.nn.init.normal_(parameter, std=0.5)
    return _saved(folder, model, processor)


def clip(folder: Path) -> Path:
    """A whole CLIP (image tower, text tower, projections to 12 numbers), as it is published."""
    import torch
    import transformers as t

    torch.manual_seed(2)
    text = {**_LANGUAGE, "vocab_size": 64, "max_position_embeddings": 16}
    text.pop("num_key_value_heads")
    model = t.CLIPModel(t.CLIPConfig(text_config=text, vision_config=dict(_TOWER), projection_dim=12))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    return _saved(folder, model, t.CLIPImageProcessor(**size))


def chat(folder: Path, answer: str) -> Path:
    """A LLaVA-OneVision (LlavaGuard's class) that answers `answer` and stops, whatever it sees.

    Its language model has no attention and no perceptron, so a token alone decides the next one; the prompt's last
    token is followed by `answer`, a single token, and that by the end.
    """
    import torch
    import transformers as t

    tokenizer = _tokenizer(["<image>", "<video>", "<answer>", answer], answer)
    vocabulary = len(tokenizer)
    config = t.LlavaOnevisionConfig(
        vision_config=t.SiglipVisionConfig(**_TOWER, vision_use_head=False),
        text_config=t.Qwen2Config(**_LANGUAGE, vocab_size=vocabulary, tie_word_embeddings=False),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[32, 32], [32, 64], [64, 32]],
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_9",
    )
    torch.manual_seed(3)
    model = t.LlavaOnevisionForConditionalGeneration(config)
    language = model.model.language_model
    with torch.no_grad():
        for layer in language.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        axes = torch.eye(config.text_config.hidden_size)
        start, said, end = (tokenizer.convert_tokens_to_ids(w) for w in ("<answer>", answer, "<end>"))
        language.embed_tokens.weight[start], language.embed_tokens.weight[said] = axes[0], axes[1]
        model.lm_head.weight.zero_()
        model.lm_head.weight[said], model.lm_head.weight[end] = axes[0], axes[1]
    model.generation_config.eos_token_id = end
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    processor = t.LlavaOnevisionProcessor(
        t.LlavaOnevisionImageProcessor(
            size={"height": 32, "width": 32}, image_grid_pinpoints=config.image_grid_pinpoints
        ),
        tokenizer,
        t.LlavaOnevisionVideoProcessor(size={"height": 32, "width": 32}),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template="{% for m in messages %}{% for c in m.content %}{% if c.type == 'image' %}<image> {% else %}"
        "{{ c.text }} {% endif %}{% endfor %}{% endfor %}<answer>",
    )
    return _saved(folder, model, processor)


def random_chat(folder: Path) -> Path:
    """The same with random weights: what it says of a picture depends on the picture."""
    import torch
    import transformers as t

    chat(folder, "Yes")
    model = t.LlavaOnevisionForConditionalGeneration.from_pretrained(folder)
    torch.manual_seed(4)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    model.save_pretrained(folder)
    return folder


def guard(folder: Path) -> Path:
    """A ShieldGemma 2 with its own processor."""
    import torch
    import transformers as t

    marks = {"boi_token": "<boi>", "eoi_token": "<eoi>", "image_token": "<image>"}
    tokenizer = _tokenizer([*marks.values()], "Yes", **marks)
    index = tokenizer.convert_tokens_to_ids
    config = t.ShieldGemma2Config(
        text_config={**_LANGUAGE, "vocab_size": len(tokenizer), "head_dim": 8, "model_type": "gemma3_text"},
        vision_config={**_TOWER, "model_type": "siglip_vision_model", "vision_use_head": False},
        mm_tokens_per_image=4,
        boi_token_index=index("<boi>"),
        eoi_token_index=index("<eoi>"),
        image_token_index=index("<image>"),
        yes_token_index=index("Yes"),
        no_token_index=index("No"),
        architectures=["ShieldGemma2ForImageClassification"],
    )
    torch.manual_seed(5)
    model = t.ShieldGemma2ForImageClassification(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    processor = t.ShieldGemma2Processor(
        t.Gemma3ImageProcessor(size={"height": 32, "width": 32}),
        tokenizer,
        image_seq_length=4,
        chat_template="{% for m in messages %}{% for c in m.content %}{% if c.type == 'image' %}<boi> {% else %}"
        "{{ c.text }} {% endif %}{% endfor %}{% endfor %}",
    )
    return _saved(folder, model, processor)


def _tokenizer(marks: list[str], answer: str, **named: str) -> Any:
    """Words by spaces, of a fixed vocabulary; what it does not know is one unknown token."""
    import tokenizers
    import transformers as t

    words = ["<pad>", "<unk>", "<end>", "Yes", "No", "Is", "this", "knife", "skull", "safe", "?"]
    vocabulary = {word: index for index, word in enumerate(dict.fromkeys([*words, *marks, answer]))}
    plain = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    plain.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    plain.add_special_tokens([mark for mark in marks if mark.startswith("<")])
    if answer not in words:
        plain.add_tokens([answer])
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "<end>"}
    return t.PreTrainedTokenizerFast(tokenizer_object=plain, **special, extra_special_tokens=named)


def _saved(folder: Path, model: Any, processor: Any) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
