import math

import msgspec
import pytest

from mllmrisk.records import Estimate, RunSpec, Score

ROW = {"experiment": "detection", "metric": "auc", "unit": "probability", "method": "m", "n_prompts": 0, "n_images": 4}


def test_a_score_is_a_value_or_a_reason_never_both_never_neither():
    assert Score(1.5).reason is None
    assert Score(None, "corrupt").value is None
    for wrong in ((None, None), (1.0, "corrupt")):
        with pytest.raises(ValueError, match="either a value or a reason"):
            Score(*wrong)
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite"):
            Score(value)


def test_an_estimate_without_value_needs_a_reason():
    with pytest.raises(ValueError, match="no value and no reason"):
        Estimate(**ROW)
    assert Estimate(**ROW, n_unscored={"corrupt": 4}).value is None


def test_an_estimate_is_never_nan():
    with pytest.raises(ValueError, match="finite"):
        Estimate(**ROW, value=math.nan)


def test_a_cell_depends_on_the_group_and_not_on_the_figure():
    row = Estimate(**ROW, value=0.5, low=0.4, high=0.6, paradigm="mllm", perturbation="native")
    same = msgspec.structs.replace(row, value=0.7, low=0.6, high=0.8, n_images=5)
    other = msgspec.structs.replace(row, paradigm="diffusion")
    assert row.cell == same.cell
    assert row.cell != other.cell
    assert len(row.cell) == 8


def test_specs_differ_in_what_they_measure_and_not_in_where_it_lies():
    spec = RunSpec(suite="a", suite_digest="1", profile="p", profile_digest="2", images="/a", images_digest="3")
    moved = msgspec.structs.replace(spec, images="/b", version="9")
    assert spec.differences(moved) == []
    assert spec.differences(msgspec.structs.replace(spec, seed=1, images_digest="4")) == ["images_digest", "seed"]
