"""Turns DE-FAKE's published weights into a detector, once: `python -m mllmrisk.detectors.convert_de_fake --help`.

The author publishes a CLIP and a perceptron as whole pickled modules, which run code when they are loaded and are
refused here. A state dict, which `weights_only=True` reads without running anything, is what is taken. The tensors are
renamed into transformers' networks, and every one of them must find its place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from mllmrisk import config, perturb
from mllmrisk.detectors import card, places
from mllmrisk.detectors.architectures import weights
from mllmrisk.detectors.de_fake import LAYERS, DeFake, Recipe
from mllmrisk.errors import MllmriskError, UsageError
from mllmrisk.extras import optional, quiet
from mllmrisk.inference import first_line
from mllmrisk.pictures import PICTURES

State = dict[str, Any]

#: OpenAI's names of a CLIP's parts → transformers'. Attention's joint projection is taken apart beside this.
_CLIP_NAMES = (
    (r"^visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"^visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"^visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"^visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"^visual\.proj$", "visual_projection.weight"),
    (r"^visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"^token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"^positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"^transformer\.resblocks\.", "text_model.encoder.layers."),
    (r"^ln_final\.", "text_model.final_layer_norm."),
    (r"^text_projection$", "text_projection.weight"),
    (r"\.attn\.", ".self_attn."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)
#: Salesforce's names of BLIP's vision tower → transformers'; the decoder's are the same.
_BLIP_NAMES = (
    (r"^visual_encoder\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^visual_encoder\.pos_embed$", "vision_model.embeddings.position_embedding"),
    (r"^visual_encoder\.patch_embed\.proj\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual_encoder\.norm\.", "vision_model.post_layernorm."),
    (r"^visual_encoder\.blocks\.", "vision_model.encoder.layers."),
    (r"\.attn\.proj\.", ".self_attn.projection."),
    (r"\.attn\.qkv\.", ".self_attn.qkv."),
    (r"\.norm([12])\.", r".layer_norm\1."),
)
#: Both families have heads of 64.
_HEAD = 64


def state(path: Path) -> State:
    """The tensors that a file holds, in float32: safetensors, or a torch file of a state dict (BLIP's in `model`).

    Raises:
        UsageError: it is a whole pickled module, or no tensors at all; the message says what to do.
    """
    return {name: part.float() if part.is_floating_point() else part for name, part in weights.read(path).items()}


def clip(tensors: State) -> Any:
    """A CLIPModel of transformers with the weights of OpenAI's.

    Raises:
        UsageError: they are not those of a CLIP with a vision transformer.
    """
    transformers = optional("transformers", "the conversion", "gen")
    settings = _described("a CLIP of OpenAI's code", lambda: _clip_settings(tensors))
    # These three describe the network that the file was saved with; they are no weights.
    kept = {
        name: part for name, part in tensors.items() if name not in ("input_resolution", "context_length", "vocab_size")
    }
    renamed: State = {}
    for old, part in kept.items():
        name = _renamed(old, _CLIP_NAMES)
        if name.endswith((".self_attn.in_proj_weight", ".self_attn.in_proj_bias")):
            stem, _, kind = name.rpartition("in_proj_")
            renamed |= {f"{stem}{which}_proj.{kind}": third for which, third in zip("qkv", part.chunk(3), strict=True)}
        elif name in ("visual_projection.weight", "text_projection.weight"):
            renamed[name] = part.T
        else:
            renamed[name] = part
    return _filled(transformers.CLIPModel, transformers.CLIPConfig(**settings), renamed)


def blip(tensors: State) -> Any:
    """A BlipForConditionalGeneration with the weights of Salesforce's captioner.

    What a checkpoint has beside image encoder and text decoder (the text encoder, momentum copies, queues) is left out.

    Raises:
        UsageError: they are not those of a BLIP.
    """
    transformers = optional("transformers", "the conversion", "gen")
    settings = _described("a BLIP of Salesforce's code", lambda: _blip_settings(tensors))
    renamed = {
        _renamed(name, _BLIP_NAMES): part
        for name, part in tensors.items()
        if name.startswith(("visual_encoder.", "text_decoder.")) and not name.endswith(".position_ids")
    }
    return _filled(transformers.BlipForConditionalGeneration, transformers.BlipConfig(**settings), renamed)


def perceptron(tensors: State) -> bytes:
    """The perceptron as safetensors.

    Raises:
        UsageError: a layer is missing, or there are others.
    """
    wanted = {f"{layer}.{part}" for layer in LAYERS for part in ("weight", "bias")}
    if set(tensors) != wanted:
        raise UsageError(f"the perceptron has {', '.join(sorted(tensors)[:8])}, not {', '.join(sorted(wanted))}")
    save = optional("safetensors.torch", "the conversion", "gen").save
    data: bytes = save({name: tensors[name].contiguous() for name in sorted(wanted)})
    return data


def convert(files: Mapping[str, Path], tokenizers: Mapping[str, str], to: Path) -> Path:
    """Writes the detector's folder: `blip/`, `clip/`, `mlp.safetensors` and `de-fake.toml` with two known answers.

    Args:
        files: `blip`, `clip` and `mlp`: see :func:`state`.
        tokenizers: `blip` (a BERT's) and `clip`: folders or hub ids.
        to: the folder.

    Returns:
        The TOML's path.

    Raises:
        UsageError: a file is none of these, or the parts do not fit together.
    """
    made = {"clip": clip(state(files["clip"])), "blip": blip(state(files["blip"]))}
    data = perceptron(state(files["mlp"]))
    transformers = optional("transformers", "the conversion", "gen")
    for name, model in made.items():
        words = _tokenizer(transformers, tokenizers[name])
        if name == "blip":
            words.add_special_tokens({"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]})
        with quiet(transformers):
            model.save_pretrained(to / name)
            words.save_pretrained(to / name)
    (to / "mlp.safetensors").write_bytes(data)
    about = config.describe("detectors", "de-fake", Recipe)
    size = made["clip"].config.vision_config.image_size
    table = msgspec.to_builtins(about.common) | {
        "mlp": {"file": "mlp.safetensors", "sha256": hashlib.sha256(data).hexdigest()}
    }
    for part in ("caption", "clip"):
        table[part] = {**about.parameters.get(part, {}), **table[part]}
        table[part]["input"] = {**table[part]["input"], "size": [size, size]}
        if table[part]["input"]["resize"] is not None:
            table[part]["input"]["resize"] = size
    bare = DeFake(config.converted(table | {"probe": []}, Recipe), to)
    table["probe"] = [
        {"image": name, "logit": round(_answer(bare, name), 4), "tolerance": 0.05} for name in ("ellipse", "gradient")
    ]
    path = to / "de-fake.toml"
    path.write_text(card.toml(_given(table)), encoding="utf-8")
    return path


def _answer(detector: DeFake, picture: str) -> float:
    ((score, _),) = detector.captioned([perturb.encode(PICTURES[picture](), "native")])
    if score.value is None:
        raise UsageError(f"the detector gives no score: {score.reason}")
    return score.value


def _given(value: Any) -> Any:
    """A table without what is None."""
    if isinstance(value, Mapping):
        return {key: _given(part) for key, part in value.items() if part is not None}
    return value


def _clip_settings(tensors: State) -> dict[str, Any]:
    patches, width, context = (
        tensors["visual.conv1.weight"],
        tensors["ln_final.weight"].shape[0],
        "positional_embedding",
    )
    grid = round((tensors["visual.positional_embedding"].shape[0] - 1) ** 0.5)
    seen = patches.shape[0]
    words = tensors["token_embedding.weight"].shape[0]
    return {
        "projection_dim": tensors["text_projection"].shape[1],
        "vision_config": {
            "hidden_size": seen,
            "intermediate_size": 4 * seen,
            "num_hidden_layers": _layers(tensors, r"^visual\.transformer\.resblocks\.(\d+)\."),
            "num_attention_heads": seen // _HEAD,
            "image_size": grid * patches.shape[-1],
            "patch_size": patches.shape[-1],
        },
        "text_config": {
            "vocab_size": words,
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": _layers(tensors, r"^transformer\.resblocks\.(\d+)\."),
            "num_attention_heads": width // _HEAD,
            "max_position_embeddings": tensors[context].shape[0],
            "bos_token_id": words - 2,
            "eos_token_id": words - 1,
            "pad_token_id": words - 1,
        },
    }


def _blip_settings(tensors: State) -> dict[str, Any]:
    patches, positions = tensors["visual_encoder.patch_embed.proj.weight"], tensors["visual_encoder.pos_embed"]
    grid, seen = round((positions.shape[1] - 1) ** 0.5), positions.shape[2]
    bert = "text_decoder.bert."
    words, width = tensors[f"{bert}embeddings.word_embeddings.weight"].shape
    return {
        "vision_config": {
            "hidden_size": seen,
            "intermediate_size": tensors["visual_encoder.blocks.0.mlp.fc1.weight"].shape[0],
            "num_hidden_layers": _layers(tensors, r"^visual_encoder\.blocks\.(\d+)\."),
            "num_attention_heads": seen // _HEAD,
            "image_size": grid * patches.shape[-1],
            "patch_size": patches.shape[-1],
            "layer_norm_eps": 1e-6,  # of BLIP's code; transformers' default is another
        },
        "text_config": {
            "vocab_size": words,
            "hidden_size": width,
            "encoder_hidden_size": seen,
            "intermediate_size": tensors[f"{bert}encoder.layer.0.intermediate.dense.weight"].shape[0],
            "num_hidden_layers": _layers(tensors, r"^text_decoder\.bert\.encoder\.layer\.(\d+)\."),
            "num_attention_heads": width // _HEAD,
            "max_position_embeddings": tensors[f"{bert}embeddings.position_embeddings.weight"].shape[0],
            "bos_token_id": words - 2,  # [DEC], then [ENC], after BERT's own
        },
    }


def _layers(tensors: State, pattern: str) -> int:
    return len({found[1] for name in tensors if (found := re.match(pattern, name))})


def _described(what: str, describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return describe()
    except (KeyError, IndexError) as missing:
        raise UsageError(f"these are not the weights of {what}: {missing} is not there") from missing


def _renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def _filled(kind: Any, settings: Any, tensors: State) -> Any:
    """A network with exactly these weights."""
    transformers = optional("transformers", "the conversion", "gen")
    with quiet(transformers):
        model = kind(settings)
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as wrong:
        lines = " ".join(str(wrong).split())[:400]
        raise UsageError(f"the weights do not fit {kind.__name__}: {lines}") from wrong
    return model.eval()


def _tokenizer(transformers: Any, place: str) -> Any:
    try:
        return transformers.AutoTokenizer.from_pretrained(place)
    except Exception as wrong:  # OSError, ValueError: as they come
        raise UsageError(f"no tokenizer at {place}: {first_line(wrong)}") from wrong


@click.command()
@click.option("--mlp", required=True, type=click.Path(exists=True, path_type=Path), help="clip_linear, a state dict.")
@click.option(
    "--clip", required=True, type=click.Path(exists=True, path_type=Path), help="finetune_clip, a state dict."
)
@click.option(
    "--blip", required=True, type=click.Path(exists=True, path_type=Path), help="model_base_capfilt_large.pth."
)
@click.option("--bert-tokenizer", default="google-bert/bert-base-uncased", show_default=True, help="Folder or hub id.")
@click.option("--clip-tokenizer", default="openai/clip-vit-base-patch32", show_default=True, help="Folder or hub id.")
@click.option("--to", type=click.Path(path_type=Path), help="Folder to write to (default: where detectors look).")
def main(mlp: Path, clip: Path, blip: Path, bert_tokenizer: str, clip_tokenizer: str, to: Path | None) -> None:
    """Write DE-FAKE's published weights as a detector that `mllmrisk detect --detector de-fake` finds."""
    files = {"mlp": mlp, "clip": clip, "blip": blip}
    try:
        path = convert(files, {"blip": bert_tokenizer, "clip": clip_tokenizer}, to or places.home() / "de-fake")
    except MllmriskError as wrong:
        raise click.UsageError(str(wrong)) from wrong
    click.echo(path)


if __name__ == "__main__":
    main()
