"""`mllmrisk prompts`: what a set holds, without showing it; and its published file, fetched when asked for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import click

from mllmrisk import prompts
from mllmrisk.errors import UsageError
from mllmrisk.prompts.base import Fetches, PromptSource
from mllmrisk.prompts.columns import key_of
from mllmrisk.records import Prompt


@click.command(name="prompts")
@click.argument("action", type=click.Choice(["show", "fetch"]))
@click.argument("name", metavar="NAME|FILE")
@click.option("--reveal", is_flag=True, help="show: print the texts, which may be offensive, in place of their hashes.")
@click.option("--most", type=click.IntRange(min=0), default=20, show_default=True, help="show: prompts printed.")
@click.option("--force", is_flag=True, help="fetch: again, over the file that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object, with every prompt.")
def command(action: str, name: str, reveal: bool, most: int, force: bool, as_json: bool) -> int:
    """Show a prompt set (its texts as hashes), or fetch its published file.

    Only `fetch` uses the network, and only for the set that is named. A set on request has to be put into place by
    hand; the message says where it is published and where it belongs.
    """
    described = prompts.describe(name)
    source = prompts.source(described)
    if action == "fetch":
        if not isinstance(source, Fetches):
            raise UsageError(f"prompt set {name}: there is nothing to fetch. {described.common.published}".rstrip())
        click.echo(f"{source.fetch(force=force)}", err=as_json)
    found = source.read()
    facts = _facts(described, source, found)
    if as_json:
        listed = [_told(prompt, reveal) for prompt in found] if action == "show" else []
        click.echo(json.dumps({**facts, "prompts": listed} if action == "show" else facts, ensure_ascii=False))
        return 0
    for word, value in facts.items():
        if value not in (None, "", {}, 0):
            click.echo(f"{word:<11} {_line(value)}")
    if action == "show":
        _list(found, reveal, most)
    return 0


def _facts(described: prompts.Described, source: PromptSource, found: Sequence[Prompt]) -> dict[str, Any]:
    common, seen = described.common, source.seen
    return {
        "set": common.name,
        "about": common.about,
        "count": len(found),
        "duplicates": seen.duplicates if seen else 0,
        "empty": seen.empty if seen else 0,
        "languages": dict(Counter(p.language for p in found).most_common()),
        "levels": dict(Counter(p.level for p in found if p.level).most_common()),
        "categories": dict(_categories(found).most_common()),
        "twins": sum(p.twin_of is not None for p in found),
        "concepts": len({p.concept for p in found if p.concept}),
        "licence": common.licence,
        "citation": common.citation,
        "published": common.published,
        "file": str(seen.file) if seen else None,
        "sha256": seen.sha256 if seen else None,
        "pinned": bool(described.parameters.get("sha256")),
    }


def _categories(found: Sequence[Prompt]) -> Counter[str]:
    """How many prompts ask for each category; one that names several counts for each."""
    return Counter(part.strip() for p in found if p.category for part in p.category.split(","))


def _line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _list(found: Sequence[Prompt], reveal: bool, most: int) -> None:
    if most:
        click.echo()
    for prompt in found[:most]:
        what = " ".join(prompt.text.split()) if reveal else key_of(prompt.text)
        marks = [prompt.language, prompt.level, prompt.category, prompt.twin_of and f"twin of {prompt.twin_of}"]
        click.echo(_printable(f"{prompt.id}  {what}  ({', '.join(filter(None, marks))})"))
    if len(found) > most:
        click.echo(f"... and {len(found) - most} more (--most N, or --json for all)")


def _printable(line: str) -> str:
    """The line without what could steer a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def _told(prompt: Prompt, reveal: bool) -> dict[str, Any]:
    text = {"text": prompt.text} if reveal else {"sha256": key_of(prompt.text)}
    return {
        "id": prompt.id,
        **text,
        "language": prompt.language,
        "level": prompt.level,
        "category": prompt.category,
        "twin_of": prompt.twin_of,
        "concept": prompt.concept,
    }
