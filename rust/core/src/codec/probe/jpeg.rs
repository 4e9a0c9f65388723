//! JPEG segments.

use super::super::jpeg::header::{self, Component, Header};
use super::super::{Source, quality};
use super::{Facts, JpegFacts, Metadata, Mode};
use crate::error::Result;

pub(super) fn read(source: &Source<'_>, metadata: &mut Metadata) -> Result<Facts> {
    let header = header::read(source)?;
    let (mut jfif, mut adobe) = (false, false);
    for &(marker, body) in &header.segments {
        match marker {
            0xE0 => jfif |= body.starts_with(b"JFIF\0"),
            0xE1 => read_app1(body, metadata),
            0xE2 => metadata.icc |= body.starts_with(b"ICC_PROFILE\0"),
            0xEB => read_jumbf(body, metadata),
            0xEE => adobe |= body.starts_with(b"Adobe"),
            0xFE => metadata.add_text("comment", body, body.len()),
            _ => {}
        }
    }
    let mode = match header.components.len() {
        1 => Mode::Grey,
        3 => Mode::Rgb,
        4 => Mode::Cmyk,
        _ => Mode::Other,
    };
    let table = |k: usize| {
        let component = header.components.get(k)?;
        header.tables.get(usize::from(component.table))?.as_ref()
    };
    let estimate = table(0).map(|luma| quality::estimate(luma, table(1)));
    Ok(Facts {
        progressive: header.is_progressive(),
        lossy: true,
        jpeg: Some(JpegFacts {
            subsampling: subsampling(&header),
            quantisation: header.tables.iter().flatten().copied().collect(),
            quality: estimate.map(|(quality, _)| quality),
            quality_exact: estimate.is_some_and(|(_, exact)| exact),
            jfif,
            adobe,
            arithmetic: header.process >= 0xC9,
        }),
        ..Facts::new(header.width, header.height, mode, header.precision)
    })
}

fn read_app1(body: &[u8], metadata: &mut Metadata) {
    const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
    const EXTENDED_XMP: &[u8] = b"http://ns.adobe.com/xmp/extension/\0";
    if body.starts_with(b"Exif\0\0") {
        metadata.add_exif(body);
    } else if let Some(packet) = body.strip_prefix(XMP).or_else(|| body.strip_prefix(EXTENDED_XMP)) {
        metadata.add_xmp(packet);
    }
}

/// JPEG XT boxes (`JP`): a C2PA manifest store is a JUMBF superbox that is labelled `c2pa`. A store over 64 kB goes on
/// in further segments, which repeat the first one's box header.
fn read_jumbf(body: &[u8], metadata: &mut Metadata) {
    let Some(boxes) = body.strip_prefix(b"JP") else { return };
    let labelled = boxes.get(10..14) == Some(b"jumb") && boxes.windows(4).take(128).any(|window| window == b"c2pa");
    if labelled || metadata.c2pa {
        metadata.add_manifest(boxes);
    }
}

fn subsampling(header: &Header<'_>) -> Option<String> {
    let factors = |c: &Component| (c.horizontal, c.vertical);
    let (luma, rest) = header.components.split_first()?;
    let ((h, v), chroma) = (factors(luma), factors(rest.first()?));
    // Of four components the last is black, as fine as the first.
    let even = rest.iter().take(2).all(|c| factors(c) == chroma) && h % chroma.0 == 0 && v % chroma.1 == 0;
    let name = match (h / chroma.0, v / chroma.1) {
        (1, 1) => "4:4:4",
        (2, 1) => "4:2:2",
        (2, 2) => "4:2:0",
        (1, 2) => "4:4:0",
        (4, 1) => "4:1:1",
        (4, 2) => "4:1:0",
        _ => "",
    };
    Some(if even && !name.is_empty() {
        name.to_owned()
    } else {
        let all = header.components.iter().map(|c| format!("{}x{}", c.horizontal, c.vertical));
        all.collect::<Vec<_>>().join(",")
    })
}
