"""The feature engine: names, bad input, streams, chains; the values themselves are in tests/oracle/features."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mllmrisk import features


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_each_family_says_what_it_is() -> None:
    families = features.describe()
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert family.formula
        assert family.source
        assert family.unit
        assert family.dimension == len(family.columns) == len(set(family.columns))
    assert sum(family.dimension for family in families if family.set == "default") >= 400


def test_names_are_sets_families_and_columns() -> None:
    default = features.names()
    assert len(set(default)) == len(default)
    assert set(default) <= set(features.names("all"))
    some = features.names(["grid.down_h4", "npr", "bits.r_lsb", "npr"])
    assert some[0].startswith("npr.")
    assert some[-2:] == ("bits.r_lsb", "grid.down_h4")
    whole = features.extract([noise(80, 90)])
    part = features.extract([noise(80, 90)], ["grid.down_h4", "npr", "bits.r_lsb"])
    picked = [default.index(name) for name in part.names]
    np.testing.assert_array_equal(part.values, whole.values[:, picked])


@pytest.mark.parametrize("wrong", ["nothing", "radial.nothing", ""])
def test_an_unknown_name_is_an_error(wrong: str) -> None:
    with pytest.raises(ValueError, match="no feature"):
        features.extract([noise(64, 64)], [wrong])


def test_paths_bytes_and_arrays_give_the_same(tmp_path: Path) -> None:
    image = noise(70, 81)
    path = tmp_path / "image.png"
    path.write_bytes(png(image))
    found = features.extract(iter([path, str(path), png(image), image, np.asfortranarray(image)]), threads=2)
    assert not found.errors
    assert (found.values == found.values[0]).all()


def test_a_bad_image_is_a_reason_in_its_row(tmp_path: Path) -> None:
    images = [
        noise(64, 64),
        b"",
        b"text",
        tmp_path / "absent.png",
        noise(63, 500),
        png(noise(64, 64))[:-200],
        noise(65, 64),
    ]
    found = features.extract(images, threads=2)
    codes = {index: error.code for index, error in found.errors.items()}
    assert codes == {1: "empty", 2: "not_an_image", 3: "unreadable", 4: "too_small", 5: "truncated"}
    assert np.isnan(found.values[list(codes)]).all()
    assert np.isfinite(found.values[[0, 6]]).all()


@pytest.mark.parametrize("wrong", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.float32), 7])
def test_what_is_no_image_is_a_type_error(wrong: object) -> None:
    with pytest.raises(TypeError):
        features.extract([wrong])  # type: ignore[list-item]


def test_a_single_image_is_refused() -> None:
    for single in ("image.png", b"bytes", Path("image.png"), noise(64, 64)):
        with pytest.raises(TypeError, match="list"):
            features.extract(single)  # type: ignore[arg-type]


def test_values_do_not_depend_on_threads_or_batches() -> None:
    images = [noise(64 + i, 70, i) for i in range(9)]
    one = features.extract(images, threads=1)
    batches = list(features.extract_batches(iter(images), threads=3, batch=4))
    assert [len(batch) for batch in batches] == [4, 4, 1]
    np.testing.assert_array_equal(one.values, np.concatenate([batch.values for batch in batches]))


def test_a_stream_is_read_a_batch_at_a_time() -> None:
    read = []

    def images() -> Iterator[np.ndarray]:
        for i in range(10):
            read.append(i)
            yield noise(64, 64, i)

    next(features.extract_batches(images(), "bits", batch=3))
    assert len(read) == 3


def test_chains_are_applied_first() -> None:
    image = noise(100, 100)
    plain, chained = features.extract([image, image], "bits", chains=[None, "crop:64"]).values
    np.testing.assert_array_equal(chained, features.extract([image], "bits", chains="crop:64").values[0])
    assert (plain != chained).any()
    with pytest.raises(ValueError, match="argument 2"):
        features.extract([image, image], "bits", chains=[None])
    with pytest.raises(ValueError, match="nonsense"):
        features.extract([image], "bits", chains="nonsense")


def test_no_images_give_no_rows() -> None:
    found = features.extract([])
    assert found.values.shape == (0, len(features.names()))


@pytest.mark.parametrize("shape", [(64, 64), (67, 101), (65, 900)])
@pytest.mark.parametrize("level", [0, 1, 128, 254, 255])
def test_every_value_is_finite_on_flat_images(shape: tuple[int, int], level: int) -> None:
    found = features.extract([np.full((*shape, 3), level, np.uint8)], "all")
    assert not found.errors
    assert np.isfinite(found.values).all()


def test_several_chains_for_one_decoding_give_what_each_gives(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(png(noise(90, 120)))
    chains = [None, "jpeg:70", "noise:3.0", "crop:40", "jpeg:70+resize:0.8"]
    images = [path, b"no image", noise(100, 100, seed=2)]
    together = features.extract_chains(images, [chains] * 3, ["bits", "npr"], threads=2, seeds=[4, 5, 6])
    assert len(together) == len(chains)
    for chain, many in zip(chains, together, strict=True):
        alone = features.extract(images, ["bits", "npr"], chains=[chain] * 3, seed=4)
        np.testing.assert_array_equal(many.values, alone.values)
        assert many.names == alone.names
        assert {i: (e.code, str(e)) for i, e in many.errors.items()} == {
            i: (e.code, str(e)) for i, e in alone.errors.items()
        }
    assert together[3].errors.keys() == {0, 1, 2}  # 40 px are too few for features; only that chain says so


def test_every_image_has_as_many_chains_as_the_others() -> None:
    image = noise(64, 64)
    with pytest.raises(ValueError, match="1 chains for 2 images"):
        features.extract_chains([image, image], [["native"]], "bits")
    with pytest.raises(ValueError, match=r"images\[1\] has 2 chains, images\[0\] 1"):
        features.extract_chains([image, image], [["native"], ["native", None]], "bits")
    with pytest.raises(ValueError, match="is no step"):
        features.extract_chains([image], [["nonsense"]], "bits")
    assert features.extract_chains([image], [[]], "bits") == []
