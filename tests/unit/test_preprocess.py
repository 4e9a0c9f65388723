"""Inputs of networks: batches, errors, chains, threads; and near duplicates among hashes."""

import io
import threading

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mllmrisk import images, perturb
from mllmrisk.images import Preprocessing

SQUASH = Preprocessing(crop_mode="squash", size=(24, 32))


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_a_bad_image_has_no_row_and_the_others_keep_their_order(tmp_path):
    good = [noise(40, 50, seed) for seed in range(4)]
    sources = [b"", good[0], "no such file", good[1], good[2], tmp_path, good[3], b"GIF89a"]
    found = images.prepare(sources, SQUASH, threads=3)
    assert found.rows.tolist() == [1, 3, 4, 6]
    assert {i: error.code for i, error in found.errors.items()} == {
        0: "empty",
        2: "unreadable",
        5: "unreadable",
        7: "truncated",
    }
    assert found.values.flags.c_contiguous
    assert found.values.dtype == np.float32
    for values, pixels in zip(found.values, good, strict=True):
        assert np.array_equal(values, images.prepare([pixels], SQUASH).values[0])
    tiles = Preprocessing(crop_mode="tiles", size=(32, 32))
    assert images.prepare(sources, tiles).rows.tolist() == [1] * 4 + [3] * 4 + [4] * 4 + [6] * 4


@pytest.mark.parametrize("crop_mode", ["squash", "short", "centre", "pad", "longest", "tiles", "full"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_nothing_is_an_empty_array_of_the_right_shape(crop_mode, layout):
    size = None if crop_mode == "full" else (24, 32)
    how = Preprocessing(crop_mode=crop_mode, size=size, layout=layout)
    for sources in ([], [b""]):
        found = images.prepare(sources, how)
        assert found.values.ndim == 4
        assert len(found.values) == len(found.rows) == 0
        assert found.values.shape[1 if layout == "NCHW" else 3] == 3
        assert len(found.errors) == len(sources)


def test_files_bytes_and_arrays_say_the_same_on_any_number_of_threads(tmp_path):
    drawn = [noise(30 + i, 45 - i, i) for i in range(9)]
    for i, pixels in enumerate(drawn):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    paths = [tmp_path / f"{i}.png" for i in range(9)]
    for how in (SQUASH, Preprocessing(crop_mode="tiles", size=(20, 20), stride=7)):
        expected = images.prepare(drawn, how, threads=1)
        fortran = [np.asfortranarray(pixels) for pixels in drawn]
        turned = [pixels[::-1, ::-1][::-1, ::-1] for pixels in drawn]
        for sources in (drawn, fortran, turned, paths, [memoryview(path.read_bytes()) for path in paths]):
            found = images.prepare(sources, how, threads=4)
            assert np.array_equal(found.values, expected.values)
            assert np.array_equal(found.rows, expected.rows)


def test_chains_come_first_and_draw_from_the_seed_of_their_place():
    pixels = noise(64, 80)
    chains = [None, "jpeg:50", "noise:5", "resize:0.5+noise:5"]
    found = images.prepare([pixels] * 4, SQUASH, chains=chains, seed=11)
    for i, chain in enumerate(chains):
        before = pixels if chain is None else perturb.apply(pixels, chain, seed=11 + i)
        assert np.array_equal(found.values[i], images.prepare([before], SQUASH).values[0])
    patches = images.patches([pixels] * 2, chains=["jpeg:50", None])
    assert np.array_equal(patches.values[0], images.patches([perturb.apply(pixels, "jpeg:50")]).values[0])
    with pytest.raises(ValueError, match="1 chains for 2 images"):
        images.prepare([pixels] * 2, SQUASH, chains=["native"])
    with pytest.raises(ValueError, match="blurr"):
        images.prepare([pixels], SQUASH, chains=["blurr:1"])


def test_full_takes_one_size_a_call():
    how = Preprocessing(crop_mode="full", layout="NHWC", scale=1.0)
    pixels = [noise(30, 41, 1), noise(30, 41, 2)]
    found = images.prepare([pixels[0], b"", pixels[1]], how)
    assert np.array_equal(found.values, pixels)
    assert found.rows.tolist() == [0, 2]
    with pytest.raises(ValueError, match="41x30 and of 30x41"):
        images.prepare([pixels[0], noise(41, 30)], how)


def test_too_small_is_a_reason():
    how = Preprocessing(crop_mode="squash", size=(24, 24), minimum=32)
    found = images.prepare([noise(31, 100), noise(32, 32)], how)
    assert found.rows.tolist() == [1]
    assert found.errors[0].code == "too_small"
    assert images.patches([noise(31, 100)]).errors[0].code == "too_small"


def test_more_than_memory_holds_is_refused():
    tiles = Preprocessing(crop_mode="tiles", size=(512, 512), stride=1)
    found = images.prepare([noise(700, 700)], tiles)
    assert found.errors[0].code == "limit"
    huge = Preprocessing(crop_mode="squash", size=(13000, 13000))
    with pytest.raises(ValueError, match="do not fit in memory"):
        images.prepare([b""] * 100_000, huge)
    with pytest.raises(ValueError, match="no size of an input"):
        images.prepare([noise(8, 8)], Preprocessing(crop_mode="squash", size=(100_000, 100_000)))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"crop_mode": "squash"}, "size must be given"),
        ({"crop_mode": "full", "size": [8, 8]}, "full, which has none"),
        ({"crop_mode": "centre", "size": [8, 8], "resize": 9}, "resize goes with"),
        ({"crop_mode": "centre", "size": [8, 8], "stride": 9}, "stride goes with"),
        ({"crop_mode": "centre", "size": [8, 8], "padding": "reflect"}, "reflect goes with"),
        ({"crop_mode": "squash", "size": [8, 8], "antialias": False, "interpolation": "box"}, "not box"),
        ({"crop_mode": "squash", "size": [0, 8]}, "at least 1"),
        ({"crop_mode": "short", "size": [8, 8], "resize": 0}, "at least 1"),
        ({"crop_mode": "tiles", "size": [8, 8], "stride": -1}, "at least 1"),
        ({"crop_mode": "squash", "size": [8, 8], "fill": 256}, "0 to 255"),
        ({"crop_mode": "squash", "size": [8, 8], "std": [1.0, 0.0, 1.0]}, "must not be 0"),
        ({"crop_mode": "squash", "size": [8, 8], "kernel": "box"}, "unknown field"),
        ({"crop_mode": "zoom", "size": [8, 8]}, "Invalid enum value"),
    ],
)
def test_what_contradicts_itself_is_refused(keys, message):
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(keys, Preprocessing)


