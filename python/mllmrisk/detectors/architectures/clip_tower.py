"""CLIP's image tower (Radford 2021), as OpenAI and open_clip write it, and the three spellings of its weights."""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from mllmrisk.detectors.architectures import State
from mllmrisk.detectors.architectures.weights import under, without


class Tower(NamedTuple):
    """Sizes of an image tower; the defaults are ViT-L/14.

    Attributes:
        image, patch: sides in px.
        output: dimension of the joint space; None where the tower ends before its projection.
        quick: QuickGELU, as OpenAI trained; GELU elsewhere.
    """

    image: int = 224
    patch: int = 14
    width: int = 1024
    layers: int = 24
    heads: int = 16
    output: int | None = 768
    quick: bool = True

    @property
    def dimension(self) -> int:
        """Length of an embedding."""
        return self.width if self.output is None else self.output


class QuickGELU(nn.Module):
    """`x * sigmoid(1.702 x)`."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Multi-head self-attention, its parameters named as in `nn.MultiheadAttention`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * width**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) → the same."""
        count, tokens, width = x.shape
        joint = functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = joint.view(count, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.out_proj(mixed.transpose(1, 2).reshape(count, tokens, width))


class Block(nn.Module):
    """One residual block, normalised before each part."""

    def __init__(self, width: int, heads: int, quick: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        parts = [("c_fc", nn.Linear(width, 4 * width)), ("gelu", QuickGELU() if quick else nn.GELU())]
        self.mlp = nn.Sequential(OrderedDict([*parts, ("c_proj", nn.Linear(4 * width, width))]))

    def forward(self, x: Tensor) -> Tensor:
        """(n, tokens, width) → the same."""
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class VisionTower(nn.Module):
    """Pixels, normalised, (n, 3, image, image) → embeddings (n, dimension), of no particular length."""

    def __init__(self, sizes: Tower) -> None:
        super().__init__()
        tokens = (sizes.image // sizes.patch) ** 2 + 1
        scale = sizes.width**-0.5
        self.conv1 = nn.Conv2d(3, sizes.width, sizes.patch, stride=sizes.patch, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(sizes.width))
        self.positional_embedding = nn.Parameter(scale * torch.randn(tokens, sizes.width))
        self.ln_pre = nn.LayerNorm(sizes.width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(
            Block(sizes.width, sizes.heads, sizes.quick) for _ in range(sizes.layers)
        )
        self.ln_post = nn.LayerNorm(sizes.width)
        self.proj = nn.Parameter(scale * torch.randn(sizes.width, sizes.output)) if sizes.output else None

    def forward(self, pixels: Tensor) -> Tensor:
        """As the class says."""
        x = self.conv1(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.expand(x.shape[0], 1, -1)
        x = self.ln_pre(torch.cat([first, x], dim=1) + self.positional_embedding)
        for block in self.transformer.resblocks:
            x = block(x)
        x = self.ln_post(x[:, 0])
        return x if self.proj is None else x @ self.proj


#: transformers' names → the names here.
_FROM_TRANSFORMERS = (
    (r"vision_model\.embeddings\.class_embedding", "class_embedding"),
    (r"vision_model\.embeddings\.patch_embedding\.", "conv1."),
    (r"vision_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"vision_model\.pre_layrnorm\.", "ln_pre."),
    (r"vision_model\.post_layernorm\.", "ln_post."),
    (r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.out_proj\.", r"transformer.resblocks.\1.attn.out_proj."),
    (r"vision_model\.encoder\.layers\.(\d+)\.layer_norm([12])\.", r"transformer.resblocks.\1.ln_\2."),
    (r"vision_model\.encoder\.layers\.(\d+)\.mlp\.fc1\.", r"transformer.resblocks.\1.mlp.c_fc."),
    (r"vision_model\.encoder\.layers\.(\d+)\.mlp\.fc2\.", r"transformer.resblocks.\1.mlp.c_proj."),
)
_JOINT = re.compile(r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)")
#: What a whole CLIP holds beside its image tower, in any spelling.
TEXT = (
    "text_model.",
    "text_projection",
    "logit_scale",
    "logit_bias",
    "transformer.",
    "token_embedding.",
    "positional_embedding",
    "ln_final.",
    "vision_model.embeddings.position_ids",
    # sizes that OpenAI's own archives carry as tensors
    "input_resolution",
    "context_length",
    "vocab_size",
)


def tower_state(state: State, sizes: Tower) -> dict[str, Any]:
    """The image tower of a CLIP state dict, by the names of :class:`VisionTower`; its text tower is left out.

    Args:
        state: OpenAI's or open_clip's (`visual.conv1.weight`) or transformers' (`vision_model...`).
        sizes: says whether the projection belongs to the tower.
    """
    state = without(state, TEXT)
    found = _renamed(state) if any(name.startswith("vision_model.") for name in state) else _visual(state)
    if sizes.output is None:
        found.pop("proj", None)
    return found


def _visual(state: State) -> dict[str, Any]:
    """`visual.` off the names; what else there is keeps its name, to be refused by it."""
    return under("visual.", state) | {name: part for name, part in state.items() if not name.startswith("visual.")}


def _renamed(state: State) -> dict[str, Any]:
    left = dict(state)
    found: dict[str, Any] = {}
    for name in state:
        if (match := _JOINT.fullmatch(name)) is None:
            continue
        parts = [name.replace("q_proj", f"{part}_proj") for part in "qkv"]
        if all(part in left for part in parts):
            found[f"transformer.resblocks.{match[1]}.attn.in_proj_{match[2]}"] = torch.cat(
                [left.pop(part) for part in parts]
            )
    if "visual_projection.weight" in left:
        found["proj"] = left.pop("visual_projection.weight").T.contiguous()
    for name, tensor in left.items():
        new = name
        for pattern, replacement in _FROM_TRANSFORMERS:
            new = re.sub(rf"^{pattern}", replacement, new)
        found[new] = tensor
    return found
