"""The pages: the commands' own help, code that runs, links that lead somewhere, names that exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from commandline import ROOT, picture
from write_cli_docs import PAGE, page

from mllmrisk import config, features
from mllmrisk.cli.main import COMMANDS, cli
from mllmrisk.detectors import DETECTORS
from mllmrisk.experiments import EXPERIMENTS
from mllmrisk.experiments import forensic as forensic_family
from mllmrisk.experiments.views import VIEWS
from mllmrisk.records import GROUP, Estimate
from mllmrisk.rows import FOLDERS

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(path: Path, language: str) -> list[str]:
    return [body for found, body in _BLOCK.findall(path.read_text(encoding="utf-8")) if found == language]


def calls() -> list[tuple[str, list[str]]]:
    """(page, words) of every `mllmrisk ...` line of the pages' code, and of code inside sentences."""
    found = []
    for path in PAGES:
        if path == PAGE:
            continue
        text = path.read_text(encoding="utf-8")
        lines = [line for _, body in _BLOCK.findall(text) for line in body.splitlines()]
        lines += re.findall(r"`(mllmrisk [^`\n]+)`", _BLOCK.sub("", text))
        found += [
            (path.name, shlex.split(line, comments=True)[1:])
            for line in lines
            if line.startswith("mllmrisk ") and "|" not in line.split()[1]
        ]
    return found


def test_the_page_of_commands_is_what_the_commands_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "docs/cli.md has drifted: make docs"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_stands_in_the_page(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert (command.help or "").strip(), f"{name} has no help"
    assert all(option.help for option in command.params if isinstance(option, click.Option))
    assert f"\n## mllmrisk {name}\n" in PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize(("where", "words"), calls(), ids=lambda value: value if isinstance(value, str) else value[0])
def test_calls_in_the_pages_name_commands_and_options_that_exist(where: str, words: list[str]) -> None:
    name, *rest = words
    assert name in COMMANDS or name.startswith("-"), f"{where}: no command {name}"
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    known = {option for param in command.params for option in (*param.opts, *param.secondary_opts)} | {"--help", "-h"}
    for word in rest:
        if re.match(r"--?[a-zA-Z]", word):
            assert word.partition("=")[0] in known, f"{where}: mllmrisk {name} has no {word}"


def test_every_option_that_the_readme_names_exists() -> None:
    parents = [cli.get_command(click.Context(cli), name) for name in COMMANDS]
    known = {option for command in parents if command for param in command.params for option in param.opts}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README))
    assert named
    assert named <= known, f"the README names {sorted(named - known)}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, collection: Path) -> Path:
    """What the examples read: a photograph, a picture, a file that is cut, a manifest."""
    root = tmp_path_factory.mktemp("examples")
    picture(root / "a.jpg")
    picture(root / "b.png", seed=1)
    whole = picture(root / "broken.jpg", seed=2).read_bytes()
    (root / "broken.jpg").write_bytes(whole[: len(whole) // 2])
    shutil.copytree(collection.parent, root, dirs_exist_ok=True)
    return root


EXAMPLES = [
    (path, i) for path in (ROOT / "README.md", ROOT / "docs" / "python.md") for i in range(len(blocks(path, "python")))
]


@pytest.mark.parametrize(("path", "number"), EXAMPLES, ids=[f"{path.stem}-{i}" for path, i in EXAMPLES])
def test_examples_run_and_print_what_they_say(path: Path, number: int, folder: Path) -> None:
    code = blocks(path, "python")[number]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert done.returncode == 0, done.stderr
    for said in re.findall(r"^ *print\(.*\)  # (.+)$", code, re.MULTILINE):
        assert said in done.stdout.splitlines(), f"it printed {done.stdout!r}"


def _anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", _BLOCK.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", _BLOCK.sub("", path.read_text(encoding="utf-8")))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+://", target):
            continue
        file, _, anchor = target.partition("#")
        leads_to = (path.parent / file).resolve() if file else path
        assert leads_to.exists(), f"{path.name}: no {target}"
        assert leads_to.is_relative_to(ROOT), f"{path.name}: {target} leads out of the repository"
        if anchor:
            assert anchor in _anchors(leads_to), f"{path.name}: no heading {target}"


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#\s]+)", README))
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")}
    assert pages <= linked, f"no link to {sorted(pages - linked)}"


def test_pages_name_what_exists() -> None:
    experiments = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    for kind in EXPERIMENTS.names():
        accepts = EXPERIMENTS.get(kind).accepts
        assert f"| `{kind}` |" in experiments
        for key in accepts.__struct_fields__:
            assert f"`{key}`" in experiments, f"{kind}: the key {key} is not explained"
    assert all(f"`{view}`" in experiments for view in VIEWS)
    run_folder = (ROOT / "docs" / "run-folder.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in run_folder for name in (*Estimate.__struct_fields__, *GROUP))
    manifest = (ROOT / "docs" / "manifest.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in manifest for name in FOLDERS)
    assert all(f"`{name}`" in README for name in (*config.names("suites"), *DETECTORS.names(), *EXPERIMENTS.names()))
    forensic = (ROOT / "docs" / "forensic.md").read_text(encoding="utf-8")
    assert all(f"`{family}`" in forensic for family in forensic_family.FEATURES)
    families = "".join(
        (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("features.md", "features-costly.md")
    )
    assert all(f"`{family.name}`" in families for family in features.describe())
    for chosen in ("default", "all"):
        assert f"{len(features.names(chosen)):,}" in README, f"the README's size of the set {chosen} has drifted"


def test_the_suite_and_the_profile_of_the_page_are_read() -> None:
    suite, profile = blocks(ROOT / "docs" / "experiments.md", "toml")
    for table in config.parse(suite, config.Suite, "experiments.md").experiments:
        config.parameters(table, EXPERIMENTS.get(table["kind"]).accepts, "experiments.md")
    assert config.parse(profile, config.Profile, "experiments.md").judges == ["openai-moderation"]


def test_the_picture_is_small() -> None:
    assert (ROOT / "docs" / "images" / "report.png").stat().st_size < 300_000
