"""How these tests call the command line: its own entry point here, or Python with chosen packages only."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from commandline import ROOT, Result

from mllmrisk.cli.main import main


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
