//! The PNG that most files are (8 bits a sample, no palette, not interlaced, one picture), when nothing is wrong with
//! it: decoded in strips that stay in the second cache.
//!
//! This path only ever says yes: whatever is rare, damaged or merely odd is left to the `png` crate, whose verdict and
//! words stand. So it asks for more than that crate does: the compressed stream has to end, and with the last row.

use fdeflate::Decompressor;

use super::super::{Source, pixels};
use super::unfilter::{self, ROWS};
use crate::error::Result;
use crate::image::Image;

const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";
/// How far back deflate may refer.
const LOOKBACK: usize = 32 << 10;
/// Bytes that are inflated before their rows are undone, if the rows are short.
const STRIP: usize = 96 << 10;
/// Room after the last byte: near the end of its output the inflater is slow, and cannot say that it is done.
const SLACK: usize = 64;

/// The image if the file is plain and whole; an error only where it asks for more than the limits.
pub(super) fn decode(source: &Source<'_>) -> Result<Option<Image>> {
    let Some(file) = read(source.bytes) else { return Ok(None) };
    let wide = u64::from(file.width) * u64::from(file.height) * 8;
    source.admit(file.width, file.height, if file.channels == 3 { 0 } else { wide })?;
    // The `png` crate counts its copies of other chunks and a row: near the limit it decides.
    let row = u64::from(file.width) * 4;
    if (file.other_bytes + row).saturating_mul(4).saturating_add(1 << 12) > source.limits.memory {
        return Ok(None);
    }
    let mut rgb = Vec::new();
    rgb.try_reserve_exact(file.width as usize * file.height as usize * 3).map_err(|_| source.over_memory())?;
    match file.append_pixels(&mut rgb) {
        Some(()) => Image::from_rgb(file.width, file.height, rgb).map(Some),
        None => Ok(None),
    }
}

/// What the chunks of a plain file say.
struct File<'a> {
    width: u32,
    height: u32,
    channels: usize,
    /// The `IDAT` chunks, their checksums right.
    data: Vec<&'a [u8]>,
    /// Bytes of the chunks before them.
    other_bytes: u64,
}

struct Chunk<'a> {
    name: &'a [u8; 4],
    body: &'a [u8],
    /// Name and body: what the checksum is of.
    named: &'a [u8],
    checksum: u32,
}

impl Chunk<'_> {
    fn is_right(&self) -> bool {
        crc32fast::hash(self.named) == self.checksum
    }
}

/// The first chunk, and what follows.
fn chunk(bytes: &[u8]) -> Option<(Chunk<'_>, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (named, rest) = rest.split_at_checked((u32::from_be_bytes(*length) as usize).checked_add(4)?)?;
    let (checksum, rest) = rest.split_first_chunk::<4>()?;
    let (name, body) = named.split_first_chunk::<4>()?;
    Some((Chunk { name, body, named, checksum: u32::from_be_bytes(*checksum) }, rest))
}

fn read(bytes: &[u8]) -> Option<File<'_>> {
    let (header, mut rest) = chunk(bytes.strip_prefix(SIGNATURE)?)?;
    let (size, kind) = header.body.split_first_chunk::<8>()?;
    // Depth, colour, compression, filters, interlacing.
    let channels = match kind {
        [8, 0, 0, 0, 0] => 1,
        [8, 2, 0, 0, 0] => 3,
        [8, 4, 0, 0, 0] => 2,
        [8, 6, 0, 0, 0] => 4,
        _ => return None,
    };
    let [w0, w1, w2, w3, h0, h1, h2, h3] = *size;
    let (width, height) = (u32::from_be_bytes([w0, w1, w2, w3]), u32::from_be_bytes([h0, h1, h2, h3]));
    if header.name != b"IHDR" || !header.is_right() || width == 0 || height == 0 {
        return None;
    }
    let mut file = File { width, height, channels, data: Vec::new(), other_bytes: 0 };
    loop {
        // After the data only the name of the next chunk is asked for.
        let name = rest.get(4..8)?;
        if !file.data.is_empty() && name != b"IDAT" {
            return Some(file);
        }
        let (found, after) = chunk(rest)?;
        match found.name {
            b"IDAT" if found.is_right() => file.data.push(found.body),
            // A critical chunk, or one that makes an animation of the file.
            [first, ..] if first & 0x20 == 0 => return None,
            b"acTL" | b"fcTL" | b"fdAT" => return None,
            _ => file.other_bytes += found.body.len() as u64,
        }
        rest = after;
    }
}

