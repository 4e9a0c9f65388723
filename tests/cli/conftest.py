"""How these tests call the command line: its own entry point here, or Python with chosen packages only."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from mllmrisk.cli.main import main

ROOT = Path(__file__).parents[2]


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Calls `mllmrisk` with arguments; a traceback is a failure of the test itself."""

    def call(*args: object) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Result(code, out, err)

    return call


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., Result]:
    """Runs Python with chosen packages only: `without` are truly absent, `first` stands before all others."""

    def call(*args: str, without: tuple[str, ...] = (), first: Path | None = None) -> Result:
        site = tmp_path / "site"
        site.mkdir(exist_ok=True)
        for installed in Path(sysconfig.get_paths()["purelib"]).iterdir():
            name = installed.name.split("-")[0].split(".")[0].lower()
            if name not in without and not (site / installed.name).exists() and name != "mllmrisk":
                (site / installed.name).symlink_to(installed)
        folders = [*([first] if first else []), site, ROOT / "python"]
        found = subprocess.run(
            [sys.executable, "-S", *args],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders)), "PYTHONWARNINGS": "default"},
            capture_output=True,
            text=True,
            timeout=100,
        )
        return Result(found.returncode, found.stdout, found.stderr)

    return call


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (96, 80)) -> Path:
    """Writes a textured picture; equal seeds give equal pixels."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(pixels + random.integers(-8, 9, pixels.shape), 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noisy).save(path)
    return path
