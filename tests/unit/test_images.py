"""What `images.decode` accepts and what `images.probe` finds, on files made here."""

from __future__ import annotations

import dataclasses
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin, PngImagePlugin

from mllmrisk import _core, images
from mllmrisk.errors import ImageError

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def file(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def exif(**tags: Any) -> bytes:
    block = Image.Exif()
    numbers = {"description": 0x10E, "make": 0x10F, "model": 0x110, "orientation": 0x112, "software": 0x131}
    for name, value in tags.items():
        block[numbers[name]] = value
    return block.tobytes()


def jpeg_segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def with_segment(data: bytes, marker: int, body: bytes) -> bytes:
    return data[:2] + jpeg_segment(marker, body) + data[2:]


def with_png_chunk(data: bytes, name: bytes, body: bytes) -> bytes:
    made = struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    return data[:33] + made + data[33:]


def with_webp_chunk(data: bytes, name: bytes, body: bytes) -> bytes:
    data += name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)
    return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]


def test_every_kind_of_source(tmp_path: Path) -> None:
    data = file("PNG")
    path = tmp_path / "image.png"
    path.write_bytes(data)
    for source in (data, bytearray(data), memoryview(data), path, str(path)):
        np.testing.assert_array_equal(images.decode(source), PIXELS)
        assert images.probe(source).format == "PNG"
    with pytest.raises(TypeError):
        images.decode(3)  # type: ignore[arg-type]


def test_the_array_is_its_own() -> None:
    pixels = images.decode(file("PNG"))
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    pixels[:] = 0
    np.testing.assert_array_equal(images.decode(file("PNG")), PIXELS)


def test_errors_name_their_input(tmp_path: Path) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(file("JPEG")[:300])
    with pytest.raises(ImageError, match=r"broken\.jpg: truncated JPEG") as caught:
        images.decode(path)
    assert caught.value.code == "truncated"
    with pytest.raises(ImageError, match="bytes: empty"):
        images.probe(b"")


@pytest.mark.parametrize("quality", [1, 30, 49, 50, 75, 90, 100])
@pytest.mark.parametrize(("subsampling", "name"), [(0, "4:4:4"), (1, "4:2:2"), (2, "4:2:0")])
def test_jpeg_facts(quality: int, subsampling: int, name: str) -> None:
    data = file("JPEG", quality=quality, subsampling=subsampling, progressive=quality == 75)
    facts = images.probe(data)
    assert (facts.format, facts.width, facts.height, facts.bytes) == ("JPEG", 40, 24, len(data))
    assert (facts.mode, facts.channels, facts.bit_depth, facts.alpha) == ("rgb", 3, 8, False)
    assert (facts.subsampling, facts.quality, facts.quality_exact) == (name, quality, True)
    assert facts.progressive == (quality == 75)
    assert facts.jfif
    assert facts.lossy
    assert not facts.adobe
    with Image.open(io.BytesIO(data)) as image:
        assert isinstance(image, JpegImagePlugin.JpegImageFile)
        assert facts.quantisation == tuple(tuple(image.quantization[k]) for k in sorted(image.quantization))


def test_other_tables_are_not_exact() -> None:
    near = images.probe(file("JPEG", quality=80)).quantisation
    bent = [list(table) for table in near]
    bent[0][3] += 1
    facts = images.probe(file("JPEG", qtables=bent))
    assert facts.quantisation == tuple(map(tuple, bent))
    assert (facts.quality, facts.quality_exact) == (80, False)
    assert not images.probe(file("JPEG", qtables=[[7] * 64])).quality_exact


def test_grey_and_cmyk_jpeg() -> None:
    grey = images.probe(file("JPEG", "L", quality=60))
    assert (grey.mode, grey.channels, grey.subsampling, grey.quality) == ("grey", 1, None, 60)
    cmyk = images.probe(file("JPEG", "CMYK"))
    assert (cmyk.mode, cmyk.channels, cmyk.adobe) == ("cmyk", 4, True)


@pytest.mark.parametrize(
    ("kind", "mode", "options", "expected"),
    [
        ("PNG", "1", {}, ("grey", 1, 1, False)),
        ("PNG", "L", {}, ("grey", 1, 8, False)),
        ("PNG", "LA", {}, ("grey", 2, 8, True)),
        ("PNG", "RGBA", {}, ("rgb", 4, 8, True)),
        ("PNG", "P", {"bits": 4}, ("palette", 1, 4, False)),
        ("PNG", "P", {"transparency": 1}, ("palette", 1, 8, True)),
        ("PNG", "I;16", {}, ("grey", 1, 16, False)),
        ("WEBP", "RGB", {}, ("rgb", 3, 8, False)),
        ("WEBP", "RGBA", {"lossless": True, "exact": True}, ("rgb", 3, 8, False)),
        ("GIF", "L", {"transparency": 128}, ("palette", 1, 8, True)),
        ("BMP", "RGB", {}, ("rgb", 3, 8, False)),
        ("BMP", "1", {}, ("palette", 1, 1, False)),
        ("TIFF", "P", {}, ("palette", 1, 8, False)),
        ("TIFF", "CMYK", {}, ("cmyk", 4, 8, False)),
        ("TIFF", "I;16", {}, ("grey", 1, 16, False)),
        ("TIFF", "1", {}, ("grey", 1, 1, False)),
    ],
)
def test_modes(kind: str, mode: str, options: dict[str, Any], expected: tuple[str, int, int, bool]) -> None:
    facts = images.probe(file(kind, mode, **options))
    assert (facts.mode, facts.channels, facts.bit_depth, facts.alpha) == expected
    assert (facts.width, facts.height, facts.frames, facts.animated) == (40, 24, 1, False)
    assert (facts.quality, facts.quantisation, facts.subsampling) == (None, (), None)


