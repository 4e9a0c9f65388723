//! The eight orientations of EXIF.

use crate::image::Image;

/// EXIF tag 0x0112: how stored pixels are to be turned to be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Orientation(u8);

impl Orientation {
    /// As stored: the value 1.
    pub const STORED: Self = Self(1);

    /// The tag's value, 1 to 8; others are none.
    pub fn from_exif(value: u32) -> Option<Self> {
        (1..=8).contains(&value).then_some(Self(value as u8))
    }

    /// The tag's value, 1 to 8.
    pub fn value(self) -> u8 {
        self.0
    }
}

/// The image as it is to be seen.
pub(super) fn apply(image: Image, orientation: Option<Orientation>) -> Image {
    let value = orientation.map_or(1, Orientation::value);
    if value <= 1 {
        return image;
    }
    let (w, h) = (image.width() as usize, image.height() as usize);
    let (out_w, out_h) = if value >= 5 { (h, w) } else { (w, h) };
    let from = image.data();
    let mut to = Vec::with_capacity(from.len());
    for y in 0..out_h {
        for x in 0..out_w {
            let (sx, sy) = match value {
                2 => (w - 1 - x, y),
                3 => (w - 1 - x, h - 1 - y),
                4 => (x, h - 1 - y),
                5 => (y, x),
                6 => (y, h - 1 - x),
                7 => (w - 1 - y, h - 1 - x),
                _ => (w - 1 - y, x),
            };
            let at = (sy * w + sx) * 3;
            to.extend_from_slice(&from[at..at + 3]);
        }
    }
    Image::from_rgb(out_w as u32, out_h as u32, to).unwrap_or(image)
}
