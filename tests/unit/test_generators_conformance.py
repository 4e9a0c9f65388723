"""Every packaged generator, whatever its kind: its file is right, and reading it loads nothing heavy."""

import subprocess
import sys

import pytest

from mllmrisk import config, generators
from mllmrisk.errors import UsageError
from mllmrisk.records import PARADIGMS

READ_ALL = """
import sys
from mllmrisk import config, generators
for name in config.names("generators"):
    described = generators.describe(name)
    kind = generators.GENERATORS.get(described.common.kind)
    config.parameters(described.parameters, kind.accepts, name)
heavy = {"torch", "diffusers", "transformers", "openai", "tenacity", "PIL"} & set(sys.modules)
assert not heavy, heavy
"""


def test_reading_every_packaged_generator_loads_no_library():
    subprocess.run([sys.executable, "-c", READ_ALL], check=True, timeout=120)


@pytest.mark.parametrize("name", config.names("generators"))
def test_a_packaged_generator_is_described_as_its_kind_accepts(name):
    described = generators.describe(name)
    common = described.common
    assert common.name == name
    assert common.paradigm in PARADIGMS
    assert common.paradigm not in ("real", "unknown")
    assert common.about.endswith(".")
    assert common.licence
    kind = generators.GENERATORS.get(common.kind)
    parameters = config.parameters(described.parameters, kind.accepts, name)
    assert isinstance(parameters, kind.accepts)


def test_the_papers_diffusion_and_janus_models_are_there():
    assert {"sd35-large", "sd35-large-turbo", "janus", "janus-pro"} <= set(config.names("generators"))
    assert generators.describe("qwen-image").common.paradigm == "mllm-conditioned"


def test_a_key_that_no_kind_has_is_named(tmp_path):
    file = tmp_path / "mine.toml"
    head = 'name = "mine"\nversion = "1"\nkind = "diffusers"\nparadigm = "diffusion"\nabout = "Mine."\n'
    file.write_text(head + 'model = "./here"\nsteps_ = 3\n')
    with pytest.raises(UsageError, match=r"generator mine has no key 'steps_'\. Did you mean 'steps'"):
        generators.load(generators.describe(str(file)))
