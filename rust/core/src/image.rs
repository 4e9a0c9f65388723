//! Decoded pixels, and the planes that features share.

use std::cell::OnceCell;

use crate::error::{Error, Result};

/// An owned RGB image: height × width × 3, 8 bits, row after row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    width: u32,
    height: u32,
    data: Vec<u8>,
}

impl Image {
    /// Takes `data` (`height * width * 3` bytes) as an image.
    pub fn from_rgb(width: u32, height: u32, data: Vec<u8>) -> Result<Self> {
        let expected = width as usize * height as usize * 3;
        if width == 0 || height == 0 || data.len() != expected {
            return Err(Error::argument(
                "data",
                format!("{} bytes do not make a {width}x{height} RGB image ({expected} bytes)", data.len()),
            ));
        }
        Ok(Self { width, height, data })
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The samples, R G B R G B …, row after row.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Gives the samples away.
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }
}

/// One channel of 32-bit floats, row after row.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `height * width` values.
    pub data: Vec<f32>,
}

impl Plane {
    /// Row `y`.
    pub fn row(&self, y: usize) -> &[f32] {
        &self.data[y * self.width..(y + 1) * self.width]
    }
}

/// What the features of one image share: each plane is made once, when it is first asked for.
pub struct Planes<'a> {
    image: &'a Image,
    channels: [OnceCell<Plane>; 3],
    luma: OnceCell<Plane>,
}

impl<'a> Planes<'a> {
    /// The planes of `image`; nothing is computed yet.
    pub fn new(image: &'a Image) -> Self {
        Self { image, channels: Default::default(), luma: OnceCell::new() }
    }

    /// The image itself.
    pub fn image(&self) -> &'a Image {
        self.image
    }

    /// Channel `c` (0 red, 1 green, 2 blue), 0 to 255.
    pub fn channel(&self, c: usize) -> &Plane {
        self.channels[c].get_or_init(|| self.map_pixels(|pixel| f32::from(pixel[c])))
    }

    /// BT.601 luma of the stored samples, 0.299 R + 0.587 G + 0.114 B, not rounded, 0 to 255.
    pub fn luma(&self) -> &Plane {
        self.luma.get_or_init(|| {
            self.map_pixels(|p| 0.299 * f32::from(p[0]) + 0.587 * f32::from(p[1]) + 0.114 * f32::from(p[2]))
        })
    }

    fn map_pixels(&self, value: impl Fn(&[u8]) -> f32) -> Plane {
        Plane {
            width: self.image.width as usize,
            height: self.image.height as usize,
            data: self.image.data.chunks_exact(3).map(value).collect(),
        }
    }
}
