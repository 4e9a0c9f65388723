"""Statistics of pictures against NumPy and SciPy twins, and the perceptual hash."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import fft, stats

from mllmrisk import images, world

NAMES = tuple(about.name for about in images.STATISTICS)


def luma(rgb):
    r, g, b = (rgb[..., c].astype(np.int64) for c in range(3))
    return (19595 * r + 38470 * g + 7471 * b + 32768) >> 16


def parts(plane, side):
    """Means over side x side equal parts; a pixel that a border cuts counts by its share."""

    def weights(n):
        borders = np.arange(side + 1) * n / side
        start, end = np.maximum(borders[:-1, None], np.arange(n)), np.minimum(borders[1:, None], np.arange(n) + 1)
        return np.clip(end - start, 0, None) * side / n

    return weights(plane.shape[0]) @ plane @ weights(plane.shape[1]).T


def lag(plane):
    variance = max(plane.var(), 1 / 12)
    return 1 - (np.mean(np.diff(plane, axis=0) ** 2) + np.mean(np.diff(plane, axis=1) ** 2)) / 2 / (2 * variance)


def spectrum_line(plane):
    """(slope, misfit) of the radial spectrum over Hann-windowed 64 x 64 tiles."""

    def starts(n):
        tiles = -(-n // 64)
        return [i * (n - 64) // max(tiles - 1, 1) for i in range(tiles)]

    window = np.sin(np.pi * (np.arange(64) + 0.5) / 64) ** 2
    window = np.outer(window, window)
    tiles = [plane[y : y + 64, x : x + 64] for y in starts(plane.shape[0]) for x in starts(plane.shape[1])]
    power = np.mean([np.abs(np.fft.fft2((t - t.mean()) * window)) ** 2 for t in tiles], axis=0) / (window**2).sum()
    k = np.fft.fftfreq(64) * 64
    ring = np.round(np.hypot(k[:, None], k)).astype(int)
    r = np.arange(2, 31)
    logs = np.array([np.log(power[ring == n].mean() + 0.01) for n in r])
    x = np.log(r)
    # polyfit weighs residuals, not their squares
    slope, _ = np.polyfit(x, logs, 1, w=np.sqrt(1 / r))
    rest = logs - np.clip(slope, -3.6, -0.6) * x
    rest -= np.average(rest, weights=1 / r)
    return slope, np.sqrt(np.average(rest**2, weights=1 / r))


def repetition(means):
    """Largest rise of the overlap's correlation over its lowest on the way."""
    found, low = {}, {(0, 0): 1.0}
    shifts = sorted(((dy, dx) for dy in range(33) for dx in range(-32, 33)), key=lambda s: max(s[0], abs(s[1])))
    best = 0.0
    for dy, dx in shifts[1:]:
        a = means[dy:, max(dx, 0) : 64 + min(dx, 0)]
        b = means[: 64 - dy, max(-dx, 0) : 64 + min(-dx, 0)]
        covariance = np.mean(a * b) - a.mean() * b.mean()
        found[dy, dx] = covariance / np.sqrt((a.var() + 1) * (b.var() + 1))
        steps = max(dy, abs(dx))
        step = tuple(int(np.sign(v)) if 2 * abs(v) >= steps else 0 for v in (dy, dx))
        way = low[dy - step[0], dx - step[1]]
        best = max(best, found[dy, dx] - max(way, 0))
        low[dy, dx] = min(way, found[dy, dx])
    return best


def seams(plane):
    profiles = [np.mean(np.diff(plane, axis=axis) ** 2, axis=1 - axis) for axis in (0, 1)]

    def contrast(profile, period):
        on = np.arange(1, len(profile) + 1) % period == 0
        return profile[on].mean() / (profile[~on].mean() + 1)

    return max(min(contrast(profile, period) for profile in profiles) for period in (8, 16, 32))


def twin(rgb):
    plane = luma(rgb).astype(np.float64)
    shares = np.bincount(plane.astype(int).ravel(), minlength=256) / plane.size
    bins = (rgb[::2, ::2].astype(int) >> 3) @ [1024, 32, 1]
    inner = 4 * plane[1:-1, 1:-1] - plane[:-2, 1:-1] - plane[2:, 1:-1] - plane[1:-1, :-2] - plane[1:-1, 2:]
    slope, misfit = spectrum_line(plane)
    return {
        "mean": plane.mean(),
        "deviation": plane.std(),
        "entropy": stats.entropy(shares, base=2),
        "common": np.bincount(bins.ravel()).max() / bins.size,
        "dark": np.mean(plane <= 4),
        "bright": np.mean(plane >= 251),
        "clipped": np.mean((rgb == 0) | (rgb == 255)),
        "laplacian": inner.var(),
        "neighbour": lag(plane),
        "coarse": lag(parts(plane, 32)),
        "slope": slope,
        "misfit": misfit,
        "tiles": repetition(parts(plane, 64)),
        "seams": seams(plane),
    }


