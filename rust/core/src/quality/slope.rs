//! The radial spectrum as a power law.

use std::sync::LazyLock;

use crate::transform::fft::{Power, SIDE};

/// Rings that are fitted: the window blurs the first one, and the last ones are where decoders cut.
const RINGS: std::ops::RangeInclusive<usize> = 2..=30;

/// Added to power before logarithms, in squared grey levels: an eighth of what rounding to integers adds.
const FLOOR: f64 = 0.01;

/// Slopes of natural images: -1.88 ± 4 × 0.43 (van der Schaaf and van Hateren 1996), rounded.
const NATURAL: (f64, f64) = (-3.6, -0.6);

/// The fitted line.
pub(super) struct Line {
    /// Its slope, ln power per ln frequency.
    pub(super) slope: f64,
    /// Distance of the spectrum from the nearest natural line, root mean square in ln power.
    pub(super) misfit: f64,
}

/// Fits ln power to ln frequency.
pub(super) fn fit(power: &Power) -> Line {
    static RING: LazyLock<Vec<usize>> = LazyLock::new(|| {
        let signed = |k: usize| if k < SIDE / 2 { k as f64 } else { k as f64 - SIDE as f64 };
        (0..SIDE * SIDE).map(|k| signed(k / SIDE).hypot(signed(k % SIDE)).round() as usize).collect()
    });
    let mut sums = [(0.0, 0.0); SIDE];
    for (&p, &ring) in power.iter().zip(RING.iter()) {
        sums[ring].0 += p;
        sums[ring].1 += 1.0;
    }
    let points: Vec<Point> = RINGS
        .map(|r| Point { x: (r as f64).ln(), y: (sums[r].0 / sums[r].1 + FLOOR).ln(), weight: 1.0 / r as f64 })
        .collect();
    let total: f64 = points.iter().map(|p| p.weight).sum();
    let mean = |value: &dyn Fn(&Point) -> f64| points.iter().map(|p| p.weight * value(p)).sum::<f64>() / total;
    let (x, y) = (mean(&|p| p.x), mean(&|p| p.y));
    let slope = mean(&|p| (p.x - x) * (p.y - y)) / mean(&|p| (p.x - x).powi(2));
    let natural = slope.clamp(NATURAL.0, NATURAL.1);
    let misfit = mean(&|p| (p.y - y - natural * (p.x - x)).powi(2)).sqrt();
    Line { slope, misfit }
}

struct Point {
    x: f64,
    y: f64,
    weight: f64,
}
