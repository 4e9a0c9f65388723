//! Writing image files, as perturbations need it.

use super::{jpeg, png, webp};
use crate::error::{Error, Result};
use crate::image::Image;

/// How finely JPEG stores colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subsampling {
    /// 4:4:4: as finely as luma.
    S444,
    /// 4:2:2: half the columns.
    S422,
    /// 4:2:0: half the columns, half the rows.
    S420,
}

/// A file format with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Baseline JFIF with libjpeg's standard tables.
    Jpeg {
        /// IJG quality, 1 to 100.
        quality: u8,
        /// Chroma subsampling.
        subsampling: Subsampling,
    },
    /// Lossy WebP, libwebp's default effort.
    Webp {
        /// 0 to 100.
        quality: u8,
    },
    /// PNG, 8-bit RGB.
    Png,
}

/// The bytes of a file that holds `image`.
pub fn encode(image: &Image, encoding: &Encoding) -> Result<Vec<u8>> {
    match *encoding {
        Encoding::Jpeg { quality, .. } if !(1..=100).contains(&quality) => {
            Err(Error::argument("quality", format!("{quality} is not from 1 to 100")))
        }
        Encoding::Webp { quality } if quality > 100 => {
            Err(Error::argument("quality", format!("{quality} is not from 0 to 100")))
        }
        Encoding::Jpeg { quality, subsampling } => jpeg::encode(image, quality, subsampling),
        Encoding::Webp { quality } => webp::encode(image, quality),
        Encoding::Png => png::encode(image),
    }
}
