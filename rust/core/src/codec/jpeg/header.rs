//! The segments of a JPEG file up to its first scan.

use super::super::Source;
use crate::error::Result;

/// One colour component of the frame.
#[derive(Debug, Clone, Copy)]
pub(in crate::codec) struct Component {
    pub(in crate::codec) horizontal: u8,
    pub(in crate::codec) vertical: u8,
    pub(in crate::codec) table: u8,
}

/// The frame header and the tables and metadata segments before the first scan.
pub(in crate::codec) struct Header<'a> {
    pub(in crate::codec) width: u32,
    pub(in crate::codec) height: u32,
    pub(in crate::codec) precision: u8,
    /// The marker of the frame: 0xC0 baseline, 0xC2 progressive, ...
    pub(in crate::codec) process: u8,
    pub(in crate::codec) components: Vec<Component>,
    /// Quantisation tables in natural order, by their number.
    pub(in crate::codec) tables: [Option<[u16; 64]>; 4],
    /// `APPn` and `COM` segments: marker and content.
    pub(in crate::codec) segments: Vec<(u8, &'a [u8])>,
    /// Components of the first scan; fewer than the frame's: the file has several scans.
    first_scan: usize,
}

impl Header<'_> {
    pub(in crate::codec) fn is_progressive(&self) -> bool {
        matches!(self.process, 0xC2 | 0xCA)
    }

    /// Whether the decoder has to hold all coefficients before it makes a pixel.
    pub(super) fn keeps_coefficients(&self) -> bool {
        self.is_progressive() || self.first_scan < self.components.len()
    }

    /// Columns and rows of blocks of each component, those that only pad an MCU left out.
    pub(super) fn blocks(&self) -> Vec<(u32, u32)> {
        let max = |side: fn(&Component) -> u8| u32::from(self.components.iter().map(side).max().unwrap_or(1).max(1));
        let (h, v) = (max(|c| c.horizontal), max(|c| c.vertical));
        let count = |length: u32, of: u8, most: u32| (length * u32::from(of)).div_ceil(8 * most);
        let both = |c: &Component| (count(self.width, c.horizontal, h), count(self.height, c.vertical, v));
        self.components.iter().map(both).collect()
    }

    /// Bytes of all coefficients: 128 a block, each component padded to whole MCUs.
    pub(super) fn coefficient_bytes(&self) -> u64 {
        let max = |side: fn(&Component) -> u8| u64::from(self.components.iter().map(side).max().unwrap_or(1).max(1));
        let (h, v) = (max(|c| c.horizontal), max(|c| c.vertical));
        let mcus = u64::from(self.width).div_ceil(8 * h) * u64::from(self.height).div_ceil(8 * v);
        self.components.iter().map(|c| mcus * u64::from(c.horizontal) * u64::from(c.vertical) * 128).sum()
    }
}

/// Zigzag position → natural position.
pub(in crate::codec) const NATURAL: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];

/// Reads segments until the first scan begins.
pub(in crate::codec) fn read<'a>(source: &Source<'a>) -> Result<Header<'a>> {
    let bytes = source.bytes;
    let mut header = Header {
        width: 0,
        height: 0,
        precision: 0,
        process: 0,
        components: Vec::new(),
        tables: [None; 4],
        segments: Vec::new(),
        first_scan: 0,
    };
    let mut at = 2;
    loop {
        let Some((marker, body, next)) = segment(bytes, at) else {
            return Err(source.truncated("no scan"));
        };
        at = next;
        match marker {
            // DHT, JPG and DAC lie among the frame markers.
            0xC0..=0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF if header.process == 0 => {
                read_frame(&mut header, marker, body).ok_or_else(|| source.corrupt("its frame header is broken"))?;
            }
            0xDB => read_tables(&mut header, body),
            0xE0..=0xEF | 0xFE => header.segments.push((marker, body)),
            0xDA => break header.first_scan = body.first().map_or(0, |&count| usize::from(count)),
            0xD9 => return Err(source.corrupt("it ends before its first scan")),
            _ => {}
        }
    }
    if header.process == 0 {
        return Err(source.corrupt("no frame header"));
    }
    if header.height == 0 {
        return Err(source.unsupported("its height after the scan"));
    }
    Ok(header)
}

/// The next marker at or after `at` (bytes between segments are skipped), its content, and where it ends.
fn segment(bytes: &[u8], mut at: usize) -> Option<(u8, &[u8], usize)> {
    loop {
        at += bytes.get(at..)?.iter().position(|&byte| byte == 0xFF)?;
        let marker = *bytes.get(at + 1)?;
        match marker {
            0xFF => at += 1,
            0x00 | 0x01 | 0xD0..=0xD8 => at += 2,
            0xD9 => return Some((marker, &[], at + 2)),
            _ => {
                let size = usize::from(u16::from_be_bytes(bytes.get(at + 2..at + 4)?.try_into().ok()?));
                let end = at + 2 + size;
                return Some((marker, bytes.get(at + 4..end)?, end));
            }
        }
    }
}

fn read_frame(header: &mut Header<'_>, marker: u8, body: &[u8]) -> Option<()> {
    let (&[precision, h1, h0, w1, w0, count], rest) = body.split_first_chunk::<6>()?;
    header.precision = precision;
    header.height = u32::from(u16::from_be_bytes([h1, h0]));
    header.width = u32::from(u16::from_be_bytes([w1, w0]));
    header.process = marker;
    for component in rest.get(..usize::from(count) * 3)?.chunks_exact(3) {
        let (horizontal, vertical) = (component[1] >> 4, component[1] & 15);
        if !(1..=4).contains(&horizontal) || !(1..=4).contains(&vertical) {
            return None;
        }
        header.components.push(Component { horizontal, vertical, table: component[2] });
    }
    (header.width > 0 && count > 0).then_some(())
}

fn read_tables(header: &mut Header<'_>, mut body: &[u8]) {
    while let Some((&first, rest)) = body.split_first() {
        let wide = first >> 4 != 0;
        let size = if wide { 128 } else { 64 };
        let (Some(values), Some(slot)) = (rest.get(..size), header.tables.get_mut(usize::from(first & 15))) else {
            return;
        };
        let mut table = [0; 64];
        for (k, &natural) in NATURAL.iter().enumerate() {
            table[usize::from(natural)] =
                if wide { u16::from_be_bytes([values[2 * k], values[2 * k + 1]]) } else { u16::from(values[k]) };
        }
        *slot = Some(table);
        body = &rest[size..];
    }
}
