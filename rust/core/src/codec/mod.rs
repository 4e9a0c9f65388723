//! Reading and writing image files: bytes in, an [`Image`] or the [`Probe`] of its container out.
//!
//! The bytes decide the format, never the name. Every decoder ends in 8-bit RGB, by the rules of `docs/formats.md`:
//! alpha is dropped, 16 bits keep their high byte, grey and palettes are expanded, CMYK is converted as Pillow does,
//! and of an animation the first frame is taken. JPEG, PNG and WebP give Pillow's pixels bit for bit.
//!
//! [`Limits`] are checked against the header before anything of the image's size is allocated. Data that are missing
//! or contradictory are an error that says so: no picture is ever completed with grey.

mod bmp;
mod encode;
mod exif;
mod format;
mod gif;
mod jpeg;
mod orient;
mod pixels;
mod png;
mod probe;
mod quality;
mod tiff;
mod webp;

use std::fmt::Display;
use std::io::{ErrorKind, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use encode::{Encoding, Subsampling, encode};
pub use format::Format;
pub use jpeg::Coefficients;
pub use orient::Orientation;
pub use probe::{JpegFacts, Mode, Probe, Text};

use crate::error::{Error, Result};
use crate::image::Image;
use crate::transform::resize::Region;

/// The bytes of an image file, and what errors call them.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// A path, or a label such as `bytes`.
    pub name: &'a str,
    /// The file's content.
    pub bytes: &'a [u8],
}

/// What an input may ask for at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the file. Default 1 GiB.
    pub bytes: u64,
    /// Pixels: width × height. Default 178 956 970, where Pillow refuses a decompression bomb.
    pub pixels: u64,
    /// Bytes of memory that decoding takes, the pixels and the decoder's own buffers. Default 4 GiB.
    pub memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 1 << 30, pixels: 178_956_970, memory: 4 << 30 }
    }
}

/// Decodes the pixels as they are stored; with `orient`, turned as EXIF says that they are to be seen.
pub fn decode(input: &Input<'_>, limits: &Limits, orient: bool) -> Result<Image> {
    let source = Source::open(input, limits)?;
    let image = guarded(&source, || match source.format {
        Format::Jpeg => jpeg::decode(&source),
        Format::Png => png::decode(&source),
        Format::Webp => webp::decode(&source),
        Format::Gif => gif::decode(&source),
        Format::Bmp => bmp::decode(&source),
        Format::Tiff => tiff::decode(&source),
    })?;
    Ok(if orient { orient::apply(image, probe::orientation(&source)) } else { image })
}

/// As [`decode`], for one who reads no pixel but those of the part that `part` names for the (width, height) of the image:
/// the others may be zeros, if that is faster. `None` stands for all. What is no image, or cut, is the same error; other
/// damage to a JPEG file below the part is not seen.
pub fn decode_part(input: &Input<'_>, limits: &Limits, part: impl FnOnce(u32, u32) -> Option<Region>) -> Result<Image> {
    let source = Source::open(input, limits)?;
    match source.format {
        Format::Jpeg => guarded(&source, || jpeg::decode_part(&source, part)),
        _ => decode(input, limits, false),
    }
}

/// Reads the quantised DCT coefficients of a JPEG file, one [`Coefficients`] a colour component; no pixel is decoded.
pub fn coefficients(input: &Input<'_>, limits: &Limits) -> Result<Vec<Coefficients>> {
    let source = Source::open(input, limits)?;
    match source.format {
        Format::Jpeg => guarded(&source, || jpeg::coefficients(&source)),
        _ => Err(source.unsupported("DCT coefficients")),
    }
}

/// Reads the container's facts; no pixel is decoded. Metadata that are broken are left out, not an error.
pub fn probe(input: &Input<'_>, limits: &Limits) -> Result<Probe> {
    let source = Source::open(input, limits)?;
    guarded(&source, || probe::probe(&source))
}

