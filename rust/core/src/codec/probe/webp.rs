//! WebP chunks.

use super::super::{Source, webp};
use super::{Facts, Metadata, Mode};
use crate::error::Result;

pub(super) fn read(source: &Source<'_>, metadata: &mut Metadata) -> Result<Facts> {
    let features = webp::features(source)?;
    let mut facts = Facts::new(features.width as u32, features.height as u32, Mode::Rgb, 8);
    facts.alpha = features.has_alpha != 0;
    let mut frames = 0;
    let mut rest = source.bytes.get(12..).unwrap_or_default();
    while let Some((name, after)) = rest.split_first_chunk::<4>() {
        let Some((size, after)) = after.split_first_chunk::<4>() else { break };
        let size = u32::from_le_bytes(*size) as usize;
        let body = &after[..size.min(after.len())];
        match name {
            b"ANMF" => {
                frames += 1;
                // The frame's own chunks follow 16 bytes of its place and time.
                facts.lossy |= body.get(16..20) == Some(b"VP8 ") || body.get(16..20) == Some(b"ALPH");
            }
            b"VP8 " => facts.lossy = true,
            b"EXIF" => metadata.add_exif(body),
            b"XMP " => metadata.add_xmp(body),
            b"ICCP" => metadata.icc = true,
            b"C2PA" => metadata.add_manifest(body),
            _ => {}
        }
        rest = after.get(size + size % 2..).unwrap_or_default();
    }
    if features.has_animation != 0 {
        facts.frames = frames.max(1);
    }
    Ok(facts)
}
