"""Pixels against Pillow: the corpus bit for bit, then every format and mode that `docs/formats.md` defines."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps, ImageSequence

from mllmrisk import images
from mllmrisk.errors import ImageError

CORPUS = Path(__file__).resolve().parents[2].parent / "shared" / "corpus"
FILES = sorted(path for path in CORPUS.glob("*/*") if path.suffix in {".jpg", ".png", ".webp"})
SIZES = [(1, 1), (7, 5), (16, 16), (17, 33), (64, 40), (123, 77)]


def picture(width: int, height: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Shading with noise: every code path of a codec has something to do."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [120 + 90 * np.sin(x / (5 + c) + c) * np.cos(y / (7 - c)) for c in range(channels)]
    noisy = np.stack(waves, axis=-1) + rng.normal(0, 12, (height, width, channels))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def file(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def check(data: bytes) -> None:
    np.testing.assert_array_equal(images.decode(data), by_pillow(data))


@pytest.mark.skipif(not FILES, reason="no corpus of real images at ../shared/corpus")
def test_corpus_is_whole() -> None:
    assert len(FILES) == 331


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_real_file(path: Path) -> None:
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB"))
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(images.decode(path), expected)
    np.testing.assert_array_equal(images.decode(path.read_bytes(), orient=True), upright)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [5, 50, 90, 100])
def test_jpeg(size: tuple[int, int], progressive: bool, subsampling: int, quality: int) -> None:
    image = Image.fromarray(picture(*size))
    check(file(image, "JPEG", quality=quality, subsampling=subsampling, progressive=progressive))


def test_jpeg_with_restart_markers_and_own_tables() -> None:
    image = Image.fromarray(picture(123, 77))
    check(file(image, "JPEG", restart_marker_blocks=3))
    check(file(image, "JPEG", qtables=[[3] * 64, list(range(1, 65))], optimize=True))


@pytest.mark.parametrize("options", [{"quality": 75}, {"quality": 98, "subsampling": 0, "optimize": True}], ids=str)
def test_damaged_jpeg_scan_is_judged_as_libjpeg_judges_it(options: dict[str, Any]) -> None:
    # Pillow goes on after libjpeg's warnings, so it has pixels for every file that we take, and they must be ours.
    data = file(Image.fromarray(picture(123, 77)), "JPEG", **options)
    start = data.index(b"\xff\xda") + 14
    rng = np.random.default_rng(start)
    taken = 0
    for _ in range(400):
        at = int(rng.integers(start, len(data) - 2))
        damaged = data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :]
        try:
            pixels = images.decode(damaged)
        except ImageError as error:
            if error.code not in {"truncated", "corrupt"}:
                raise
            continue
        np.testing.assert_array_equal(pixels, by_pillow(damaged))
        taken += 1
    assert 0 < taken < 400


@pytest.mark.parametrize("size", SIZES)
def test_grey_and_cmyk_jpeg(size: tuple[int, int]) -> None:
    check(file(Image.fromarray(picture(*size, channels=1)[..., 0]), "JPEG", quality=80))
    cmyk = Image.frombytes("CMYK", size, picture(*size, channels=4).tobytes())
    check(file(cmyk, "JPEG", quality=90))
    check(file(cmyk, "JPEG", quality=90, progressive=True))


def test_ycck_jpeg() -> None:
    # Adobe's transform flag 2 says that C, M and Y are stored as YCC.
    data = file(Image.frombytes("CMYK", (40, 30), picture(40, 30, channels=4).tobytes()), "JPEG", quality=90)
    at = data.index(b"Adobe")
    assert data[at + 11] == 0
    check(data[: at + 11] + b"\x02" + data[at + 12 :])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png(size: tuple[int, int], mode: str) -> None:
    channels = 4 if mode.endswith("A") else 3
    check(file(Image.fromarray(picture(*size, channels=channels)).convert(mode), "PNG"))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("transparency", [None, 1])
def test_png_palette(bits: int, transparency: int | None) -> None:
    image = Image.fromarray(picture(37, 21)).quantize(1 << bits)
    options = {} if transparency is None else {"transparency": transparency}
    check(file(image, "PNG", bits=bits, **options))


def test_png_transparent_colour() -> None:
    check(file(Image.fromarray(picture(37, 21)), "PNG", transparency=(10, 20, 30)))
    check(file(Image.fromarray(picture(37, 21, channels=1)[..., 0]), "PNG", transparency=3))


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes, interlace: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    chunks = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_png_low_grey(depth: int) -> None:
    rng = np.random.default_rng(depth)
    values = rng.integers(0, 1 << depth, (9, 16), dtype=np.uint8)
    bits = np.unpackbits(values[..., None], axis=-1)[..., 8 - depth :].reshape(9, -1)
    data = png(16, 9, depth, 0, b"".join(b"\0" + row.tobytes() for row in np.packbits(bits, axis=1)))
    check(data)
    expected = values * (255 // ((1 << depth) - 1))
    np.testing.assert_array_equal(images.decode(data)[..., 1], expected)


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_16_bit_is_its_high_byte(colour: int, channels: int) -> None:
    values = np.random.default_rng(colour).integers(0, 65536, (11, 13, channels), dtype=np.uint16)
    data = png(13, 11, 16, colour, b"".join(b"\0" + row.astype(">u2").tobytes() for row in values))
    high = (values >> 8).astype(np.uint8)
    expected = high[..., :3] if channels >= 3 else np.repeat(high[..., :1], 3, axis=2)
    np.testing.assert_array_equal(images.decode(data), expected)


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (8, 8), (19, 30)])
def test_png_interlaced(size: tuple[int, int]) -> None:
    pixels = picture(*size)
    rows = b""
    for top, left, down, right in [
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ]:
        part = pixels[top::down, left::right]
        rows += b"".join(b"\0" + row.tobytes() for row in part if part.size)
    data = png(*size, 8, 2, rows, interlace=1)
    check(data)
    np.testing.assert_array_equal(images.decode(data), pixels)
    assert images.probe(data).progressive


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("options", [{"quality": 1}, {"quality": 80}, {"lossless": True}], ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_webp(size: tuple[int, int], options: dict[str, Any], mode: str) -> None:
    channels = len(mode)
    check(file(Image.fromarray(picture(*size, channels=channels)), "WEBP", **options))


def frames(count: int, size: tuple[int, int], mode: str) -> list[Image.Image]:
    return [Image.fromarray(picture(*size, channels=4, seed=k)).convert(mode) for k in range(count)]


@pytest.mark.parametrize(
    ("kind", "mode", "options"),
    [
        ("WEBP", "RGB", {"quality": 70}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {"default_image": True}),
        ("GIF", "P", {}),
    ],
)
def test_animation_gives_its_first_frame(kind: str, mode: str, options: dict[str, Any]) -> None:
    first, *rest = frames(4, (37, 21), mode)
    data = file(first, kind, save_all=True, append_images=rest, duration=50, **options)
    check(data)
    with Image.open(io.BytesIO(data)) as image:
        stored = sum(1 for _ in ImageSequence.Iterator(image)) - bool(options.get("default_image"))
    assert images.probe(data).frames == stored


@pytest.mark.parametrize("interlace", [0, 1])
@pytest.mark.parametrize("transparency", [None, 5])
def test_gif(interlace: int, transparency: int | None) -> None:
    options = {} if transparency is None else {"transparency": transparency}
    for mode in ("P", "L", "1"):
        check(file(Image.fromarray(picture(40, 33)).convert(mode), "GIF", interlace=interlace, **options))


def test_gif_frame_smaller_than_its_canvas() -> None:
    data = bytearray(file(Image.fromarray(picture(10, 8)).quantize(16), "GIF"))
    frame = data.index(b"\x2c\0\0\0\0")
    data[6:10] = struct.pack("<HH", 20, 15)
    data[frame + 1 : frame + 5] = struct.pack("<HH", 4, 3)
    check(bytes(data))
    data[6:10] = struct.pack("<HH", 3, 3)
    check(bytes(data))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("size", SIZES)
def test_bmp(size: tuple[int, int], mode: str) -> None:
    check(file(Image.fromarray(picture(*size, channels=4)).convert(mode), "BMP"))


def bmp(width: int, height: int, bits: int, compression: int, body: bytes, extra: bytes = b"") -> bytes:
    offset = 54 + len(extra)
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(body), 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + header + extra + body


def test_bmp_of_16_bits_top_down_and_run_lengths() -> None:
    values = np.random.default_rng(3).integers(0, 65536, (7, 10), dtype="<u2")
    check(bmp(10, 7, 16, 0, values.tobytes()))
    check(bmp(10, -7, 16, 0, values.tobytes()))
    check(bmp(10, 7, 16, 3, values.tobytes(), struct.pack("<III", 0xF800, 0x07E0, 0x001F)))
    palette = b"".join(struct.pack("<BBBB", 3 * k % 256, k, 255 - k, 0) for k in range(256))
    runs = bytes([3, 10, 0, 3, 1, 2, 3, 0, 0, 0, 4, 77, 2, 200, 0, 0, 6, 9, 0, 1])
    data = bmp(6, 3, 8, 1, runs, palette)
    check(data)
    indices = [[9] * 6, [77] * 4 + [200] * 2, [10] * 3 + [1, 2, 3]]
    expected = [[[255 - k, k, 3 * k % 256] for k in row] for row in indices]
    np.testing.assert_array_equal(images.decode(data), expected)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_tiff(mode: str, compression: str) -> None:
    image = Image.fromarray(picture(37, 21, channels=4))
    image = image.convert("RGB").convert("CMYK") if mode == "CMYK" else image.convert(mode)
    check(file(image, "TIFF", compression=compression))


def test_tiff_of_16_bits_is_its_high_byte() -> None:
    values = np.random.default_rng(4).integers(0, 65536, (11, 13), dtype=np.uint16)
    data = file(Image.fromarray(values), "TIFF")
    np.testing.assert_array_equal(images.decode(data), np.repeat((values >> 8)[..., None], 3, axis=2))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file(Image.fromarray(picture(30, 20)), kind, exif=exif)
    assert images.probe(data).orientation == orientation
    if kind == "TIFF":  # Pillow turns a TIFF while it loads
        np.testing.assert_array_equal(images.decode(data), picture(30, 20))
    else:
        check(data)
    with Image.open(io.BytesIO(data)) as opened:
        upright = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    np.testing.assert_array_equal(images.decode(data, orient=True), upright)
