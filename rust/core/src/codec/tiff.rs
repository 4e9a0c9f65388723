//! TIFF through the `tiff` crate: the first image of the file.

use std::io::{Cursor, ErrorKind};

use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::{PhotometricInterpretation, Tag};
use tiff::{ColorType, TiffError};

use super::{Source, pixels};
use crate::error::{Error, Result};
use crate::image::Image;

type Tiff<'a> = Decoder<Cursor<&'a [u8]>>;

/// Decodes grey, RGB, palette and CMYK images of 1 to 16 bits a sample; alpha is dropped.
pub(super) fn decode(source: &Source<'_>) -> Result<Image> {
    let fail = |error: TiffError| failure(source, &error);
    let mut decoder = open(source)?;
    let (width, height) = decoder.dimensions().map_err(fail)?;
    let color = decoder.colortype().map_err(fail)?;
    let sample = u64::from(color.bit_depth()).div_ceil(8).max(1);
    let samples = u64::from(width).saturating_mul(u64::from(height)).saturating_mul(u64::from(color.num_samples()));
    source.admit(width, height, samples.saturating_mul(sample).saturating_mul(2))?;

    let count = usize::from(color.num_samples());
    let mut data = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut data).map_err(fail)?;
    if layout.planes > 1 {
        return Err(source.unsupported("separate planes"));
    }
    let pixels = width as usize * height as usize;
    let samples = match data {
        DecodingResult::U8(bytes) => unpack(source, bytes, color, width as usize, count)?,
        DecodingResult::U16(values) => values.iter().map(|value| (value >> 8) as u8).collect(),
        _ => return Err(source.unsupported("samples that are not 1 to 16 bit integers")),
    };
    if samples.len() != pixels * count {
        return Err(source.corrupt("its samples do not fill the image"));
    }
    let rgb = match color {
        ColorType::Gray(_) => pixels::rgb_from_grey(&samples),
        ColorType::GrayA(_) => pixels::rgb_from_grey_wider(&samples, 2),
        ColorType::RGB(_) => samples,
        ColorType::RGBA(_) => pixels::rgb_from_wider(&samples, 4),
        ColorType::CMYK(_) => pixels::rgb_from_cmyk(&samples),
        ColorType::Palette(_) => pixels::rgb_from_palette(&samples, &palette(source, &mut decoder)?),
        ColorType::Multiband { num_samples, .. } if num_samples > 3 && is_rgb(&mut decoder) => {
            pixels::rgb_from_wider(&samples, count)
        }
        other => return Err(source.unsupported(format!("{other:?} colour"))),
    };
    Image::from_rgb(width, height, rgb)
}

/// A decoder at the first image, under the limits.
pub(super) fn open<'a>(source: &Source<'a>) -> Result<Tiff<'a>> {
    let memory = usize::try_from(source.limits.memory).unwrap_or(usize::MAX);
    let mut limits = Limits::default();
    limits.decoding_buffer_size = memory;
    limits.intermediate_buffer_size = memory;
    limits.ifd_value_size = (64 << 20).min(memory);
    let decoder = Decoder::new(Cursor::new(source.bytes)).map_err(|error| failure(source, &error))?;
    Ok(decoder.with_limits(limits))
}

fn is_rgb(decoder: &mut Tiff<'_>) -> bool {
    let rgb = PhotometricInterpretation::RGB.to_u16();
    matches!(decoder.find_tag_unsigned::<u16>(Tag::PhotometricInterpretation), Ok(Some(value)) if value == rgb)
}

/// Samples of less than a byte, rows padded to whole bytes, to one byte each: grey is stretched to 0…255, an index not.
fn unpack(source: &Source<'_>, bytes: Vec<u8>, color: ColorType, width: usize, count: usize) -> Result<Vec<u8>> {
    let bits = usize::from(color.bit_depth());
    let scale = match (bits, color) {
        (8, _) => return Ok(bytes),
        (1 | 2 | 4, ColorType::Palette(_)) => 1,
        (1 | 2 | 4, _) => 255 / ((1 << bits) - 1),
        _ => return Err(source.unsupported(format!("{bits} bits a sample"))),
    };
    let row = width * count;
    let mask = ((1 << bits) - 1) as u8;
    let value = |bytes: &[u8], k: usize| (bytes[k * bits / 8] >> (8 - bits - k * bits % 8)) & mask;
    let rows = bytes.chunks_exact((row * bits).div_ceil(8));
    Ok(rows.flat_map(|bytes| (0..row).map(move |k| value(bytes, k) * scale)).collect())
}

/// The colour map: 16-bit reds, then greens, then blues.
fn palette(source: &Source<'_>, decoder: &mut Tiff<'_>) -> Result<Vec<[u8; 3]>> {
    let map = decoder.get_tag_u16_vec(Tag::ColorMap).map_err(|error| failure(source, &error))?;
    let size = map.len() / 3;
    Ok((0..size).map(|k| [k, size + k, 2 * size + k].map(|at| (map[at] >> 8) as u8)).collect())
}

pub(super) fn failure(source: &Source<'_>, error: &TiffError) -> Error {
    match error {
        TiffError::IoError(io) if io.kind() == ErrorKind::UnexpectedEof => source.truncated(error),
        TiffError::LimitsExceeded | TiffError::IntSizeError => source.over_memory(),
        TiffError::UnsupportedError(what) => source.unsupported(what),
        _ => source.corrupt(error),
    }
}
