//! JPEG through libjpeg-turbo: Pillow's pixels, bit for bit.

mod ffi;
pub(super) mod header;
mod region;

pub(super) use ffi::encode;

use super::{Source, pixels};
use crate::error::Result;
use crate::image::Image;
use crate::transform::resize::Region;
use header::Header;

/// Scans that a file may have; an honest one has about ten, each further one is a pass over all coefficients.
const MAX_SCANS: i32 = 500;

/// Decodes baseline and progressive files (Huffman or arithmetic), 8 bits, 1, 3 or 4 components.
pub(super) fn decode(source: &Source<'_>) -> Result<Image> {
    decode_part(source, |_, _| None)
}

/// As [`decode`], but only the pixels of the part that `part` names for a width and height need be there.
pub(super) fn decode_part(source: &Source<'_>, part: impl FnOnce(u32, u32) -> Option<Region>) -> Result<Image> {
    let header = header::read(source)?;
    supported(source, &header)?;
    let (width, height) = (header.width, header.height);
    let pixels = u64::from(width) * u64::from(height);
    let coefficients = if header.keeps_coefficients() { header.coefficient_bytes() } else { 0 };
    let four = header.components.len() == 4;
    source.admit(width, height, coefficients + if four { pixels * 4 } else { 0 })?;
    if let Some(part) = part(width, height).filter(|_| !four)
        && let Some(data) = region::decode(source, &header, part)
    {
        return Image::from_rgb(width, height, data);
    }
    let data = ffi::decode(source, &header, MAX_SCANS)?;
    Image::from_rgb(width, height, if four { rgb_from_stored_cmyk(data) } else { data })
}

/// The quantised DCT coefficients of one colour component, as a JPEG file stores them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coefficients {
    /// Columns of 8x8 blocks.
    pub blocks_x: u32,
    /// Rows of blocks.
    pub blocks_y: u32,
    /// `blocks_y * blocks_x * 64` values, block after block, each row by row: first the DC, to its right the horizontal
    /// frequencies.
    pub values: Vec<i16>,
    /// The quantisation step of each frequency, row by row: a value times its step is the DCT of the samples less 128.
    pub quantisation: [u16; 64],
    /// Horizontal and vertical sampling factors.
    pub sampling: (u8, u8),
}

/// The coefficients of every component; the same files as [`decode`].
pub(super) fn coefficients(source: &Source<'_>) -> Result<Vec<Coefficients>> {
    let header = header::read(source)?;
    supported(source, &header)?;
    // libjpeg holds them all, and the copies are as large; pixels there are none.
    source.admit_bytes(header.width, header.height, header.coefficient_bytes().saturating_mul(2))?;
    ffi::coefficients(source, &header, MAX_SCANS)
}

/// Four-component files store inverted ink (Adobe's habit), as Pillow assumes of all of them.
fn rgb_from_stored_cmyk(mut data: Vec<u8>) -> Vec<u8> {
    for value in &mut data {
        *value = 255 - *value;
    }
    pixels::rgb_from_cmyk(&data)
}

fn supported(source: &Source<'_>, header: &Header) -> Result<()> {
    match header.process {
        0xC0..=0xC2 | 0xC9 | 0xCA => {}
        0xC3 | 0xCB => return Err(source.unsupported("lossless coding")),
        _ => return Err(source.unsupported("hierarchical coding")),
    }
    if header.precision != 8 {
        return Err(source.unsupported(format!("{} bits a sample", header.precision)));
    }
    match header.components.len() {
        1 | 3 | 4 => Ok(()),
        count => Err(source.unsupported(format!("{count} components"))),
    }
}
