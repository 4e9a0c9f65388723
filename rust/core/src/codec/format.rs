//! Which format bytes are in.

use crate::error::{Error, Result};

/// A format that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// JPEG: baseline and progressive.
    Jpeg,
    /// PNG and APNG.
    Png,
    /// WebP: lossy, lossless, animated.
    Webp,
    /// GIF.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF.
    Tiff,
}

impl Format {
    /// Its name, as records have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Webp => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
        }
    }
}

/// The format that the first bytes tell.
pub(super) fn of(name: &str, bytes: &[u8]) -> Result<Format> {
    let starts = |magic: &[u8]| bytes.starts_with(magic);
    if starts(b"\xFF\xD8\xFF") {
        Ok(Format::Jpeg)
    } else if starts(b"\x89PNG\r\n\x1A\n") {
        Ok(Format::Png)
    } else if starts(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Ok(Format::Webp)
    } else if starts(b"GIF87a") || starts(b"GIF89a") {
        Ok(Format::Gif)
    } else if starts(b"BM") {
        Ok(Format::Bmp)
    } else if starts(b"II*\0") || starts(b"MM\0*") || starts(b"II+\0") || starts(b"MM\0+") {
        Ok(Format::Tiff)
    } else if let Some(format) = recognised(bytes) {
        Err(Error::Unsupported { input: name.into(), format, what: "its own codec".to_owned() })
    } else {
        Err(Error::NotAnImage { input: name.into() })
    }
}

/// Formats that have a name here and no decoder.
fn recognised(bytes: &[u8]) -> Option<&'static str> {
    if bytes.starts_with(b"\xFF\x0A") || bytes.starts_with(b"\0\0\0\x0CJXL \r\n\x87\n") {
        return Some("JPEG XL");
    }
    if bytes.starts_with(b"\0\0\0\x0CjP  \r\n\x87\n") || bytes.starts_with(b"\xFF\x4F\xFF\x51") {
        return Some("JPEG 2000");
    }
    if bytes.get(4..8) != Some(b"ftyp") {
        return None;
    }
    let box_end = u32::from_be_bytes(bytes[..4].try_into().ok()?) as usize;
    let brands = bytes.get(8..box_end.clamp(12, 128).min(bytes.len()))?;
    // The major brand decides; `mif1` and `msf1` leave it to the compatible ones.
    brands.chunks_exact(4).find_map(|brand| match brand {
        b"avif" | b"avis" => Some("AVIF"),
        b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"hevx" => Some("HEIC"),
        _ => None,
    })
}
