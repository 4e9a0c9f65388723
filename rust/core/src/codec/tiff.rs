//! TIFF through the `tiff` crate: the first image of the file.

use std::io::{Cursor, ErrorKind};

use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::{PhotometricInterpretation, Tag};
use tiff::{ColorType, TiffError};

use super::{Source, exif, pixels};
use crate::error::{Error, Result};
use crate::image::Image;

type Tiff<'a> = Decoder<Cursor<&'a [u8]>>;

/// Decodes grey, RGB, palette and CMYK images of 1 to 16 bits a sample; alpha is dropped.
pub(super) fn decode(source: &Source<'_>) -> Result<Image> {
    // The crate reads no palettes. Called grey, the same samples are indices.
    match exif::palette_flag(source.bytes) {
        Some(flag) => {
            let mut bytes = source.bytes.to_vec();
            bytes[flag] = PhotometricInterpretation::BlackIsZero.to_u16() as u8;
            decode_samples(&Source { bytes: &bytes, ..*source }, true)
        }
        None => decode_samples(source, false),
    }
}

fn decode_samples(source: &Source<'_>, is_palette: bool) -> Result<Image> {
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
    let row = width as usize * count;
    let samples = match data {
        DecodingResult::U8(bytes) => unpack(source, bytes, color, row, is_palette)?,
        DecodingResult::U16(values) => values.iter().map(|value| (value >> 8) as u8).collect(),
        _ => return Err(source.unsupported("samples that are not 1 to 16 bit integers")),
    };
    if samples.len() != row * height as usize {
        return Err(source.corrupt("its samples do not fill the image"));
    }
    let rgb = match color {
        ColorType::Gray(_) if is_palette => pixels::rgb_from_palette(&samples, &palette(source, &mut decoder)?),
        ColorType::Gray(_) => pixels::rgb_from_grey(&samples),
        ColorType::GrayA(_) => pixels::rgb_from_grey_wider(&samples, 2),
        ColorType::RGB(_) => samples,
        ColorType::RGBA(_) => pixels::rgb_from_wider(&samples, 4),
        ColorType::CMYK(_) => pixels::rgb_from_cmyk(&samples),
        // More channels than the photometric interpretation names: alpha, or what nobody defined.
        ColorType::Multiband { .. } => match photometric(&mut decoder) {
            Some(PhotometricInterpretation::RGB) if count > 3 => pixels::rgb_from_wider(&samples, count),
            Some(PhotometricInterpretation::BlackIsZero) => pixels::rgb_from_grey_wider(&samples, count),
            _ => return Err(source.unsupported(format!("{count} channels"))),
        },
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

fn photometric(decoder: &mut Tiff<'_>) -> Option<PhotometricInterpretation> {
    let value = decoder.find_tag_unsigned::<u16>(Tag::PhotometricInterpretation).ok().flatten()?;
    PhotometricInterpretation::from_u16(value)
}

/// Samples of less than a byte, rows padded to whole bytes, to one byte each: grey is stretched to 0…255, an index not.
fn unpack(source: &Source<'_>, bytes: Vec<u8>, color: ColorType, row: usize, is_palette: bool) -> Result<Vec<u8>> {
    let bits = usize::from(color.bit_depth());
    let scale = match (bits, is_palette) {
        (8, _) => return Ok(bytes),
        (1 | 2 | 4, true) => 1,
        (1 | 2 | 4, false) => 255 / ((1 << bits) - 1),
        _ => return Err(source.unsupported(format!("{bits} bits a sample"))),
    };
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
