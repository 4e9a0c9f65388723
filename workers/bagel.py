"""A worker for BAGEL-7B-MoT (ByteDance-Seed/Bagel, Apache-2.0; weights ByteDance-Seed/BAGEL-7B-MoT).

Written against the repository at 056b5fd (October 2025): `inferencer.InterleaveInferencer` and the loading that its
notebook shows. It was read, not run, here: it needs a checkout of the repository as working folder, an environment of
its own (torch 2.5.1, transformers 4.49, flash-attn 2.5.8), the weights in a folder, and a GPU (about 32 GB in bf16,
12 GB and more with `precision = "nf4"`). Try it with `mllmrisk doctor --worker bagel` before a run.

Defaults are the repository's text-to-image settings: 50 steps, cfg_text_scale 4.0 in the interval 0.4 to 1, timestep
shift 3.0, 1024 x 1024, no thinking. Its inferencer makes one image at a time; the noise is drawn from torch's global
generator, which is seeded before each image. A vllm-omni server is the other way: see bagel-server.toml.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import mllmrisk_worker as base

DEFAULTS = {
    "model": base.REQUIRED,
    "precision": "bf16",
    "gpu_memory": "80GiB",
    "width": 1024,
    "height": 1024,
    "steps": 50,
    "cfg_text_scale": 4.0,
    "cfg_img_scale": 1.0,
    "cfg_interval": [0.4, 1.0],
    "timestep_shift": 3.0,
    "cfg_renorm_min": 0.0,
    "cfg_renorm_type": "global",
    "think": False,
    "max_think_tokens": 1000,
}
#: Small modules that must stand on one device, by the repository's notebook.
TOGETHER = (
    "language_model.model.embed_tokens",
    "time_embedder",
    "latent_pos_embed",
    "vae2llm",
    "llm2vae",
    "connector",
    "vit_pos_embed",
)


class Bagel:
    """Draws through the repository's inferencer."""

    def __init__(self, arguments: dict[str, Any], device: str) -> None:
        self.settings = base.settings(arguments, DEFAULTS)
        if self.settings["precision"] not in ("bf16", "nf4", "int8"):
            raise base.UnfitError("argument 'precision' is bf16, nf4 or int8")
        checkout = base.repository("inferencer.py", "https://github.com/ByteDance-Seed/Bagel")
        folder = Path(self.settings["model"]).expanduser()
        for name in ("llm_config.json", "vit_config.json", "ae.safetensors", "ema.safetensors"):
            if not (folder / name).is_file():
                raise base.UnfitError(f"no {name} in {folder}: download ByteDance-Seed/BAGEL-7B-MoT into it")
        base.one_gpu(device)
        base.need_gpu()
        self.inferencer = load(folder, self.settings)
        self.hello = {
            "name": "bagel/1",
            "model": "ByteDance-Seed/BAGEL-7B-MoT",
            "revision": base.revision(str(folder)),
            "device": "cuda",
            "dtype": self.settings["precision"],
            "versions": dict(
                base.versions("torch", "transformers", "accelerate", "flash_attn", "bitsandbytes"),
                repository=base.commit(checkout),
            ),
            "arguments": self.settings,
            "batch": 1,
        }

    def draw(self, prompt: str, seed: int) -> Any:
        """One image; its thoughts, where it thinks, are not kept."""
        base.seed_all(seed)
        names = (
            "cfg_text_scale",
            "cfg_img_scale",
            "cfg_interval",
            "timestep_shift",
            "cfg_renorm_min",
            "cfg_renorm_type",
        )
        found = self.inferencer(
            text=prompt,
            think=self.settings["think"],
            max_think_token_n=self.settings["max_think_tokens"],
            do_sample=False,
            num_timesteps=self.settings["steps"],
            image_shapes=(self.settings["height"], self.settings["width"]),
            **{name: self.settings[name] for name in names},
        )
        if found["image"] is None:
            raise base.DeclinedError("no_image", outcome="failed")
        return found["image"]


def load(folder: Path, settings: dict[str, Any]) -> Any:
    """The repository's model, spread over the GPUs that are visible."""
    import torch
    from accelerate import infer_auto_device_map, init_empty_weights, load_checkpoint_and_dispatch
    from data.data_utils import add_special_tokens
    from data.transforms import ImageTransform
    from inferencer import InterleaveInferencer
    from modeling.autoencoder import load_ae
    from modeling.bagel import (
        Bagel as Model,
    )
    from modeling.bagel import (
        BagelConfig,
        Qwen2Config,
        Qwen2ForCausalLM,
        SiglipVisionConfig,
        SiglipVisionModel,
    )
    from modeling.qwen2 import Qwen2Tokenizer

    language = Qwen2Config.from_json_file(str(folder / "llm_config.json"))
    language.qk_norm, language.tie_word_embeddings, language.layer_module = True, False, "Qwen2MoTDecoderLayer"
    vision = SiglipVisionConfig.from_json_file(str(folder / "vit_config.json"))
    vision.rope, vision.num_hidden_layers = False, vision.num_hidden_layers - 1
    vae, vae_config = load_ae(local_path=str(folder / "ae.safetensors"))
    config = BagelConfig(
        visual_gen=True,
        visual_und=True,
        llm_config=language,
        vit_config=vision,
        vae_config=vae_config,
        vit_max_num_patch_per_side=70,
        connector_act="gelu_pytorch_tanh",
        latent_patch_size=2,
        max_latent_size=64,
    )
    with init_empty_weights():
        model = Model(Qwen2ForCausalLM(language), SiglipVisionModel(vision), config)
        model.vit_model.vision_model.embeddings.convert_conv2d_to_linear(vision, meta=True)
    tokenizer, new_tokens, _ = add_special_tokens(Qwen2Tokenizer.from_pretrained(str(folder)))

    gpus = range(torch.cuda.device_count())
    places = infer_auto_device_map(
        model,
        max_memory=dict.fromkeys(gpus, settings["gpu_memory"]),
        no_split_module_classes=["Bagel", "Qwen2MoTDecoderLayer"],
    )
    first = places.get(TOGETHER[0], 0)
    places.update({name: first for name in TOGETHER if name in places or len(gpus) == 1})
    checkpoint, offload = str(folder / "ema.safetensors"), tempfile.mkdtemp(prefix="bagel-offload-")
    if settings["precision"] == "bf16":
        model = load_checkpoint_and_dispatch(
            model,
            checkpoint=checkpoint,
            device_map=places,
            offload_buffers=True,
            offload_folder=offload,
            dtype=torch.bfloat16,
            force_hooks=True,
        )
    else:
        from accelerate.utils import BnbQuantizationConfig, load_and_quantize_model

        how = (
            BnbQuantizationConfig(
                load_in_4bit=True,
                bnb_4bit_compute_dtype=torch.bfloat16,
                bnb_4bit_use_double_quant=False,
                bnb_4bit_quant_type="nf4",
            )
            if settings["precision"] == "nf4"
            else BnbQuantizationConfig(load_in_8bit=True, torch_dtype=torch.float32)
        )
        model = load_and_quantize_model(
            model, weights_location=checkpoint, bnb_quantization_config=how, device_map=places, offload_folder=offload
        )
    return InterleaveInferencer(
        model=model.eval(),
        vae_model=vae,
        tokenizer=tokenizer,
        vae_transform=ImageTransform(1024, 512, 16),
        vit_transform=ImageTransform(980, 224, 14),
        new_token_ids=new_tokens,
    )


if __name__ == "__main__":
    base.serve(Bagel)
