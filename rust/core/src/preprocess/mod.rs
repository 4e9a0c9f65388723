//! From pixels to the input of a network, as its author's pipeline makes it: size, crop, padding, normalisation.
//!
//! An image gives one *row* (tiles: several): 3 × height × width values, or height × width × 3. A row is written where
//! it is to stay. Only the part of a resized image that the crop keeps is made.

mod normalise;
pub mod patches;
mod place;

use std::borrow::Cow;

pub use place::Rounding;

use crate::codec::Limits;
use crate::error::{Error, Result};
use crate::image::Image;
use crate::transform::interpolate::{Interpolation, interpolate};
use crate::transform::resize::{Kernel, Region, part_read, resize_part};
use normalise::Affine;
use place::{Axis, place, place_at, tile_starts};

/// What is kept of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crop {
    /// All of it, resized whatever its proportions.
    Squash,
    /// The short side is resized to `to`, proportions kept (the long side rounds down); then as [`Crop::Centre`].
    Short {
        /// In pixels.
        to: u32,
    },
    /// The centre; a smaller image is padded. As torchvision's `CenterCrop`.
    Centre,
    /// As albumentations' `PadIfNeeded` and `CenterCrop`: an odd remainder is always halved downwards.
    Pad,
    /// All of it, as large as it fits inside with its proportions (sides round half to even); the rest is padded.
    Longest,
    /// Every tile at `stride`, row by row; the last of a row or column is moved back inside. A smaller image is padded.
    Tiles {
        /// In pixels.
        stride: u32,
    },
    /// All of it as it is.
    Full,
}

/// What stands where an image does not reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// A grey level, before normalisation.
    Constant(u8),
    /// The image mirrored at its outermost pixels, again and again: `reflect` of `NumPy`, `BORDER_REFLECT_101` of `OpenCV`.
    Reflect,
}

/// How pixels are made where the size changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resampling {
    /// Pillow's, bit for bit.
    Antialiased(Kernel),
    /// Between neighbours alone.
    Plain(Interpolation),
}

impl Resampling {
    /// The one of that name: with `antialias` Pillow's, else that of `OpenCV` and torch.
    pub fn parse(name: &str, antialias: bool) -> Result<Self> {
        match (name, antialias) {
            ("nearest", true) => Ok(Self::Plain(Interpolation::NearestCentre)),
            ("nearest", false) => Ok(Self::Plain(Interpolation::NearestCorner)),
            ("bilinear", false) => Ok(Self::Plain(Interpolation::Bilinear)),
            ("bicubic", false) => Ok(Self::Plain(Interpolation::Bicubic)),
            (_, true) => Kernel::parse(name).map(Self::Antialiased),
            (_, false) => Err(Error::argument(
                "interpolation",
                format!("`{name}` without antialiasing is none of nearest, bilinear, bicubic"),
            )),
        }
    }

    fn part(self, image: &Image, width: u32, height: u32, part: Region) -> Result<Image> {
        match self {
            Self::Antialiased(kernel) => resize_part(image, width, height, part, kernel),
            Self::Plain(how) => interpolate(image, width, height, part, how),
        }
    }
}

/// How an image becomes rows of a network's input.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessing {
    /// What is kept.
    pub crop: Crop,
    /// (height, width) of a row; not read by [`Crop::Full`].
    pub size: (u32, u32),
    /// How sizes change.
    pub resampling: Resampling,
    /// How an odd remainder of a centre crop is halved.
    pub rounding: Rounding,
    /// What stands outside the image.
    pub padding: Padding,
    /// Whether blue comes first.
    pub bgr: bool,
    /// Whether the channels of a pixel stand side by side (NHWC), and not each in a plane of its own (NCHW).
    pub interleaved: bool,
    /// A sample becomes (sample · scale - mean) / std.
    pub scale: f32,
    /// In the order of the channels of a row.
    pub mean: [f32; 3],
    /// In the order of the channels of a row.
    pub std: [f32; 3],
    /// A side below it is refused.
    pub minimum: u32,
}

