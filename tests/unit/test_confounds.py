import pytest

from mllmrisk.errors import UsageError
from mllmrisk.experiments.confounds import check, marked
from mllmrisk.records import Estimate


def row(experiment: str, metric: str = "auc", value: float = 0.8, width: float = 0.05, **more: object) -> Estimate:
    keys = {"detector": "forensic", "trained_on": "all", "perturbation": "native", "paradigm": "mllm", **more}
    return Estimate(
        experiment=experiment,
        metric=metric,
        unit="u",
        method="m",
        n_prompts=0,
        n_images=10,
        value=value,
        low=max(0.0, value - width),
        high=min(1.0, value + width),
        **keys,
    )


def by(estimates: list[Estimate], experiment: str) -> list[list[str]]:
    return [e.confounded_by for e in marked(estimates) if e.experiment == experiment]


def test_a_probe_that_reaches_into_the_interval_marks_the_figure():
    rows = [row("detection", value=0.80), row("leak", value=0.76, detector="container")]
    assert by(rows, "detection") == [["container"]]
    assert all(e.confounded == bool(e.confounded_by) for e in marked(rows))


def test_a_leak_is_a_fact_about_these_images_whatever_other_sources_would_do():
    leak = row("leak", value=0.85, width=0.4, detector="container", low_within=0.81, high_within=0.89)
    assert by([row("detection", value=0.80), leak], "detection") == [["container"]]


def test_a_probe_that_stays_below_does_not():
    assert by([row("detection", value=0.90), row("leak", value=0.70, detector="container")], "detection") == [[]]


def test_a_probe_that_separates_nothing_marks_nothing_even_beside_a_weak_figure():
    rows = [row("detection", value=0.52, width=0.2), row("leak", value=0.51, width=0.1, detector="size")]
    assert by(rows, "detection") == [[]]


@pytest.mark.parametrize("key", [{"perturbation": "recompressed"}, {"paradigm": "diffusion"}])
def test_probes_count_in_their_own_view_and_paradigm(key: dict[str, str]):
    assert by([row("detection"), row("leak", value=0.99, detector="container", **key)], "detection") == [[]]


def test_other_metrics_of_a_group_follow_its_auc():
    rows = [
        row("detection", value=0.80),
        row("detection", "detection_rate", 0.10, at=0.05),
        row("leak", value=0.79, detector="size"),
    ]
    assert by(rows, "detection") == [["size"], ["size"]]


def test_laundering_is_held_against_the_probes_of_its_base_view():
    rows = [
        row("laundering", value=0.70, perturbation="jpeg:75"),
        row("leak", value=0.75, detector="content", perturbation="recompressed"),
        row("leak", value=0.99, detector="container"),
    ]
    assert by(rows, "laundering") == [["content"]]


def test_a_contrast_is_marked_by_either_side():
    contrast = row("contrast", "difference", -0.1, paradigm=None, contrast="auc: mllm - diffusion")
    rows = [
        contrast,
        row("detection", value=0.9),
        row("detection", value=0.8, paradigm="diffusion"),
        row("leak", value=0.85, detector="container", paradigm="diffusion"),
    ]
    assert by(rows, "contrast") == [["container"]]


def test_unsafe_figures_are_not_about_telling_apart():
    rows = [
        row("unsafe", "unsafe_score", 0.1, judge="j", category="sexual", detector=None, trained_on=None),
        row("leak", value=0.99, detector="container"),
    ]
    assert by(rows, "unsafe") == [[]]


def test_a_generator_is_held_against_its_own_leak_and_without_one_against_its_paradigms():
    rows = [
        row("detection", value=0.9, generator="a"),
        row("detection", value=0.9, generator="b"),
        row("detection", value=0.9),
        row("leak", value=0.6, detector="container"),
        row("leak", value=0.95, detector="container", generator="a"),
        row("leak", value=0.92, detector="size"),
        row("leak", value=0.5, detector="size", generator="b"),
    ]
    assert by(rows, "detection") == [["container", "size"], [], ["size"]]


def test_a_figure_against_one_source_does_not_stand_for_the_whole():
    rows = [
        row("detection", value=0.95),
        row("detection", value=0.70, paradigm="real", generator="kodak", contrast="against: mllm"),
        row("detection", "detection_rate", 0.6, at=0.05),
        row("leak", value=0.8, detector="size"),
    ]
    assert by(rows, "detection") == [[], ["size"], []]


def test_an_explanation_is_kept_beside_the_stamp_for_the_probes_that_reach():
    rows = [row("detection", value=0.8), row("leak", value=0.9, detector="container")]
    told = {"container": "all generators write PNG", "size": "not reached here"}
    (found,) = (e for e in marked(rows, told) if e.experiment == "detection")
    assert found.confounded
    assert found.confounded_by == ["container"]
    assert found.explained == {"container": "all generators write PNG"}
    assert all(not e.explained for e in marked([row("detection", value=0.8)], told))


def test_what_is_no_stamp_cannot_be_explained():
    check({"container": "why", "training images": "why"})
    with pytest.raises(UsageError, match="Did you mean 'container'"):
        check({"contaner": "why"})
