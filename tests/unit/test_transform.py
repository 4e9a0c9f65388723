"""The 2-D transform against numpy.fft, which works in double precision."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllmrisk import transform
from mllmrisk.errors import UsageError

#: Of the largest value; single precision leaves some 1e-7.
TOLERANCE = 1e-6


def planes(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def check_forward(plane: np.ndarray) -> None:
    wanted = np.fft.rfft2(plane.astype(np.float64))
    found = transform.rfft2(plane)
    assert found.dtype == np.complex64
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max()


def check_inverse(spectrum: np.ndarray, width: int) -> None:
    wanted = np.fft.irfft2(spectrum.astype(np.complex128), s=(spectrum.shape[-2], width))
    found = transform.irfft2(spectrum, width)
    assert found.dtype == np.float32
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max()


def noise_spectrum(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Of no real plane: the first and last columns are not symmetric."""
    pair = planes(2, height, width // 2 + 1, seed=seed)
    return pair[0] + 1j * pair[1]


@pytest.mark.parametrize("size", range(1, 101))
def test_every_small_size(size):
    # A height that is coprime to most widths, and several times the rows that are worked on at once.
    for height, width in [(size, size), (size, 33), (67, size)]:
        check_forward(planes(height, width))
        check_inverse(noise_spectrum(height, width), width)


@pytest.mark.parametrize(
    "size",
    [108, 120, 125, 128, 144, 175, 196, 210, 243, 250, 256, 280, 343, 360, 384, 420, 500, 512, 625, 720, 1000, 1024],
)
def test_mixed_radix_sizes(size):
    check_forward(planes(size, 48))
    check_forward(planes(48, size))
    check_inverse(noise_spectrum(size, 40), 40)
    check_inverse(noise_spectrum(40, size), size)


@pytest.mark.parametrize("size", [101, 127, 131, 149, 211, 257, 331, 509, 521, 1009, 254, 111, 899, 286])
def test_primes_and_their_multiples(size):
    check_forward(planes(size, 40))
    check_forward(planes(40, size))
    check_inverse(noise_spectrum(size, 40), 40)
    check_inverse(noise_spectrum(40, size), size)


@pytest.mark.parametrize(("height", "width"), [(2048, 2048), (1080, 1920), (2000, 1500), (4096, 64), (64, 8192)])
def test_whole_photographs(height, width):
    check_forward(planes(height, width))
    check_inverse(noise_spectrum(height, width), width)


@given(height=st.integers(1, 300), width=st.integers(1, 300), count=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_any_size_and_back(height, width, count, seed):
    batch = planes(count, height, width, seed=seed)
    check_forward(batch)
    again = transform.irfft2(transform.rfft2(batch), width)
    assert np.abs(again - batch).max() <= TOLERANCE * np.abs(batch).max() * 3


def test_bytes_are_floats():
    pixels = np.random.default_rng(1).integers(0, 256, (70, 91), np.uint8)
    assert np.array_equal(transform.rfft2(pixels), transform.rfft2(pixels.astype(np.float32)))


def test_axes_before_the_last_two_stay():
    batch = planes(2, 3, 40, 52)
    found = transform.rfft2(batch)
    assert found.shape == (2, 3, 40, 27)
    assert np.array_equal(found[1, 2], transform.rfft2(batch[1, 2]))
    assert transform.irfft2(found, 52).shape == batch.shape
    assert transform.rfft2(planes(0, 40, 52)).shape == (0, 40, 27)


def test_strided_arrays_are_read_as_they_are_seen():
    plane = planes(64, 96)
    for view in (plane.T, plane[::-1, ::2], plane[5:, 3:]):
        check_forward(view)
    spectrum = noise_spectrum(64, 96)
    check_inverse(spectrum.T, 2 * 63)
    check_inverse(spectrum[:, ::-1], 96)


def test_the_input_stays_as_it_is():
    plane, spectrum = planes(64, 64), noise_spectrum(64, 64)
    before = plane.copy(), spectrum.copy()
    transform.rfft2(plane)
    transform.irfft2(spectrum, 64)
    assert np.array_equal(plane, before[0])
    assert np.array_equal(spectrum, before[1])


def test_threads_change_no_bit():
    batch = planes(7, 90, 64)
    spectra = transform.rfft2(batch)
    assert np.array_equal(transform.rfft2(batch, threads=3), spectra)
    assert np.array_equal(transform.irfft2(spectra, 64, threads=3), transform.irfft2(spectra, 64))


def test_callers_side_by_side():
    wanted = {size: transform.rfft2(planes(size, size)) for size in (64, 101, 127, 250)}
    wrong = []

    def work(size):
        for _ in range(20):
            same = np.array_equal(transform.rfft2(planes(size, size)), wanted[size])
            wrong.extend([] if same else [size])

    workers = [threading.Thread(target=work, args=(size,)) for size in wanted]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_more_lengths_than_are_remembered():
    for size in range(1, 90):
        check_forward(planes(3, size))
    check_forward(planes(509, 521))


def test_a_wave_is_one_frequency():
    y, x = np.mgrid[:64, :96]
    spectrum = transform.rfft2(np.cos(2 * np.pi * (5 * y / 64 + 7 * x / 96)).astype(np.float32))
    peak = np.zeros((64, 49))
    peak[5, 7] = 64 * 96 / 2
    assert np.abs(spectrum - peak).max() < 1e-3


def test_what_is_refused():
    for plane in (np.zeros((4, 4)), np.zeros(4, np.float32), np.zeros((0, 4), np.float32), np.zeros((4, 0), np.uint8)):
        with pytest.raises(UsageError):
            transform.rfft2(plane)
    for threads in (0, -1):
        with pytest.raises(UsageError, match="threads"):
            transform.rfft2(planes(4, 4), threads=threads)
    spectrum = noise_spectrum(4, 8)
    for width in (7, 10, 0, -8):
        with pytest.raises(UsageError, match="columns"):
            transform.irfft2(spectrum, width)
    with pytest.raises(UsageError, match="complex64"):
        transform.irfft2(spectrum.astype(np.complex128), 8)