/// Where one image is cut, and whether it is turned over.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct View {
    /// Fractions, 0 to 1 (without 1), of the free rows and columns that lie before the crop; `None`: its usual place.
    pub at: Option<[f64; 2]>,
    /// Whether left and right change places.
    pub mirrored: bool,
}

impl Preprocessing {
    /// Refuses what no image could be made into.
    pub fn check(&self, limits: &Limits) -> Result<()> {
        let (height, width) = self.size;
        let pixels = u64::from(height) * u64::from(width);
        if self.crop != Crop::Full && (pixels == 0 || pixels > limits.pixels) {
            return Err(Error::argument("size", format!("{height}x{width} is no size of an input")));
        }
        match self.crop {
            Crop::Short { to: 0 } => Err(Error::argument("resize", "must be at least 1")),
            Crop::Tiles { stride: 0 } => Err(Error::argument("stride", "must be at least 1")),
            _ if self.std.contains(&0.0) => Err(Error::argument("std", "must not be 0")),
            _ => Ok(()),
        }
    }

    /// How many values every image gives; `None` where that depends on its size.
    pub fn length(&self) -> Option<usize> {
        match self.crop {
            Crop::Tiles { .. } | Crop::Full => None,
            _ => Some(3 * self.size.0 as usize * self.size.1 as usize),
        }
    }

    /// Writes the one row of `image`, which `name` names in errors, to `out`.
    ///
    /// `out` has as many values as [`Preprocessing::length`] says; of a mode that gives several rows, those that fit.
    pub fn write(&self, name: &str, image: &Image, view: View, out: &mut [f32]) -> Result<()> {
        self.accept(name, image)?;
        let (height, width) = (image.height(), image.width());
        let (to_height, to_width) = self.resized(height, width);
        let (down, across) = self.axes(to_height, to_width, view);
        let mirrored = view.mirrored;
        if (to_height, to_width) == (height, width) {
            self.normalise(image, &down, &across, mirrored, out);
            return Ok(());
        }
        let resized = self.resampling.part(image, to_width, to_height, kept(&down, &across))?;
        self.normalise(&resized, &Axis { from: 0, ..down }, &Axis { from: 0, ..across }, mirrored, out);
        Ok(())
    }

    /// The part of an image of `width` × `height` that [`Preprocessing::write`] reads, where that is worth a decoder's
    /// knowing; `None`: all of it.
    pub fn part(&self, width: u32, height: u32, view: View) -> Option<Region> {
        let (to_height, to_width) = self.resized(height, width);
        let (down, across) = self.axes(to_height, to_width, view);
        let part = match self.resampling {
            _ if self.length().is_none() || to_height == 0 || to_width == 0 => return None,
            _ if (to_height, to_width) == (height, width) => kept(&down, &across),
            Resampling::Antialiased(kernel) => {
                part_read(width, height, (to_width, to_height), kept(&down, &across), kernel)
            }
            Resampling::Plain(_) => return None,
        };
        let pixels = width as usize * height as usize;
        (part.width * part.height < pixels / 10 * 9).then_some(part)
    }

    fn axes(&self, height: u32, width: u32, view: View) -> (Axis, Axis) {
        let (height, width) = (height as usize, width as usize);
        let size = (self.size.0 as usize, self.size.1 as usize);
        match view.at {
            Some([down, across]) => (place_at(height, size.0, down), place_at(width, size.1, across)),
            None => (place(height, size.0, self.halving()), place(width, size.1, self.halving())),
        }
    }