impl File<'_> {
    /// Appends the pixels as RGB; none where the data are not exactly the rows, or their filters unknown.
    fn append_pixels(&self, rgb: &mut Vec<u8>) -> Option<()> {
        let size = self.width as usize * self.channels;
        let total = (size + 1).checked_mul(self.height as usize)?;
        let mut rows = Rows::new(self, total);
        let mut inflater = Box::new(Decompressor::new());
        inflater.ignore_adler32(); // the chunks' checksums have told already
        for part in &self.data {
            let mut input = *part;
            while !inflater.is_done() {
                let (read, written) = inflater.read(input, &mut rows.window, rows.filled, false).ok()?;
                input = &input[read..];
                rows.filled += written;
                rows.undo(rgb)?;
                if rows.is_full() {
                    rows.make_room()?;
                } else if input.is_empty() || read + written == 0 {
                    break;
                }
            }
        }
        (inflater.is_done() && rows.passed + rows.filled == total).then(|| rows.undo_rest(rgb))?
    }
}

/// The inflated rows that are in memory, and the last undone ones.
struct Rows {
    width: usize,
    channels: usize,
    left: usize,
    /// Inflated bytes up to `filled`; those from `start` on are not undone yet.
    window: Vec<u8>,
    start: usize,
    filled: usize,
    /// Inflated bytes that have left the window.
    passed: usize,
    /// An undone row, and the [`ROWS`] below it.
    undone: Vec<u8>,
}

impl Rows {
    fn new(file: &File<'_>, total: usize) -> Self {
        let size = file.width as usize * file.channels;
        let group = ROWS * (size + 1);
        let most = LOOKBACK.max(group) + STRIP.max(group);
        Self {
            width: file.width as usize,
            channels: file.channels,
            left: file.height as usize,
            window: vec![0; total.min(most) + SLACK],
            start: 0,
            filled: 0,
            passed: 0,
            undone: vec![0; (1 + ROWS) * size],
        }
    }

    fn stride(&self) -> usize {
        self.width * self.channels + 1
    }

    fn is_full(&self) -> bool {
        self.filled == self.window.len()
    }

    /// Undoes the rows that are there, [`ROWS`] at a time.
    fn undo(&mut self, rgb: &mut Vec<u8>) -> Option<()> {
        let group = ROWS * self.stride();
        while self.left >= ROWS && self.filled - self.start >= group {
            unfilter::undo(self.channels, &self.window[self.start..][..group], &mut self.undone, self.width)?;
            self.append(ROWS, rgb);
            self.start += group;
        }
        Some(())
    }

    /// The last rows, fewer than [`ROWS`].
    fn undo_rest(&mut self, rgb: &mut Vec<u8>) -> Option<()> {
        if self.left > 0 {
            let mut packed = self.window[self.start..self.filled].to_vec();
            packed.resize(ROWS * self.stride(), 0);
            unfilter::undo(self.channels, &packed, &mut self.undone, self.width)?;
            self.append(self.left, rgb);
        }
        Some(())
    }

    fn append(&mut self, rows: usize, rgb: &mut Vec<u8>) {
        let size = self.width * self.channels;
        let new = &self.undone[size..][..rows * size];
        match self.channels {
            1 => rgb.extend_from_slice(&pixels::rgb_from_grey(new)),
            2 => rgb.extend_from_slice(&pixels::rgb_from_grey_wider(new, 2)),
            3 => rgb.extend_from_slice(new),
            _ => rgb.extend_from_slice(&pixels::rgb_from_wider(new, 4)),
        }
        self.undone.copy_within(rows * size.., 0);
        self.left -= rows;
    }

    /// Drops what neither the inflater nor a row needs; none where there is no such thing: too many bytes were given.
    fn make_room(&mut self) -> Option<()> {
        let dropped = self.start.min(self.filled - LOOKBACK.min(self.filled));
        self.window.copy_within(dropped..self.filled, 0);
        self.start -= dropped;
        self.filled -= dropped;
        self.passed += dropped;
        (dropped > 0).then_some(())
    }
}