def test_webp_lossy_or_not() -> None:
    assert images.probe(file("WEBP", quality=50)).lossy
    assert not images.probe(file("WEBP", lossless=True)).lossy


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_camera(kind: str) -> None:
    block = exif(make="Maker", model="Camera 3", software="Darkroom 9", orientation=6)
    facts = images.probe(file(kind, exif=block))
    assert (facts.make, facts.model, facts.software) == ("Maker", "Camera 3", "Darkroom 9")
    assert facts.orientation == 6
    assert facts.exif == (kind != "TIFF")
    assert not facts.generation_parameters


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_profile_and_xmp(kind: str) -> None:
    plain = images.probe(file(kind))
    assert (plain.icc, plain.xmp, plain.exif, plain.ai_source_type, plain.c2pa) == (False,) * 5
    packet = b"<x:xmpmeta><Iptc4xmpExt:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/%b</x>"
    for term, named in (
        (b"digitalCapture", False),
        (b"trainedAlgorithmicMedia", True),
        (b"compositeWithTrainedAlgorithmicMedia", True),
    ):
        facts = images.probe(file(kind, icc_profile=b"p" * 200, **xmp_option(kind, packet % term)))
        assert (facts.icc, facts.xmp, facts.ai_source_type) == (True, True, named)
        assert facts.texts == ()


def xmp_option(kind: str, packet: bytes) -> dict[str, Any]:
    if kind == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", packet.decode(), zip=True)
        return {"pnginfo": info}
    if kind == "TIFF":
        return {"tiffinfo": {700: packet}}
    return {"xmp": packet}


def test_c2pa() -> None:
    store = b"\0\0\0\x40jumb\0\0\0\x1ejumdc2pa\0\x11\0\x10\x80\0\0\xaa\0\x38\x9b\x71\x03c2pa\0"
    claim = store + b"digitalsourcetype/trainedAlgorithmicMedia"
    files = [
        with_segment(file("JPEG"), 0xEB, b"JP\0\1\0\0\0\1" + claim),
        with_png_chunk(file("PNG"), b"caBX", claim),
        with_webp_chunk(file("WEBP"), b"C2PA", claim),
    ]
    for data in files:
        facts = images.probe(data)
        assert (facts.c2pa, facts.ai_source_type) == (True, True)
        assert images.decode(data).shape == PIXELS.shape
    other = with_segment(file("JPEG"), 0xEB, b"JP\0\1\0\0\0\1\0\0\0\x10jumb\0\0\0\x08jumdmine")
    assert not images.probe(other).c2pa


def test_texts_and_parameters() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7")
    info.add_text("Comment", "x" * 9000, zip=True)
    info.add_itxt("Title", "写真", zip=True)
    facts = images.probe(file("PNG", pnginfo=info))
    assert [text.key for text in facts.texts] == ["parameters", "Comment", "Title"]
    assert facts.texts[0].value.startswith("a cat")
    assert facts.texts[1].value == "x" * 4096
    assert facts.texts[2].value == "写真"
    assert facts.generation_parameters
    assert not images.probe(file("PNG")).generation_parameters
    comment = images.probe(file("JPEG", comment="made by hand"))
    assert [(text.key, text.value) for text in comment.texts] == [("comment", "made by hand")]
    assert not comment.generation_parameters
    assert images.probe(file("GIF", "P", comment=b"Midjourney, Job ID: 7")).generation_parameters


@pytest.mark.parametrize("encoding", ["ascii", "utf-16-be", "utf-16-le"])
def test_parameters_in_the_user_comment(encoding: str) -> None:
    code = b"ASCII\0\0\0" if encoding == "ascii" else b"UNICODE\0"
    block = Image.Exif()
    block.get_ifd(0x8769)[0x9286] = code + "a dog\nNegative prompt: cat\nSteps: 9, Sampler: DDIM".encode(encoding)
    assert images.probe(file("JPEG", exif=block)).generation_parameters


def test_broken_metadata_never_fail_a_sound_image() -> None:
    rng = np.random.default_rng(1)
    block = exif(make="Maker", model="Camera", orientation=3)
    for _ in range(200):
        broken = bytearray(block)
        for at in rng.integers(6, len(block), 4):
            broken[at] = rng.integers(256)
        data = with_segment(file("JPEG"), 0xE1, bytes(broken))
        assert images.probe(data).exif
        assert images.decode(data, orient=True).size == PIXELS.size
    for body in (b"", b"no zero", b"key\0", b"key\0\1", b"key\0\1\0\0", b"\0" * 9, b"key\0\0not deflate"):
        for name in (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP"):
            data = with_png_chunk(file("PNG"), name, body)
            assert images.probe(data).width == 40
            np.testing.assert_array_equal(images.decode(data), PIXELS)


def test_container_is_frozen_and_measures_itself() -> None:
    facts = images.probe(file("PNG"))
    assert facts.bits_per_pixel == 8 * facts.bytes / (40 * 24)
    with pytest.raises(dataclasses.FrozenInstanceError):
        facts.width = 3  # type: ignore[misc]
    assert hash(facts) == hash(images.probe(file("PNG")))


def test_build_info() -> None:
    info = _core.build_info()
    assert info["version"] == _core.__version__
    assert info["profile"] in {"release", "debug"}
    assert isinstance(info["jpeg_simd"], bool)
    assert info["libjpeg_turbo"].startswith("3.")
    assert info["libwebp"].startswith("1.")
