"""The judge of corruption that needs no model."""

import csv
import io
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PIL import Image

from mllmrisk import config, images, judges, perturb, world
from mllmrisk.errors import UsageError
from mllmrisk.experiments import made_corruptions
from mllmrisk.judges import gates

CORPUS = Path(__file__).parents[2] / ".." / "shared" / "corpus"


@pytest.fixture(scope="module")
def judge():
    return judges.load("gates")


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def first_gate(judge, answer):
    return next((gate for gate in judge.attributes if answer[gate].value >= judge.threshold[gate]), None)


def table(**gates_of):
    head = {"name": "mine", "version": "1", "kind": "gates", "about": "a", "licence": "l", "citation": "c"}
    return {**head, "gates": gates_of}


def test_no_render_objects_however_it_was_compressed(judge):
    rng = np.random.default_rng(20)
    drawn = [world.draw(scene, rng) for scene in world.scenes()]
    ways = {"png": [png(p) for p in drawn], "camera": [world.photograph(p, rng) for p in drawn]}
    ways |= {chain: [perturb.encode(p, chain) for p in drawn] for chain in ("jpeg:30", "webp:50", "resize:2.0")}
    for way, data in ways.items():
        answers = judge.score(data, threads=2)
        assert len(answers) == 240
        assert max(answer["corrupted"].value for answer in answers) < 0.5, way


def test_no_picture_of_the_corpus_objects(judge):
    rows = list(csv.DictReader((CORPUS / "manifest.csv").read_text(encoding="utf-8").splitlines()))
    found = images.statistics([CORPUS / row["path"] for row in rows])
    assert len(rows) > 300
    assert not found.errors
    scores = judge.scores(found.values)
    for gate in judge.attributes:
        assert scores[gate].max() < 0.25, (gate, rows[int(scores[gate].argmax())]["path"])


@pytest.mark.parametrize(
    ("kind", "names", "share"),
    [
        ("blank", {"blank"}, 1.0),
        ("black", {"black"}, 1.0),
        ("flat", {"flat", "blank"}, 0.97),
        ("noise", {"noise"}, 0.97),
        ("shuffled", {"shuffled", "noise"}, 0.85),
        ("tiled", {"tiles", "noise"}, 0.95),
        ("clipped", {"clipped"}, 0.95),
    ],
)
def test_renders_broken_in_known_ways_are_found_by_the_gate_of_that_name(judge, kind, names, share):
    rng = np.random.default_rng(21)
    broken = [png(made_corruptions.WAYS[kind](world.draw(scene, rng), rng)) for scene in world.scenes()]
    answers = judge.score(broken, threads=2)
    assert np.mean([first_gate(judge, answer) in names for answer in answers]) >= share
    for answer in answers:
        assert answer["corrupted"].value == max(answer[gate].value for gate in judge.attributes)


def test_what_cannot_be_read_or_is_too_small_is_unscored(judge):
    answers = judge.score([b"", b"nothing", png(np.zeros((40, 80, 3), np.uint8))], threads=1)
    assert [{score.reason for score in answer.values()} for answer in answers] == [
        {"empty"},
        {"not_an_image"},
        {"too_small"},
    ]


def test_a_bound_scores_a_half_at_its_value_and_rises_beyond_it():
    above, below = gates.Bound(above=3.0, width=0.5), gates.Bound(below=3.0, width=0.5)
    values = np.linspace(0, 6, 61)
    assert above.score(np.array([3.0]))[0] == below.score(np.array([3.0]))[0] == 0.5
    assert np.all(np.diff(above.score(values)) > 0)
    assert np.allclose(above.score(values) + below.score(values), 1)
    assert above.score(np.array([3.5]))[0] == pytest.approx(1 / (1 + np.exp(-1)))
    assert above.score(np.array([1e9, -1e9])).tolist() == [1.0, 0.0]


def test_a_case_is_its_weakest_bound_and_a_gate_its_strongest_case():
    bound = {"width": 1.0}
    judge = gates.made(
        table(
            odd=[
                {"reason": "r", "bounds": {"mean": {"above": 10.0, **bound}, "entropy": {"below": 5.0, **bound}}},
                {"reason": "r", "bounds": {"tiles": {"above": 0.5, **bound}}},
            ]
        ),
        Path(),
    )
    values = np.zeros((2, len(images.STATISTICS)), np.float32)
    values[:, 0], values[:, 2] = (30.0, 9.0), (6.0, 1.0)
    first = 1 / (1 + np.exp(1.0))  # entropy is over its bound by one width
    second = 1 / (1 + np.exp(1.0))  # mean is under its bound by one width
    third = 1 / (1 + np.exp(0.5))  # tiles is under its bound by half a width
    assert judge.scores(values)["odd"] == pytest.approx([max(first, third), max(second, third)])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"odd": []}, "needs a case"),
        ({}, "must be a gate"),
        ({"odd": [{"reason": "", "bounds": {"mean": {"above": 1.0, "width": 1.0}}}]}, "a reason"),
        ({"odd": [{"reason": "r", "bounds": {"sharpness": {"above": 1.0, "width": 1.0}}}]}, "sharpness"),
        ({"odd": [{"reason": "r", "bounds": {"mean": {"width": 1.0}}}]}, "above or below"),
        ({"odd": [{"reason": "r", "bounds": {"mean": {"above": 1.0, "below": 2.0, "width": 1.0}}}]}, "above or below"),
        ({"odd": [{"reason": "r", "bounds": {"mean": {"above": 1.0, "width": 0.0}}}]}, "width"),
    ],
)
def test_a_wrong_table_is_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        gates.made(table(**wrong), Path())


def test_every_bound_of_the_packaged_judge_has_a_reason_with_numbers():
    recipe = msgspec.toml.decode((config.CONFIGS / "judges" / "gates.toml").read_bytes(), type=gates.Recipe)
    for name, cases in recipe.gates.items():
        for case in cases:
            assert any(letter.isdigit() for letter in case.reason), name


def test_the_version_follows_the_bounds_and_not_the_words():
    def version(above, reason):
        bounds = {"mean": {"above": above, "width": 1.0}}
        return gates.made(table(odd=[{"reason": reason, "bounds": bounds}]), Path()).version

    assert version(1.0, "a") == version(1.0, "b") != version(2.0, "a")
