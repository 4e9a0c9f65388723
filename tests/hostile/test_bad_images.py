"""Bad input: every answer is the whole picture or an error with a name; nothing hangs, panics or eats memory."""

from __future__ import annotations

import io
import os
import socket
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mllmrisk import images, perturb
from mllmrisk.errors import ImageError

CODES = {"empty", "not_an_image", "unsupported", "truncated", "corrupt", "limit", "unreadable"}


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    rng = np.random.default_rng(width * height)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([120 + 90 * np.sin(x / (4 + c) + y / 9) for c in range(4)], axis=-1)
    pixels = np.clip(waves + rng.normal(0, 20, waves.shape), 0, 255).astype(np.uint8)
    return Image.fromarray(pixels[..., :3]).convert(mode)


def file(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def animation(kind: str, **options: Any) -> bytes:
    frames = [picture(40 + k, 30).resize((40, 30)) for k in range(3)]
    return file(frames[0], kind, save_all=True, append_images=frames[1:], **options)


FILES: dict[str, bytes] = {
    "baseline.jpg": file(picture(80, 60), "JPEG", quality=90),
    "progressive.jpg": file(picture(80, 60), "JPEG", quality=90, progressive=True),
    "restart.jpg": file(picture(80, 60), "JPEG", quality=70, restart_marker_blocks=2),
    "grey.jpg": file(picture(80, 60, "L"), "JPEG"),
    "cmyk.jpg": file(picture(50, 40, "CMYK"), "JPEG"),
    "rgb.png": file(picture(40, 30), "PNG"),
    "palette.png": file(picture(80, 60).quantize(64), "PNG"),
    "animated.png": animation("PNG"),
    "lossy.webp": file(picture(80, 60), "WEBP", quality=90),
    "lossless.webp": file(picture(40, 30), "WEBP", lossless=True),
    "alpha.webp": file(picture(80, 60, "RGBA"), "WEBP", quality=60),
    "animated.webp": animation("WEBP", quality=60),
    "still.gif": file(picture(60, 50), "GIF"),
    "animated.gif": animation("GIF"),
    "rgb.bmp": file(picture(40, 30), "BMP"),
    "palette.bmp": file(picture(60, 50).quantize(256), "BMP"),
    "raw.tiff": file(picture(40, 30), "TIFF"),
    "lzw.tiff": file(picture(40, 30), "TIFF", compression="tiff_lzw"),
    "deflate.tiff": file(picture(40, 30), "TIFF", compression="tiff_adobe_deflate"),
    "palette.tiff": file(picture(40, 30).quantize(64), "TIFF"),
}

by_name = pytest.mark.parametrize("name", FILES)


def code_of(call: Callable[[], Any]) -> str | None:
    """The code of the error that a call ends in, none if it ends well; any other exception is a failure."""
    try:
        call()
    except ImageError as error:
        caught = error
    else:
        return None
    assert caught.code in CODES
    assert str(caught)
    return caught.code


@by_name
def test_truncation_gives_the_whole_picture_or_an_error(name: str) -> None:
    data = FILES[name]
    whole = images.decode(data)
    outcomes = []
    for size in range(0, len(data), 64):
        try:
            pixels = images.decode(data[:size])
        except ImageError as error:
            outcomes.append(error.code)
        else:
            np.testing.assert_array_equal(pixels, whole, err_msg=f"{size} of {len(data)} bytes")
        code_of(lambda size=size: images.probe(data[:size]))
    assert outcomes[0] == "empty"
    assert set(outcomes) <= {"empty", "truncated", "corrupt", "not_an_image", "unsupported"}
    # Half of a still image is never enough.
    if "animated" not in name:
        assert code_of(lambda: images.decode(data[: len(data) // 2])) in {"truncated", "corrupt", "unsupported"}


@pytest.mark.parametrize("name", ["baseline.jpg", "progressive.jpg", "grey.jpg", "restart.jpg"])
def test_jpeg_that_lacks_only_its_end_marker_is_whole(name: str) -> None:
    data = FILES[name]
    assert data.endswith(b"\xff\xd9")
    np.testing.assert_array_equal(images.decode(data[:-2]), images.decode(data))
    # An end marker put where data are missing makes nothing whole.
    assert code_of(lambda: images.decode(data[: len(data) * 3 // 4] + b"\xff\xd9")) in {"truncated", "corrupt"}


@by_name
def test_extra_bytes_at_the_end_are_harmless(name: str) -> None:
    np.testing.assert_array_equal(images.decode(FILES[name] + b"\0extra\xff\xd8" * 9), images.decode(FILES[name]))


def test_extra_bytes_before_a_jpeg_marker_are_harmless() -> None:
    data = FILES["baseline.jpg"]
    at = data.index(b"\xff\xdb")
    np.testing.assert_array_equal(images.decode(data[:at] + b"\0\1\2" + data[at:]), images.decode(data))


@by_name
def test_bit_flips(name: str) -> None:
    data = FILES[name]
    rng = np.random.default_rng(len(data))
    # A header flip may ask for a large image: the limits stand between it and the memory.
    limits = images.Limits(pixels=1 << 22, memory=1 << 27)
    for _ in range(300):
        mutated = bytearray(data)
        for position in rng.integers(0, len(data), int(rng.integers(1, 4))):
            mutated[position] ^= 1 << int(rng.integers(8))
        code_of(lambda: images.decode(bytes(mutated), orient=True, limits=limits))  # noqa: B023
        code_of(lambda: images.probe(bytes(mutated)))  # noqa: B023


def test_every_flip_in_the_pixels_of_a_png_is_seen() -> None:
    data = FILES["rgb.png"]
    start = data.index(b"IDAT") + 4
    for at in range(start, len(data) - 20, 7):
        assert code_of(lambda at=at: images.decode(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])) == "corrupt"


@by_name
def test_bytes_decide_not_the_name(name: str, tmp_path: Path) -> None:
    for suffix in (".jpg", ".png", ".txt"):
        path = tmp_path / f"image{suffix}"
        path.write_bytes(FILES[name])
        np.testing.assert_array_equal(images.decode(path), images.decode(FILES[name]))
        assert images.probe(str(path)) == images.probe(FILES[name])


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"\xff", "not_an_image"),
        (b"hello, world", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
        (b"\xff\xd8\xff", "truncated"),
        (b"\xff\xd8\xff\xd9", "corrupt"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"GIF89a", "truncated"),
        (b"BM", "truncated"),
        (b"II*\0", "truncated"),
    ],
)
def test_no_image(data: bytes, code: str) -> None:
    assert code_of(lambda: images.decode(data)) == code
    assert code_of(lambda: images.probe(data)) is not None


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\0\0\0\x1cftypavif\0\0\0\0mif1miaf", "AVIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0heicmif1", "HEIC"),
        (b"\xff\x0a\0\0\0", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    ],
)
def test_known_formats_without_a_decoder_are_named(data: bytes, name: str) -> None:
    with pytest.raises(ImageError, match=name) as caught:
        images.decode(data)
    assert caught.value.code == "unsupported"


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, *extra: bytes) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(b"\0" * (1 + 3 * min(width, 9)) * min(height, 9)))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + data + png_chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    side = 60_000
    jpeg = bytearray(FILES["progressive.jpg"])
    at = jpeg.index(b"\xff\xc2")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", side, side)
    gif = bytearray(FILES["still.gif"])
    gif[6:10] = struct.pack("<HH", side, side)
    large_frame = bytearray(FILES["still.gif"])
    at = large_frame.index(b"\x2c\0\0\0\0")
    large_frame[at + 5 : at + 9] = struct.pack("<HH", side, side)
    webp = bytearray(FILES["animated.webp"])
    at = webp.index(b"VP8X")
    webp[at + 12 : at + 18] = struct.pack("<I", side - 1)[:3] * 2
    bmp = bytearray(FILES["rgb.bmp"])
    bmp[18:26] = struct.pack("<ii", side, side)
    runs = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, 0, 0, 0, 0, 0)
    tiff = io.BytesIO()
    picture(40, 30).save(tiff, "TIFF", tiffinfo={})
    large_tiff = bytearray(tiff.getvalue())
    (directory,) = struct.unpack_from("<I", large_tiff, 4)
    for entry in range(directory + 2, directory + 2 + 12 * struct.unpack_from("<H", large_tiff, directory)[0], 12):
        if struct.unpack_from("<H", large_tiff, entry)[0] in (256, 257, 278):  # width, height, rows per strip
            struct.pack_into("<HII", large_tiff, entry + 2, 4, 1, side)
    return {
        "png": png(side, side),
        "jpeg": bytes(jpeg),
        "gif": bytes(gif),
        "gif frame": bytes(large_frame),
        "webp": bytes(webp),
        "bmp": bytes(bmp),
        "bmp runs": b"BM" + struct.pack("<IHHI", 60, 0, 0, 54) + runs + b"\0\1",
        "tiff": bytes(large_tiff),
    }


