//! What is needed of EXIF: a few tags of the first directory. Broken metadata give fewer facts, never an error.

use super::orient::Orientation;

/// Facts of an EXIF block, or of a TIFF file's first directory.
#[derive(Debug, Clone, Default)]
pub(super) struct Exif<'a> {
    pub(super) make: Option<String>,
    pub(super) model: Option<String>,
    pub(super) software: Option<String>,
    pub(super) description: Option<String>,
    pub(super) user_comment: Option<String>,
    pub(super) orientation: Option<Orientation>,
    pub(super) xmp: Option<&'a [u8]>,
    pub(super) icc: bool,
    pub(super) c2pa: bool,
}

const LONGEST_TEXT: usize = 8192;

/// Parses a TIFF structure (EXIF's, without the `Exif\0\0` before it).
pub(super) fn parse(bytes: &[u8]) -> Option<Exif<'_>> {
    let tiff = Tiff::open(bytes)?;
    let mut exif = Exif::default();
    let mut private = None;
    for entry in tiff.directory(tiff.u32(4)?) {
        match entry.tag {
            0x010E => exif.description = tiff.text(&entry),
            0x010F => exif.make = tiff.text(&entry),
            0x0110 => exif.model = tiff.text(&entry),
            0x0112 => exif.orientation = tiff.number(&entry).and_then(Orientation::from_exif),
            0x0131 => exif.software = tiff.text(&entry),
            0x02BC => exif.xmp = tiff.content(&entry),
            0x8769 => private = tiff.number(&entry),
            0x8773 => exif.icc = true,
            0xCD41 => exif.c2pa = true,
            _ => {}
        }
    }
    let private = private.map(|offset| tiff.directory(offset)).unwrap_or_default();
    exif.user_comment = private.iter().find(|entry| entry.tag == 0x9286).and_then(|entry| tiff.comment(entry));
    Some(exif)
}

/// Where a TIFF file's first directory keeps its photometric interpretation, if that is a palette.
pub(super) fn palette_flag(bytes: &[u8]) -> Option<usize> {
    let tiff = Tiff::open(bytes)?;
    let entry = tiff.directory(tiff.u32(4)?).into_iter().find(|entry| entry.tag == 0x0106)?;
    let low = entry.at + usize::from(tiff.big);
    (tiff.number(&entry) == Some(3)).then_some(low)
}

struct Tiff<'a> {
    bytes: &'a [u8],
    big: bool,
}

struct Entry {
    tag: u16,
    kind: u16,
    count: u32,
    /// Where the value, or its offset, stands.
    at: usize,
}

impl<'a> Tiff<'a> {
    /// A classic TIFF of either byte order.
    fn open(bytes: &'a [u8]) -> Option<Self> {
        match bytes.get(..4)? {
            b"MM\0*" => Some(Self { bytes, big: true }),
            b"II*\0" => Some(Self { bytes, big: false }),
            _ => None,
        }
    }

    fn u16(&self, at: usize) -> Option<u16> {
        let bytes = self.bytes.get(at..at + 2)?.try_into().ok()?;
        Some(if self.big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at + 4)?.try_into().ok()?;
        Some(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn directory(&self, offset: u32) -> Vec<Entry> {
        let start = offset as usize;
        let count = usize::from(self.u16(start).unwrap_or(0));
        let entry = |k| {
            let at = start + 2 + 12 * k;
            Some(Entry { tag: self.u16(at)?, kind: self.u16(at + 2)?, count: self.u32(at + 4)?, at: at + 8 })
        };
        (0..count).map_while(entry).collect()
    }

    fn number(&self, entry: &Entry) -> Option<u32> {
        match entry.kind {
            1 => self.bytes.get(entry.at).map(|&value| value.into()),
            3 => self.u16(entry.at).map(Into::into),
            4 | 13 => self.u32(entry.at),
            _ => None,
        }
    }

    /// The value's bytes, for types of one byte an element.
    fn content(&self, entry: &Entry) -> Option<&'a [u8]> {
        if !matches!(entry.kind, 1 | 2 | 6 | 7) {
            return None;
        }
        let size = entry.count as usize;
        let at = if size <= 4 { entry.at } else { self.u32(entry.at)? as usize };
        self.bytes.get(at..at.checked_add(size)?)
    }

    fn text(&self, entry: &Entry) -> Option<String> {
        clean(self.content(entry)?)
    }

    /// `UserComment`: eight bytes name the encoding.
    fn comment(&self, entry: &Entry) -> Option<String> {
        let (code, text) = self.content(entry)?.split_at_checked(8)?;
        if code != b"UNICODE\0" {
            return clean(text);
        }
        // Writers disagree about the byte order: a text is mostly one of high bytes that are zero.
        let text = &text[..text.len().min(LONGEST_TEXT)];
        let zeros = |from: usize| text.iter().skip(from).step_by(2).filter(|&&byte| byte == 0).count();
        let big = zeros(0) > zeros(1);
        let units = text.chunks_exact(2).map(|pair| {
            let pair = [pair[0], pair[1]];
            if big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
        });
        Some(char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect())
    }
}

/// Up to the first zero, without blanks around it; none if nothing is left.
pub(super) fn clean(bytes: &[u8]) -> Option<String> {
    let bytes = &bytes[..bytes.len().min(LONGEST_TEXT)];
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]);
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
