"""A worker for TokenFlow-t2i (ByteVisionLab/TokenFlow, code Apache-2.0; weights ByteFlow-AI/TokenFlow-t2i).

Written against the repository at 9812da0 (August 2025): `LlavaLlamaForCausalLM.autoregressive_infer_cfg` as
`t2i/llava_t2i/eval/run_llava_samples.py` calls it. It was read, not run, here: it needs the folder `t2i` of a checkout
as working folder, an environment of its own (torch 2.1.2, transformers 4.43.4), the tokenizer's checkpoint
`tokenflow_clipb_32k_enhanced.pt` (ByteFlow-AI/TokenFlow; a pickle, which the repository's code loads: take it from its
authors only), and a GPU. Try it with `mllmrisk doctor --worker tokenflow` before a run.

Defaults are the repository's: guidance 7.5 that grows with the scale, one pass per scale (top-k 600, top-p 0.6), bf16,
its negative prompt. A prompt longer than 128 tokens is cut by its code. The seed goes to its `g_seed`, which is one per
batch, so images are made one by one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mllmrisk_worker as base

DEFAULTS = {
    "model": "ByteFlow-AI/TokenFlow-t2i",
    "tokenizer": base.REQUIRED,
    "cfg": 7.5,
    "top_k": [600],
    "top_p": [0.6],
    "dtype": "bfloat16",
    "max_text_tokens": 128,
    "negative_prompt": (
        "lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer digits, cropped, worst "
        "quality, low quality, normal quality, jpeg artifacts, signature, watermark, username, blurry."
    ),
}


class TokenFlow:
    """Draws through `autoregressive_infer_cfg`."""

    def __init__(self, arguments: dict[str, Any], device: str) -> None:
        self.settings = base.settings(arguments, DEFAULTS)
        if self.settings["dtype"] not in ("bfloat16", "float16", "float32"):
            raise base.UnfitError("argument 'dtype' is bfloat16, float16 or float32")
        if not self.settings["top_k"] or len(self.settings["top_k"]) != len(self.settings["top_p"]):
            raise base.UnfitError("arguments 'top_k' and 'top_p' have one value for each pass over a scale")
        checkout = base.repository(
            "llava_t2i/__init__.py", "https://github.com/ByteVisionLab/TokenFlow (its folder t2i)"
        )
        checkpoint = Path(self.settings["tokenizer"]).expanduser()
        if not checkpoint.is_file():
            raise base.UnfitError(f"no file {checkpoint}: download ByteFlow-AI/TokenFlow's enhanced clipb tokenizer")
        base.one_gpu(device)
        base.need_gpu()
        self.model, self.tokenizer = load(self.settings, checkpoint)
        self.hello = {
            "name": "tokenflow/1",
            "model": self.settings["model"],
            "revision": base.revision(self.settings["model"]),
            "device": "cuda",
            "dtype": self.settings["dtype"],
            "versions": dict(base.versions("torch", "transformers"), repository=base.commit(checkout)),
            "arguments": dict(self.settings, tokenizer=checkpoint.name),
            "batch": 1,
        }

    def draw(self, prompt: str, seed: int) -> Any:
        """One image, (height, width, 3) uint8."""
        import torch
        from llava_t2i.dataset.process import crop_and_encode_text_and_img

        codes = [
            crop_and_encode_text_and_img(
                self.tokenizer, text, image=None, max_text_token_num=self.settings["max_text_tokens"]
            )[0]
            for text in (prompt, self.settings["negative_prompt"])
        ]
        with torch.inference_mode():
            found = self.model.autoregressive_infer_cfg(
                B=1,
                prefix_text_codes=codes,
                g_seed=seed,
                cfg=self.settings["cfg"],
                topk_list=self.settings["top_k"],
                topp_list=self.settings["top_p"],
            )
        return found[0].numpy().astype("uint8")


def load(settings: dict[str, Any], checkpoint: Path) -> Any:
    """Model and text tokenizer, prepared as the repository's script does."""
    import torch
    import transformers
    from llava_t2i.model import LlavaLlamaForCausalLM
    from llava_t2i.utils import disable_torch_init

    disable_torch_init()
    torch.set_default_tensor_type("torch.cuda.FloatTensor")  # its prompt codes are made without naming a device
    dtype = getattr(torch, settings["dtype"])
    model = LlavaLlamaForCausalLM.from_pretrained(
        settings["model"], attn_implementation="eager", mm_vision_tower=str(checkpoint)
    )
    model = model.eval().to(dtype).cuda()
    model.get_vision_tower().to(dtype)
    model.config.mm_vision_vq_type = str(model.config.mm_vision_vq_type)
    model.config.use_cache = False
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        settings["model"],
        model_max_length=model.config.tokenizer_model_max_length,
        padding_side="right",
        use_fast=False,
    )
    model.reinit_image_token_start_end(tokenizer)
    return model, tokenizer


if __name__ == "__main__":
    base.serve(TokenFlow)
