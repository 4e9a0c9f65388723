//! GIF through the `gif` crate: the first frame on its canvas.

use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, DecodingError, MemoryLimit};

use super::{Source, pixels};
use crate::error::{Error, Result};
use crate::image::Image;

/// Decodes the first frame. As in Pillow the canvas grows where the frame leaves it, and what the frame does not cover
/// has the transparent index, or else index 0.
pub(super) fn decode(source: &Source<'_>) -> Result<Image> {
    let fail = |error: &DecodingError| failure(source, error);
    // The canvas is refused before a decoder exists.
    let canvas = canvas(source)?;
    source.admit(canvas.0, canvas.1, u64::from(canvas.0) * u64::from(canvas.1) * 2)?;
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.allow_unknown_blocks(true);
    options.set_memory_limit(NonZeroU64::new(source.limits.memory).map_or(MemoryLimit::Unlimited, MemoryLimit::Bytes));
    let mut decoder = options.read_info(source.bytes).map_err(|error| fail(&error))?;
    let frame = decoder.next_frame_info().map_err(|error| fail(&error))?.ok_or_else(|| source.truncated("no frame"))?;
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (w, h) = (usize::from(frame.width), usize::from(frame.height));
    let (width, height) = (canvas.0.max((left + w) as u32), canvas.1.max((top + h) as u32));
    source.admit(width, height, u64::from(width) * u64::from(height) * 2)?;

    let background = frame.transparent.unwrap_or(0);
    let local = frame.palette.clone();
    let mut pixels = vec![0; w * h];
    decoder.read_into_buffer(&mut pixels).map_err(|error| fail(&error))?;
    let indices = if (width as usize, height as usize) == (w, h) {
        pixels
    } else {
        let mut canvas = vec![background; width as usize * height as usize];
        for (y, row) in pixels.chunks_exact(w.max(1)).take(h).enumerate() {
            let at = (top + y) * width as usize + left;
            canvas[at..at + w].copy_from_slice(row);
        }
        canvas
    };
    let palette = local.as_deref().or_else(|| decoder.global_palette());
    let rgb = match palette {
        Some(palette) => pixels::rgb_from_palette(&indices, palette.as_chunks::<3>().0),
        None => pixels::rgb_from_grey(&indices),
    };
    Image::from_rgb(width, height, rgb)
}

/// Width and height of the logical screen.
pub(super) fn canvas(source: &Source<'_>) -> Result<(u32, u32)> {
    match source.bytes.get(6..10) {
        Some(&[w0, w1, h0, h1]) => Ok((u16::from_le_bytes([w0, w1]).into(), u16::from_le_bytes([h0, h1]).into())),
        _ => Err(source.truncated("its header is incomplete")),
    }
}

fn failure(source: &Source<'_>, error: &DecodingError) -> Error {
    match error {
        DecodingError::UnexpectedEof => source.truncated(error),
        DecodingError::Io(io) if io.kind() == std::io::ErrorKind::UnexpectedEof => source.truncated(error),
        DecodingError::OutOfMemory | DecodingError::MemoryLimit => source.over_memory(),
        _ => source.corrupt(error),
    }
}
