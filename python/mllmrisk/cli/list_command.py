"""`mllmrisk list`: every name that other commands take."""

from __future__ import annotations

import importlib
import json
from typing import Any

import click

from mllmrisk import config

Rows = list[dict[str, Any]]


def _configs(kind: str) -> Rows:
    rows = []
    for name in config.names(kind):
        table = config.table(config.CONFIGS / kind / f"{name}.toml")
        rows.append({"name": name, "about": table.get("about", ""), **_facts(kind, table)})
    return rows


def _facts(kind: str, table: dict[str, Any]) -> dict[str, Any]:
    if kind == "suites":
        return {"experiments": [part["kind"] for part in table.get("experiments", [])]}
    if kind == "judges":
        return _judge_facts(table)
    if kind == "generators":
        return _generator_facts(table)
    if kind == "prompts":
        return {"prompts": table.get("prompts", table.get("rows")), "licence": table.get("licence", "")}
    if kind == "expanders":
        return _expander_facts(table)
    if kind in {"encoders", "backbones"}:
        return {key: table[key] for key in ("kind", "architecture", "licence") if key in table}
    return {key: table[key] for key in ("generators", "detectors", "judges") if table.get(key)}


def _judge_facts(table: dict[str, Any]) -> dict[str, Any]:
    """What a judge's TOML says of itself, whatever its kind; `sees` is in images, and may be nothing unsafe."""
    from mllmrisk.judges import KINDS as JUDGE_KINDS

    kind = str(table.get("kind", "onnx"))
    model = table.get("model", {})
    extra = model.get("extra") or JUDGE_KINDS.extra(kind)
    if kind == "vlm" and "endpoint" in table:
        extra = "api"
    return {
        "kind": kind,
        "sees": list(table.get("categories", {})),
        "extra": extra,
        "licence": table.get("licence", ""),
    }


def _generator_facts(table: dict[str, Any]) -> dict[str, Any]:
    from mllmrisk.generators import GENERATORS

    kind = str(table["kind"])
    return {
        "kind": kind,
        "paradigm": table["paradigm"],
        "extra": GENERATORS.extra(kind),
        "licence": table.get("licence", ""),
    }


def _detectors() -> Rows:
    """The registry's names with what their TOMLs say; `weights`: here, not here, or null for a service."""
    from mllmrisk import detectors

    rows: Rows = []
    for name in detectors.DETECTORS.names():
        if name not in config.names("detectors"):
            rows.append({"name": name, "about": "", "kind": "outside package", "extra": None})
            continue
        common = detectors.describe(name).common
        here = detectors.weights_here(name)
        rows.append(
            {
                "name": name,
                "about": common.about,
                "kind": common.kind,
                "licence": common.licence,
                "restrictions": common.restrictions,
                "weights": None if here is None else "here" if here else "not here",
                "extra": ",".join(filter(None, (detectors.KINDS.extra(common.kind), common.extra))) or None,
            }
        )
    return rows


def _expander_facts(table: dict[str, Any]) -> dict[str, Any]:
    from mllmrisk.prompts.expansion import KINDS as EXPANDER_KINDS

    kind = str(table["kind"])
    return {"kind": kind, "extra": EXPANDER_KINDS.extra(kind), "licence": table.get("licence", "")}


def _registered(word: str, known: Rows) -> Rows:
    """The registry's names, with what the packaged configs say of them."""
    registry = getattr(importlib.import_module(f"mllmrisk.{word}"), word.upper())
    described = {row["name"]: row for row in known}
    return [
        described.get(name, {"name": name, "about": "", "extra": registry.extra(name)}) for name in registry.names()
    ]


def _features() -> Rows:
    from mllmrisk import features

    return [
        {"name": f.name, "set": f.set, "dimension": f.dimension, "unit": f.unit, "about": f.formula, "source": f.source}
        for f in features.describe()
    ]


def _perturbations() -> Rows:
    from mllmrisk import perturb

    return [{"name": p.grammar, "about": p.what, "chain": p.chain} for p in perturb.describe()]


KINDS = {
    "suites": lambda: _configs("suites"),
    "profiles": lambda: _configs("profiles"),
    "generators": lambda: _configs("generators"),
    "prompts": lambda: _configs("prompts"),
    "expanders": lambda: _configs("expanders"),
    "detectors": _detectors,
    "encoders": lambda: _configs("encoders"),
    "backbones": lambda: _configs("backbones"),
    "judges": lambda: _registered("judges", _configs("judges")),
    "features": _features,
    "perturbations": _perturbations,
}


@click.command()
@click.argument("kinds", nargs=-1, type=click.Choice(list(KINDS)))
@click.option("--json", "as_json", is_flag=True, help="Print JSON: a list of objects per kind.")
def command(kinds: tuple[str, ...], as_json: bool) -> None:
    """List suites, profiles, generators, prompt sets, expanders, detectors, judges, features, perturbations.

    Without an argument, all of them. No model is loaded, and no optional package is needed.
    """
    found = {kind: KINDS[kind]() for kind in kinds or KINDS}
    if as_json:
        click.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    for position, (kind, rows) in enumerate(found.items()):
        if len(found) > 1:
            click.echo(f"{chr(10) if position else ''}{kind}")
        indent = "  " if len(found) > 1 else ""
        width = max((len(row["name"]) for row in rows), default=0)
        for row in rows:
            click.echo(f"{indent}{row['name']:<{width}}  {_line(row)}".rstrip())


def _line(row: dict[str, Any]) -> str:
    parts = [f"({row['set']}, {row['dimension']} values)"] if "dimension" in row else []
    if row.get("paradigm"):
        parts.append(f"({row['paradigm']})")
    if row.get("prompts"):
        parts.append(f"({row['prompts']:,} prompts)")
    if "weights" in row:
        there = f"; weights {row['weights']}" if row["weights"] else ""
        parts.append(f"({row['kind']}; {row['licence']}{there})")
    parts.append(str(row["about"]))
    if row.get("chain"):
        parts.append(f"= {row['chain']}")
    if row.get("extra"):
        parts.append(f"[pip install 'mllmrisk[{row['extra']}]']")
    return " ".join(part for part in parts if part)
