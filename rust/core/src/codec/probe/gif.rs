//! GIF blocks.

use super::super::{Source, gif};
use super::{Facts, Metadata, Mode};
use crate::error::Result;

pub(super) fn read(source: &Source<'_>, metadata: &mut Metadata) -> Result<Facts> {
    let (width, height) = gif::canvas(source)?;
    let flags = source.bytes.get(10).copied().unwrap_or(0);
    let mut facts = Facts::new(width, height, Mode::Palette, (flags & 7) + 1);
    let mut blocks = Blocks { bytes: source.bytes, at: 13 + table_size(flags) };
    let mut frames = 0;
    while blocks.read(&mut facts, &mut frames, metadata).is_some() {}
    facts.frames = frames.max(1);
    Ok(facts)
}

fn table_size(flags: u8) -> usize {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

struct Blocks<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Blocks<'a> {
    /// Reads one block; none at the trailer or where the data end.
    fn read(&mut self, facts: &mut Facts, frames: &mut u32, metadata: &mut Metadata) -> Option<()> {
        let kind = *self.bytes.get(self.at)?;
        match kind {
            0x2C => {
                let flags = *self.bytes.get(self.at + 9)?;
                // The first frame stands for the image.
                if *frames == 0 {
                    facts.progressive = flags & 0x40 != 0;
                }
                *frames += 1;
                self.at += 11 + table_size(flags);
                while !self.sub_block()?.is_empty() {}
            }
            0x21 => {
                let label = *self.bytes.get(self.at + 1)?;
                self.at += 2;
                self.extension(label, facts, metadata)?;
            }
            _ => return None,
        }
        Some(())
    }

    fn extension(&mut self, label: u8, facts: &mut Facts, metadata: &mut Metadata) -> Option<()> {
        let first = self.sub_block()?;
        let start = self.at;
        match label {
            0xF9 => facts.alpha |= first.first().is_some_and(|flags| flags & 1 != 0),
            0xFE => metadata.add_text("comment", first, first.len()),
            _ => {}
        }
        let mut more = first;
        while !more.is_empty() {
            more = self.sub_block()?;
        }
        // Of an application's blocks, XMP is stored plainly and needs no joining.
        let content = self.bytes.get(start..self.at)?;
        match first {
            b"XMP DataXMP" => metadata.add_xmp(content),
            b"ICCRGBG1012" => metadata.icc = true,
            [b'C', b'2', b'P', b'A', ..] => metadata.add_manifest(content),
            _ => {}
        }
        Some(())
    }

    fn sub_block(&mut self) -> Option<&'a [u8]> {
        let size = usize::from(*self.bytes.get(self.at)?);
        let body = self.bytes.get(self.at + 1..self.at + 1 + size)?;
        self.at += 1 + size;
        Some(body)
    }
}
