//! What a container says of itself, without a pixel decoded.

mod gif;
mod jpeg;
mod metadata;
mod png;
mod webp;

use ::tiff::ColorType;
use ::tiff::tags::Tag;

use super::{Format, Orientation, Source, bmp, exif, tiff};
use crate::error::Result;
use metadata::Metadata;
pub use metadata::Text;

/// How the stored pixels hold colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One channel.
    Grey,
    /// Three colours (in JPEG and lossy WebP stored as YCbCr).
    Rgb,
    /// Indices into a table of colours.
    Palette,
    /// Four inks.
    Cmyk,
    /// Something else (Lab, more bands).
    Other,
}

impl Mode {
    /// Its name, as records have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grey => "grey",
            Self::Rgb => "rgb",
            Self::Palette => "palette",
            Self::Cmyk => "cmyk",
            Self::Other => "other",
        }
    }

    fn channels(self) -> u8 {
        match self {
            Self::Grey | Self::Palette => 1,
            Self::Rgb | Self::Other => 3,
            Self::Cmyk => 4,
        }
    }
}

/// What only a JPEG file has.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent facts, not states
pub struct JpegFacts {
    /// `4:4:4`, `4:2:2`, `4:2:0`, `4:4:0`, `4:1:1`, `4:1:0`; other factors as `2x1,1x2,1x1`; none for one channel.
    pub subsampling: Option<String>,
    /// Quantisation tables by their number, 64 values each, natural (row by row) order.
    pub quantisation: Vec<[u16; 64]>,
    /// The IJG quality (1 to 100) whose standard tables are nearest.
    pub quality: Option<u8>,
    /// Whether the tables are exactly the IJG ones of that quality.
    pub quality_exact: bool,
    /// Whether there is a JFIF segment.
    pub jfif: bool,
    /// Whether there is an Adobe segment.
    pub adobe: bool,
    /// Whether its entropy coding is arithmetic.
    pub arithmetic: bool,
}

/// The facts of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent facts, not states
pub struct Probe {
    /// The format that the bytes tell.
    pub format: Format,
    /// Width in pixels, as stored.
    pub width: u32,
    /// Height in pixels, as stored.
    pub height: u32,
    /// Bytes of the file.
    pub bytes: u64,
    /// How colour is stored.
    pub mode: Mode,
    /// Stored channels, alpha too.
    pub channels: u8,
    /// Bits a channel (of a palette: bits an index).
    pub bit_depth: u8,
    /// Whether there is an alpha channel or a transparent colour.
    pub alpha: bool,
    /// Whether it is made to be seen coarse to fine: progressive JPEG, interlaced PNG or GIF.
    pub progressive: bool,
    /// Whether its coding loses detail: JPEG, VP8.
    pub lossy: bool,
    /// Frames of an animation, 1 for a still image.
    pub frames: u32,
    /// JPEG's own facts.
    pub jpeg: Option<JpegFacts>,
    /// Whether there is an EXIF block.
    pub exif: bool,
    /// The camera's maker.
    pub make: Option<String>,
    /// The camera's model.
    pub model: Option<String>,
    /// The software that EXIF or a text chunk names.
    pub software: Option<String>,
    /// EXIF orientation.
    pub orientation: Option<Orientation>,
    /// Whether there is an ICC profile.
    pub icc: bool,
    /// Whether there is an XMP packet.
    pub xmp: bool,
    /// Whether there is a C2PA manifest (its presence: it is not verified).
    pub c2pa: bool,
    /// Whether XMP or the manifest names the IPTC source type `trainedAlgorithmicMedia` (alone or composite).
    pub ai_source_type: bool,
    /// Whether some text holds a generator's parameters (prompt, workflow, sampler).
    pub generation_parameters: bool,
    /// Texts: PNG text chunks, JPEG and GIF comments; each value is cut at 4 kB, at most 64 of them.
    pub texts: Vec<Text>,
}

