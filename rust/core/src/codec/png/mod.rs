//! PNG: plain files on a path of our own, all others and every error through the `png` crate.

// Its vectors are those of x86-64; elsewhere the `png` crate decodes all files.
#[cfg(target_arch = "x86_64")]
mod plain;
#[cfg(target_arch = "x86_64")]
mod unfilter;

use std::io::Cursor;

use png::{BitDepth, ColorType, DecodingError, Limits, Transformations};

use super::{Source, pixels};
use crate::error::{Error, Result};
use crate::image::Image;

/// Decodes the default image (of an APNG too): palettes and low bit depths expanded, 16 bits by their high byte, alpha
/// dropped.
pub(super) fn decode(source: &Source<'_>) -> Result<Image> {
    #[cfg(target_arch = "x86_64")]
    if let Some(image) = plain::decode(source)? {
        return Ok(image);
    }
    decode_any(source)
}

fn decode_any(source: &Source<'_>) -> Result<Image> {
    let fail = |error: &DecodingError| failure(source, error);
    let mut decoder = png::Decoder::new_with_limits(
        Cursor::new(source.bytes),
        Limits { bytes: usize::try_from(source.limits.memory).unwrap_or(usize::MAX) },
    );
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(|error| fail(&error))?;
    let (width, height) = (header.width, header.height);
    // Sixteen-bit RGBA, before it is narrowed, is the widest that the decoder holds.
    let wide = header.color_type != ColorType::Rgb || header.bit_depth == BitDepth::Sixteen;
    source.admit(width, height, if wide { u64::from(width) * u64::from(height) * 8 } else { 0 })?;

    // Low grey depths and palettes become bytes; `tRNS` becomes an alpha channel, to be dropped below.
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(|error| fail(&error))?;
    let size = reader.output_buffer_size().ok_or_else(|| source.over_memory())?;
    let mut data = vec![0; size];
    let frame = reader.next_frame(&mut data).map_err(|error| fail(&error))?;
    data.truncate(frame.buffer_size());
    let rgb = match frame.color_type {
        ColorType::Rgb => data,
        ColorType::Rgba => pixels::rgb_from_wider(&data, 4),
        ColorType::Grayscale => pixels::rgb_from_grey(&data),
        ColorType::GrayscaleAlpha => pixels::rgb_from_grey_wider(&data, 2),
        ColorType::Indexed => return Err(source.corrupt("its palette was not expanded")),
    };
    Image::from_rgb(width, height, rgb)
}

