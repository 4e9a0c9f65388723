"""One training loop for all steps: by a fixed number of optimiser steps, resumable, the same from the same seed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEEP_EVERY = 250
"""Optimiser steps between checkpoints."""


class Course(NamedTuple):
    """How long and how fast a network learns."""

    steps: int
    batch: int
    rate: float
    """Peak learning rate: constant after a short rise, then a cosine over the last `ease` of all steps."""
    ease: float = 0.5
    memory: float = 0.998
    """Decay of the moving average of the weights, which is what is kept."""
    decay: float = 0.01
    """AdamW's weight decay."""


def fit(
    name: str,
    network: torch.nn.Module,
    loss: Callable[[np.random.Generator, int], torch.Tensor],
    course: Course,
    out: Path,
    *,
    probe: Callable[[], dict[str, float]] | None = None,
    probe_every: int = 1000,
    until: float | None = None,
) -> bool:
    """Trains a network in place and leaves the average of its weights in it.

    Args:
        name: names the checkpoint, `out/NAME.pt`, and the lines of `out/log.jsonl`.
        network: what learns.
        loss: of a step, from its own generator of random numbers and the batch size; torch's is seeded too.
        course: how long and how fast.
        out: where checkpoints and the log lie.
        probe: measures the averaged weights; called every `probe_every` steps.
        probe_every: optimiser steps between two measurements.
        until: `time.monotonic()` at which to stop early, with a checkpoint.

    Returns:
        Whether the course is finished; if not, the next call goes on.
    """
    optimiser = torch.optim.AdamW(network.parameters(), course.rate, (0.9, 0.99), weight_decay=course.decay)
    average = {key: value.detach().clone() for key, value in network.state_dict().items()}
    first = _resume(out / f"{name}.pt", network, average, optimiser)
    began, recent = time.monotonic(), []
    network.train()
    for step in range(first, course.steps):
        if until is not None and time.monotonic() > until:
            break
        for group in optimiser.param_groups:
            group["lr"] = course.rate * pace(step, course)
        torch.manual_seed(step)
        value = loss(np.random.default_rng([6, step]), course.batch)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        _remember(average, network, min(course.memory, (1 + step) / (10 + step)))
        recent.append(float(value.detach()))
        done = step + 1
        if done % KEEP_EVERY == 0 or done == course.steps:
            spent = time.monotonic() - began
            entry = {"name": name, "step": done, "loss": round(float(np.mean(recent)), 4), "spent": round(spent, 1)}
            recent.clear()
            if probe is not None and (done % probe_every == 0 or done == course.steps):
                entry |= measured(network, average, probe)
            write_log(out, entry)
            _keep(out / f"{name}.pt", done, network, average, optimiser)
            began = time.monotonic()
    network.load_state_dict(average)
    network.eval()
    return (first if first >= course.steps else step + 1) >= course.steps


def pace(step: int, course: Course) -> float:
    """The learning rate of a step, as a share of the peak."""
    rise = min(1.0, (step + 1) / 100)
    start = course.steps * (1 - course.ease)
    fall = max(0.0, (step - start) / (course.steps - start))
    return rise * (0.02 + 0.98 * 0.5 * (1 + float(np.cos(np.pi * fall))))


def measured(
    network: torch.nn.Module, average: dict[str, torch.Tensor], probe: Callable[[], dict[str, float]]
) -> dict[str, float]:
    """What a probe measures with the averaged weights; the network goes on with its own."""
    own = {key: value.detach().clone() for key, value in network.state_dict().items()}
    network.load_state_dict(average)
    network.eval()
    with torch.no_grad():
        found = probe()
    network.load_state_dict(own)
    network.train()
    return found


def write_log(out: Path, entry: dict[str, Any]) -> None:
    """Adds a line to `out/log.jsonl` and prints it."""
    line = json.dumps(entry, ensure_ascii=False)
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(line + "\n")
    print(line, flush=True)


def _remember(average: dict[str, torch.Tensor], network: torch.nn.Module, memory: float) -> None:
    with torch.no_grad():
        for key, value in network.state_dict().items():
            if value.dtype.is_floating_point:
                average[key].lerp_(value, 1 - memory)
            else:
                average[key].copy_(value)


def _keep(
    path: Path, step: int, network: torch.nn.Module, average: dict[str, torch.Tensor], optimiser: torch.optim.Optimizer
) -> None:
    partial = path.with_suffix(".partial")
    state = {"step": step, "network": network.state_dict(), "average": average, "optimiser": optimiser.state_dict()}
    torch.save(state, partial)
    partial.rename(path)


def _resume(
    path: Path, network: torch.nn.Module, average: dict[str, torch.Tensor], optimiser: torch.optim.Optimizer
) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    for key, value in state["average"].items():
        average[key].copy_(value)
    return int(state["step"])


def load_average(path: Path, network: torch.nn.Module) -> torch.nn.Module:
    """Puts a checkpoint's averaged weights into a network, ready for use.

    Raises:
        FileNotFoundError: the step that makes the checkpoint has not run.
    """
    network.load_state_dict(torch.load(path, weights_only=True)["average"])
    return network.eval()
