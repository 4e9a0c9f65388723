//! One step: its text, its canonical text, its work.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use super::{ALL, NAMED, noise};
use crate::codec::{self, Encoding, Input, Limits, Subsampling};
use crate::error::{Error, Result};
use crate::image::Image;
use crate::transform::blur::gaussian_blur;
use crate::transform::resize::{Kernel, Region, resize};

const MAX_SIDE: u32 = 65_535;
/// Side of the largest MCU of a JPEG that is encoded here.
const GRID: usize = 16;
/// As many pixels as two chroma samples are wide: upsampling reads one sample beside a pixel's own.
const MARGIN: usize = 4;
const MAX_FACTOR: f64 = 16.0;
const MAX_SIGMA: f64 = 255.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    Jpeg { quality: u8, subsampling: Subsampling, shift: u32 },
    Webp { quality: u8 },
    Png,
    Resize { factor: f64, kernel: Kernel },
    Shrink { longest: u32, kernel: Kernel },
    Fit { size: Size },
    Crop { size: Size, at: Place, align: bool },
    Blur { sigma: f64 },
    Noise { sigma: f64 },
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Size {
    width: u32,
    height: u32,
}

/// Where a crop lies: fractions of the free room. The middle is rounded down to a pixel, as a centre crop is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place {
    Middle,
    At(f64, f64),
}

/// An error about the text of a perturbation.
pub(super) fn parse_error(text: &str, detail: &str) -> Error {
    Error::argument("perturbation", format!("`{text}` {detail}"))
}

impl Step {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut words = text.split(':').map(str::trim);
        let name = words.next().unwrap_or_default();
        let Some(about) = ALL.iter().find(|about| about.name == name) else {
            let names: Vec<_> = ALL.iter().chain(NAMED).map(|about| about.name).collect();
            return Err(parse_error(text, &format!("is no step; the steps are {}", names.join(", "))));
        };
        let mut words = Words { words: words.collect(), next: 0 };
        let step = Self::from_words(name, &mut words);
        step.filter(|_| words.next == words.words.len())
            .ok_or_else(|| parse_error(text, &format!("does not follow {}", about.grammar)))
    }

    fn from_words(name: &str, words: &mut Words<'_>) -> Option<Self> {
        let kernel = |words: &mut Words<'_>| words.option(Kernel::from_name).unwrap_or(Kernel::Bicubic);
        Some(match name {
            "jpeg" => Self::Jpeg {
                quality: words.number(1..=100)?,
                subsampling: words.option(subsampling_from_text).unwrap_or(Subsampling::S420),
                shift: words
                    .option(|word| word.strip_prefix("shift=")?.parse().ok().filter(|shift| *shift < 8))
                    .unwrap_or(0),
            },
            "webp" => Self::Webp { quality: words.number(0..=100)? },
            "png" => Self::Png,
            "resize" => Self::Resize { factor: words.positive(MAX_FACTOR)?, kernel: kernel(words) },
            "shrink" => Self::Shrink { longest: words.number(1..=MAX_SIDE)?, kernel: kernel(words) },
            "fit" => Self::Fit { size: words.next(Size::from_sides)? },
            "crop" => Self::Crop { size: words.next(Size::from_text)?, at: Place::Middle, align: words.align() },
            "cropat" => Self::Crop {
                size: words.next(Size::from_text)?,
                at: Place::At(words.fraction()?, words.fraction()?),
                align: words.align(),
            },
            "blur" => Self::Blur { sigma: words.positive(MAX_SIGMA)? },
            "noise" => Self::Noise { sigma: words.positive(MAX_SIGMA)? },
            _ => return None,
        })
    }

    /// The file format that the step leaves the image in, if it is an encoder.
    pub(super) fn encoding(&self) -> Option<Encoding> {
        match *self {
            Self::Jpeg { quality, subsampling, .. } => Some(Encoding::Jpeg { quality, subsampling }),
            Self::Webp { quality } => Some(Encoding::Webp { quality }),
            Self::Png => Some(Encoding::Png),
            _ => None,
        }
    }

    /// What an encoder gets to encode: a JPEG's grid shift is a crop before it.
    pub(super) fn prepare<'a>(&self, image: Cow<'a, Image>) -> Result<Cow<'a, Image>> {
        match *self {
            Self::Jpeg { shift, .. } if shift > 0 => {
                let (left, top) = (shift.min(image.width() - 1), shift.min(image.height() - 1));
                let size = Size { width: image.width() - left, height: image.height() - top };
                cut(&image, left, top, size).map(Cow::Owned)
            }
            _ => Ok(image),
        }
    }

    /// Does the step; an image that it leaves alone is handed on, and none is copied that is only read.
    pub(super) fn apply<'a>(&self, image: Cow<'a, Image>, seed: u64) -> Result<Cow<'a, Image>> {
        let made = match *self {
            Self::Jpeg { .. } | Self::Webp { .. } => {
                let image = self.prepare(image)?;
                self.through_codec(&image)
            }
            Self::Png => return Ok(image),
            Self::Resize { factor, kernel } => {
                let size = scaled(&image, factor);
                resize(&image, size.width, size.height, kernel)
            }
            Self::Shrink { longest, kernel } => return shrink(image, longest, kernel),
            Self::Fit { size } => return fit(image, size),
            Self::Crop { size, at, align } => return crop(image, size, at, align),
            Self::Blur { sigma } => gaussian_blur(&image, sigma),
            Self::Noise { sigma } => noise::add(image.into_owned(), sigma, seed),
        };
        made.map(Cow::Owned)
    }

    /// The part of an image of `width` × `height` that the step reads to make `part` of its own result, which lies at the
    /// same place; `None` where that may be all of it, or elsewhere.
    pub(super) fn part_read(&self, width: u32, height: u32, part: Region) -> Option<Region> {
        let widened = |range: Range<usize>, side: u32| {
            let end = (range.end + MARGIN).next_multiple_of(GRID).min(side as usize);
            range.start.saturating_sub(MARGIN) / GRID * GRID..end
        };
        match *self {
            Self::Png => Some(part),
            Self::Jpeg { shift: 0, .. } => {
                let (columns, rows) = (widened(part.columns(), width), widened(part.rows(), height));
                Some(Region { left: columns.start, top: rows.start, width: columns.len(), height: rows.len() })
            }
            _ => None,
        }
    }

    /// Does a step that has a [`Step::part_read`], on that part of `image` alone.
    pub(super) fn apply_part(&self, image: Image, read: Region) -> Result<Image> {
        if *self == Self::Png {
            return Ok(image);
        }
        let (width, height) = (image.width(), image.height());
        let size = Size { width: read.width as u32, height: read.height as u32 };
        let made = self.through_codec(&cut(&image, read.left as u32, read.top as u32, size)?)?;
        let mut data = image.into_data();
        let rows = data.chunks_exact_mut(width as usize * 3).skip(read.top);
        for (row, made) in rows.zip(made.data().chunks_exact(read.width * 3)) {
            row[read.left * 3..][..made.len()].copy_from_slice(made);
        }
        Image::from_rgb(width, height, data)
    }

    fn through_codec(&self, image: &Image) -> Result<Image> {
        let bytes = codec::encode(image, &self.encoding().unwrap_or(Encoding::Png))?;
        // The image was admitted when it came in; its own encoding is no stranger.
        let limits = Limits { bytes: u64::MAX, pixels: u64::MAX, memory: u64::MAX };
        codec::decode(&Input { name: "perturbed image", bytes: &bytes }, &limits, false)
    }
}

