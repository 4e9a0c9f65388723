//! What happens to an image on its way to a viewer: chains of steps, written as text.
//!
//! `crop:256+jpeg:90:420` cuts the middle out, then encodes and decodes. [`ALL`] lists the steps with their grammar;
//! [`NAMED`] the chains that have a name of their own. A chain's canonical text ([`Chain`]'s `Display`) is what records
//! keep: two texts that mean the same chain have the same canonical text.
//!
//! A step with chance in it (noise) draws from the seed that is given and from its place in the chain, so that a chain
//! has one result per image and seed on every machine and thread count.

mod noise;
mod step;

use std::borrow::Cow;
use std::fmt;

use crate::codec::{self, Encoding};
use crate::error::Result;
use crate::image::Image;
use crate::transform::resize::Region;
use step::{Step, parse_error};

/// What a step or a named chain is, for people and for records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// Its name, the first word of its text.
    pub name: &'static str,
    /// Its grammar; what stands in brackets may be left out.
    pub grammar: &'static str,
    /// What it does.
    pub what: &'static str,
    /// For a named chain, the steps that it stands for.
    pub chain: Option<&'static str>,
}

const fn step(name: &'static str, grammar: &'static str, what: &'static str) -> About {
    About { name, grammar, what, chain: None }
}

const fn named(name: &'static str, chain: &'static str, what: &'static str) -> About {
    About { name, grammar: name, what, chain: Some(chain) }
}

/// The steps.
pub static ALL: &[About] = &[
    step(
        "jpeg",
        "jpeg:QUALITY[:444|422|420][:shift=0..7]",
        "encodes as baseline JPEG (libjpeg's tables; 4:2:0 unless said) and decodes; shift first drops that many columns \
         and rows, so that the new 8x8 grid is not the old one",
    ),
    step("webp", "webp:QUALITY", "encodes as lossy WebP and decodes"),
    step("png", "png", "changes no pixel; as the last step it makes the file a PNG"),
    step(
        "resize",
        "resize:FACTOR[:box|bilinear|bicubic|lanczos]",
        "scales both sides (rounded, at least 1 px), bicubic unless said, antialiased as in Pillow",
    ),
    step(
        "shrink",
        "shrink:LONGEST[:box|bilinear|bicubic|lanczos]",
        "scales down until the longer side is LONGEST px; an image that is small enough is left alone",
    ),
    step(
        "fit",
        "fit:WIDTHxHEIGHT",
        "enlarges (bicubic, ratio kept) where a side is too small, then cuts WIDTHxHEIGHT out of the middle",
    ),
    step(
        "crop",
        "crop:SIZE|WIDTHxHEIGHT[:align8]",
        "cuts the middle out; a side that is too small is kept; align8 moves the cut up and left to the 8x8 grid",
    ),
    step("cropat", "cropat:SIZE|WIDTHxHEIGHT:X:Y[:align8]", "cuts at the fractions X and Y (0 to 1) of the free room"),
    step("blur", "blur:SIGMA", "Gaussian blur, SIGMA in pixels, the border mirrored"),
    step("noise", "noise:SIGMA", "adds seeded Gaussian noise, SIGMA in grey levels, to every sample"),
];

/// The chains that have a name.
pub static NAMED: &[About] = &[
    named("native", "", "nothing: the image as it is"),
    named("recompressed", "crop:256+jpeg:90:420", "one crop and one encoder for all"),
    named(
        "social",
        "shrink:1280:bilinear+jpeg:80:420",
        "a platform's usual upload path: longest side bounded, JPEG 4:2:0; the two numbers are a stand-in, not one \
         platform's measured setting",
    ),
    named(
        "facebook",
        "shrink:2048:lanczos+jpeg:85:420",
        "Facebook as measured between 2010 and 2021: longest side 2048 px, JPEG quality 85; both vary, see \
         docs/perturbations.md",
    ),
    named(
        "signal",
        "shrink:1600:bilinear+jpeg:70:420",
        "Signal for Android at standard quality, by its source code: longest side 1600 px, JPEG quality 70",
    ),
    named(
        "signal-high",
        "shrink:4096:bilinear+jpeg:75:420",
        "Signal for Android at high quality, by its source code: longest side 4096 px, JPEG quality 75",
    ),
    named(
        "telegram",
        "shrink:1280:bilinear+jpeg:87:420",
        "Telegram Desktop in earlier releases, by its source code: longest side 1280 px, JPEG quality 87",
    ),
    named(
        "screenshot",
        "resize:0.8:bilinear+png",
        "a viewer scales the picture to its window and the screen is kept lossless; the factor is a stand-in",
    ),
];

/// A parsed chain of steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Chain {
    name: Option<&'static str>,
    steps: Vec<Step>,
}

