"""Real classes with tiny random weights: built from configs, saved as their authors' models are, loaded by path or id.

A folder made here is what a hub repository holds, so the adapters load it by the code that loads a real model.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Emu3Config,
    Emu3ForConditionalGeneration,
    Emu3ImageProcessor,
    Emu3Processor,
    Emu3TextConfig,
    Emu3VQVAEConfig,
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusImageProcessor,
    JanusProcessor,
    JanusVisionConfig,
    JanusVQVAEConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    T5Config,
    T5EncoderModel,
)

WORDS = (
    *("ball", "house", "tree", "car", "fish", "flower", "cup", "small", "large", "and", "the", "in"),
    *("forest", "beach", "street", "night", "field", "river"),
)

#: Emu3: codes of the VQ model, each a token of the text vocabulary.
EMU3_CODES = 64

JANUS_CHAT = "{% for m in messages %}You: {{ m['content'][0]['text'] }}\n{% endfor %}It:"


def _merges(words: Iterable[str], end: str) -> list[tuple[str, str]]:
    """BPE merges that build each word from its letters, left to right: written and not learnt, so always the same."""
    found: dict[tuple[str, str], None] = {}
    for word in words:
        letters = [*word[:-1], word[-1] + end]
        whole = letters[0]
        for letter in letters[1:]:
            found[whole, letter] = None
            whole += letter
    return list(found)


def _vocabulary(special: list[str], letters: list[str], merges: list[tuple[str, str]]) -> dict[str, int]:
    tokens = dict.fromkeys([*special, *letters, *(left + right for left, right in merges)])
    return {token: number for number, token in enumerate(tokens)}


def _clip_tokenizer() -> CLIPTokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _merges(WORDS, "</w>")
    vocabulary = _vocabulary(
        ["<|startoftext|>", "<|endoftext|>"], letters + [letter + "</w>" for letter in letters], merges
    )
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=77)


def _t5_tokenizer() -> PreTrainedTokenizerFast:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    pieces += [(letter, -8.0) for letter in "\u2581abcdefghijklmnopqrstuvwxyz,"]
    pieces += [("\u2581" + word, -4.0) for word in WORDS]
    inner = Tokenizer(models.Unigram(pieces, unk_id=2))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )


def _clip_text(kind: Callable[..., Any], width: int) -> Any:
    return kind(
        CLIPTextConfig(
            vocab_size=1000,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            projection_dim=32,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )


def _t5(width: int) -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=200, d_model=width, d_kv=8, d_ff=2 * width, num_layers=2, num_heads=4))


def _vae(channels: int = 4, **more: Any) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        **more,
    )


def _unet(width: int, **more: Any) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=width,
        attention_head_dim=8,
        **more,
    )


def _ddim() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1
    )


def _checker(*, flags: bool) -> StableDiffusionSafetyChecker:
    checker = StableDiffusionSafetyChecker(
        CLIPConfig(
            text_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
            vision_config={
                "hidden_size": 16,
                "intermediate_size": 32,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": 32,
                "patch_size": 8,
            },
            projection_dim=16,
        )
    )
    # thresholds that every cosine passes, or none
    checker.concept_embeds_weights.data.fill_(-2.0 if flags else 2.0)
    checker.special_care_embeds_weights.data.fill_(2.0)
    return checker


def sd1(folder: Path, *, checker: bool | None = None, pickled: bool = False) -> Path:
    """SD 1.x, 32 x 32; with a safety checker that flags everything (True) or nothing (False), or none."""
    torch.manual_seed(0)
    StableDiffusionPipeline(
        vae=_vae(),
        text_encoder=_clip_text(CLIPTextModel, 32),
        tokenizer=_clip_tokenizer(),
        unet=_unet(32),
        scheduler=_ddim(),
        safety_checker=None if checker is None else _checker(flags=checker),
        feature_extractor=CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32) if checker is not None else None,
        requires_safety_checker=checker is not None,
    ).save_pretrained(folder, safe_serialization=not pickled)
    return folder


def sdxl(folder: Path) -> Path:
    """SDXL, 32 x 32."""
    torch.manual_seed(1)
    StableDiffusionXLPipeline(
        vae=_vae(),
        text_encoder=_clip_text(CLIPTextModel, 32),
        text_encoder_2=_clip_text(CLIPTextModelWithProjection, 32),
        tokenizer=_clip_tokenizer(),
        tokenizer_2=_clip_tokenizer(),
        scheduler=_ddim(),
        add_watermarker=False,
        unet=_unet(
            64,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=32 + 6 * 8,
            transformer_layers_per_block=1,
            use_linear_projection=True,
        ),
    ).save_pretrained(folder)
    return folder


def sd3(folder: Path) -> Path:
    """SD 3.5, 32 x 32, two CLIP encoders and T5."""
    torch.manual_seed(2)
    StableDiffusion3Pipeline(
        transformer=SD3Transformer2DModel(
            sample_size=16,
            patch_size=2,
            in_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=4,
            joint_attention_dim=96,
            caption_projection_dim=32,
            pooled_projection_dim=64,
            out_channels=4,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        ),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=_vae(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.0609, scaling_factor=1.5305),
        text_encoder=_clip_text(CLIPTextModelWithProjection, 32),
        tokenizer=_clip_tokenizer(),
        text_encoder_2=_clip_text(CLIPTextModelWithProjection, 32),
        tokenizer_2=_clip_tokenizer(),
        text_encoder_3=_t5(96),
        tokenizer_3=_t5_tokenizer(),
    ).save_pretrained(folder)
    return folder


def pixart(folder: Path) -> Path:
    """PixArt-Sigma, 32 x 32: a pipeline with T5 alone, and learned variances that are thrown away."""
    torch.manual_seed(3)
    PixArtSigmaPipeline(
        tokenizer=_t5_tokenizer(),
        text_encoder=_t5(32),
        vae=_vae(),
        scheduler=DPMSolverMultistepScheduler(),
        transformer=PixArtTransformer2DModel(
            sample_size=16,
            num_layers=2,
            patch_size=2,
            attention_head_dim=8,
            num_attention_heads=4,
            caption_channels=32,
            in_channels=4,
            cross_attention_dim=32,
            out_channels=8,
            use_additional_conditions=False,
        ),
    ).save_pretrained(folder)
    return folder


def flux(folder: Path, *, distilled: bool = True) -> Path:
    """FLUX.1, 32 x 32: with guidance as an input ([dev]) or ignored ([schnell])."""
    torch.manual_seed(6)
    FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_vae(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.0609, scaling_factor=1.5035),
        text_encoder=_clip_text(CLIPTextModel, 32),
        tokenizer=_clip_tokenizer(),
        text_encoder_2=_t5(32),
        tokenizer_2=_t5_tokenizer(),
        transformer=FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=32,
            pooled_projection_dim=32,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=distilled,
        ),
    ).save_pretrained(folder)
    return folder


def qwen_image(folder: Path) -> Path:
    """Qwen-Image, 32 x 32: its prompts pass through a Qwen2.5-VL, and its guidance is `true_cfg_scale`."""
    torch.manual_seed(7)
    tokenizer = _byte_tokenizer(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], {}, pad_token="<|endoftext|>", eos_token="<|im_end|>"
    )
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1000000.0},
    }
    vision = {
        "depth": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_heads": 2,
        "out_hidden_size": 16,
    }
    QwenImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLQwenImage(
            base_dim=24,
            z_dim=4,
            dim_mult=[1, 2, 4],
            num_res_blocks=1,
            temperal_downsample=[False, True],
            latents_mean=[0.0] * 4,
            latents_std=[1.0] * 4,
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)),
        tokenizer=tokenizer,
        transformer=QwenImageTransformer2DModel(
            patch_size=2,
            in_channels=16,
            out_channels=4,
            num_layers=2,
            attention_head_dim=16,
            num_attention_heads=3,
            joint_attention_dim=16,
            guidance_embeds=False,
            axes_dims_rope=(8, 4, 4),
        ),
    ).save_pretrained(folder)
    return folder


def _byte_tokenizer(special: list[str], named: dict[str, str], **ends: str) -> PreTrainedTokenizerFast:
    merges = _merges(["\u0120" + word for word in WORDS], "")
    vocabulary = _vocabulary(special, sorted(pre_tokenizers.ByteLevel.alphabet()), merges)
    inner = Tokenizer(models.BPE(vocabulary, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner, extra_special_tokens=named, padding_side="left", **ends)


def janus(folder: Path, *, chat: bool = True) -> Path:
    """Janus, 32 x 32 from 16 tokens of 64 codes."""
    torch.manual_seed(4)
    named = {"image_token": "<image>", "boi_token": "<boi>", "eoi_token": "<eoi>"}
    tokenizer = _byte_tokenizer(
        ["<pad>", "<s>", "</s>", *named.values()], named, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    model = JanusForConditionalGeneration(
        JanusConfig(
            text_config=LlamaConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=4,
                max_position_embeddings=256,
            ).to_dict(),
            vision_config=JanusVisionConfig(
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=4,
                image_size=32,
                patch_size=8,
                projection_dim=32,
                num_image_tokens=16,
            ).to_dict(),
            vq_config=JanusVQVAEConfig(
                embed_dim=8,
                num_embeddings=64,
                latent_channels=32,
                base_channels=32,
                channel_multiplier=(1, 1, 1, 1),
                num_res_blocks=1,
                num_patches=4,
                projection_dim=32,
                image_token_embed_dim=32,
            ).to_dict(),
            image_token_id=tokenizer.image_token_id,
        )
    )
    with torch.no_grad():  # untrained logits are nearly equal; these are as far apart as a trained model's
        model.model.generation_head.vision_head.weight.mul_(60.0)
    settings = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        guidance_scale=5.0,
        do_sample=True,
    )
    settings.generation_kwargs = {"boi_token_id": tokenizer.boi_token_id}
    model.generation_config = settings
    model.save_pretrained(folder)
    JanusProcessor(
        JanusImageProcessor(image_mean=[0.5] * 3, image_std=[0.5] * 3),
        tokenizer,
        chat_template=JANUS_CHAT if chat else None,
        num_image_tokens=16,
    ).save_pretrained(folder)
    return folder


def emu3(folder: Path) -> Path:
    """Emu3, 32 x 32 from 4 x 4 tokens of 64 codes."""
    torch.manual_seed(5)
    named = {
        "image_token": "<image>",
        "boi_token": "<|image start|>",
        "eoi_token": "<|image end|>",
        "image_wrapper_token": "<|image token|>",
        "eof_token": "<|extra_201|>",
    }
    codes = [f"<|visual token {code:06d}|>" for code in range(EMU3_CODES)]
    tokenizer = _byte_tokenizer(
        ["<pad>", "<s>", "</s>", *named.values(), "<|extra_200|>", *codes],
        named,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
    )
    model = Emu3ForConditionalGeneration(
        Emu3Config(
            vq_config=Emu3VQVAEConfig(
                codebook_size=EMU3_CODES,
                embed_dim=8,
                latent_channels=8,
                base_channels=32,
                channel_multiplier=[1, 1, 1, 1],
                num_res_blocks=1,
                attn_resolutions=[],
                hidden_size=32,
                temporal_downsample_factor=1,
                num_attention_heads=1,
            ).to_dict(),
            text_config=Emu3TextConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=4,
                max_position_embeddings=512,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            ).to_dict(),
            vocabulary_map=tokenizer.get_vocab(),
        )
    )
    with torch.no_grad():
        model.lm_head.weight.mul_(60.0)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        guidance_scale=3.0,
        do_sample=True,
        top_k=2048,
    )
    model.save_pretrained(folder)
    Emu3Processor(Emu3ImageProcessor(image_mean=[0.5] * 3, image_std=[0.5] * 3), tokenizer).save_pretrained(folder)
    return folder


def as_hub(folder: Path, cache: Path, name: str, commit: str) -> None:
    """Lays a model's folder out as the hub's client caches a repository."""
    repository = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
