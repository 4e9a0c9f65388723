//! Decoded pixels, and the planes that features share.

use std::cell::OnceCell;

use crate::error::{Error, Result};
use crate::transform::{colour, fft, median};

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

/// One channel, row after row: 32-bit floats unless said otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane<T = f32> {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `height * width` values.
    pub data: Vec<T>,
}

impl<T> Plane<T> {
    /// Row `y`.
    pub fn row(&self, y: usize) -> &[T] {
        &self.data[y * self.width..(y + 1) * self.width]
    }
}

/// What the features of one image share: each part is made once, when it is first asked for.
///
/// Not `Sync` on purpose: an image belongs to one thread, and a batch has one image per thread.
pub struct Planes<'a> {
    image: &'a Image,
    channels: [OnceCell<Plane>; 3],
    luma: OnceCell<Plane>,
    bytes: OnceCell<[Plane<u8>; 3]>,
    luma8: OnceCell<Plane<u8>>,
    residual: OnceCell<Plane<i16>>,
    luma_power: OnceCell<fft::Power>,
    residual_power: OnceCell<fft::Power>,
    block_dct: OnceCell<crate::features::BlockDct>,
    cross_difference: OnceCell<crate::features::CrossDifference>,
    ternary_levels: OnceCell<crate::features::TernaryLevels>,
}

impl<'a> Planes<'a> {
    /// The planes of `image`; nothing is computed yet.
    pub fn new(image: &'a Image) -> Self {
        Self {
            image,
            channels: Default::default(),
            luma: OnceCell::new(),
            bytes: OnceCell::new(),
            luma8: OnceCell::new(),
            residual: OnceCell::new(),
            luma_power: OnceCell::new(),
            residual_power: OnceCell::new(),
            block_dct: OnceCell::new(),
            cross_difference: OnceCell::new(),
            ternary_levels: OnceCell::new(),
        }
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

    /// The three channels as bytes, R, G, B.
    pub fn bytes(&self) -> &[Plane<u8>; 3] {
        self.bytes.get_or_init(|| {
            let (width, height) = self.size();
            colour::split(self.image.data()).map(|data| Plane { width, height, data })
        })
    }

    /// BT.601 luma rounded to a byte, with the integer weights of libjpeg and of Pillow's mode `L`.
    ///
    /// The `default` families start here: integers keep their sums exact, and a JPEG's own luma comes back.
    pub fn luma8(&self) -> &Plane<u8> {
        self.luma8.get_or_init(|| {
            let (width, height) = self.size();
            Plane { width, height, data: colour::luma(self.bytes()) }
        })
    }

    /// `luma8` minus its 3×3 median (edges replicated): the noise residual of the `default` families.
    pub fn residual(&self) -> &Plane<i16> {
        self.residual.get_or_init(|| median::residual(self.luma8()))
    }

    /// Mean power spectrum of `luma8` over Hann-windowed 64×64 tiles.
    pub fn luma_power(&self) -> &fft::Power {
        self.luma_power.get_or_init(|| fft::mean_power(self.luma8()))
    }

    /// Mean power spectrum of [`Planes::residual`] over Hann-windowed 64×64 tiles.
    pub fn residual_power(&self) -> &fft::Power {
        self.residual_power.get_or_init(|| fft::mean_power(self.residual()))
    }

    /// Sums over the 8×8 block DCT of `luma8`.
    pub fn block_dct(&self) -> &crate::features::BlockDct {
        self.block_dct.get_or_init(|| crate::features::BlockDct::of(self.luma8()))
    }

    /// Sums over the diagonal cross-difference of the three channels.
    pub fn cross_difference(&self) -> &crate::features::CrossDifference {
        self.cross_difference.get_or_init(|| crate::features::CrossDifference::of(self.bytes()))
    }

    /// Luma, chroma, range and excess at half and at quarter resolution.
    pub fn ternary_levels(&self) -> &crate::features::TernaryLevels {
        self.ternary_levels.get_or_init(|| crate::features::TernaryLevels::of(self.bytes()))
    }

    fn size(&self) -> (usize, usize) {
        (self.image.width as usize, self.image.height as usize)
    }

    fn map_pixels(&self, value: impl Fn(&[u8]) -> f32) -> Plane {
        let (width, height) = self.size();
        Plane { width, height, data: self.image.data.chunks_exact(3).map(value).collect() }
    }
}