fn failure(source: &Source<'_>, error: &DecodingError) -> Error {
    match error {
        DecodingError::IoError(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => source.truncated(error),
        DecodingError::LimitsExceeded => source.over_memory(),
        _ => source.corrupt(error),
    }
}

/// A PNG file of the image, compressed quickly.
pub(super) fn encode(image: &Image) -> Result<Vec<u8>> {
    let failed = |error: &png::EncodingError| Error::argument("image", format!("PNG encoder: {error}"));
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, image.width(), image.height());
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    let mut writer = encoder.write_header().map_err(|error| failed(&error))?;
    writer.write_image_data(image.data()).map_err(|error| failed(&error))?;
    writer.finish().map_err(|error| failed(&error))?;
    Ok(bytes)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use proptest::prelude::*;

    use super::super::{Input, Limits as OurLimits, Source};
    use super::{BitDepth, ColorType, decode_any, plain};

    const COLOURS: [(ColorType, usize); 4] =
        [(ColorType::Grayscale, 1), (ColorType::GrayscaleAlpha, 2), (ColorType::Rgb, 3), (ColorType::Rgba, 4)];
    const FILTERS: [png::Filter; 6] = [
        png::Filter::NoFilter,
        png::Filter::Sub,
        png::Filter::Up,
        png::Filter::Avg,
        png::Filter::Paeth,
        png::Filter::Adaptive,
    ];

    fn file(width: u32, height: u32, colour: usize, filter: usize, seed: u32) -> Vec<u8> {
        let (colour, channels) = COLOURS[colour];
        let value = |k: u32| ((k / 7).wrapping_mul(seed) >> 5).wrapping_add(k.wrapping_mul(k) % 11) as u8;
        let data: Vec<u8> = (0..width * height * channels as u32).map(value).collect();
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, width, height);
        encoder.set_color(colour);
        encoder.set_depth(BitDepth::Eight);
        encoder.set_compression(if seed.is_multiple_of(2) { png::Compression::Fast } else { png::Compression::High });
        encoder.set_filter(FILTERS[filter]);
        encoder.add_text_chunk("Comment".to_owned(), "made here".to_owned()).expect("the text is Latin");
        let mut writer = encoder.write_header().expect("memory is writable");
        writer.write_image_data(&data).expect("the data have the right size");
        writer.finish().expect("memory is writable");
        bytes
    }

    fn source<'a>(bytes: &'a [u8], limits: &'a OurLimits) -> Source<'a> {
        Source::open(&Input { name: "test", bytes }, limits).expect("the signature is left alone")
    }

    /// Splits the data over `IDAT` chunks of `size` bytes.
    fn in_pieces(bytes: &[u8], size: usize) -> Vec<u8> {
        let mut made = bytes[..8].to_vec();
        let mut rest = &bytes[8..];
        while !rest.is_empty() {
            let length = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            let (chunk, after) = rest.split_at(12 + length);
            let bodies: Vec<&[u8]> = if &chunk[4..8] == b"IDAT" {
                chunk[8..8 + length].chunks(size).collect()
            } else {
                vec![&chunk[8..8 + length]]
            };
            for body in bodies {
                let named = [&chunk[4..8], body].concat();
                made.extend((body.len() as u32).to_be_bytes());
                made.extend(&named);
                made.extend(crc32fast::hash(&named).to_be_bytes());
            }
            rest = after;
        }
        made
    }

    #[test]
    fn strips_are_joined() {
        // Wider than a strip, higher than one, and of more than one strip in pieces.
        for (width, height) in [(40_000, 3), (3, 70_000), (300, 401)] {
            for colour in 0..COLOURS.len() {
                let limits = OurLimits::default();
                let bytes = in_pieces(&file(width, height, colour, 5, 77), 1000);
                let source = source(&bytes, &limits);
                let image = plain::decode(&source).expect("within the limits").expect("the file is plain");
                assert!(image == decode_any(&source).expect("the file is whole"), "{width}x{height} {colour}");
            }
        }
    }

    #[test]
    fn rare_kinds_are_left_alone() {
        let limits = OurLimits::default();
        let mut bytes = file(9, 9, 2, 1, 3);
        bytes[28] = 1; // interlaced; its checksum is wrong then, too
        assert_eq!(plain::decode(&source(&bytes, &limits)), Ok(None));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(600))]

        #[test]
        fn both_paths_agree(
            (width, height) in (1_u32..70, 1_u32..40),
            (colour, filter) in (0..COLOURS.len(), 0..FILTERS.len()),
            (seed, piece) in (any::<u32>(), 1_usize..400),
        ) {
            let limits = OurLimits::default();
            let bytes = in_pieces(&file(width, height, colour, filter, seed), piece);
            let source = source(&bytes, &limits);
            prop_assert_eq!(plain::decode(&source), decode_any(&source).map(Some));
        }

        /// What the plain path takes, the other would have taken with the same pixels; its errors are the other's.
        #[test]
        fn damage_is_judged_alike(
            (colour, filter, seed) in (0..COLOURS.len(), 0..FILTERS.len(), any::<u32>()),
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in prop::option::of(any::<prop::sample::Index>()),
            mends in any::<bool>(),
            memory in 2_000_u64..30_000,
        ) {
            let mut bytes = file(23, 17, colour, filter, seed);
            for (at, value) in edits {
                let at = 8 + at.index(bytes.len() - 8);
                bytes[at] = value;
            }
            if mends {
                mend(&mut bytes);
            }
            if let Some(cut) = cut {
                bytes.truncate(8 + cut.index(bytes.len() - 8));
            }
            let limits = OurLimits { pixels: 1 << 20, memory, ..OurLimits::default() };
            let source = source(&bytes, &limits);
            match plain::decode(&source) {
                Ok(None) => {}
                Ok(Some(image)) => prop_assert_eq!(Ok(image), decode_any(&source)),
                Err(error) => prop_assert_eq!(Err(error), decode_any(&source)),
            }
        }
    }

    /// Makes the checksums right, so that damage reaches what lies behind them.
    fn mend(bytes: &mut [u8]) {
        let mut at = 8;
        while let Some(length) = bytes.get(at..at + 4) {
            let end = at + 8 + u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
            let Some(named) = bytes.get(at + 4..end) else { return };
            let checksum = crc32fast::hash(named).to_be_bytes();
            let Some(place) = bytes.get_mut(end..end + 4) else { return };
            place.copy_from_slice(&checksum);
            at = end + 4;
        }
    }
}
