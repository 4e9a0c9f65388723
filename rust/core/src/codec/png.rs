//! PNG through the `png` crate.

use std::io::Cursor;

use png::{BitDepth, ColorType, DecodingError, Limits, Transformations};

use super::{Source, pixels};
use crate::error::{Error, Result};
use crate::image::Image;

/// Decodes the default image (of an APNG too): palettes and low bit depths expanded, 16 bits by their high byte, alpha
/// dropped.
pub(super) fn decode(source: &Source<'_>) -> Result<Image> {
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