/// Reads a file that holds no more than `limits.bytes`.
pub fn read_file(path: &str, limits: &Limits) -> Result<Vec<u8>> {
    let fail = |error: &std::io::Error| Error::io(path, error);
    // The kind is asked before opening: to open a FIFO would wait for its writer.
    let about = std::fs::metadata(path).map_err(|error| fail(&error))?;
    if !about.is_file() {
        let (kind, what) = if about.is_dir() {
            (ErrorKind::IsADirectory, "is a folder, not a file")
        } else {
            (ErrorKind::InvalidInput, "is not a regular file")
        };
        return Err(Error::Io { input: path.into(), message: what.to_owned(), kind });
    }
    limit(path, "bytes", about.len(), limits.bytes)?;
    let file = std::fs::File::open(path).map_err(|error| fail(&error))?;
    let mut bytes = Vec::with_capacity(about.len() as usize);
    // One byte more than allowed tells a file that has grown since.
    file.take(limits.bytes.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| fail(&error))?;
    limit(path, "bytes", bytes.len() as u64, limits.bytes)?;
    Ok(bytes)
}

/// How this library was built: what a record of results should say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Cargo's profile family: `release` or `debug`.
    pub profile: &'static str,
    /// Whether libjpeg-turbo has its vector code (on x86: whether nasm was there). The pixels are the same without.
    pub jpeg_simd: bool,
    /// Version of libjpeg-turbo.
    pub libjpeg_turbo: &'static str,
    /// Version of libwebp.
    pub libwebp: String,
}

/// How this library was built.
pub fn build_info() -> Build {
    Build {
        profile: env!("MLLMRISK_PROFILE"),
        jpeg_simd: env!("MLLMRISK_JPEG_SIMD") == "true",
        libjpeg_turbo: env!("MLLMRISK_LIBJPEG_TURBO"),
        libwebp: webp::version(),
    }
}

/// An input whose format is known, under its limits: what each format's code works on.
#[derive(Clone, Copy)]
struct Source<'a> {
    name: &'a str,
    bytes: &'a [u8],
    format: Format,
    limits: &'a Limits,
}

impl<'a> Source<'a> {
    fn open(input: &Input<'a>, limits: &'a Limits) -> Result<Self> {
        let Input { name, bytes } = *input;
        if bytes.is_empty() {
            return Err(Error::Empty { input: name.into() });
        }
        limit(name, "bytes", bytes.len() as u64, limits.bytes)?;
        let format = format::of(name, bytes)?;
        Ok(Self { name, bytes, format, limits })
    }

    /// Checks the size that a header states, and `extra` bytes of decoder memory beside the RGB pixels.
    fn admit(&self, width: u32, height: u32, extra: u64) -> Result<()> {
        let pixels = u64::from(width) * u64::from(height);
        self.admit_bytes(width, height, pixels.saturating_mul(3).saturating_add(extra))
    }

    /// Checks the size that a header states, and the bytes of memory that all of its decoding takes.
    fn admit_bytes(&self, width: u32, height: u32, memory: u64) -> Result<()> {
        if width == 0 || height == 0 {
            return Err(self.corrupt(format!("its size is {width}x{height}")));
        }
        let pixels = u64::from(width) * u64::from(height);
        limit(self.name, "pixels", pixels, self.limits.pixels)?;
        limit(self.name, "memory", memory, self.limits.memory)
    }

    fn corrupt(&self, detail: impl Display) -> Error {
        Error::Corrupt { input: self.name.into(), format: self.format.name(), detail: detail.to_string() }
    }

    fn truncated(&self, detail: impl Display) -> Error {
        Error::Truncated { input: self.name.into(), format: self.format.name(), detail: detail.to_string() }
    }

    fn unsupported(&self, what: impl Display) -> Error {
        Error::Unsupported { input: self.name.into(), format: self.format.name(), what: what.to_string() }
    }

    fn over_memory(&self) -> Error {
        let limit = self.limits.memory;
        Error::Limit { input: self.name.into(), what: "memory", value: limit.saturating_add(1), limit }
    }
}

fn limit(input: &str, what: &'static str, value: u64, limit: u64) -> Result<()> {
    if value > limit { Err(Error::Limit { input: input.into(), what, value, limit }) } else { Ok(()) }
}

/// Turns a panic of a third-party decoder into an error of this input: no bytes may end the process.
fn guarded<T>(source: &Source<'_>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(source.corrupt("its decoder gave up")))
}
