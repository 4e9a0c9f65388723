import pytest

from mllmrisk import images, perturb
from mllmrisk.errors import UsageError
from mllmrisk.experiments.laundering import laundered
from mllmrisk.experiments.views import CROP, arm, augmented, encoder
from mllmrisk.manifest import read


@pytest.fixture(scope="module")
def given(collection):
    entries = read(collection).entries
    samples = [e.sample for e in entries]
    return samples, {e.sample.id: images.probe(e.file) for e in entries}, {e.sample.id: e.file for e in entries}


def test_an_unknown_view_gets_a_suggestion(given):
    samples, containers, _ = given
    with pytest.raises(UsageError, match="Did you mean 'native'"):
        arm("nativ", samples, containers, 0)


def test_recompressed_gives_every_image_the_same_container(given):
    samples, containers, files = given
    way = arm("recompressed", samples, containers, 0)
    found = {
        (c.width, c.height, c.format, c.subsampling, c.quantisation)
        for s in samples
        for c in [images.probe(perturb.encode(files[s.id], way.chain(s)))]
    }
    assert len(found) == 1
    assert {(w, h) for w, h, *_ in found} == {(CROP, CROP)}


def test_matched_gives_fakes_the_containers_of_photographs_and_leaves_photographs_alone(given):
    samples, containers, files = given
    way = arm("matched", samples, containers, 0)
    real = {
        (c.width, c.height, c.format, c.quality, c.subsampling)
        for s in samples
        if s.label == "real"
        for c in [containers[s.id]]
    }
    for s in samples:
        if s.label == "real":
            assert way.chain(s) == "native"
            continue
        c = images.probe(perturb.encode(files[s.id], way.chain(s)))
        assert (c.width, c.height, c.format, c.quality, c.subsampling) in real


def test_matching_follows_the_seed_and_not_the_order(given):
    samples, containers, _ = given
    fakes = [s for s in samples if s.label == "fake"]
    first = arm("matched", samples, containers, 0)
    again = arm("matched", list(samples), containers, 0)
    other = arm("matched", samples, containers, 1)
    assert [first.chain(s) for s in fakes] == [again.chain(s) for s in fakes[::1]]
    assert [first.chain(s) for s in fakes] != [other.chain(s) for s in fakes]


def test_every_chain_of_a_view_can_be_read(given):
    samples, containers, _ = given
    arms = [arm(view, samples, containers, 0) for view in ("native", "matched", "recompressed")]
    for way in [*arms, *augmented(4, containers, 0), laundered("resize:0.5"), laundered("social")]:
        for s in samples[:3]:
            perturb.canonical(way.chain(s))


def test_laundered_images_end_in_one_size_even_when_they_shrink(given):
    samples, _, files = given
    for chain in ("jpeg:50", "resize:0.5", "resize:0.75+jpeg:80"):
        way = laundered(chain)
        sizes = {
            (c.width, c.height) for s in samples for c in [images.probe(perturb.encode(files[s.id], way.chain(s)))]
        }
        assert len(sizes) == 1, chain


def test_an_encoder_step_repeats_what_a_container_says(given):
    _, containers, files = given
    for sample_id, container in containers.items():
        again = images.probe(perturb.encode(files[sample_id], encoder(container)))
        assert (again.format, again.quality, again.subsampling) == (
            container.format,
            container.quality,
            container.subsampling,
        )


def test_augmented_images_all_end_in_the_recompressed_container(given):
    samples, containers, files = given
    for way in augmented(3, containers, 0):
        found = {
            (c.width, c.height, c.format, c.subsampling, c.quantisation)
            for s in samples[:12]
            for c in [images.probe(perturb.encode(files[s.id], way.chain(s)))]
        }
        assert len(found) == 1
        assert {(w, h) for w, h, *_ in found} == {(CROP, CROP)}


def test_augmentation_follows_the_image_and_the_seed_and_not_the_order(given):
    samples, containers, _ = given
    first, second = augmented(2, containers, 0)
    assert [first.chain(s) for s in samples] == [first.chain(s) for s in reversed(samples)][::-1]
    assert [first.chain(s) for s in samples] != [second.chain(s) for s in samples]
    assert [first.chain(s) for s in samples] != [augmented(1, containers, 1)[0].chain(s) for s in samples]