/// What each format's reader finds.
struct Facts {
    width: u32,
    height: u32,
    mode: Mode,
    bit_depth: u8,
    alpha: bool,
    progressive: bool,
    lossy: bool,
    frames: u32,
    jpeg: Option<JpegFacts>,
}

impl Facts {
    fn new(width: u32, height: u32, mode: Mode, bit_depth: u8) -> Self {
        let (alpha, progressive, lossy) = (false, false, false);
        Self { width, height, mode, bit_depth, alpha, progressive, lossy, frames: 1, jpeg: None }
    }
}

/// The container's facts.
pub(super) fn probe(source: &Source<'_>) -> Result<Probe> {
    let mut metadata = Metadata::default();
    let facts = match source.format {
        Format::Jpeg => jpeg::read(source, &mut metadata)?,
        Format::Png => png::read(source, &mut metadata)?,
        Format::Webp => webp::read(source, &mut metadata)?,
        Format::Gif => gif::read(source, &mut metadata)?,
        Format::Bmp => read_bmp(source)?,
        Format::Tiff => read_tiff(source, &mut metadata)?,
    };
    Ok(Probe {
        format: source.format,
        width: facts.width,
        height: facts.height,
        bytes: source.bytes.len() as u64,
        mode: facts.mode,
        // A palette's transparency lies in the palette, not in a channel.
        channels: facts.mode.channels() + u8::from(facts.alpha && facts.mode != Mode::Palette),
        bit_depth: facts.bit_depth,
        alpha: facts.alpha,
        progressive: facts.progressive,
        lossy: facts.lossy,
        frames: facts.frames,
        jpeg: facts.jpeg,
        exif: metadata.exif,
        make: metadata.make,
        model: metadata.model,
        software: metadata.software,
        orientation: metadata.orientation,
        icc: metadata.icc,
        xmp: metadata.xmp,
        c2pa: metadata.c2pa,
        ai_source_type: metadata.ai_source_type,
        generation_parameters: metadata.generation_parameters,
        texts: metadata.texts,
    })
}

/// The EXIF orientation, where the container has one.
pub(super) fn orientation(source: &Source<'_>) -> Option<Orientation> {
    probe(source).ok().and_then(|probe| probe.orientation)
}

fn read_bmp(source: &Source<'_>) -> Result<Facts> {
    let header = bmp::read(source)?;
    let mode = if header.bits <= 8 { Mode::Palette } else { Mode::Rgb };
    let depth = match header.bits {
        16 => 5,
        24 | 32 => 8,
        bits => bits as u8,
    };
    Ok(Facts::new(header.width, header.height, mode, depth))
}

fn read_tiff(source: &Source<'_>, metadata: &mut Metadata) -> Result<Facts> {
    let mut decoder = tiff::open(source)?;
    let size = decoder.dimensions().map_err(|error| tiff::failure(source, &error))?;
    if let Some(exif) = exif::parse(source.bytes) {
        // The directory is the image's own: it is no EXIF block, but says the same things.
        metadata.add_directory(&exif);
    }
    if exif::palette_flag(source.bytes).is_some() {
        let bits = decoder.find_tag_unsigned(Tag::BitsPerSample).ok().flatten().unwrap_or(1);
        return Ok(Facts::new(size.0, size.1, Mode::Palette, bits));
    }
    let color = decoder.colortype().map_err(|error| tiff::failure(source, &error))?;
    let (mode, alpha) = match color {
        ColorType::Gray(_) => (Mode::Grey, false),
        ColorType::RGB(_) | ColorType::YCbCr(_) => (Mode::Rgb, false),
        ColorType::RGBA(_) => (Mode::Rgb, true),
        ColorType::GrayA(_) | ColorType::Multiband { num_samples: 2, .. } => (Mode::Grey, true),
        ColorType::CMYK(_) => (Mode::Cmyk, false),
        ColorType::CMYKA(_) => (Mode::Cmyk, true),
        _ => (Mode::Other, false),
    };
    Ok(Facts { alpha, ..Facts::new(size.0, size.1, mode, color.bit_depth()) })
}
