//! Windows bitmaps: 1, 4, 8, 16, 24 and 32 bits, bit fields, run lengths.

use super::{Source, pixels};
use crate::error::Result;
use crate::image::Image;

/// `BITMAPFILEHEADER` and the info header.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) bits: u16,
    pub(super) compression: u32,
    top_down: bool,
    masks: [u32; 3],
    palette: Vec<[u8; 3]>,
    data: usize,
}

const RGB: u32 = 0;
const RLE8: u32 = 1;
const RLE4: u32 = 2;
const BITFIELDS: u32 = 3;
const ALPHA_BITFIELDS: u32 = 6;

/// Decodes to RGB; the fourth byte of a 32-bit pixel is dropped.
pub(super) fn decode(source: &Source<'_>) -> Result<Image> {
    let header = read(source)?;
    let (width, height) = (header.width as usize, header.height as usize);
    let indexed = header.bits <= 8;
    source.admit(header.width, header.height, if indexed { (width * height) as u64 } else { 0 })?;
    let rgb = if indexed {
        pixels::rgb_from_palette(&indices(source, &header)?, &header.palette)
    } else {
        direct(source, &header)?
    };
    Image::from_rgb(header.width, header.height, rgb)
}

/// Reads the headers.
pub(super) fn read(source: &Source<'_>) -> Result<Header> {
    let bytes = source.bytes;
    let short = || source.truncated("its header is incomplete");
    let u16_at = |at: usize| bytes.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]])).ok_or_else(short);
    let u32_at =
        |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).ok_or_else(short);
    let (data, size) = (u32_at(10)? as usize, u32_at(14)?);
    let core = size == 12;
    if !core && size < 40 {
        return Err(source.unsupported(format!("a header of {size} bytes")));
    }
    let (w, h, at) = if core {
        (i64::from(u16_at(18)?), i64::from(u16_at(20)?), 22)
    } else {
        (i64::from(u32_at(18)? as i32), i64::from(u32_at(22)? as i32), 26)
    };
    let bits = u16_at(at + 2)?;
    let compression = if core { RGB } else { u32_at(30)? };
    if w <= 0 || h == 0 {
        return Err(source.corrupt(format!("its size is {w}x{h}")));
    }
    let mut header = Header {
        width: w as u32,
        height: h.unsigned_abs() as u32,
        bits,
        compression,
        top_down: h < 0,
        masks: if bits == 16 { [0x7C00, 0x03E0, 0x001F] } else { [0x00FF_0000, 0xFF00, 0xFF] },
        palette: Vec::new(),
        data,
    };
    match (compression, bits) {
        (RGB, 1 | 2 | 4 | 8 | 16 | 24 | 32) | (RLE8, 8) | (RLE4, 4) => {}
        (BITFIELDS | ALPHA_BITFIELDS, 16 | 32) => header.masks = [u32_at(54)?, u32_at(58)?, u32_at(62)?],
        _ => return Err(source.unsupported(format!("compression {compression} at {bits} bits"))),
    }
    if bits <= 8 {
        let entry = if core { 3 } else { 4 };
        let stated = if core { 0 } else { u32_at(46)? as usize };
        let count = if stated == 0 || stated > 1 << bits { 1 << bits } else { stated };
        let from = 14 + size as usize;
        let table = bytes.get(from..(from + count * entry).min(bytes.len())).ok_or_else(short)?;
        header.palette = table.chunks_exact(entry).map(|bgr| [bgr[2], bgr[1], bgr[0]]).collect();
    }
    Ok(header)
}

impl Header {
    /// The row of the file that holds row `y` of the image.
    fn stored_row(&self, y: usize) -> usize {
        if self.top_down { y } else { self.height as usize - 1 - y }
    }

    /// The stored rows, each padded to four bytes.
    fn rows<'a>(&self, source: &Source<'a>) -> Result<(usize, &'a [u8])> {
        let used = (self.width as usize * usize::from(self.bits)).div_ceil(8);
        let stride = used.next_multiple_of(4);
        let data = source.bytes.get(self.data..).unwrap_or_default();
        // The last row's padding may be missing.
        if data.len() < stride * (self.height as usize - 1) + used {
            return Err(source.truncated(format!(
                "{} bytes of pixels of {}",
                data.len(),
                stride * self.height as usize
            )));
        }
        Ok((stride, data))
    }
}

