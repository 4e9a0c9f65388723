"""A worker for Show-o (showlab/Show-o, Apache-2.0; weights showlab/show-o-512x512 and showlab/magvitv2).

Written against the repository at 45a5a2d (January 2026): the part `t2i` of `inference_t2i.py`, without its wandb. It
was read, not run, here: it needs a checkout as working folder, an environment of its own (torch 2.2.1, transformers
4.41.1) and a GPU. Try it with `mllmrisk doctor --worker show-o` before a run.

Defaults are those of the README's text-to-image call: guidance 5, 50 steps. Sampling takes a generator, seeded for each
image.
"""

from __future__ import annotations

from typing import Any

import mllmrisk_worker as base

DEFAULTS = {"config": "configs/showo_demo_512x512.yaml", "guidance_scale": 5.0, "steps": 50, "temperature": 1.0}
SPECIAL = ("<|soi|>", "<|eoi|>", "<|sov|>", "<|eov|>", "<|t2i|>", "<|mmu|>", "<|t2v|>", "<|v2v|>", "<|lvg|>")


class ShowO:
    """Draws through `t2i_generate` and the MAGVIT-v2 decoder."""

    def __init__(self, arguments: dict[str, Any], device: str) -> None:
        self.settings = base.settings(arguments, DEFAULTS)
        checkout = base.repository("models/modeling_showo.py", "https://github.com/showlab/Show-o")
        base.one_gpu(device)
        base.need_gpu()
        from models import MAGVITv2, Showo
        from omegaconf import OmegaConf
        from training.prompting_utils import UniversalPrompting
        from transformers import AutoTokenizer

        self.config = OmegaConf.load(self.settings["config"])
        self.prompting = UniversalPrompting(
            AutoTokenizer.from_pretrained(self.config.model.showo.llm_model_path, padding_side="left"),
            max_text_len=self.config.dataset.preprocessing.max_seq_length,
            special_tokens=SPECIAL,
            ignore_id=-100,
            cond_dropout_prob=self.config.training.cond_dropout_prob,
        )
        self.decoder = MAGVITv2.from_pretrained(self.config.model.vq_model.vq_model_name).to("cuda").eval()
        self.model = Showo.from_pretrained(self.config.model.showo.pretrained_model_path).to("cuda").eval()
        self.hello = {
            "name": "show_o/1",
            "model": str(self.config.model.showo.pretrained_model_path),
            "revision": base.revision(str(self.config.model.showo.pretrained_model_path)),
            "device": "cuda",
            "dtype": str(next(self.model.parameters()).dtype).replace("torch.", ""),
            "versions": dict(base.versions("torch", "transformers"), repository=base.commit(checkout)),
            "arguments": self.settings,
            "batch": 1,
        }

    def draw(self, prompt: str, seed: int) -> Any:
        """One image, (512, 512, 3) uint8."""
        import torch
        from models import get_mask_chedule
        from training.prompting_utils import create_attention_mask_predict_next

        showo = self.config.model.showo
        masked = torch.full((1, showo.num_vq_tokens), self.model.config.mask_token_id, dtype=torch.long, device="cuda")
        asked, _ = self.prompting(([prompt], masked), "t2i_gen")
        unasked, rows = None, asked
        if self.settings["guidance_scale"] > 0:
            unasked, _ = self.prompting(([""], masked), "t2i_gen")
            rows = torch.cat([asked, unasked], dim=0)
        special = self.prompting.sptids_dict
        attention = create_attention_mask_predict_next(
            rows,
            pad_id=int(special["<|pad|>"]),
            soi_id=int(special["<|soi|>"]),
            eoi_id=int(special["<|eoi|>"]),
            rm_pad_in_image=True,
        )
        with torch.no_grad():
            tokens = self.model.t2i_generate(
                input_ids=asked,
                uncond_input_ids=unasked,
                attention_mask=attention,
                guidance_scale=self.settings["guidance_scale"],
                temperature=self.settings["temperature"],
                timesteps=self.settings["steps"],
                noise_schedule=get_mask_chedule("cosine"),
                generator=torch.Generator("cuda").manual_seed(seed),
                seq_len=showo.num_vq_tokens,
                uni_prompting=self.prompting,
                config=self.config,
            )
            found = self.decoder.decode_code(tokens.clamp(0, showo.codebook_size - 1))
        found = ((found + 1) / 2).clamp(0, 1) * 255
        return found[0].permute(1, 2, 0).cpu().numpy().astype("uint8")


if __name__ == "__main__":
    base.serve(ShowO)