@pytest.mark.parametrize("name", bombs())
def test_a_bomb_is_refused_before_it_takes_memory(name: str, tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(bombs()[name])
    assert images.probe(path).width in {60_000, 60}  # of the GIF frame bomb, the canvas
    script = (
        "import resource, sys\n"
        "from mllmrisk import images\n"
        "from mllmrisk.errors import ImageError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "try:\n    images.decode(sys.argv[1])\n"
        "except ImageError as error:\n    print(error.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.stderr) == ("limit", "")


def test_a_text_bomb_is_cut() -> None:
    packed = zlib.compress(b"a" * (1 << 27))
    texts = [
        png_chunk(b"zTXt", b"Comment\0\0" + packed),
        png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + packed),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + packed),
        png_chunk(b"iCCP", b"profile\0\0" + packed),
    ]
    data = png(9, 9, *texts)
    facts = images.probe(data)
    assert [len(text.value) for text in facts.texts] == [4096, 4096]
    assert facts.icc
    assert facts.xmp
    assert images.decode(data).shape == (9, 9, 3)


def test_many_scans_are_refused() -> None:
    data = FILES["progressive.jpg"]
    first = data.index(b"\xff\xda")
    second = data.index(b"\xff\xda", first + 2)
    assert code_of(lambda: images.decode(data[:first] + data[first:second] * 600 + data[second:])) == "corrupt"


