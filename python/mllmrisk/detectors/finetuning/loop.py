"""The training loop: AdamW, warm-up and cosine, mixed precision on a GPU, early stop, checkpoints to go on from."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits

from mllmrisk import metrics
from mllmrisk.detectors.finetuning.backbones import Network
from mllmrisk.detectors.finetuning.data import (
    Batch,
    Examples,
    Look,
    Reader,
    ahead,
    plain_batches,
    training_batches,
)
from mllmrisk.detectors.finetuning.division import Division
from mllmrisk.detectors.finetuning.recipe import Course
from mllmrisk.errors import OutOfMemoryError, UsageError
from mllmrisk.inference import parse_device
from mllmrisk.store import write_atomically

Tell = Callable[[int, int], None]


class Epoch(NamedTuple):
    """What an epoch came to: mean losses, and the AUC of the validation images."""

    fit: float
    validation: float
    auc: float


class History(NamedTuple):
    """How a training went.

    Attributes:
        epochs: those that ran, of this call and of those before it.
        best: the one whose weights are kept (least validation loss), from 0.
        parts: each batch was computed in so many parts, since the device had no room for more at once.
    """

    epochs: list[Epoch]
    best: int
    parts: int


class Run(NamedTuple):
    """What a training is done with.

    Attributes:
        checkpoint: the file to go on from, or None; one of another `identity` is not gone on from.
        identity: everything that decides the result, in one text.
        tell: called after each epoch, and its checkpoint, with (done, at most).
    """

    device: Any
    seed: int
    checkpoint: Path | None = None
    identity: str = ""
    tell: Tell = lambda *_: None


def chosen_device(device: str) -> Any:
    """The torch device of `auto`, `cpu` or `cuda[:INDEX]`.

    Raises:
        UsageError: CUDA was asked for and torch sees none.
    """
    kind, index = parse_device(device)
    cuda = kind != "cpu" and torch.cuda.is_available()
    if kind == "cuda" and not (cuda and index < torch.cuda.device_count()):
        raise UsageError(f"fine-tuning: {device} was asked for, but torch sees no such device; or use --device cpu")
    return torch.device("cuda", index) if cuda else torch.device("cpu")


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Torch's threads on a CPU for the time inside; another count may move a float32 result in its last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fit(
    network: Network, examples: Examples, division: Division, course: Course, look: Look, reader: Reader, run: Run
) -> History:
    """Trains a network in place and leaves the weights of its best epoch in it.

    Every epoch seeds its draws and torch's dropout by seed and number alone, so that a training that was killed goes
    on from its last checkpoint to the same weights: bit for bit on a CPU with the same number of threads.
    """
    module = network.module.to(run.device)
    optimiser = _optimiser(network, course)
    fitted, validation = division.of("fit"), division.of("validation")
    steps = math.ceil(len(fitted) / course.batch)
    state = _State(epochs=[], best=0, parts=1, kept=_copied(network))
    _resume(run, network, optimiser, state)
    for number in range(len(state.epochs), course.epochs):
        if number - 1 - state.best >= course.patience:
            break
        batches = training_batches(
            examples, fitted, look, reader, batch=course.batch, tiles=course.tiles, copy=number % course.copies,
            rng=np.random.default_rng([run.seed, number, 0xE0C]),
        )  # fmt: skip
        losses = []
        with torch.random.fork_rng(devices=[run.device] if run.device.type == "cuda" else []):
            torch.manual_seed(run.seed * 100_003 + number)
            module.train()
            for i, batch in enumerate(ahead(batches)):
                for group in optimiser.param_groups:
                    group["lr"] = group["peak"] * pace(number * steps + i, course.epochs * steps, course.warm_up)
                losses.append(_step(module, optimiser, batch, course.clip, run.device, state))
        loss, auc = _validated(network, examples, validation, look, reader, run, course.batch)
        state.epochs.append(Epoch(float(np.mean(losses)) if losses else float("nan"), loss, auc))
        if loss <= min(epoch.validation for epoch in state.epochs):
            state.best, state.kept = number, _copied(network)
        _keep(run, network, optimiser, state)
        run.tell(number + 1, course.epochs)
    module.load_state_dict(state.kept, strict=False)
    module.eval()
    return History(state.epochs, state.best, state.parts)


def pace(step: int, steps: int, warm_up: float) -> float:
    """The learning rate of a step as a share of the peak."""
    rise = max(1, round(warm_up * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def logits(
    module: Any, examples: Examples, positions: NDArray[np.int64], look: Look, reader: Reader, device: Any, batch: int
) -> dict[int, float]:
    """The mean logit over the rows of each image, under the view's own chain; one that gives no rows is absent."""
    module.eval()
    found: dict[int, list[float]] = {}
    with torch.inference_mode():
        for part in ahead(plain_batches(examples, positions, look, reader, batch)):
            for start in range(0, len(part.values), batch):  # an image may be many rows
                rows = slice(start, start + batch)
                values = _forward(module, torch.from_numpy(part.values[rows]), device).cpu().double().tolist()
                for owner, value in zip(part.owners[rows].tolist(), values, strict=True):
                    found.setdefault(owner, []).append(value)
    return {owner: float(np.mean(values)) for owner, values in found.items()}