impl Chain {
    /// Reads a chain: steps or named chains, joined by `+`.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if let Some(about) = NAMED.iter().find(|about| about.name == text) {
            return Ok(Self { name: Some(about.name), steps: expand(about)? });
        }
        if text.is_empty() {
            return Err(parse_error(text, "is empty; the chain that does nothing is `native`"));
        }
        let mut steps = Vec::new();
        for part in text.split('+').map(str::trim) {
            match NAMED.iter().find(|about| about.name == part) {
                Some(about) => steps.extend(expand(about)?),
                None => steps.push(Step::parse(part)?),
            }
        }
        // Steps that came of nothing but `native` are the empty chain.
        Ok(Self { name: steps.is_empty().then_some("native"), steps })
    }

    /// Does the steps one after the other.
    pub fn apply(&self, image: Image, seed: u64) -> Result<Image> {
        Ok(self.run(Cow::Owned(image), seed, self.steps.len())?.into_owned())
    }

    /// The part of an image of `width` × `height` that the chain reads to make `part` of its result; `None`: all of it.
    pub fn part_read(&self, width: u32, height: u32, part: Region) -> Option<Region> {
        self.steps.iter().try_rfold(part, |part, step| step.part_read(width, height, part))
    }

    /// As [`Chain::apply`], for one who reads no pixel of the result but those of `part`: the others may be any. Of
    /// `image` too, only [`Chain::part_read`] needs to be there.
    pub fn apply_part(&self, image: Image, seed: u64, part: Region) -> Result<Image> {
        let (width, height) = (image.width(), image.height());
        let reads = self.steps.iter().rev().scan(Some(part), |part, step| {
            *part = part.and_then(|part| step.part_read(width, height, part));
            Some(*part)
        });
        let Some(reads) = reads.collect::<Option<Vec<_>>>() else { return self.apply(image, seed) };
        let steps = self.steps.iter().zip(reads.into_iter().rev());
        steps.into_iter().try_fold(image, |image, (step, read)| step.apply_part(image, read))
    }

    /// The file that the chain ends in: its last encoder's bytes, or a PNG if it ends in none.
    pub fn encode(&self, image: Image, seed: u64) -> Result<Vec<u8>> {
        match self.steps.split_last() {
            Some((last, before)) if last.encoding().is_some() => {
                let image = last.prepare(self.run(Cow::Owned(image), seed, before.len())?)?;
                codec::encode(&image, &last.encoding().unwrap_or(Encoding::Png))
            }
            _ => codec::encode(&self.apply(image, seed)?, &Encoding::Png),
        }
    }

    fn run<'a>(&self, image: Cow<'a, Image>, seed: u64, count: usize) -> Result<Cow<'a, Image>> {
        let steps = self.steps.iter().take(count).enumerate();
        steps
            .map(|(place, step)| (place as u64, step))
            .try_fold(image, |image, (place, step)| step.apply(image, noise::seed_at(seed, place)))
    }
}

/// Does several chains to one image and hands each result to `visit` with the chain's index: in no fixed order, one at
/// a time, so that memory does not grow with their number. Chains that begin alike share that work. What `visit` gets
/// is what [`Chain::apply`] gives.
pub fn apply_each(chains: &[&Chain], image: &Image, seed: u64, visit: &mut dyn FnMut(usize, Result<&Image>)) {
    let every: Vec<usize> = (0..chains.len()).collect();
    branch(chains, &every, 0, image, seed, visit);
}

/// [`apply_each`] for those `members` whose first `place` steps have led to `image`.
fn branch(
    chains: &[&Chain],
    members: &[usize],
    place: usize,
    image: &Image,
    seed: u64,
    visit: &mut dyn FnMut(usize, Result<&Image>),
) {
    let step_of = |member: usize| chains[member].steps.get(place);
    let mut waiting: Vec<usize> = members.to_vec();
    while let Some(&first) = waiting.first() {
        let (alike, others): (Vec<usize>, Vec<usize>) =
            waiting.into_iter().partition(|&member| step_of(member) == step_of(first));
        waiting = others;
        let Some(step) = step_of(first) else {
            for member in alike {
                visit(member, Ok(image));
            }
            continue;
        };
        match step.apply(Cow::Borrowed(image), noise::seed_at(seed, place as u64)) {
            Ok(image) => branch(chains, &alike, place + 1, &image, seed, visit),
            Err(error) => {
                for member in alike {
                    visit(member, Err(error.clone()));
                }
            }
        }
    }
}

/// The encoding that a text of one encoder step names: `jpeg:QUALITY[:444|422|420]`, `webp:QUALITY`, `png`.
pub fn encoding_from_text(text: &str) -> Result<Encoding> {
    let chain = Chain::parse(text)?;
    match chain.steps.as_slice() {
        [Step::Jpeg { shift: 1.., .. }] => Err(parse_error(text, "shifts the image; an encoding does not")),
        [step] => step.encoding().ok_or_else(|| parse_error(text, "is no encoder: jpeg, webp or png")),
        _ => Err(parse_error(text, "is not one encoder: jpeg, webp or png")),
    }
}

fn expand(about: &About) -> Result<Vec<Step>> {
    about.chain.unwrap_or_default().split('+').filter(|part| !part.is_empty()).map(Step::parse).collect()
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name {
            return f.write_str(name);
        }
        for (k, step) in self.steps.iter().enumerate() {
            write!(f, "{}{step}", if k == 0 { "" } else { "+" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
