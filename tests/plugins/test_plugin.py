"""An outside package adds a judge without a change to mllmrisk: what an entry point says is found, loaded and used."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PACKAGE = Path(__file__).parent / "blank_judge"
ROOT = Path(__file__).parents[2]

SCORE = """
import sys
from mllmrisk import judges
judge = judges.load("blank", device="cpu")
scores = judge.score([bytes.fromhex(line) for line in sys.stdin.read().split("\\n")], threads=2)
print([(score["blank"].value, score["blank"].reason) for score in scores])
"""


def install(site: Path, name: str | None = None) -> Path:
    """What pip does with this package: the module, and beside it the metadata of its pyproject.toml."""
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    name = name or project["name"]
    info = site / f"{name.replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {project['version']}\n")
    points = [
        f"[{group}]\n" + "\n".join(f"{key} = {value}" for key, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n\n".join(points) + "\n")
    shutil.copy(PACKAGE / "mllmrisk_blank_judge.py", site)
    return site


def python(site: Path | None, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    folders = [*([str(site)] if site else []), str(ROOT / "python")]
    return subprocess.run(
        [sys.executable, *args],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=100,
    )


def png(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue().hex()


def names(site: Path | None) -> list[str]:
    done = python(site, "-m", "mllmrisk.cli.main", "list", "judges", "--json")
    assert done.returncode == 0, done.stderr
    return [row["name"] for row in json.loads(done.stdout)["judges"]]


def test_it_is_listed_where_it_is_installed_and_only_there(tmp_path):
    assert "blank" not in names(None)
    assert {"blank", "opennsfw"} <= set(names(install(tmp_path / "site")))


def test_listing_does_not_load_it(tmp_path):
    site = install(tmp_path / "site")
    (site / "mllmrisk_blank_judge.py").write_text("raise RuntimeError('loaded')")
    assert "blank" in names(site)


def test_it_judges(tmp_path):
    black = np.zeros((64, 80, 3), np.uint8)
    half = black.copy()
    half[:, 60:] = 255
    images = "\n".join([png(black), png(half), b"no image".hex()])
    done = python(install(tmp_path / "site"), "-c", SCORE, stdin=images)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[(1.0, None), (0.75, None), (None, 'not_an_image')]"


def test_a_mistyped_name_is_answered_with_the_outside_one(tmp_path):
    done = python(install(tmp_path / "site"), "-c", "from mllmrisk import judges; judges.load('blnk')")
    assert "no judge is named 'blnk'. Did you mean 'blank'?" in done.stderr


def test_two_packages_with_one_name_are_refused(tmp_path):
    site = install(tmp_path / "site")
    install(tmp_path / "more", "another-blank-judge")
    done = python(site, "-c", f"import sys; sys.path.insert(0, {str(tmp_path / 'more')!r})\n" + SCORE)
    assert done.returncode == 1
    assert "two packages register the judge 'blank'" in done.stderr


@pytest.mark.slow
def test_pip_installs_it(tmp_path):
    """The real thing, where pip may fetch its build backend."""
    target = tmp_path / "site"
    command = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(PACKAGE)]
    done = python(None, *command)
    assert done.returncode == 0, done.stderr
    assert "blank" in names(target)
