//! The codec from outside: what is written is read back, and no bytes do harm.

use mllmrisk_core::codec::{self, Encoding, Format, Input, Limits, Subsampling, encode};
use mllmrisk_core::image::Image;
use proptest::prelude::*;

fn picture(width: u32, height: u32) -> Image {
    let value = |k: u32| {
        let (x, y, c) = (k / 3 % width, k / 3 / width, k % 3);
        (x * 7 + y * 5 * (c + 1) + (x * y) % 17) as u8
    };
    Image::from_rgb(width, height, (0..width * height * 3).map(value).collect()).expect("its size is right")
}

fn jpeg(quality: u8, subsampling: Subsampling) -> Encoding {
    Encoding::Jpeg { quality, subsampling }
}

fn gif(image: &Image) -> Vec<u8> {
    let grey: Vec<u8> = image.data().chunks_exact(3).map(|pixel| pixel[0]).collect();
    let palette: Vec<u8> = (0..=255).flat_map(|value| [value; 3]).collect();
    let (width, height) = (image.width() as u16, image.height() as u16);
    let mut bytes = Vec::new();
    let mut encoder = gif::Encoder::new(&mut bytes, width, height, &palette).expect("memory is writable");
    encoder.write_frame(&gif::Frame::from_indexed_pixels(width, height, grey, None)).expect("memory is writable");
    drop(encoder);
    bytes
}

fn tiff(image: &Image) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let mut encoder = tiff::encoder::TiffEncoder::new(&mut bytes).expect("memory is writable");
    encoder
        .write_image::<tiff::encoder::colortype::RGB8>(image.width(), image.height(), image.data())
        .expect("memory is writable");
    bytes.into_inner()
}

fn bmp(image: &Image) -> Vec<u8> {
    let (width, height) = (image.width(), image.height());
    let mut bytes = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bytes.extend(width.to_le_bytes().into_iter().chain((-(height as i32)).to_le_bytes()));
    bytes.extend([1, 0, 24, 0]);
    bytes.resize(54, 0);
    for row in image.data().chunks_exact(width as usize * 3) {
        bytes.extend(row.chunks_exact(3).flat_map(|pixel| [pixel[2], pixel[1], pixel[0]]));
        bytes.resize(bytes.len() + row.len().next_multiple_of(4) - row.len(), 0);
    }
    bytes
}

fn files() -> Vec<(Format, Vec<u8>)> {
    let image = picture(40, 28);
    let made = |encoding| encode(&image, &encoding).expect("the image can be encoded");
    vec![
        (Format::Jpeg, made(jpeg(90, Subsampling::S420))),
        (Format::Jpeg, made(jpeg(30, Subsampling::S444))),
        (Format::Png, made(Encoding::Png)),
        (Format::Webp, made(Encoding::Webp { quality: 70 })),
        (Format::Gif, gif(&image)),
        (Format::Tiff, tiff(&image)),
        (Format::Bmp, bmp(&image)),
    ]
}

fn decode(bytes: &[u8], limits: &Limits) -> mllmrisk_core::Result<Image> {
    codec::decode(&Input { name: "test", bytes }, limits, true)
}

#[test]
fn lossless_files_give_the_pixels_back() {
    let image = picture(40, 28);
    let png = encode(&image, &Encoding::Png).expect("the image can be encoded");
    for bytes in [png, tiff(&image), bmp(&image)] {
        assert!(decode(&bytes, &Limits::default()).expect("the file is whole") == image, "{:?}", &bytes[..8]);
    }
}

#[test]
fn probes_know_what_was_written() {
    for (format, bytes) in files() {
        let probe =
            codec::probe(&Input { name: "test", bytes: &bytes }, &Limits::default()).expect("the file is whole");
        assert_eq!((probe.format, probe.width, probe.height), (format, 40, 28));
        assert_eq!(probe.bytes, bytes.len() as u64);
        assert_eq!(probe.jpeg.is_some(), format == Format::Jpeg);
    }
    let bytes = encode(&picture(9, 9), &jpeg(83, Subsampling::S422)).expect("the image can be encoded");
    let probe = codec::probe(&Input { name: "test", bytes: &bytes }, &Limits::default()).expect("the file is whole");
    let facts = probe.jpeg.expect("it is a JPEG");
    assert_eq!((facts.quality, facts.quality_exact), (Some(83), true));
    assert_eq!(facts.subsampling.as_deref(), Some("4:2:2"));
}

#[test]
fn quality_is_checked() {
    let image = picture(4, 4);
    for encoding in [jpeg(0, Subsampling::S420), jpeg(101, Subsampling::S420), Encoding::Webp { quality: 101 }] {
        assert_eq!(encode(&image, &encoding).expect_err("out of range").code(), "argument");
    }
}

#[test]
fn limits_are_kept() {
    let pixels = 40 * 28;
    for (_, bytes) in files() {
        let code = |limits: Limits| decode(&bytes, &limits).expect_err("over a limit").code();
        assert_eq!(code(Limits { bytes: 10, ..Limits::default() }), "limit");
        assert_eq!(code(Limits { pixels: pixels - 1, ..Limits::default() }), "limit");
        assert_eq!(code(Limits { memory: pixels * 3 - 1, ..Limits::default() }), "limit");
    }
}

#[test]
fn files_are_read_under_their_limit() {
    let path = std::env::temp_dir().join(format!("mllmrisk-codec-{}.bin", std::process::id()));
    let name = path.to_str().expect("the folder's name is UTF-8");
    std::fs::write(&path, [7; 100]).expect("the folder is writable");
    let read = |bytes| codec::read_file(name, &Limits { bytes, ..Limits::default() });
    assert_eq!(read(100).expect("it fits"), [7; 100]);
    assert_eq!(read(99).expect_err("it does not fit").code(), "limit");
    std::fs::remove_file(&path).expect("it was written above");
    for bad in [name, "/", ""] {
        assert_eq!(codec::read_file(bad, &Limits::default()).expect_err("no file").code(), "unreadable");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Edits and cuts give a picture within the limits or an error; nothing panics past the codec.
    #[test]
    fn damaged_files_do_no_harm(
        which in 0_usize..7,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut bytes = files().swap_remove(which).1;
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let limits = Limits { pixels: 1 << 20, memory: 1 << 25, ..Limits::default() };
        if let Ok(image) = decode(&bytes, &limits) {
            prop_assert!(u64::from(image.width()) * u64::from(image.height()) <= limits.pixels);
        }
        let _ = codec::probe(&Input { name: "test", bytes: &bytes }, &limits);
    }

    /// Bytes that begin like an image and go on as they like.
    #[test]
    fn noise_does_no_harm(which in 0_usize..7, kept in 2_usize..40, tail in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut bytes = files().swap_remove(which).1;
        bytes.truncate(kept);
        bytes.extend(tail);
        let limits = Limits { pixels: 1 << 20, memory: 1 << 25, ..Limits::default() };
        let _ = decode(&bytes, &limits);
        let _ = codec::probe(&Input { name: "test", bytes: &bytes }, &limits);
    }
}