/// Sides after scaling by `scale`, rounded (halves to even, as Python rounds), at least 1.
fn scaled(image: &Image, scale: f64) -> Size {
    let side = |side: u32| ((f64::from(side) * scale).round_ties_even() as u32).max(1);
    Size { width: side(image.width()), height: side(image.height()) }
}

fn shrink(image: Cow<'_, Image>, longest: u32, kernel: Kernel) -> Result<Cow<'_, Image>> {
    let long = image.width().max(image.height());
    if long <= longest {
        return Ok(image);
    }
    let size = scaled(&image, f64::from(longest) / f64::from(long));
    resize(&image, size.width, size.height, kernel).map(Cow::Owned)
}

fn fit(image: Cow<'_, Image>, size: Size) -> Result<Cow<'_, Image>> {
    let ratio = |want: u32, have: u32| f64::from(want) / f64::from(have);
    let scale = ratio(size.width, image.width()).max(ratio(size.height, image.height()));
    let image = if scale > 1.0 {
        let new = scaled(&image, scale);
        Cow::Owned(resize(&image, new.width.max(size.width), new.height.max(size.height), Kernel::Bicubic)?)
    } else {
        image
    };
    crop(image, size, Place::Middle, false)
}

fn crop(image: Cow<'_, Image>, size: Size, at: Place, align: bool) -> Result<Cow<'_, Image>> {
    let size = Size { width: size.width.min(image.width()), height: size.height.min(image.height()) };
    let room = (image.width() - size.width, image.height() - size.height);
    if room == (0, 0) {
        return Ok(image);
    }
    let (left, top) = match at {
        Place::Middle => (room.0 / 2, room.1 / 2),
        Place::At(x, y) => ((f64::from(room.0) * x).round() as u32, (f64::from(room.1) * y).round() as u32),
    };
    let (left, top) = if align { (left & !7, top & !7) } else { (left, top) };
    cut(&image, left, top, size).map(Cow::Owned)
}

fn cut(image: &Image, left: u32, top: u32, size: Size) -> Result<Image> {
    let stride = image.width() as usize * 3;
    let (from, len) = (left as usize * 3, size.width as usize * 3);
    let rows = image.data().chunks_exact(stride).skip(top as usize).take(size.height as usize);
    let mut data = Vec::with_capacity(len * size.height as usize);
    rows.for_each(|row| data.extend_from_slice(&row[from..from + len]));
    Image::from_rgb(size.width, size.height, data)
}

fn subsampling_from_text(word: &str) -> Option<Subsampling> {
    match word {
        "444" => Some(Subsampling::S444),
        "422" => Some(Subsampling::S422),
        "420" => Some(Subsampling::S420),
        _ => None,
    }
}

impl Size {
    /// `256` or `320x200`.
    fn from_text(word: &str) -> Option<Self> {
        word.parse().ok().and_then(|side| Self::new(side, side)).or_else(|| Self::from_sides(word))
    }

    fn from_sides(word: &str) -> Option<Self> {
        let (width, height) = word.split_once('x')?;
        Self::new(width.parse().ok()?, height.parse().ok()?)
    }

    fn new(width: u32, height: u32) -> Option<Self> {
        let fits = |side| (1..=MAX_SIDE).contains(&side);
        (fits(width) && fits(height)).then_some(Self { width, height })
    }
}

/// The words after a step's name; an optional word is taken only if it is understood.
struct Words<'a> {
    words: Vec<&'a str>,
    next: usize,
}

impl<'a> Words<'a> {
    fn next<T>(&mut self, read: impl FnOnce(&'a str) -> Option<T>) -> Option<T> {
        let value = self.words.get(self.next).copied().and_then(read)?;
        self.next += 1;
        Some(value)
    }

    fn option<T>(&mut self, read: impl FnOnce(&'a str) -> Option<T>) -> Option<T> {
        self.next(read)
    }

    fn number<T: FromStr + PartialOrd>(&mut self, range: std::ops::RangeInclusive<T>) -> Option<T> {
        self.next(|word| word.parse().ok().filter(|value| range.contains(value)))
    }

    /// A number above 0, up to `max`.
    fn positive(&mut self, max: f64) -> Option<f64> {
        self.next(|word| word.parse().ok().filter(|value: &f64| *value > 0.0 && *value <= max))
    }

    fn fraction(&mut self) -> Option<f64> {
        self.number(0.0..=1.0)
    }

    fn align(&mut self) -> bool {
        self.option(|word| (word == "align8").then_some(())).is_some()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.width == self.height {
            write!(f, "{}", self.width)
        } else {
            write!(f, "{}x{}", self.width, self.height)
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_kernel = |f: &mut fmt::Formatter<'_>, kernel: Kernel| match kernel {
            Kernel::Bicubic => Ok(()),
            kernel => write!(f, ":{}", kernel.name()),
        };
        match *self {
            Self::Jpeg { quality, subsampling, shift } => {
                write!(f, "jpeg:{quality}")?;
                match subsampling {
                    Subsampling::S420 => {}
                    Subsampling::S422 => f.write_str(":422")?,
                    Subsampling::S444 => f.write_str(":444")?,
                }
                if shift > 0 { write!(f, ":shift={shift}") } else { Ok(()) }
            }
            Self::Webp { quality } => write!(f, "webp:{quality}"),
            Self::Png => f.write_str("png"),
            Self::Resize { factor, kernel } => {
                write!(f, "resize:{factor:?}")?;
                with_kernel(f, kernel)
            }
            Self::Shrink { longest, kernel } => {
                write!(f, "shrink:{longest}")?;
                with_kernel(f, kernel)
            }
            Self::Fit { size } => write!(f, "fit:{}x{}", size.width, size.height),
            Self::Crop { size, at, align } => {
                match at {
                    Place::Middle => write!(f, "crop:{size}")?,
                    Place::At(x, y) => write!(f, "cropat:{size}:{x:?}:{y:?}")?,
                }
                f.write_str(if align { ":align8" } else { "" })
            }
            Self::Blur { sigma } => write!(f, "blur:{sigma:?}"),
            Self::Noise { sigma } => write!(f, "noise:{sigma:?}"),
        }
    }
}
