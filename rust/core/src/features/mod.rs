//! Forensic statistics of one image: the trait, and the table of all families.
//!
//! A family is one file and one line of [`ALL`]. It reads the shared [`Planes`] and fills its own columns. What
//! several families need is summed once: [`Planes::luma_power`], [`Planes::block_dct`], [`Planes::cross_difference`].
//!
//! Values depend on pixels alone, never on a file's name, format or metadata, and are finite on every image: each
//! logarithm and each ratio has a stated floor.

// Kernels are inlined by force into functions that are compiled per instruction set: what stays outside is compiled for
// the baseline. For the same reason they count indices in place of the iterators' closures.
#![allow(clippy::inline_always, clippy::needless_range_loop)]

mod aide;
mod autocorrelation;
mod benford;
mod bits;
mod block_dct;
mod cfa;
mod cfa_em;
mod cooccurrence;
mod cross_difference;
mod directional;
mod ela;
mod ghost;
mod glcm;
mod grid;
mod npr;
mod phase;
mod selection;
mod spectrum;
mod srm3;
mod srm30;
mod sums;
mod synthbuster;
mod ternary;
mod ternary_residual;
mod texture;

use crate::image::Planes;

pub(crate) use aide::WindowGrades;
pub use block_dct::BlockDct;
pub use cross_difference::CrossDifference;
pub use selection::{Selection, extract, select};
pub use ternary::Levels as TernaryLevels;

/// Which of the two sets a family belongs to (DESIGN 5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// Single-pass families, part of `default` and of `all`.
    Default,
    /// Costly families, part of `all` only.
    Costly,
}

impl Set {
    /// `default` or `costly`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Costly => "costly",
        }
    }
}

/// What a family is, for people and for records.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// The family's name; its columns are named `name.column`.
    pub name: &'static str,
    /// Which set it belongs to.
    pub set: Set,
    /// Unit of the values.
    pub unit: &'static str,
    /// The formula, exactly as computed.
    pub formula: &'static str,
    /// Paper (with equation) or code that it comes from.
    pub source: &'static str,
}

/// A family of forensic statistics.
pub trait Feature: Sync {
    /// Name, set, unit, formula and source.
    fn about(&self) -> About;

    /// The columns' names, without the family's own, in the order of [`Feature::compute`].
    fn columns(&self) -> Vec<String>;

    /// Fills `out`, one value per column; every value is finite, on every image of at least [`MIN_SIDE`] px.
    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]);
}

/// The smallest side, in pixels, of an image that features are computed on.
pub const MIN_SIDE: u32 = 64;

/// Every family, in the order of the feature vector: the `default` set first.
pub static ALL: &[&dyn Feature] = &[
    // default
    &block_dct::Family,
    &benford::Family,
    &spectrum::Radial,
    &spectrum::Angular,
    &autocorrelation::Family,
    &synthbuster::Period8,
    &synthbuster::Period16,
    &srm3::Family,
    &directional::Family,
    &cooccurrence::Family,
    &npr::Family,
    &texture::Family,
    &cross_difference::Family,
    &cfa::Family,
    &bits::Family,
    &grid::Family,
    // costly
    &srm30::Family,
    &ghost::Family,
    &ela::Family,
    &cfa_em::Family,
    &glcm::Family,
    &aide::Family,
    &phase::Family,
    &ternary::Family,
    &ternary_residual::Family,
];