    /// The rows of `image`, of any mode, and the (height, width) of each.
    pub fn rows(&self, name: &str, image: &Image, limits: &Limits) -> Result<(Vec<f32>, (usize, usize))> {
        let (height, width) = (image.height() as usize, image.width() as usize);
        let (size, stride) = match self.crop {
            Crop::Full => ((height, width), 1),
            Crop::Tiles { stride } => ((self.size.0 as usize, self.size.1 as usize), stride as usize),
            _ => {
                let size = (self.size.0 as usize, self.size.1 as usize);
                let mut row = vec![0.0; 3 * size.0 * size.1];
                self.write(name, image, View::default(), &mut row)?;
                return Ok((row, size));
            }
        };
        self.accept(name, image)?;
        let tops = tile_starts(height, size.0, stride);
        let lefts = tile_starts(width, size.1, stride);
        let length = 3 * size.0 * size.1;
        let bytes = (tops.len() as u64 * lefts.len() as u64).saturating_mul(4 * length as u64);
        if bytes > limits.memory {
            let input = name.into();
            return Err(Error::Limit { input, what: "memory", value: bytes, limit: limits.memory });
        }
        let mut values = vec![0.0; tops.len() * lefts.len() * length];
        let places = tops.iter().flat_map(|&top| lefts.iter().map(move |&left| (top, left)));
        for (out, (top, left)) in values.chunks_exact_mut(length).zip(places) {
            let down = Axis { from: top, ..place(height, size.0, Rounding::Down) };
            let across = Axis { from: left, ..place(width, size.1, Rounding::Down) };
            self.normalise(image, &down, &across, false, out);
        }
        Ok((values, size))
    }

    fn accept(&self, name: &str, image: &Image) -> Result<()> {
        let (width, height) = (image.width(), image.height());
        if width.min(height) < self.minimum {
            return Err(Error::TooSmall { input: name.into(), width, height, min: self.minimum });
        }
        Ok(())
    }

    /// (height, width) before the crop.
    fn resized(&self, height: u32, width: u32) -> (u32, u32) {
        let (tall, wide) = self.size;
        match self.crop {
            Crop::Squash => self.size,
            Crop::Short { to } => {
                let short = u64::from(height.min(width));
                // No side of an image comes near 2^32 pixels, but its product with a size may.
                let side = |side: u32| (u64::from(to) * u64::from(side) / short).min(u64::from(u32::MAX)) as u32;
                (side(height), side(width))
            }
            Crop::Longest => {
                let ratio = (f64::from(tall) / f64::from(height)).min(f64::from(wide) / f64::from(width));
                let side = |side: u32, most: u32| ((f64::from(side) * ratio).round_ties_even() as u32).clamp(1, most);
                (side(height, tall), side(width, wide))
            }
            Crop::Centre | Crop::Pad | Crop::Tiles { .. } | Crop::Full => (height, width),
        }
    }

    fn halving(&self) -> Rounding {
        if self.crop == Crop::Pad { Rounding::Down } else { self.rounding }
    }

    /// Writes what `down` and `across` keep of `image`, padded, turned over if `mirrored`, and normalised.
    fn normalise(&self, image: &Image, down: &Axis, across: &Axis, mirrored: bool, out: &mut [f32]) {
        let affine = Affine { scale: self.scale, mean: self.mean, std: self.std };
        let stride = image.width() as usize * 3;
        let pad = match self.padding {
            Padding::Constant(level) => vec![level; across.size * 3],
            Padding::Reflect => Vec::new(),
        };
        for y in 0..down.size {
            let mut row = match (down.source(y), self.padding) {
                (None, Padding::Constant(_)) => Cow::Borrowed(pad.as_slice()),
                (from, padding) => {
                    let y = from.unwrap_or_else(|| down.mirrored(y));
                    across.row(&image.data()[y * stride..][..stride], padding)
                }
            };
            if mirrored {
                row = row.as_chunks::<3>().0.iter().rev().flatten().copied().collect();
            }
            if self.interleaved {
                let out = &mut out[y * across.size * 3..][..across.size * 3];
                normalise::interleaved(&row, out, &affine, self.bgr);
            } else {
                let plane = out.len() / 3;
                let mut planes = out.chunks_exact_mut(plane).map(|plane| &mut plane[y * across.size..][..across.size]);
                if let (Some(a), Some(b), Some(c)) = (planes.next(), planes.next(), planes.next()) {
                    normalise::planar(&row, [a, b, c], &affine, self.bgr);
                }
            }
        }
    }
}

/// What two axes keep.
fn kept(down: &Axis, across: &Axis) -> Region {
    Region { left: across.from, top: down.from, width: across.kept, height: down.kept }
}

#[cfg(test)]
mod tests;
