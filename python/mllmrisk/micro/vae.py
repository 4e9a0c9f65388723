"""The autoencoder of `micro-diffusion`: 96 x 96 pixels to 12 x 12 latents of 4 channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from diffusers import AutoencoderKL

from mllmrisk.micro.data import pictures
from mllmrisk.micro.fitting import Course, fit, load_average, write_log

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    Pictures: TypeAlias = npt.NDArray[np.uint8]

COURSE = Course(steps=2250, batch=8, rate=1.5e-3, ease=0.6, memory=0.995)
COUNT = 12000
"""Pictures that the generators learn from."""


def network() -> AutoencoderKL:
    """The untrained autoencoder: 0.94 million parameters."""
    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(16, 32, 64, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        latent_channels=4,
        mid_block_add_attention=False,
        use_quant_conv=False,
        use_post_quant_conv=False,
        sample_size=96,
    )


def tensor(batch: Pictures) -> torch.Tensor:
    """`(n, 96, 96, 3)` uint8 to `(n, 3, 96, 96)` float in [-1, 1]."""
    return torch.from_numpy(np.array(batch)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def array(batch: torch.Tensor) -> Pictures:
    """`(n, 3, h, w)` float in [-1, 1] to `(n, h, w, 3)` uint8."""
    return ((batch.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def likeness(made: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """L1 of pixels and of their differences, four times as heavy on the subject as on the flat background.

    The leftmost columns are always background: what differs from them in its row is the subject.
    """
    background = wanted[..., :4].mean(-1, keepdim=True)
    weight = 1 + 3 * ((wanted - background).abs().amax(1, keepdim=True) > 0.15).float()
    error = made - wanted
    across = (error[..., 1:] - error[..., :-1]).abs() * weight[..., 1:]
    down = (error[..., 1:, :] - error[..., :-1, :]).abs() * weight[..., 1:, :]
    return (error.abs() * weight).mean() + 0.5 * (across.mean() + down.mean())


def train(out: Path, until: float | None = None) -> bool:
    """Trains the autoencoder; resumes."""
    drawn = pictures("generators", COUNT, out)
    unseen = tensor(pictures("held-out", 480, out)[::7])
    model = network()

    def loss(rng: np.random.Generator, batch: int) -> torch.Tensor:
        wanted = tensor(drawn[np.sort(rng.choice(COUNT, batch, replace=False))])
        with torch.autocast("cpu", torch.bfloat16):
            latents = model.encode(wanted).latent_dist
            made = model.decode(latents.sample()).sample
        spread = latents.mean.float() ** 2 + latents.var.float() - 1 - latents.logvar.float()
        return likeness(made.float(), wanted) + 1e-4 * 0.5 * spread.mean()

    def probe() -> dict[str, float]:
        made = model.decode(model.encode(unseen).latent_dist.mode()).sample.clamp(-1, 1)
        return {"psnr": float(10 * torch.log10(4 / ((made - unseen) ** 2).mean((1, 2, 3))).mean())}

    return fit("vae", model, loss, COURSE, out, probe=probe, probe_every=500, until=until)


def trained(out: Path) -> AutoencoderKL:
    """The trained autoencoder, with the shift and scale that bring its latents to zero mean and unit variance."""
    model = load_average(out / "vae.pt", network())
    drawn = pictures("generators", COUNT, out)
    with torch.no_grad():
        some = model.encode(tensor(drawn[:: COUNT // 240])).latent_dist.mode()
    model.register_to_config(shift_factor=float(some.mean()), scaling_factor=float(1 / some.std()))
    return model


def latents(out: Path) -> torch.Tensor:
    """`(COUNT, 4, 12, 12)`: the latents of all training pictures, shifted and scaled; made once and kept."""
    path = out / "latents.npy"
    if not path.exists():
        model, drawn = trained(out), pictures("generators", COUNT, out)
        parts = []
        with torch.no_grad():
            for start in range(0, COUNT, 50):
                encoded = model.encode(tensor(drawn[start : start + 50])).latent_dist.mode()
                parts.append((encoded - model.config.shift_factor) * model.config.scaling_factor)
        made = torch.cat(parts)
        write_log(out, {"name": "latents", "std": [round(float(s), 3) for s in made.std((0, 2, 3))]})
        np.save(path, made.numpy())
    return torch.from_numpy(np.load(path))