@by_name
def test_limits(name: str) -> None:
    data = FILES[name]
    height, width, _ = images.decode(data).shape
    enough = images.Limits(bytes=len(data), pixels=width * height)
    assert images.decode(data, limits=enough).shape == (height, width, 3)
    for limits in (
        images.Limits(bytes=len(data) - 1),
        images.Limits(pixels=width * height - 1),
        images.Limits(memory=3 * width * height - 1),
    ):
        assert code_of(lambda limits=limits: images.decode(data, limits=limits)) == "limit"


def test_files_that_are_none(tmp_path: Path) -> None:
    folder = tmp_path / "folder.jpg"
    folder.mkdir()
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    fifo = tmp_path / "fifo.webp"
    os.mkfifo(fifo)
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(tmp_path / "door.gif"))
    empty = tmp_path / "empty.jpg"
    empty.touch()
    for path in (folder, loop, fifo, tmp_path / "door.gif", tmp_path / "missing.jpg", Path("/dev/zero"), "a\0b.jpg"):
        for call in (images.decode, images.probe):
            assert code_of(lambda call=call, path=path: call(path)) == "unreadable", path
    door.close()
    assert code_of(lambda: images.decode(empty)) == "empty"
    with pytest.raises(ImageError, match=r"loop\.png"):
        images.decode(loop)


@contextmanager
def without_rights() -> Iterator[None]:
    """Root may read everything: for a while the process is nobody."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(FILES["rgb.png"])
    path.chmod(0)
    with without_rights():
        assert code_of(lambda: images.decode(path)) == "unreadable"


def test_a_link_to_an_image_is_that_image(tmp_path: Path) -> None:
    path = tmp_path / "bild – 写真.png"
    path.write_bytes(FILES["rgb.png"])
    link = tmp_path / "link"
    link.symlink_to(path)
    np.testing.assert_array_equal(images.decode(link), images.decode(FILES["rgb.png"]))


def test_reencode_of_bad_files_is_a_named_error(tmp_path: Path) -> None:
    for data in (b"", b"nothing", FILES["rgb.png"][:200]):
        with pytest.raises(ImageError):
            perturb.encode(data, "jpeg:80")
    with pytest.raises(ImageError, match="missing"):
        perturb.encode(tmp_path / "missing.png", "recompressed")


def test_threads_decode_side_by_side() -> None:
    expected = {name: images.decode(data) for name, data in FILES.items()}
    failures: list[str] = []

    def work() -> None:
        for name, data in FILES.items():
            if not np.array_equal(images.decode(data), expected[name]):
                failures.append(name)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
