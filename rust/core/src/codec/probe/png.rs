//! PNG chunks.

use std::borrow::Cow;
use std::io::Read;

use flate2::read::ZlibDecoder;

use super::super::{Source, exif};
use super::metadata::TEXT_KEPT;
use super::{Facts, Metadata, Mode};
use crate::error::Result;

/// Bytes of a compressed XMP packet that are inflated.
const XMP_READ: usize = 1 << 20;

pub(super) fn read(source: &Source<'_>, metadata: &mut Metadata) -> Result<Facts> {
    let mut chunks = Chunks { bytes: &source.bytes[8..] };
    let Some((b"IHDR", header)) = chunks.next() else {
        return Err(source.truncated("no header chunk"));
    };
    let Some(&[w0, w1, w2, w3, h0, h1, h2, h3, depth, color, _, _, interlace]) = header.first_chunk::<13>() else {
        return Err(source.corrupt("its header chunk is broken"));
    };
    let mode = match color {
        0 | 4 => Mode::Grey,
        2 | 6 => Mode::Rgb,
        3 => Mode::Palette,
        _ => return Err(source.corrupt(format!("colour type {color}"))),
    };
    let size = [[w0, w1, w2, w3], [h0, h1, h2, h3]].map(u32::from_be_bytes);
    let mut facts = Facts::new(size[0], size[1], mode, depth);
    facts.alpha = color & 4 != 0;
    facts.progressive = interlace != 0;
    for (name, body) in chunks {
        match name {
            b"tRNS" => facts.alpha = true,
            b"acTL" => {
                facts.frames = body.first_chunk().map_or(1, |count| u32::from_be_bytes(*count)).max(1);
            }
            b"eXIf" => metadata.add_exif(body),
            b"iCCP" => metadata.icc = true,
            b"caBX" => metadata.add_manifest(body),
            b"tEXt" | b"zTXt" | b"iTXt" => read_text(*name, body, metadata),
            _ => {}
        }
    }
    Ok(facts)
}

/// The chunks' names and contents, until the data or the image end.
struct Chunks<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = (&'a [u8; 4], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (size, rest) = self.bytes.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_first_chunk::<4>()?;
        let (body, rest) = rest.split_at_checked(u32::from_be_bytes(*size) as usize)?;
        self.bytes = if name == b"IEND" { &[] } else { rest.get(4..)? };
        Some((name, body))
    }
}

fn read_text(name: [u8; 4], body: &[u8], metadata: &mut Metadata) {
    let Some((key, rest)) = split_at_zero(body) else { return };
    let key = latin1(&key[..key.len().min(79)]);
    match &name {
        b"tEXt" => add(&key, latin1(&rest[..rest.len().min(TEXT_KEPT)]).as_bytes(), rest, metadata),
        b"zTXt" => {
            let Some(packed) = rest.get(1..) else { return };
            add(&key, latin1(&inflated(packed, TEXT_KEPT)).as_bytes(), packed, metadata);
        }
        _ => {
            let Some((&[packed, _], rest)) = rest.split_first_chunk::<2>() else { return };
            let Some((_, rest)) = split_at_zero(rest) else { return };
            let Some((_, stored)) = split_at_zero(rest) else { return };
            let is_xmp = key == "XML:com.adobe.xmp";
            let value = if packed == 0 {
                Cow::Borrowed(stored)
            } else {
                Cow::Owned(inflated(stored, if is_xmp { XMP_READ } else { TEXT_KEPT }))
            };
            if is_xmp { metadata.add_xmp(&value) } else { add(&key, &value, stored, metadata) }
        }
    }
}

fn add(key: &str, value: &[u8], stored: &[u8], metadata: &mut Metadata) {
    // ImageMagick's way of keeping EXIF: hexadecimal digits in a text.
    if key == "Raw profile type exif" || key == "Raw profile type APP1" {
        metadata.exif = true;
    }
    metadata.add_text(key, value, stored.len());
    if key.eq_ignore_ascii_case("make") {
        metadata.make = metadata.make.take().or_else(|| exif::clean(value));
    }
}

/// The first `most` bytes that `packed` holds: what follows is never inflated, so a bomb costs nothing.
fn inflated(packed: &[u8], most: usize) -> Vec<u8> {
    let mut out = Vec::new();
    // Data that break off give what came before.
    let _ = ZlibDecoder::new(packed).take(most as u64).read_to_end(&mut out);
    out
}

fn split_at_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let zero = bytes.iter().position(|&byte| byte == 0)?;
    Some((&bytes[..zero], &bytes[zero + 1..]))
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}
