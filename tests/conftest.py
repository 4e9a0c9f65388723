"""Fixtures of all tests: real images through a path where they are, images made here everywhere."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from made import make_collection

# No test asks a hub; what a library would look for there, it must find in a local folder.
os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

# A shell that starts tests in the background has them ignore an interrupt; some of them send one.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT.parent / "shared" / "corpus"
CONTRACT = ROOT.parent / "shared" / "contract" / "check_run.py"


@pytest.fixture(scope="session")
def corpus() -> Path:
    """The manifest of real images beside the checkout; without it these tests are reported as skipped, by name."""
    if not (CORPUS / "manifest.csv").is_file():
        pytest.skip("no corpus of real images at ../shared/corpus: the tests on real images did not run")
    return CORPUS / "manifest.csv"


@pytest.fixture(scope="session")
def contract() -> Path:
    """The checker of run folders beside the checkout."""
    if not CONTRACT.is_file():
        pytest.skip("no contract checker at ../shared/contract")
    return CONTRACT


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of 48 images made here."""
    return make_collection(tmp_path_factory.mktemp("collection"))
