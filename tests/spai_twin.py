"""SPAI in small, with an FFT, a BEiT's attention and the parts of its checkpoint that nothing reads."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torchvision.transforms import functional as transforms

from mllmrisk.detectors.architectures import spai
from published_twins import IMAGENET, Twin, lively

SIDE, WIDTH, LAYERS, HEADS, PROJECTION = 32, 16, 2, 2, 12
ATTENTION, ATTENTION_HEADS = 24, 3
FEATURES = 6 * LAYERS + PROJECTION


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.q_bias, self.v_bias = nn.Parameter(torch.zeros(WIDTH)), nn.Parameter(torch.zeros(WIDTH))
        self.proj = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        joint = functional.linear(x, self.qkv.weight, bias).reshape(*x.shape[:2], 3, HEADS, -1)
        query, key, value = joint.permute(2, 0, 3, 1, 4)
        weights = (query * (WIDTH // HEADS) ** -0.5 @ key.transpose(-2, -1)).softmax(dim=-1)
        return self.proj((weights @ value).transpose(1, 2).reshape(x.shape))


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn, self.mlp = _Attention(), nn.Module()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp.fc2(functional.gelu(self.mlp.fc1(self.norm2(x))))


class _Vit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        tokens = (SIDE // 8) ** 2 + 1
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, WIDTH, 8, stride=8)
        self.cls_token, self.pos_embed = (
            nn.Parameter(torch.zeros(1, 1, WIDTH)),
            nn.Parameter(torch.zeros(1, tokens, WIDTH)),
        )
        self.blocks = nn.ModuleList(_Block() for _ in range(LAYERS))
        # of its own training; never run
        self.actual_cls_token, self.cls_pos_embed = (
            nn.Parameter(torch.zeros(1, 1, WIDTH)),
            nn.Parameter(torch.zeros(1, 5)),
        )
        self.cls_blocks = nn.ModuleList([_Block()])
        self.intermediate_fc_norm = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(LAYERS))
        self.fc_norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH * LAYERS, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed.proj(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(x[:, 1:])
        return torch.stack(found, dim=1)


class _Projector(nn.Module):
    def __init__(self, before: int, *, first: bool, last: nn.Module) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(before) if first else nn.Identity()
        inner = (nn.Linear(before, PROJECTION), nn.GELU(), nn.Dropout(), nn.Linear(PROJECTION, PROJECTION), last)
        self.projector = nn.Sequential(nn.Dropout(), *inner, nn.Dropout())
        self.norm2 = nn.LayerNorm(PROJECTION)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm2(self.projector(self.norm1(x)))


class _Spai(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mfvit = nn.Module()
        self.mfvit.vit = _Vit()
        middle = torch.cat([torch.arange(SIDE / 2).flip(0), torch.arange(SIDE / 2)])
        radius = (middle.square() + middle[:, None].square()).sqrt()
        self.mfvit.frequencies_mask = nn.Parameter(torch.where(radius < 4, 1, 0), requires_grad=False)
        processor = self.mfvit.features_processor = nn.Module()
        processor.patch_projector = nn.Module()
        processor.patch_projector.projectors = nn.ModuleList(
            _Projector(WIDTH, first=True, last=nn.Identity()) for _ in range(LAYERS)
        )
        own = processor.original_features_processor = nn.Module()
        own.alpha = nn.Parameter(torch.zeros(1, LAYERS, PROJECTION))
        own.proj1 = _Projector(2 * PROJECTION, first=False, last=nn.GELU())
        own.proj2 = _Projector(PROJECTION, first=False, last=nn.GELU())
        self.to_kv = nn.Linear(FEATURES, 2 * ATTENTION, bias=False)
        self.patch_aggregator = nn.Parameter(torch.zeros(ATTENTION_HEADS, 1, ATTENTION // ATTENTION_HEADS))
        self.to_out = nn.Sequential(nn.Linear(ATTENTION, FEATURES, bias=False), nn.Dropout())
        self.norm, self.cls_head = nn.LayerNorm(FEATURES), nn.Module()
        one, two, three = nn.Linear(FEATURES, 48), nn.Linear(48, 48), nn.Linear(48, 1)
        self.cls_head.head = nn.Sequential(one, nn.ReLU(), nn.Dropout(), two, nn.ReLU(), nn.Dropout(), three)

    def encoded(self, x: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.fftshift(torch.fft.fft2(x))
        mask, processor = self.mfvit.frequencies_mask, self.mfvit.features_processor
        low, high = (torch.fft.ifft2(torch.fft.ifftshift(spectrum * part)).real for part in (mask, 1 - mask))
        mean, std = (torch.tensor(part).view(3, 1, 1) for part in IMAGENET)
        layers = [self.mfvit.vit((part - mean) / std) for part in (x, low.clamp(0, 1), high.clamp(0, 1))]
        x, low, high = (
            torch.stack([p(part[:, i]) for i, p in enumerate(processor.patch_projector.projectors)], dim=1)
            for part in layers
        )
        alike = [functional.cosine_similarity(a, b, dim=-1) for a, b in ((x, low), (x, high), (low, high))]
        own = processor.original_features_processor
        y = own.proj1(torch.cat([x.mean(dim=2), x.std(dim=2)], dim=-1))
        y = own.proj2((torch.softmax(own.alpha, dim=1) * y).sum(dim=1))
        return torch.cat([part for a in alike for part in (a.mean(dim=-1), a.std(dim=-1))] + [y], dim=1)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """The patches of one image → its logit."""
        keys, values = self.to_kv(self.encoded(patches)).chunk(2, dim=-1)
        keys, values = (part.reshape(len(patches), ATTENTION_HEADS, -1).transpose(0, 1) for part in (keys, values))
        scale = (ATTENTION // ATTENTION_HEADS) ** -0.5
        joined = ((self.patch_aggregator @ keys.transpose(-1, -2) * scale).softmax(dim=-1) @ values).flatten()
        return self.cls_head.head(self.norm(self.to_out(joined)))


def spai_net(folder: Path) -> Twin:
    model = lively(_Spai(), 16)
    torch.save({"model": model.state_dict(), "epoch": 10, "max_accuracy": 0.9}, folder / "spai.pth")

    def one(picture: Image.Image) -> float:
        image = transforms.to_tensor(picture)[None]
        rows, columns = (max(SIDE - length, 0) for length in image.shape[2:])
        room = [columns // 2, rows // 2, columns - columns // 2, rows - rows // 2]
        image = transforms.pad(image, room, padding_mode="reflect")
        tiles = image.unfold(2, SIDE, SIDE).unfold(3, SIDE, SIDE).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
        tiles = torch.cat(transforms.five_crop(image, [SIDE, SIDE])) if len(tiles) < 4 else tiles
        with torch.no_grad():
            return float(model(tiles)[0])

    sizes = spai.Sizes(SIDE, 8, WIDTH, LAYERS, HEADS, PROJECTION, ATTENTION, ATTENTION_HEADS, 2)
    import numpy as np

    return Twin(folder / "spai.pth", sizes, lambda pictures: np.array([one(picture) for picture in pictures]))