fn indices(source: &Source<'_>, header: &Header) -> Result<Vec<u8>> {
    if header.compression != RGB {
        return run_lengths(source, header);
    }
    let (stride, data) = header.rows(source)?;
    let (width, bits) = (header.width as usize, usize::from(header.bits));
    let mask = ((1_u16 << bits) - 1) as u8;
    let mut out = Vec::with_capacity(width * header.height as usize);
    for y in 0..header.height as usize {
        let row = &data[header.stored_row(y) * stride..];
        out.extend((0..width).map(|x| (row[x * bits / 8] >> (8 - bits - x * bits % 8)) & mask));
    }
    Ok(out)
}

fn direct(source: &Source<'_>, header: &Header) -> Result<Vec<u8>> {
    let (stride, data) = header.rows(source)?;
    let width = header.width as usize;
    let size = usize::from(header.bits / 8);
    let fields = header.masks.map(Field::new);
    let mut out = Vec::with_capacity(width * header.height as usize * 3);
    for y in 0..header.height as usize {
        let row = &data[header.stored_row(y) * stride..][..width * size];
        for pixel in row.chunks_exact(size) {
            match *pixel {
                [low, high] => {
                    let value = u32::from(u16::from_le_bytes([low, high]));
                    out.extend(fields.map(|field| field.byte(value)));
                }
                [b, g, r] => out.extend([r, g, b]),
                [b, g, r, x] => {
                    let value = u32::from_le_bytes([b, g, r, x]);
                    out.extend(fields.map(|field| field.byte(value)));
                }
                _ => {}
            }
        }
    }
    Ok(out)
}

/// A colour's bits in a pixel.
#[derive(Clone, Copy)]
struct Field {
    mask: u32,
    shift: u32,
    max: u32,
}

impl Field {
    fn new(mask: u32) -> Self {
        let shift = if mask == 0 { 0 } else { mask.trailing_zeros() };
        Self { mask, shift, max: mask >> shift }
    }

    /// The field as 0…255: `255 v / max`, rounded down as in Pillow.
    fn byte(self, pixel: u32) -> u8 {
        let value = u64::from((pixel & self.mask) >> self.shift);
        (value * 255).checked_div(u64::from(self.max)).unwrap_or(0) as u8
    }
}

/// RLE4 and RLE8. Pixels that a delta or an early end skips keep index 0, as the format defines.
fn run_lengths(source: &Source<'_>, header: &Header) -> Result<Vec<u8>> {
    let short = || source.truncated("its run lengths end early");
    let (width, height) = (header.width as usize, header.height as usize);
    let nibbles = header.compression == RLE4;
    let mut out = vec![0; width * height];
    let mut data = source.bytes.get(header.data..).unwrap_or_default().iter().copied();
    let (mut x, mut y) = (0_usize, 0_usize);
    let mut put = |x: &mut usize, y: usize, index: u8| {
        if *x < width && y < height {
            out[header.stored_row(y) * width + *x] = index;
        }
        *x += 1;
    };
    let half = |byte: u8, k: usize| {
        if !nibbles {
            byte
        } else if k.is_multiple_of(2) {
            byte >> 4
        } else {
            byte & 15
        }
    };
    while y < height {
        let (count, value) = (data.next().ok_or_else(short)?, data.next().ok_or_else(short)?);
        match (count, value) {
            (0, 0) => (x, y) = (0, y + 1),
            (0, 1) => break,
            (0, 2) => {
                x += usize::from(data.next().ok_or_else(short)?);
                y += usize::from(data.next().ok_or_else(short)?);
            }
            (0, literal) => {
                let literal = usize::from(literal);
                let size = if nibbles { literal.div_ceil(2) } else { literal };
                let mut byte = 0;
                for k in 0..literal {
                    if !nibbles || k.is_multiple_of(2) {
                        byte = data.next().ok_or_else(short)?;
                    }
                    put(&mut x, y, half(byte, k));
                }
                if size % 2 == 1 {
                    data.next().ok_or_else(short)?;
                }
            }
            (run, value) => (0..usize::from(run)).for_each(|k| put(&mut x, y, half(value, k))),
        }
    }
    Ok(out)
}
