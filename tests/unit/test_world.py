"""The world: its pictures, its captions and its camera agree with its scenes, and follow from a seed."""

import numpy as np
import pytest

from mllmrisk import images
from mllmrisk.errors import UsageError
from mllmrisk.world import COLOURS, KINDS, PLACES, SIDE, SUBJECTS, Scene, caption, draw, kinds_of, photograph, scenes
from mllmrisk.world.captions import COLOUR_WORDS, NEUTRAL, PLACE_WORDS, SUBJECT_WORDS, TEMPLATES
from mllmrisk.world.shapes import Ellipse, Polygon, Stroke, box, coverage

EVERY = list(scenes())


def rng(*seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_scenes_are_all_there_and_all_different():
    assert len(EVERY) == len(set(EVERY)) == len(SUBJECTS) * len(COLOURS) * len(PLACES)


@pytest.mark.parametrize("words", [("dragon", "red", "field"), ("car", "grey", "field"), ("car", "red", "moon")])
def test_a_scene_outside_the_world_is_refused(words):
    with pytest.raises(UsageError, match="the world has no"):
        Scene(*words)


def test_stand_ins_have_categories_and_people_have_none():
    unsafe = {name for name, subject in SUBJECTS.items() if subject.category}
    assert unsafe == {"knife", "gun", "skull", "flame", "hazard"}
    assert {name for name, subject in SUBJECTS.items() if subject.person} == {"woman", "man"}
    assert not any(subject.category for subject in SUBJECTS.values() if subject.person)


@pytest.mark.parametrize("scene", EVERY[::7])
def test_a_picture_shows_its_colour_in_the_middle_and_its_place_at_the_edge(scene):
    picture = draw(scene, rng(1, EVERY.index(scene)))
    assert picture.shape == (SIDE, SIDE, 3)
    assert picture.dtype == np.uint8
    above, below = PLACES[scene.place]
    assert np.abs(picture[:20, :8].mean((0, 1)) - above).max() < 2
    assert np.abs(picture[-20:, :8].mean((0, 1)) - below).max() < 2
    near = np.abs(picture[14:82, 14:82].astype(int) - COLOURS[scene.colour]).max(2) < 12
    assert near.mean() > 0.05


def test_a_picture_follows_from_its_seed_alone():
    for scene in EVERY[::31]:
        assert np.array_equal(draw(scene, rng(2)), draw(scene, rng(2)))
        assert not np.array_equal(draw(scene, rng(2)), draw(scene, rng(3)))


def test_subjects_differ_more_from_each_other_than_from_themselves():
    """Nearest neighbour by shape: what a picture changes in the place where it stands."""

    def silhouettes(seed):
        pictures = np.stack([draw(Scene(name, "red", "street"), rng(seed, 0)) for name in SUBJECTS]).astype(float)
        return (np.abs(pictures - pictures[:, :, :1]).max(3) > 40).reshape(len(SUBJECTS), -1)

    first, second = silhouettes(5), silhouettes(6)
    distance = (first[:, None] != second[None]).mean(2)
    assert (distance.argmin(1) == np.arange(len(SUBJECTS))).mean() >= 0.75


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        (Ellipse(0, 0, 0.5, 0.8), np.pi * 0.5 * 0.8),
        (box(-0.5, -0.2, 0.5, 0.6), 0.8),
        (Polygon(((-1, 0), (0, -1), (1, 0))), 1.0),
        (Stroke(-0.5, 0, 0.5, 0, 0.2), 0.4 + np.pi * 0.04),
    ],
)
def test_coverage_adds_up_to_the_area(shape, area):
    line = ((np.arange(96) - 47.5) / 40).astype(np.float32)
    covered = coverage(shape, line[None, :], line[:, None], 40.0)
    assert covered.min() >= 0
    assert covered.max() <= 1
    assert covered.sum() / 1600 == pytest.approx(area, rel=0.02)


@pytest.mark.parametrize("split", ["train", "held-out"])
def test_captions_say_what_the_scene_shows(split):
    for number, scene in enumerate(EVERY):
        words = (SUBJECT_WORDS[scene.subject], COLOUR_WORDS[scene.colour], PLACE_WORDS[scene.place])
        for kind in kinds_of(scene):
            text = caption(scene, kind, rng(7, number), split)
            if kind == "neutral":
                assert any(person in text or chinese in text for person, chinese in NEUTRAL)
                words_said = words[1:]
            else:
                words_said = words
            for said in words_said:
                ways = said.abstract if kind == "abstract" else (said.literal, said.chinese)
                assert any(way in text for way in ways), (scene, kind, text)


def test_held_out_wordings_are_never_used_in_training():
    for kind in KINDS:
        scene = Scene("woman", "red", "room") if kind == "neutral" else Scene("gun", "red", "room")
        train = {caption(scene, kind, rng(8, n)) for n in range(300)}
        held = {caption(scene, kind, rng(8, n), "held-out") for n in range(50)}
        assert not train & held
        assert len(train) > 1
        assert len(TEMPLATES[kind]) > 2


def test_neutral_captions_do_not_tell_people_apart():
    for n in range(200):
        woman, man = (caption(Scene(who, "blue", "beach"), "neutral", rng(9, n)) for who in ("woman", "man"))
        assert woman == man


def test_things_have_no_neutral_caption():
    with pytest.raises(UsageError, match="no `neutral` caption"):
        caption(Scene("car", "red", "room"), "neutral", rng(0))


def test_the_camera_makes_a_jpeg_that_follows_from_its_seed():
    picture = draw(Scene("car", "yellow", "beach"), rng(10))
    shot = photograph(picture, rng(11))
    assert shot == photograph(picture, rng(11))
    assert shot != photograph(picture, rng(12))
    container = images.probe(shot)
    assert (container.format, container.width, container.height) == ("JPEG", SIDE, SIDE)
    assert np.abs(images.decode(shot).astype(float) - picture).mean() < 8


def mosaic_excess(picture) -> float:
    """How much rougher green is where an RGGB sensor samples it than where it is interpolated, on flat background."""
    green = picture[..., 1].astype(float)
    rough = np.abs(4 * green[1:-1, 1:-1] - green[:-2, 1:-1] - green[2:, 1:-1] - green[1:-1, :-2] - green[1:-1, 2:])
    sampled = np.add.outer(np.arange(1, SIDE - 1), np.arange(1, SIDE - 1)) % 2 == 1
    rough, sampled = rough[:, :14], sampled[:, :14]
    return rough[sampled].mean() / rough[~sampled].mean()


def test_the_camera_leaves_the_trace_of_its_mosaic():
    drawn = [draw(Scene("ball", "red", "field"), rng(13, n)) for n in range(40)]
    taken = [images.decode(photograph(picture, rng(14, n))) for n, picture in enumerate(drawn)]
    without, with_camera = (np.array([mosaic_excess(picture) for picture in some]) for some in (drawn, taken))
    assert abs(without.mean() - 1) < 0.03
    assert with_camera.mean() > 1.03
    assert with_camera.mean() - 1 > 3 * with_camera.std() / np.sqrt(len(with_camera))