def test_the_call_is_checked_where_types_were_not():
    for keys in (
        {"crop_mode": "zoom"},
        {"channels": "GBR"},
        {"layout": "CHW"},
        {"rounding": "up"},
        {"padding": "wrap"},
    ):
        how = Preprocessing(**({"crop_mode": "longest", "size": (8, 8)} | keys))
        with pytest.raises(ValueError, match="is unknown"):
            images.prepare([noise(9, 9)], how)
    with pytest.raises(ValueError, match="cubic"):
        images.prepare([noise(9, 9)], Preprocessing(crop_mode="squash", size=(8, 8), interpolation="cubic"))
    with pytest.raises(ValueError, match="threads"):
        images.prepare([noise(9, 9)], SQUASH, threads=0)
    with pytest.raises(TypeError, match=r"images\[1\]"):
        images.prepare([noise(9, 9), noise(9, 9)[:, :, :2]], SQUASH)
    with pytest.raises(TypeError):
        images.prepare([noise(9, 9).astype(np.float32)], SQUASH)


def test_arrays_are_read_while_another_thread_holds_the_interpreter():
    stop = threading.Event()
    busy = threading.Thread(target=lambda: [None for _ in iter(stop.is_set, True)])
    busy.start()
    try:
        found = images.prepare([noise(60, 60, i) for i in range(40)], SQUASH, threads=4)
    finally:
        stop.set()
        busy.join()
    assert found.rows.tolist() == list(range(40))


HASHES = st.lists(st.integers(0, 2**64 - 1), max_size=30)


