//! Statistics that tell a broken picture from a sound one, and a perceptual hash that finds the same picture again.
//!
//! They are no forensic features: they answer "is this a picture at all?" (blank, flat, noise, tiles, scrambled), not
//! "who made it?". They say nothing by themselves; thresholds belong to the judge `gates`. All are of pixels at their
//! stored size, and finite on every image of at least [`MIN_SIDE`] px a side.
//!
//! Luma is that of [`Planes::luma8`]: BT.601, rounded to a byte.

// Kernels are inlined by force into functions that are compiled per instruction set, and count indices in place of the
// iterators' closures.
#![allow(clippy::needless_range_loop)]

mod differences;
mod duplicates;
mod histogram;
mod phash;
mod slope;
mod small;
mod tiles;

use crate::error::{Error, Result};
use crate::features::MIN_SIDE;
use crate::image::{Image, Planes};

pub use duplicates::near_duplicates;
pub use phash::distance;

/// What a statistic is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistic {
    /// Its name.
    pub name: &'static str,
    /// Unit of its value.
    pub unit: &'static str,
    /// The formula, exactly as computed.
    pub formula: &'static str,
    /// Paper or code that it comes from.
    pub source: &'static str,
}

/// Every statistic, in the order of [`Measured::values`].
pub static STATISTICS: [Statistic; 14] = [
    Statistic { name: "mean", unit: "grey levels", formula: "mean of luma", source: "definition" },
    Statistic {
        name: "deviation",
        unit: "grey levels",
        formula: "standard deviation of luma, over all pixels",
        source: "definition",
    },
    Statistic {
        name: "entropy",
        unit: "bits",
        formula: "-Σ p log2 p over the 256 levels of luma; 0 to 8",
        source: "Shannon 1948",
    },
    Statistic {
        name: "common",
        unit: "share",
        formula: "every other pixel of every other row: those in the fullest of 32x32x32 colour bins (the upper 5 bits of R, \
                  G, B)",
        source: "after the colour histogram of Swain and Ballard, Color indexing, 1991",
    },
    Statistic { name: "dark", unit: "share", formula: "pixels with luma 0 to 4", source: "definition" },
    Statistic { name: "bright", unit: "share", formula: "pixels with luma 251 to 255", source: "definition" },
    Statistic { name: "clipped", unit: "share", formula: "samples of R, G, B that are 0 or 255", source: "definition" },
    Statistic {
        name: "laplacian",
        unit: "squared grey levels",
        formula: "variance over inner pixels of 4 x - left - right - above - below, of luma",
        source: "Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, 2000; DiffusionDB (arXiv 2210.14896) \
                 finds blurred filter output below 10",
    },
    Statistic {
        name: "neighbour",
        unit: "1",
        formula: "1 - D / 2V: D mean squared difference of neighbours in luma, both axes weighing the same, V variance of \
                  luma, at least 1/12 (1 for a constant picture); lag-1 autocorrelation, 0 for white noise",
        source: "von Neumann 1941 (ratio of successive differences)",
    },
    Statistic {
        name: "coarse",
        unit: "1",
        formula: "neighbour of the means of luma over 32x32 equal parts of the image: 0 for noise of any grain finer than \
                  that",
        source: "von Neumann 1941",
    },
    Statistic {
        name: "slope",
        unit: "1",
        formula: "b of L(r) = a + b ln r, least squares with weights 1/r over r = 2..30; L(r) = ln(mean of P + 0.01 over the \
                  ring round(64 f) = r), P mean power of luma over Hann-windowed 64x64 tiles",
        source: "Field 1987; van der Schaaf and van Hateren 1996: -1.88 ± 0.43 in 276 natural images",
    },
    Statistic {
        name: "misfit",
        unit: "ln power",
        formula: "root of the weighted mean of (L(r) - line)²: the line with the slope nearest to `slope` in [-3.6, -0.6] (4 \
                  standard deviations of natural images), its level fitted",
        source: "van der Schaaf and van Hateren 1996",
    },
    Statistic {
        name: "tiles",
        unit: "1",
        formula: "largest R(s) - max(0, min of R on the way from 0 to s) over shifts s of up to 32: R correlation of the \
                  overlap of the 64x64 means with themselves shifted by s, with one squared grey level added to both variances",
        source: "autocorrelation of textures: Lin, Wang and Yang, Extracting periodicity of a regular texture, 1997",
    },
    Statistic {
        name: "seams",
        unit: "1",
        formula: "largest over p = 8, 16, 32 of the smaller, over the two axes, of B / (I + 1): B mean squared difference of \
                  neighbours in luma across lines at multiples of p, I across all other lines",
        source: "after Wang, Bovik and Evans, Blind measurement of blocking artifacts, 2000",
    },
];

/// What is measured of one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Values in the order of [`STATISTICS`].
    pub values: [f32; STATISTICS.len()],
    /// The perceptual hash, see [`distance`].
    pub hash: u64,
}

/// Measures `image`, called `name` in errors; [`Error::TooSmall`] under [`MIN_SIDE`].
pub fn measure(name: &str, image: &Image) -> Result<Measured> {
    let (width, height) = (image.width(), image.height());
    if width.min(height) < MIN_SIDE {
        return Err(Error::TooSmall { input: name.into(), width, height, min: MIN_SIDE });
    }
    let planes = Planes::new(image);
    let luma = planes.luma8();
    let levels = histogram::levels(&luma.data);
    let moments = histogram::moments(&levels);
    let differences = differences::of(luma);
    let means = small::means(luma);
    let half = small::halved(&means);
    let line = slope::fit(planes.luma_power());
    let share = |count: u64| count as f64 / luma.data.len() as f64;
    let values = [
        moments.mean,
        moments.variance.sqrt(),
        histogram::entropy(&levels),
        histogram::commonest(planes.bytes()),
        share(levels[..5].iter().sum()),
        share(levels[251..].iter().sum()),
        histogram::clipped(image.data()) as f64 / image.data().len() as f64,
        differences.laplacian,
        differences::neighbour(differences.square, moments.variance),
        small::neighbour(&half),
        line.slope,
        line.misfit,
        tiles::peak(&means),
        differences.seams,
    ];
    Ok(Measured { values: values.map(|value| value as f32), hash: phash::hash(&half) })
}

#[cfg(test)]
mod tests;
