"""What a plan comes to: images, model loads, judge calls, disk, time and money, for `--dry-run`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from mllmrisk.plan import Order, Plan


def outline(asked: Plan) -> dict[str, Any]:
    """The plan for programs, for `--dry-run --json`."""
    counted: dict[str, int] = {}
    for entry in asked.given.entries if asked.given else ():
        counted[entry.sample.paradigm] = counted.get(entry.sample.paradigm, 0) + 1
    return {
        "spec": msgspec.to_builtins(asked.spec),
        "images": counted,
        "generators": [maker.common.name for maker in asked.generators],
        "prompt_sets": [_outlined(asked, order) for order in asked.orders],
        "totals": totals(asked),
        "experiments": [experiment.kind for experiment in asked.experiments],
        "notes": asked.notes,
        "out": str(asked.out),
    }


def _outlined(asked: Plan, order: Order) -> dict[str, Any]:
    return {
        "prompt_set": order.described.common.name,
        "prompts": order.n_prompts,
        "samples": order.samples,
        "images": order.n_prompts * order.samples * len(asked.generators),
        "asked_by": list(order.asked_by),
        "missing": order.missing,
    }


def totals(asked: Plan) -> dict[str, Any]:
    """Images, model loads, judge calls, disk, time and money of a plan; None where no generator says what it costs."""
    per_generator = sum(order.n_prompts * order.samples for order in asked.orders)
    images = per_generator * len(asked.generators)
    makers = [maker.common for maker in asked.generators]

    def summed(values: Iterable[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return per_generator * sum(known) if known else None

    looking = asked.profile.looking(generated=bool(makers))
    judges = [*looking.judges, *looking.corrupted, *looking.filters]
    return {
        "images": images,
        "images_per_generator": per_generator,
        "by_experiment": _by_experiment(asked),
        "model_loads": len(makers) + len(set(judges)),
        "judge_calls": images * len(set(judges)),
        "mib": summed(maker.mib for maker in makers),
        "seconds": summed(maker.seconds for maker in makers),
        "usd": summed(maker.usd for maker in makers),
        "not_estimated": [m.name for m in makers if m.seconds is None and m.usd is None],
    }


def _by_experiment(asked: Plan) -> dict[str, int]:
    """Images by the experiment that first asks for them."""
    counted: dict[str, int] = {}
    for order in asked.orders:
        first = order.asked_by[0]
        counted[first] = counted.get(first, 0) + order.n_prompts * order.samples * len(asked.generators)
    return counted


def describe(asked: Plan) -> Iterable[str]:
    """The plan in lines, for `--dry-run`."""
    yield f"suite {asked.suite.name} (version {asked.suite.version}): {asked.suite.about}"
    yield f"profile {asked.profile.name}: {asked.profile.about}"
    if asked.given is not None:
        counts = outline(asked)["images"]
        yield f"images given: {len(asked.given.entries)} ({', '.join(f'{n} {p}' for p, n in sorted(counts.items()))})"
    if asked.generators:
        yield from _generation_lines(asked)
    for experiment in asked.experiments:
        yield f"experiment {experiment.kind}"
    for why in asked.absent.values():
        yield f"missing: {why}"
    for note in asked.notes:
        yield f"note: {note}"
    yield f"run folder: {asked.out}"


def _generation_lines(asked: Plan) -> Iterable[str]:
    makers = asked.generators
    yield f"generators: {len(makers)} ({', '.join(f'{m.common.name} [{m.common.paradigm}]' for m in makers)})"
    width = max(len(order.described.common.name) for order in asked.orders)
    for order in asked.orders:
        images = order.n_prompts * order.samples * len(makers)
        counted = f"{_number(order.n_prompts):>6} prompts x {len(makers)} generators x {order.samples:>2}"
        wanted = f"{_number(images):>7} images  ({', '.join(order.asked_by)})"
        yield f"  {order.described.common.name:<{width}}  {counted} = {wanted}" + (
            "  [texts not at hand]" if order.missing else ""
        )
    told = totals(asked)
    for kind, images in told["by_experiment"].items():
        yield f"images for {_WORDS.get(kind, kind)}: {images:,}"
    yield f"images to generate: {told['images']:,}"
    yield f"models to load: {told['model_loads']}; judge calls: {told['judge_calls']:,}"
    yield (
        f"disk: {_amount(told['mib'], 1024, 'GiB')}; time of the generators: {_amount(told['seconds'], 3600, 'h')}; "
        + (f"money: {told['usd']:,.2f} USD" if told["usd"] is not None else "money: none that a generator names")
    )
    if told["not_estimated"]:
        yield f"not estimated (no measured cost): {', '.join(told['not_estimated'])}"
    for order in asked.orders:
        if order.missing:
            yield f"missing: {order.missing}"


_WORDS = {
    "unsafe": "unsafe content",
    "captions": "fake image synthesis (benign captions)",
    "corrupted": "corrupted images (safe twins)",
    "contrast": "contrasts (further sets)",
}


def _amount(value: float | None, unit: float, word: str) -> str:
    return "not known" if value is None else f"about {value / unit:,.1f} {word}"


def _number(count: int) -> str:
    return f"{count:,}" if count else "?"
