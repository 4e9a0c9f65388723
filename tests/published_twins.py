"""Small networks of the same structure as published detectors, each saved as its author saves it.

Where the author builds on a library (transformers, timm, torchvision), so does the twin here, apart from the modules
of `mllmrisk.detectors.architectures`: a detector that is exported from the twin's file is compared with the twin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional
from torchvision import transforms
from torchvision.models import resnet

from mllmrisk.detectors.architectures import aide, clip_linear, clip_tower, drct, npr, timm_vit

CLIP = ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711])
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
TOWER = clip_tower.Tower(image=32, patch=8, width=32, layers=2, heads=2, output=16)
_VISION = {
    "hidden_size": 32,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "projection_dim": 16,
}


class Twin(NamedTuple):
    """A published detector in small.

    Attributes:
        weights: the file that its author would publish.
        sizes: config of the architecture here.
        score: raw scores of RGB pictures, by the author's own steps.
        encoder: the frozen encoder's file or folder, where the file is a head.
    """

    weights: Path
    sizes: Any
    score: Callable[[Sequence[Image.Image]], np.ndarray]
    encoder: Path | None = None


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights, and statistics of batch normalisation, under which two pictures get two answers."""
    generator = torch.Generator().manual_seed(seed)
    for name, part in module.named_parameters():
        if not part.is_floating_point():
            continue
        if part.dim() < 2:
            centre = 0.0 if name.endswith("bias") else 1.0
            part.data = centre + 0.2 * torch.randn(part.shape, generator=generator)
        else:
            part.data = torch.randn(part.shape, generator=generator) * (1.5 / part[0].numel()) ** 0.5
    for name, part in module.named_buffers():
        if name.endswith("running_var"):
            part.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith("running_mean"):
            part.normal_(0, 0.2, generator=generator)
    return module.eval().requires_grad_(False)


def _scorer(
    network: Callable[[torch.Tensor], torch.Tensor], *steps: Any, norm: tuple[list[float], list[float]]
) -> Callable[[Sequence[Image.Image]], np.ndarray]:
    """torchvision's steps, a tensor, the network; two columns are real, fake."""
    pipeline = transforms.Compose([*steps, transforms.ToTensor(), transforms.Normalize(*norm)])

    def score(pictures: Sequence[Image.Image]) -> np.ndarray:
        with torch.no_grad():
            raw = network(torch.stack([pipeline(picture) for picture in pictures])).double()
        return (raw[:, 1] - raw[:, 0] if raw.shape[1] == 2 else raw[:, 0]).numpy()

    return score


def _clip(seed: int, act: str = "quick_gelu") -> Any:
    from transformers import CLIPConfig, CLIPModel

    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"vocab_size": 50, "bos_token_id": 48, "eos_token_id": 49}
    config = CLIPConfig(vision_config={**_VISION, "hidden_act": act}, text_config=text, projection_dim=16)
    return lively(CLIPModel(config), seed)


def _openai(model: Any) -> dict[str, torch.Tensor]:
    """A CLIP of transformers by OpenAI's names, with some of its text tower."""
    tower = clip_tower.tower_state(model.state_dict(), TOWER)
    text = {"transformer.resblocks.0.ln_1.weight": torch.ones(4), "token_embedding.weight": torch.ones(5, 4)}
    text |= {
        "text_projection": torch.ones(4, 4),
        "logit_scale": torch.tensor(1.0),
        "positional_embedding": torch.ones(4),
    }
    return {f"visual.{name}": part for name, part in tower.items()} | text


def _embedding(model: Any, pixels: torch.Tensor) -> torch.Tensor:
    return model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)


def univfd(folder: Path) -> Twin:
    model, fc = _clip(1), lively(nn.Linear(16, 1), 2)
    model.save_pretrained(folder / "encoder")
    torch.save(fc.state_dict(), folder / "fc_weights.pth")
    score = _scorer(lambda x: fc(_embedding(model, x)), transforms.CenterCrop(32), norm=CLIP)
    return Twin(folder / "fc_weights.pth", clip_linear.ClipLinear(TOWER), score, folder / "encoder")


