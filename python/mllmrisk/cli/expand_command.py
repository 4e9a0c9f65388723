"""`mllmrisk expand`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mllmrisk.cli.main import FAILED_UNITS
from mllmrisk.cli.output import check_free, check_suffix, replacing
from mllmrisk.cli.progress import Progress

#: Failed texts that are named one by one where no program reads.
_NAMED = 20


@click.command(name="expand")
@click.option("--prompts", "prompt_set", required=True, metavar="SET|FILE", help="The prompt set of the captions.")
@click.option("--with", "expander", required=True, metavar="EXPANDER|FILE", help="What expands them.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="OUT.jsonl", help="The new set.")
@click.option("--levels", type=click.IntRange(1, 9), default=2, show_default=True, help="How often each is expanded.")
@click.option("--limit", type=click.IntRange(min=1), help="So many captions, chosen as a suite's `take` chooses.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the expander's draws.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for programs.")
def command(
    prompt_set: str,
    expander: str,
    out: Path,
    levels: int,
    limit: int | None,
    seed: int,
    force: bool,
    as_json: bool,
) -> int:
    """Say captions again, richer: v0 (the caption), v1 (expanded), v2 (expanded again).

    What a model answers is kept in the user's folder of prompts as soon as it is there, so that the same call goes on
    where it was cut and pays for nothing twice. An answer that is empty, unchanged or shorter than what it expands is a
    failed unit: it is left out, listed, and asked again by the next call.

    \b
    mllmrisk expand --prompts benign --with grammar -o levels.jsonl
    mllmrisk expand --prompts coco --with gpt-4o --limit 1000 -o coco-levels.jsonl
    """  # noqa: D301 (click's \b)
    from mllmrisk import prompts
    from mllmrisk.prompts import expansion, places
    from mllmrisk.prompts.expansion import levels as making

    check_suffix(out, (".jsonl",))
    if out.parent.absolute() == places.home().absolute():
        out.parent.mkdir(parents=True, exist_ok=True)
    check_free(out, force)
    described = prompts.describe(prompt_set)
    captions = prompts.pick(making.captions_of(prompts.read(described), described.common.name), limit)
    asked = expansion.load(expansion.describe(expander))
    made = making.expand(captions, asked, levels=levels, seed=seed, progress=Progress())
    with replacing(out) as temporary:
        temporary.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made.rows), encoding="utf-8")
    if as_json:
        told = {**made._asdict(), "rows": len(made.rows), "path": str(out)}
        told["failures"] = [failure._asdict() for failure in made.failures]
        click.echo(json.dumps(told, ensure_ascii=False))
    else:
        words = ", ".join(f"{level} {mean:.1f}" for level, mean in made.words.items())
        click.echo(f"{out}: {made.captions} captions, {len(made.rows)} prompts; mean words {words}")
        click.echo(f"{made.asked} texts asked of {asked.name}, {made.remembered} already there")
    for failure in made.failures[:_NAMED]:
        click.echo(f"mllmrisk: {failure.prompt} has no {failure.level}: {failure.reason}", err=True)
    if len(made.failures) > _NAMED:
        click.echo(f"mllmrisk: and {len(made.failures) - _NAMED} more; --json lists all", err=True)
    return FAILED_UNITS if made.failures else 0
