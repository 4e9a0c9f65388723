//! What the metadata blocks of all formats amount to.

use super::super::Orientation;
use super::super::exif::{self, Exif};

/// A text that a container carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// The keyword of a PNG text, `comment` for JPEG and GIF.
    pub key: String,
    /// The text, cut at 4 kB.
    pub value: String,
    /// Bytes of the whole text as stored (compressed where it is).
    pub bytes: u64,
}

/// Gathered while a container is walked.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // independent facts, not states
pub(super) struct Metadata {
    pub(super) exif: bool,
    pub(super) make: Option<String>,
    pub(super) model: Option<String>,
    pub(super) software: Option<String>,
    pub(super) orientation: Option<Orientation>,
    pub(super) icc: bool,
    pub(super) xmp: bool,
    pub(super) c2pa: bool,
    pub(super) ai_source_type: bool,
    pub(super) generation_parameters: bool,
    pub(super) texts: Vec<Text>,
}

/// Bytes of a text that are kept.
pub(super) const TEXT_KEPT: usize = 4096;
const MOST_TEXTS: usize = 64;

/// Keywords under which generators write what they were asked for.
const GENERATOR_KEYS: [&str; 12] = [
    "parameters",
    "prompt",
    "workflow",
    "dream",
    "sd-metadata",
    "sd:mode",
    "invokeai_metadata",
    "invokeai_graph",
    "generation_data",
    "generation_time",
    "negative_prompt",
    "imaginairy",
];

/// What a text says that a generator wrote.
const GENERATOR_MARKS: [&str; 14] = [
    "stable diffusion",
    "stable-diffusion",
    "sampler:",
    "cfg scale:",
    "negative prompt:",
    "novelai",
    "comfyui",
    "midjourney",
    "invokeai",
    "imaginairy",
    "dall-e",
    "dall·e",
    "job id:",
    "firefly",
];

impl Metadata {
    /// An EXIF block, with or without `Exif\0\0` before it.
    pub(super) fn add_exif(&mut self, block: &[u8]) {
        self.exif = true;
        if let Some(exif) = exif::parse(block.strip_prefix(b"Exif\0\0").unwrap_or(block)) {
            self.add_directory(&exif);
        }
    }

    /// The facts of a directory.
    pub(super) fn add_directory(&mut self, exif: &Exif<'_>) {
        for text in [&exif.user_comment, &exif.description, &exif.software].into_iter().flatten() {
            self.generation_parameters |= is_by_generator("", text);
        }
        self.make = self.make.take().or_else(|| exif.make.clone());
        self.model = self.model.take().or_else(|| exif.model.clone());
        self.software = self.software.take().or_else(|| exif.software.clone());
        self.orientation = self.orientation.or(exif.orientation);
        self.icc |= exif.icc;
        self.c2pa |= exif.c2pa;
        if let Some(xmp) = exif.xmp {
            self.add_xmp(xmp);
        }
    }

    /// An XMP packet, or a part of one.
    pub(super) fn add_xmp(&mut self, packet: &[u8]) {
        self.xmp = true;
        self.ai_source_type |= names_ai_source(packet);
    }

    /// A C2PA manifest store.
    pub(super) fn add_manifest(&mut self, manifest: &[u8]) {
        self.c2pa = true;
        self.ai_source_type |= names_ai_source(manifest);
    }

    /// A text of `bytes` bytes as stored, of which `value` was read.
    pub(super) fn add_text(&mut self, key: &str, value: &[u8], bytes: usize) {
        let value = String::from_utf8_lossy(&value[..value.len().min(TEXT_KEPT)]).into_owned();
        self.generation_parameters |= is_by_generator(key, &value);
        if key.eq_ignore_ascii_case("software") && self.software.is_none() {
            self.software = exif::clean(value.as_bytes());
        }
        if self.texts.len() < MOST_TEXTS {
            self.texts.push(Text { key: key.to_owned(), value, bytes: bytes as u64 });
        }
    }
}

fn is_by_generator(key: &str, value: &str) -> bool {
    let value = value.to_lowercase();
    GENERATOR_KEYS.iter().any(|known| key.eq_ignore_ascii_case(known))
        || GENERATOR_MARKS.iter().any(|mark| value.contains(mark))
}

/// `trainedAlgorithmicMedia` and `compositeWithTrainedAlgorithmicMedia`.
fn names_ai_source(packet: &[u8]) -> bool {
    const NAME: &[u8] = b"rainedAlgorithmicMedia";
    packet.windows(NAME.len()).any(|window| window == NAME)
}