@settings(max_examples=60, deadline=None)
@given(HASHES, st.lists(st.tuples(st.integers(0, 29), st.integers(0, 63)), max_size=60), st.integers(0, 64))
def test_near_duplicates_are_what_comparing_all_finds(hashes, flips, distance):
    near = [hashes[i] ^ (1 << bit) for i, bit in flips if i < len(hashes)]
    codes = np.array(hashes + near, np.uint64)
    groups = np.arange(len(codes)) % 5
    close = np.triu(images.hash_distance(codes[:, None], codes) <= distance, 1)
    assert images.near_duplicates(codes, distance).tolist() == np.argwhere(close).tolist()
    apart = np.argwhere(close & (groups[:, None] != groups))
    assert images.near_duplicates(codes, distance, groups).tolist() == apart.tolist()


def test_near_duplicates_of_many_hashes():
    rng = np.random.default_rng(5)
    codes = rng.integers(0, 2**64, 4000, np.uint64)
    codes[2000:] = codes[:2000] ^ (np.uint64(1) << rng.integers(0, 64, 2000).astype(np.uint64))
    pairs = images.near_duplicates(codes, 6)
    assert pairs.dtype == np.int64
    assert pairs.tolist() == [[i, i + 2000] for i in range(2000)]


def test_near_duplicates_refuse_what_cannot_be():
    with pytest.raises(ValueError, match="groups: must be 3 numbers"):
        images.near_duplicates(np.zeros(3, np.uint64), 1, np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="one picture"):
        images.near_duplicates(np.zeros(6_000, np.uint64), 1)
    assert images.near_duplicates([], 3).shape == (0, 2)


@pytest.mark.parametrize("chain", [None, "jpeg:60", "jpeg:75:444+png+jpeg:80", "noise:2", "crop:90+jpeg:90"])
def test_what_a_crop_needs_is_what_the_whole_file_gives(chain):
    pixels = noise(130, 155)
    pixels[:70] = np.linspace(0, 255, 155, dtype=np.uint8)[None, :, None]
    variants = [
        {"format": "JPEG", "quality": 90, **how}
        for how in (
            {"subsampling": 0},
            {"subsampling": 1},
            {"subsampling": 2},
            {"progressive": True},
            {"restart_marker_blocks": 3},
            {"optimize": True, "comment": b"no end"},
        )
    ]
    files = []
    for mode, how in [("RGB", how) for how in variants] + [("L", variants[0]), ("CMYK", variants[0])]:
        buffer = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(buffer, **how)
        files.append(buffer.getvalue())
    files.append(files[0] + b"bytes after the end")
    files.append(files[0][: len(files[0]) * 3 // 4])
    rng = np.random.default_rng(3)
    for how in (
        Preprocessing(crop_mode="centre", size=(40, 33)),
        Preprocessing(crop_mode="short", resize=60, size=(31, 40)),
        Preprocessing(crop_mode="short", resize=200, size=(64, 64), interpolation="bilinear", antialias=False),
        Preprocessing(crop_mode="pad", size=(20, 200), padding="reflect"),
    ):
        for _ in range(6):
            views = [images.View(tuple(rng.random(2)), bool(rng.random() < 0.5)) for _ in files]
            chains = None if chain is None else [chain] * len(files)
            found, whole = (
                images.prepare(files, how, chains=chains, views=views, partial=partial, threads=2)
                for partial in (True, False)
            )
            assert np.array_equal(found.values, whole.values)
            assert {i: str(error) for i, error in found.errors.items()} == {len(files) - 1: str(whole.errors[9])}
            assert whole.errors[9].code == "truncated"


def test_a_view_and_a_seed_belong_to_one_source():
    how = Preprocessing(crop_mode="centre", size=(20, 30))
    pixels = noise(50, 70)
    views = [images.View(), images.View((0.0, 0.0)), images.View((0.999, 0.999), True)]
    middle, first, last = images.prepare([pixels] * 3, how, views=views).values
    expected = np.moveaxis(pixels, 2, 0) * np.float32(1 / 255)
    assert np.array_equal(middle, expected[:, 15:35, 20:50])
    assert np.array_equal(first, expected[:, :20, :30])
    assert np.array_equal(last, expected[:, 30:, 40:][:, :, ::-1])
    seeds = [5, 2**64 - 1, 5]
    one, other, again = images.prepare([pixels] * 3, how, chains=["noise:9"] * 3, seeds=seeds).values
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert np.array_equal(one, images.prepare([pixels], how, chains=["noise:9"], seed=5).values[0])
    with pytest.raises(ValueError, match="2 seeds for 3 images"):
        images.prepare([pixels] * 3, how, seeds=[1, 2])
