import sys

import pytest

from mllmrisk import config
from mllmrisk.errors import MissingExtraError, UsageError
from mllmrisk.experiments import EXPERIMENTS
from mllmrisk.registry import Registry


def test_an_unknown_name_gets_a_suggestion():
    with pytest.raises(UsageError, match="Did you mean 'detection'"):
        EXPERIMENTS.get("detecton")


def test_a_missing_package_gets_its_pip_line(monkeypatch: pytest.MonkeyPatch):
    registry: Registry[object] = Registry("thing", "mllmrisk.things", {"x": "no_such_package_1:X"}, {"x": "cpu"})
    with pytest.raises(MissingExtraError, match=r"pip install 'mllmrisk\[cpu\]'"):
        registry.get("x")


def test_names_import_nothing():
    before = set(sys.modules)
    assert "retrain" in EXPERIMENTS.names()
    assert not {m for m in set(sys.modules) - before if m.startswith(("sklearn", "torch"))}


def kind_takes_detectors(factory) -> bool:
    """Whether the profile's detectors are filled in, as the runner does."""
    return "detectors" in factory.accepts.__struct_fields__


@pytest.mark.parametrize("name", config.names("suites"))
def test_every_packaged_suite_is_valid(name: str):
    suite = config.suite(name).value
    assert suite.name == name
    for table in suite.experiments:
        factory = EXPERIMENTS.get(table["kind"])
        filled = {"detectors": ["forensic"], **table} if kind_takes_detectors(factory) else table
        factory(config.parameters(filled, factory.accepts, name))


@pytest.mark.parametrize("name", config.names("profiles"))
def test_every_packaged_profile_is_valid(name: str):
    assert config.profile(name).value.name == name


def test_an_unknown_key_is_an_error_that_names_it(tmp_path):
    path = tmp_path / "suite.toml"
    path.write_text('name = "x"\nversion = 1\nabout = "y"\nexperiments = []\nresample = 5\n')
    with pytest.raises(UsageError, match="resample"):
        config.suite(str(path))
    detection = EXPERIMENTS.get("detection")
    with pytest.raises(UsageError, match="Did you mean 'views'"):
        config.parameters({"kind": "detection", "view": ["native"]}, detection.accepts, "suite x")


def test_an_unknown_suite_gets_a_suggestion():
    with pytest.raises(UsageError, match="Did you mean 'fake'"):
        config.suite("fakes")


def test_the_digest_follows_the_text(tmp_path):
    path = tmp_path / "suite.toml"
    path.write_text('name = "x"\nversion = 1\nabout = "y"\nexperiments = []\n')
    first = config.suite(str(path)).digest
    path.write_text('name = "x"\nversion = 2\nabout = "y"\nexperiments = []\n')
    assert config.suite(str(path)).digest != first
