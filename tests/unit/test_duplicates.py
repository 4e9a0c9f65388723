import numpy as np
import pytest

from mllmrisk import images, perturb
from mllmrisk.errors import ImageError, UsageError
from mllmrisk.experiments import duplicates


def scene(seed: int, height: int = 160, width: int = 200) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return images.resize(coarse, width, height, "bicubic")


def looks(*pictures: np.ndarray) -> np.ndarray:
    return np.stack([duplicates.look(picture) for picture in pictures])


@pytest.mark.parametrize("chain", ["jpeg:50", "resize:0.6", "blur:1.0", "resize:0.7+jpeg:70", "noise:3.0"])
def test_a_copy_that_was_laundered_is_found(chain: str):
    pictures = [scene(seed) for seed in range(6)]
    copy = perturb.apply(pictures[4], chain)
    found = duplicates.pairs("abcdefg", looks(*pictures, copy), np.arange(7))
    assert found == [("e", "g")]


def test_pairs_of_one_group_are_no_matter():
    picture = scene(1)
    assert duplicates.pairs("ab", looks(picture, picture), np.array([3, 3])) == []


def test_the_same_shapes_in_other_colours_are_another_picture():
    picture = scene(2)
    other = picture[:, :, ::-1].copy()
    luma_alike = looks(picture, other)
    luma_alike[1, :4] = luma_alike[0, :4]  # even if the hash, which sees luma alone, does not tell them apart
    assert duplicates.pairs("ab", luma_alike, np.arange(2)) == []


def test_a_hash_survives_its_way_through_float32():
    picture = scene(3)
    look = looks(picture)
    back = look[:, :4].astype(np.uint16).view(np.uint64)[:, 0]
    assert back == images.statistics([picture]).hashes


def test_an_image_too_small_for_a_hash_says_so():
    with pytest.raises(ImageError) as caught:
        duplicates.look(scene(0, 40, 40))
    assert caught.value.code == "too_small"


def test_the_refusal_lists_pairs_and_names_the_cure():
    found = [duplicates.Pair(str(i), str(i + 1)) for i in range(12)]
    names = {str(i): f"file{i}.jpg" for i in range(13)}
    with pytest.raises(UsageError, match=r"12 pair.*\n  file0.jpg  file1.jpg") as caught:
        duplicates.refuse(found, names)
    assert "and 2 more" in str(caught.value)
    assert "--near-duplicates join" in str(caught.value)
    duplicates.refuse([], names)
