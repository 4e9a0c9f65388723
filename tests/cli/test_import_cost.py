"""What a person waits for: `import mllmrisk`, `--help` and `list` load NumPy and nothing heavier."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from commandline import ROOT

HEAVY = ("torch", "onnxruntime", "onnx", "pandas", "polars", "sklearn", "scipy", "pyarrow", "PIL", "cv2", "jinja2")

CALLS = {
    "import mllmrisk": "import mllmrisk",
    "mllmrisk --help": "main(['--help'])",
    "mllmrisk list": "main(['list', 'judges', 'features', 'perturbations', 'suites', 'profiles'])",
    "mllmrisk import --help": "main(['import', '--help'])",
    "mllmrisk features --help": "main(['features', '--help'])",
}


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", CALLS)
def test_nothing_heavy_is_loaded(name):
    call = CALLS[name]
    if call.startswith("main"):
        call = f"from mllmrisk.cli.main import main\ntry: {call}\nexcept SystemExit as end: assert not end.code"
    loaded = _python(f"import sys\n{call}\nprint('\\n', *sorted(sys.modules), sep='\\n')").split()
    assert not sorted({module.split(".")[0] for module in loaded} & set(HEAVY))
    assert "mllmrisk" in loaded


def test_the_check_sees_a_heavy_import():
    loaded = _python("import sys, pyarrow\nprint(*sys.modules, sep='\\n')").split()
    assert {module.split(".")[0] for module in loaded} & set(HEAVY) == {"pyarrow"}


def test_import_costs_little_beyond_numpy():
    """Both in one process, NumPy first; the best of several runs, for other work shares this machine."""
    code = (
        "import time; a = time.perf_counter(); import numpy; b = time.perf_counter(); import mllmrisk, mllmrisk._core;"
        "c = time.perf_counter(); print(b - a, c - b)"
    )
    extra = min(float(_python(code).split()[1]) for _ in range(5))
    assert extra < 0.2, f"import mllmrisk costs {extra:.3f} s beyond NumPy's own"
