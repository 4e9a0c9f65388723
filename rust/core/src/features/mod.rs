//! Forensic statistics of one image: the trait, and the table of all families.
//!
//! A family is one file and one line of [`ALL`]. It reads the shared [`Planes`] and fills its own columns.

use crate::image::Planes;

/// Which of the two sets a family belongs to (DESIGN 5.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Set {
    /// Single-pass families, part of `default` and of `all`.
    Default,
    /// Costly families, part of `all` only.
    Costly,
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
    // costly
];