def c2p_clip(folder: Path) -> Twin:
    model, fc = _clip(3), lively(nn.Linear(16, 1), 4)
    state = {f"model.{name}": part for name, part in model.state_dict().items() if name.startswith("vis")}
    torch.save(state | {"model.fc.weight": fc.weight, "model.fc.bias": fc.bias}, folder / "c2p.pth")

    def network(x: torch.Tensor) -> torch.Tensor:
        found = _embedding(model, x)
        return fc(found / found.norm(p=2, dim=-1, keepdim=True))

    steps = (transforms.Resize(32), transforms.CenterCrop(32))
    return Twin(
        folder / "c2p.pth", clip_linear.ClipLinear(TOWER, unit_length=True), _scorer(network, *steps, norm=CLIP)
    )


def clipdet(folder: Path) -> Twin:
    model, fc = _clip(5, "gelu"), lively(nn.Linear(32, 1), 6)
    torch.save(_openai(model), folder / "open_clip_pytorch_model.bin")
    torch.save({"model": {f"module.fc.{name}": part for name, part in fc.state_dict().items()}}, folder / "weights.pth")

    def network(x: torch.Tensor) -> torch.Tensor:
        return fc(functional.normalize(model.vision_model(pixel_values=x).pooler_output, dim=-1))

    steps = (transforms.Resize(32, transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(32))
    sizes = clip_linear.ClipLinear(TOWER._replace(output=None, quick=False), unit_length=True)
    encoder = folder / "open_clip_pytorch_model.bin"
    return Twin(folder / "weights.pth", sizes, _scorer(network, *steps, norm=CLIP), encoder)


def drct_clip(folder: Path) -> Twin:
    model, middle, last = _clip(7), lively(nn.Linear(16, 24), 8), lively(nn.Linear(24, 2), 9)
    state = {f"model.model.{name}": part for name, part in _openai(model).items()}
    state |= {f"model.fc.{name}": part for name, part in middle.state_dict().items()}
    torch.save(state | {f"fc.{name}": part for name, part in last.state_dict().items()}, folder / "13_acc0.96.pth")
    score = _scorer(lambda x: last(middle(_embedding(model, x))), _Albumentations(32), norm=IMAGENET)
    return Twin(folder / "13_acc0.96.pth", drct.Clip(TOWER, 24), score)


class _Albumentations:
    """PadIfNeeded with black edges and CenterCrop, both of which put the odd pixel after."""

    def __init__(self, side: int) -> None:
        self.side = side

    def __call__(self, picture: Image.Image) -> Image.Image:
        pixels = np.asarray(picture)
        room = [max(self.side - length, 0) for length in pixels.shape[:2]]
        pixels = np.pad(pixels, [*((gap // 2, gap - gap // 2) for gap in room), (0, 0)])
        top, left = ((length - self.side) // 2 for length in pixels.shape[:2])
        return Image.fromarray(pixels[top : top + self.side, left : left + self.side])


class _Contrastive(nn.Module):
    """DRCT's `ContrastiveModels`."""

    def __init__(self, model: nn.Module, embedding: int) -> None:
        super().__init__()
        self.model = model
        self.fc = nn.Linear(embedding, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.model(x))


def drct_convnext(folder: Path) -> Twin:
    import timm

    net = timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32), conv_mlp=False)
    net.head.fc = nn.Linear(net.head.fc.in_features, 24)
    model = lively(_Contrastive(net, 24), 10)
    torch.save(model.state_dict(), folder / "14_acc0.9996.pth")
    sizes = drct.ConvNext(64, (1, 1, 1, 1), (8, 16, 24, 32), 24)
    return Twin(folder / "14_acc0.9996.pth", sizes, _scorer(model, _Albumentations(64), norm=IMAGENET))


class _Npr(resnet.ResNet):
    """NPR's own front end and truncation on torchvision's ResNet."""

    def __init__(self) -> None:
        super().__init__(resnet.Bottleneck, [1, 1, 1, 1])
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2, padding=1, bias=False)
        self.fc1 = nn.Linear(512, 1)
        del self.layer3, self.layer4, self.fc

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = functional.interpolate(x, scale_factor=0.5, mode="nearest", recompute_scale_factor=True)
        again = functional.interpolate(half, scale_factor=2.0, mode="nearest", recompute_scale_factor=True)
        x = self.maxpool(self.relu(self.bn1(self.conv1((x - again) * 2.0 / 3.0))))
        return self.fc1(self.avgpool(self.layer2(self.layer1(x))).flatten(1))


def npr_net(folder: Path) -> Twin:
    model = lively(_Npr(), 11)
    torch.save({f"module.{name}": part for name, part in model.state_dict().items()}, folder / "NPR.pth")
    return Twin(
        folder / "NPR.pth",
        npr.Sizes(64, blocks=(1, 1)),
        _scorer(model, transforms.Resize((64, 64)), norm=IMAGENET),
    )


def community_forensics(folder: Path) -> Twin:
    import timm
    from safetensors.torch import save_file

    vit = timm.create_model(
        "vit_small_patch16_384", img_size=96, embed_dim=32, depth=2, num_heads=2, num_classes=1, pretrained=False
    )
    lively(vit, 12)
    save_file({f"vit.{name}": part for name, part in vit.state_dict().items()}, folder / "model.safetensors")
    steps = (transforms.Resize(110), transforms.CenterCrop(96))
    return Twin(folder / "model.safetensors", timm_vit.Vit(96, 16, 32, 2, 2), _scorer(vit, *steps, norm=IMAGENET))


class _Adapted(nn.Module):
    """DDA's `LoRALinear`: the layer and, beside it, its adapter."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.original_layer = layer
        self.lora = nn.Module()
        self.lora.lora_A = nn.Parameter(torch.zeros(8, layer.in_features))
        self.lora.lora_B = nn.Parameter(torch.zeros(layer.out_features, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.original_layer(x) + (x @ self.lora.lora_A.T) @ self.lora.lora_B.T / 8


class _Dda(nn.Module):
    """DDA's `DINOv2ModelWithLoRA`; the positions are those of 3 × 3 patches, the input has 2 × 2."""

    def __init__(self) -> None:
        super().__init__()
        from timm.models.vision_transformer import VisionTransformer

        net = VisionTransformer(28, 14, embed_dim=32, depth=2, num_heads=2, num_classes=0, init_values=1.0)
        net.mask_token = nn.Parameter(torch.zeros(1, 32))
        for block in net.blocks:
            for part, name in ((block.attn, "qkv"), (block.attn, "proj"), (block.mlp, "fc1"), (block.mlp, "fc2")):
                setattr(part, name, _Adapted(getattr(part, name)))
        self.base_model = nn.Module()
        self.base_model.model = net
        self.base_model.fc = nn.Linear(32, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base_model.fc(self.base_model.model(x))


def dda(folder: Path) -> Twin:
    model = lively(_Dda(), 13)
    net, wide = model.base_model.model, torch.randn(1, 10, 32, generator=torch.Generator().manual_seed(14))
    torch.save({"model": model.state_dict() | {"base_model.model.pos_embed": wide}, "epoch": 3}, folder / "ckpt.pth")
    # DINOv2's interpolate_pos_encoding with its offset of 0.1
    grid = functional.interpolate(
        wide[:, 1:].reshape(1, 3, 3, 32).permute(0, 3, 1, 2), scale_factor=(2.1 / 3, 2.1 / 3), mode="bicubic"
    )
    net.pos_embed.data = torch.cat([wide[:, :1], grid.permute(0, 2, 3, 1).reshape(1, 4, 32)], dim=1)
    score = _scorer(model, transforms.CenterCrop(28), norm=CLIP)
    return Twin(folder / "ckpt.pth", timm_vit.Vit(28, 14, 32, 2, 2), score)


class _Aide(nn.Module):
    """AIDE's network with torchvision's ResNets and timm's ConvNeXt, in small."""

    def __init__(self, sizes: aide.Sizes) -> None:
        super().__init__()
        import timm

        self.hpf = nn.Module()
        self.hpf.hpf = nn.Conv2d(3, 30, 5, padding=2, bias=False)
        for name in ("model_min", "model_max"):
            net = resnet.ResNet(resnet.Bottleneck, list(sizes.blocks), num_classes=10)
            net.conv1 = nn.Conv2d(30, 64, 7, stride=2, padding=3, bias=False)
            setattr(self, name, net)
        trunk = timm.create_model(
            "convnext_xxlarge", depths=sizes.depths, dims=sizes.widths, num_classes=0, global_pool=""
        )
        trunk.head.global_pool, trunk.head.flatten = nn.Identity(), nn.Identity()
        self.openclip_convnext_xxl = trunk
        self.convnext_proj = nn.Sequential(nn.Linear(sizes.widths[-1], sizes.projection))
        self.fc = nn.Module()
        self.fc.fc1 = nn.Linear(2048 + sizes.projection, sizes.hidden)
        self.fc.fc2 = nn.Linear(sizes.hidden, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def residual(net: Any, patch: torch.Tensor) -> torch.Tensor:
            y = net.maxpool(net.relu(net.bn1(net.conv1(self.hpf.hpf(patch)))))
            return net.avgpool(net.layer4(net.layer3(net.layer2(net.layer1(y))))).flatten(1)

        (mean, std), (clip_mean, clip_std) = (
            (torch.tensor(part).view(3, 1, 1) for part in norm) for norm in (IMAGENET, CLIP)
        )
        whole = self.openclip_convnext_xxl(x[:, 4] * (std / clip_std) + (mean - clip_mean) / clip_std)
        noise = sum(residual(net, x[:, i]) for i, net in enumerate((self.model_min, self.model_max) * 2)) / 4
        joint = torch.cat([self.convnext_proj(whole.mean(dim=(2, 3))), noise], dim=1)
        return self.fc.fc2(functional.gelu(self.fc.fc1(joint)))


def aide_patches(image: torch.Tensor) -> list[torch.Tensor]:
    """AIDE's choice out of (3, H, W) in [0, 1]: windows of lowest, highest, second lowest, second highest grade."""
    side, bands = 32, 6
    index = torch.arange(side)
    basis = torch.cos((index[None] + 0.5) * torch.pi * index[:, None] / side) * (2 / side) ** 0.5
    basis[0] = (1 / side) ** 0.5
    windows = functional.unfold(image[None], side, stride=16)[0].T.reshape(-1, 3, side, side)
    magnitude = torch.log((basis @ windows @ basis.T).abs() + 1)
    diagonal, grade = index[:, None] + index[None], torch.zeros(len(windows))
    for band in range(bands):
        low, high = side * 2 / bands * band, side * 2 / bands * (band + 1)
        mask = ((diagonal >= low) & (diagonal <= high)).float()
        grade += 2**band * (magnitude * mask / mask.sum()).sum(dim=(1, 2, 3))
    order = grade.argsort()
    return [windows[order[i]] for i in (0, -1, 1, -2)]


def aide_net(folder: Path) -> Twin:
    sizes = aide.Sizes(blocks=(1, 1, 1, 1), depths=(1, 1, 1, 1), widths=(8, 16, 24, 32), projection=8, hidden=16)
    model = lively(_Aide(sizes), 15)
    torch.save({"model": model.state_dict(), "epoch": 1}, folder / "sd14_train.pth")
    norm = transforms.Normalize(*IMAGENET)

    def one(picture: Image.Image) -> torch.Tensor:
        image = transforms.functional.to_tensor(picture)
        parts = [
            functional.interpolate(part[None], (256, 256), mode="bilinear")[0] for part in (*aide_patches(image), image)
        ]
        return torch.stack([norm(part) for part in parts])

    def score(pictures: Sequence[Image.Image]) -> np.ndarray:
        with torch.no_grad():
            raw = model(torch.stack([one(picture) for picture in pictures])).double()
        return (raw[:, 1] - raw[:, 0]).numpy()

    return Twin(folder / "sd14_train.pth", sizes, score)