def pictures():
    rng = np.random.default_rng(11)
    scene = world.draw(world.Scene("tree", "red", "beach"), rng)
    smooth = np.kron(rng.integers(0, 256, (5, 7, 3)), np.ones((33, 31, 1)))
    smooth = smooth + rng.normal(0, 3, smooth.shape)
    return {
        "scene": scene,
        "noise": rng.integers(0, 256, (70, 131, 3), dtype=np.uint8),
        "patches": np.clip(smooth, 0, 255).astype(np.uint8),
        "tiles": np.tile(scene[30:62, 20:52], (4, 4, 1)),
        "wide": np.ascontiguousarray(images.resize(scene, 400, 64)),
    }


@pytest.mark.parametrize("name", pictures())
def test_statistics_equal_a_twin_in_numpy(name):
    picture = pictures()[name]
    found = images.statistics([picture], threads=1)
    expected = twin(picture)
    assert found.names == NAMES == tuple(expected)
    for column, value in zip(found.names, found.values[0], strict=True):
        assert value == pytest.approx(expected[column], rel=2e-4, abs=2e-4), column


@pytest.mark.parametrize("name", pictures())
def test_the_hash_is_that_of_scipys_dct(name):
    picture = pictures()[name]
    low = fft.dctn(parts(luma(picture).astype(np.float64), 32), norm="ortho")[:8, :8]
    low[np.abs(low) < 3.2] = 0
    margin = np.abs(low - np.median(low)).ravel()
    bits = (low > np.median(low)).ravel()
    found = int(images.statistics([picture], threads=1).hashes[0])
    for i, (bit, far) in enumerate(zip(bits, margin, strict=True)):
        if far > 1e-3:
            assert (found >> (63 - i)) & 1 == bit, i


def test_one_picture_has_one_hash_through_jpeg_and_resizing():
    rng = np.random.default_rng(2)
    for scene in (world.Scene("car", "blue", "room"), world.Scene("skull", "white", "field")):
        picture = images.resize(world.draw(scene, rng), 512, 512)
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "JPEG", quality=50)
        copies = [picture, buffer.getvalue(), images.resize(picture, 301, 340)]
        hashes = images.statistics(copies, threads=1).hashes
        assert images.hash_distance(hashes[0], hashes).max() <= 3
    assert images.hash_distance(hashes[0], images.statistics([pictures()["noise"]]).hashes[0]) >= 10


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_the_distance_counts_bits(a, b):
    assert int(images.hash_distance(a, b)) == (a ^ b).bit_count()


def test_distances_broadcast():
    codes = np.array([0, 1, 2**64 - 1], np.uint64)
    table = images.hash_distance(codes[:, None], codes)
    assert table.tolist() == [[0, 1, 64], [1, 0, 63], [64, 63, 0]]


def test_a_bad_image_is_a_reason_in_its_row():
    good = world.draw(world.Scene("ball", "red", "room"), np.random.default_rng(0))
    found = images.statistics([good, b"", b"no image", good[:40], good[:, ::2]], threads=2)
    assert {i: error.code for i, error in found.errors.items()} == {
        1: "empty",
        2: "not_an_image",
        3: "too_small",
        4: "too_small",
    }
    assert np.isnan(found.values[1:]).all()
    assert np.isfinite(found.values[0]).all()
    assert found.hashes[1:].tolist() == [0, 0, 0, 0]


def test_files_bytes_and_arrays_say_the_same_on_any_number_of_threads(tmp_path):
    rng = np.random.default_rng(4)
    drawn = [world.draw(scene, rng) for scene in list(world.scenes())[:12]]
    for i, picture in enumerate(drawn):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    expected = images.statistics(drawn, threads=1)
    for sources in (drawn, paths, [path.read_bytes() for path in paths], [bytearray(p.read_bytes()) for p in paths]):
        found = images.statistics(sources, threads=3)
        assert np.array_equal(found.values, expected.values)
        assert np.array_equal(found.hashes, expected.hashes)


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match="threads"):
        images.statistics([], threads=0)
    with pytest.raises(TypeError, match="4 channels"):
        images.statistics([np.zeros((64, 64, 4), np.uint8)])
    assert images.statistics([]).values.shape == (0, len(NAMES))


def test_every_statistic_is_described():
    assert len(set(NAMES)) == len(NAMES)
    assert all(about.unit and about.formula and about.source for about in images.STATISTICS)