class _State:
    def __init__(self, epochs: list[Epoch], best: int, parts: int, kept: dict[str, Any]) -> None:
        self.epochs, self.best, self.parts, self.kept = epochs, best, parts, kept


def _forward(module: Any, values: Any, device: Any) -> Any:
    """(m,) float32 logits; bfloat16 inside on a GPU, float32 on a CPU."""
    cuda = device.type == "cuda"
    with torch.autocast("cuda", torch.bfloat16) if cuda else contextlib.nullcontext():
        return module(values.to(device, non_blocking=cuda)).float()


def _step(module: Any, optimiser: Any, batch: Batch, clip: float, device: Any, state: _State) -> float:
    """One optimiser step; where the device has no room, in twice as many parts whose gradients add up."""
    while True:
        try:
            loss = _gradients(module, optimiser, batch, state.parts, device)
            break
        except torch.OutOfMemoryError as wrong:
            optimiser.zero_grad(set_to_none=True)
            if state.parts >= len(batch.labels):
                raise OutOfMemoryError("no room to train on a single row; a smaller network or mode may fit") from wrong
            state.parts *= 2
        if device.type == "cuda":
            torch.cuda.empty_cache()
    torch.nn.utils.clip_grad_norm_([p for p in module.parameters() if p.grad is not None], clip)
    optimiser.step()
    return loss


def _gradients(module: Any, optimiser: Any, batch: Batch, parts: int, device: Any) -> float:
    optimiser.zero_grad(set_to_none=True)
    total = float(batch.weights.sum())
    loss = 0.0
    size = math.ceil(len(batch.labels) / parts)
    for start in range(0, len(batch.labels), size):
        rows = slice(start, start + size)
        labels, weights = (torch.from_numpy(part[rows]).to(device) for part in (batch.labels, batch.weights))
        found = _forward(module, torch.from_numpy(batch.values[rows]), device)
        part = binary_cross_entropy_with_logits(found, labels, weights, reduction="sum") / total
        part.backward()
        loss += float(part.detach())
    return loss


def _validated(
    network: Network,
    examples: Examples,
    positions: NDArray[np.int64],
    look: Look,
    reader: Reader,
    run: Run,
    batch: int,
) -> tuple[float, float]:
    """The loss of the validation images, both labels weighing the same, and their AUC."""
    found = logits(network.module, examples, positions, look, reader, run.device, batch)
    labels = examples.labels[list(found)]
    if labels.all() or not labels.any():
        raise ValueError("fine-tuning: the validation images that can be read are all of one label")
    values = np.array(list(found.values()))
    losses = np.logaddexp(0, np.where(labels, -values, values))
    loss = float(0.5 * losses[labels].mean() + 0.5 * losses[~labels].mean())
    return loss, metrics.auc(values, labels)


def _optimiser(network: Network, course: Course) -> Any:
    groups: dict[tuple[bool, bool], list[Any]] = {}
    for name, value in network.module.named_parameters():
        if value.requires_grad:
            groups.setdefault((name.startswith(network.head), value.ndim > 1), []).append(value)
    head_rate = course.rate if course.head_rate is None else course.head_rate
    return torch.optim.AdamW(
        [
            {
                "params": values,
                "peak": head_rate if head else course.rate,
                "weight_decay": course.decay if matrix else 0.0,
            }
            for (head, matrix), values in sorted(groups.items())
        ],
        lr=course.rate,
    )


def _copied(network: Network) -> dict[str, Any]:
    return {name: value.detach().cpu().clone() for name, value in network.trained().items()}


def _keep(run: Run, network: Network, optimiser: Any, state: _State) -> None:
    if run.checkpoint is None:
        return
    import io

    held = io.BytesIO()
    whole = {
        "identity": run.identity,
        "epochs": [list(epoch) for epoch in state.epochs],
        "best": state.best,
        "parts": state.parts,
        "kept": state.kept,
        "network": network.trained(),
        "optimiser": optimiser.state_dict(),
    }
    torch.save(whole, held)
    write_atomically(run.checkpoint, held.getvalue())


def _resume(run: Run, network: Network, optimiser: Any, state: _State) -> None:
    if run.checkpoint is None or not run.checkpoint.is_file():
        return
    try:
        whole = torch.load(run.checkpoint, map_location="cpu", weights_only=True)
    except Exception as wrong:  # UnpicklingError, RuntimeError, EOFError: whatever the file holds
        raise UsageError(f"{run.checkpoint} is no checkpoint of a training; remove it to start anew") from wrong
    if whole["identity"] != run.identity:
        return
    network.module.load_state_dict(whole["network"], strict=False)
    optimiser.load_state_dict(whole["optimiser"])
    state.epochs = [Epoch(*epoch) for epoch in whole["epochs"]]
    state.best, state.parts, state.kept = whole["best"], whole["parts"], whole["kept"]
