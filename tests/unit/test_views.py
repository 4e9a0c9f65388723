import numpy as np
import pytest

from mllmrisk import images, perturb
from mllmrisk.errors import UsageError
from mllmrisk.experiments.laundering import laundered
from mllmrisk.experiments.views import CROP, arm, augmented, encoder, notes
from mllmrisk.images import Container
from mllmrisk.manifest import read
from mllmrisk.records import Sample


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
    encoders = {key[2:] for key in real}
    small = 0
    for s in samples:
        if s.label == "real":
            assert way.chain(s) == "native"
            continue
        own, c = containers[s.id], images.probe(perturb.encode(files[s.id], way.chain(s)))
        assert (c.format, c.quality, c.subsampling) in encoders
        if any(width <= own.width and height <= own.height for width, height, *_ in real):
            assert (c.width, c.height, c.format, c.quality, c.subsampling) in real
        else:
            small += 1
            assert (c.width, c.height) <= (own.width, own.height)
    told = " ".join(notes(samples, containers))
    assert (f"{small} of 24 generated images hold no photograph" in told) == bool(small)


def of_sizes(label: str, *sizes: tuple[int, int]) -> tuple[list[Sample], dict[str, Container]]:
    names = [f"{label} {i}" for i in range(len(sizes))]
    paradigm = "real" if label == "real" else "mllm"
    samples = [Sample(id=name, label=label, paradigm=paradigm) for name in names]
    files = [perturb.encode(np.zeros((height, width, 3), np.uint8), "jpeg:80") for width, height in sizes]
    return samples, {name: images.probe(file) for name, file in zip(names, files, strict=True)}


def test_matched_cuts_and_never_enlarges_and_says_how_many_are_too_small():
    real, facts = of_sizes("real", (80, 60), (100, 100), (400, 300))
    fake, more = of_sizes("fake", (64, 64), (64, 40), (90, 90), (128, 128))
    samples, containers = [*real, *fake], facts | more
    way = arm("matched", samples, containers, 0)
    pixels = {s.id: np.zeros((containers[s.id].height, containers[s.id].width, 3), np.uint8) for s in fake}
    sizes = [perturb.apply(pixels[s.id], way.chain(s)).shape[1::-1] for s in fake]
    assert all(w <= pixels[s.id].shape[1] and h <= pixels[s.id].shape[0] for s, (w, h) in zip(fake, sizes, strict=True))
    assert sizes[2] == (80, 60)
    assert sizes[3] in {(80, 60), (100, 100)}
    first, second = notes(samples, containers)
    assert "2 of 4 generated images hold no photograph" in first
    assert "1 of 3 photographs are larger" in second


def test_sizes_that_match_throughout_need_no_note():
    real, facts = of_sizes("real", (80, 60))
    fake, more = of_sizes("fake", (80, 60), (100, 100))
    assert notes([*real, *fake], facts | more) == []
    assert notes(real, facts) == []


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
