"""`python -m mllmrisk.micro STEP... | all`: trains the embedded models and writes them where the package keeps them."""

from __future__ import annotations

import argparse
import sys
import time
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

WEIGHTS = Path(__file__).parents[1] / "weights"
MODELS = ("micro-judge", "micro-diffusion", "micro-mllm", "micro-clip")


class Step(Protocol):
    """Something to do with the folder of checkpoints; False if it stopped before its end."""

    def __call__(self, out: Path, until: float | None) -> bool:
        """Does it, until `time.monotonic()` says so."""


def _classifier(name: str, out: Path, until: float | None) -> bool:
    from mllmrisk.micro import classifier

    return classifier.train(name, out, until)


def _course(name: str, out: Path, until: float | None) -> bool:
    train: Callable[[Path, float | None], bool] = import_module(f"mllmrisk.micro.{name}").train
    return train(out, until)


def _ship(weights: Path, models: tuple[str, ...], out: Path, until: float | None) -> bool:
    from mllmrisk.micro.ship import ship

    for name in models:
        ship(name, out, weights)
    return True


def _card(weights: Path, models: tuple[str, ...], out: Path, until: float | None) -> bool:
    from mllmrisk.micro import card

    for name in models:
        card.write(name, out, weights)
    return True


def steps(weights: Path, models: tuple[str, ...]) -> dict[str, Step]:
    """Every step by its name, in order."""
    return {
        "inspector": partial(_classifier, "inspector"),
        "judge": partial(_classifier, "judge"),
        **{name: partial(_course, name) for name in ("vae", "diffusion", "codes", "vq", "mllm", "clip")},
        "ship": partial(_ship, weights, models),
        "card": partial(_card, weights, models),
    }


def main() -> int:
    """Runs the steps that the command line names. Exit code 3: stopped by `--minutes`; the same call goes on."""
    parser = argparse.ArgumentParser(prog="python -m mllmrisk.micro", description=__doc__)
    parser.add_argument("steps", nargs="+", choices=[*steps(WEIGHTS, MODELS), "all"], metavar="STEP")
    parser.add_argument("--out", type=Path, default=Path("build/micro"), help="checkpoints and log [build/micro]")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where `ship` and `card` write")
    parser.add_argument("--model", action="append", choices=MODELS, help="what `ship` and `card` write [all]")
    parser.add_argument("--minutes", type=float, help="stop after that time, with a checkpoint")
    chosen = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    chosen.out.mkdir(parents=True, exist_ok=True)
    until = None if chosen.minutes is None else time.monotonic() + 60 * chosen.minutes
    table = steps(chosen.weights, tuple(chosen.model or MODELS))
    for name in table if "all" in chosen.steps else chosen.steps:
        if not table[name](chosen.out, until):
            return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
