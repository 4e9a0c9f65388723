//! The diagonal cross-difference of each channel, and how the channels' residuals move together.

use multiversion::multiversion;

use super::sums::POWER_FLOOR;
use super::{About, Feature, Set};
use crate::image::{Plane, Planes};
use crate::transform::lanes::{LANES, Strip, blocks, dot, start, window, window_mut};

/// The longest period that is folded.
pub(super) const PERIOD: usize = 16;

/// Sums over d(y,x) = x(y,x) + x(y+1,x+1) - x(y,x+1) - x(y+1,x) of R, G and B, last row and column left out.
///
/// Shared by `synthbuster8`, `synthbuster16` and `cross_channel`.
pub struct CrossDifference {
    /// Magnitudes at (m H / 16, n W / 16) of the Fourier transform of |d|, of the image cropped to multiples of 16, per
    /// channel: those of the 16×16 transform of the means of |d| at each place (y mod 16, x mod 16), so that no larger
    /// transform is needed.
    pub(super) harmonics: [super::synthbuster::Magnitudes; 3],
    /// Mean of `d_a d_b` at lag 0: RR, GG, BB, RG, RB, GB.
    products: [f64; 6],
    /// Mean of `d_a(y,x) d_b(y,x+1)`, in the order of [`LAGGED`].
    right: [f64; 5],
    /// Mean of `d_a(y,x) d_b(y+1,x)`, in the same order.
    down: [f64; 5],
}

const PAIRS: [(usize, usize); 6] = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)];

/// Each channel with itself, and red and blue with green, which a demosaiced image takes them from.
const LAGGED: [(usize, usize); 5] = [(0, 0), (1, 1), (2, 2), (0, 1), (2, 1)];

impl CrossDifference {
    /// Sums over the three channels.
    pub fn of(channels: &[Plane<u8>; 3]) -> Self {
        let (width, height) = (channels[0].width - 1, channels[0].height - 1);
        let cropped = (height / PERIOD * PERIOD, width / PERIOD * PERIOD);
        let mut sums =
            Self { harmonics: [[[0.0; PERIOD]; PERIOD]; 3], products: [0.0; 6], right: [0.0; 5], down: [0.0; 5] };
        let mut folds = [[[0_u32; LANES]; PERIOD]; 3];
        let mut strips: [Strip; 3] = std::array::from_fn(|_| Strip::new(width));
        for y in 0..height {
            for (c, strip) in strips.iter_mut().enumerate() {
                let row = strip.push();
                difference(channels[c].row(y), channels[c].row(y + 1), width, row);
                if y < cropped.0 {
                    fold(&row[..cropped.1], &mut folds[c][y % PERIOD]);
                }
            }
            if strips[0].is_full() || y + 1 == height {
                sums.add_products(&strips);
                strips.iter_mut().for_each(Strip::restart);
            }
        }
        let places = (cropped.0 * cropped.1 / (PERIOD * PERIOD)) as f64;
        let mean = |sums: &[u32; LANES], x: usize| (f64::from(sums[x]) + f64::from(sums[x + PERIOD])) / places;
        let folded = folds.map(|fold| fold.map(|sums| std::array::from_fn(|x| mean(&sums, x))));
        sums.harmonics = super::synthbuster::harmonics(&folded);
        let (w, h) = (width as f64, height as f64);
        sums.products.iter_mut().for_each(|sum| *sum /= w * h);
        sums.right.iter_mut().for_each(|sum| *sum /= (w - 1.0) * h);
        sums.down.iter_mut().for_each(|sum| *sum /= w * (h - 1.0));
        sums
    }

    fn add_products(&mut self, strips: &[Strip; 3]) {
        // Sixteen products of every sample: pieces that stay in the first cache meanwhile.
        const PIECE: usize = 2048;
        let length = strips[0].here().len();
        for start in (0..length).step_by(PIECE) {
            let end = (start + PIECE).min(length);
            let here = |c: usize| &strips[c].here()[start..end];
            for (sum, (a, b)) in self.products.iter_mut().zip(PAIRS) {
                *sum += dot(here(a), here(b)) as f64;
            }
            for (i, (a, b)) in LAGGED.into_iter().enumerate() {
                // The neighbour of a piece's last sample is in the next piece; a strip's last sample is a zero.
                let next = &strips[b].here()[start + 1..(end + 1).min(length)];
                self.right[i] += dot(here(a), next) as f64;
                self.down[i] += dot(&strips[a].above()[start..end], here(b)) as f64;
            }
        }
    }
}

#[multiversion(targets = "simd")]
fn difference(here: &[u8], below: &[u8], n: usize, out: &mut [i16]) {
    for block in 0..blocks(n) {
        let x = start(block, n);
        let here: &[u8; LANES + 1] = window(here, x);
        let below: &[u8; LANES + 1] = window(below, x);
        let out: &mut [i16; LANES] = window_mut(out, x);
        for l in 0..LANES {
            let straight = i16::from(here[l]) + i16::from(below[l + 1]);
            out[l] = straight - i16::from(here[l + 1]) - i16::from(below[l]);
        }
    }
}

/// Adds |d| at each place x mod 32; `row` has a multiple of 16 values.
#[multiversion(targets = "simd")]
fn fold(row: &[i16], sums: &mut [u32; LANES]) {
    // Four blocks at a time: an addition need not wait for the one before it.
    const WIDE: usize = 4 * LANES;
    // |d| is at most 510: 128 of them fit 16 bits.
    for part in row.chunks(127 * WIDE) {
        let (whole, rest) = part.as_chunks::<WIDE>();
        let (mut lanes, mut last) = ([0_u16; WIDE], [0_i16; WIDE]);
        last[..rest.len()].copy_from_slice(rest);
        for block in whole {
            for l in 0..WIDE {
                lanes[l] += block[l].unsigned_abs();
            }
        }
        for l in 0..WIDE {
            lanes[l] += last[l].unsigned_abs();
        }
        for block in lanes.as_chunks::<LANES>().0 {
            for l in 0..LANES {
                sums[l] += u32::from(block[l]);
            }
        }
    }
}

const _: () = assert!(LANES == 2 * PERIOD);

/// The family `cross_channel`.
pub(super) struct Family;

const CHANNELS: [&str; 3] = ["r", "g", "b"];

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "cross_channel",
            set: Set::Default,
            unit: "1; ln squared grey levels",
            formula: "d: diagonal cross-difference of a channel (see `synthbuster8`), V_a = E d_a² + 0.01; power_a = \
                      ln V_a; ratio_ab = ln(V_a / V_b); corr_ab = E d_a d_b / sqrt(V_a V_b); right_ab and down_ab: the \
                      same with d_b one pixel to the right or one below, ab = rr, gg, bb, rg, bg",
            source: "McCloskey and Albright, Detecting GAN-generated imagery using color cues, 2018 (channels); Peng et \
                     al. (inter-channel correlation of residuals); cross-difference: Bammey, Synthbuster, 2023",
        }
    }

    fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = CHANNELS.iter().map(|c| format!("power_{c}")).collect();
        columns.extend(PAIRS[3..].iter().map(|&(a, b)| format!("ratio_{}{}", CHANNELS[a], CHANNELS[b])));
        columns.extend(PAIRS[3..].iter().map(|&(a, b)| format!("corr_{}{}", CHANNELS[a], CHANNELS[b])));
        for lag in ["right", "down"] {
            columns.extend(LAGGED.map(|(a, b)| format!("{lag}_{}{}", CHANNELS[a], CHANNELS[b])));
        }
        columns
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let sums = planes.cross_difference();
        let power: [f64; 3] = std::array::from_fn(|c| sums.products[c] + POWER_FLOOR);
        let scale = |a: usize, b: usize| (power[a] * power[b]).sqrt();
        let mut values: Vec<f64> = power.iter().map(|v| v.ln()).collect();
        values.extend(PAIRS[3..].iter().map(|&(a, b)| (power[a] / power[b]).ln()));
        values.extend(PAIRS[3..].iter().zip(&sums.products[3..]).map(|(&(a, b), sum)| sum / scale(a, b)));
        for lag in [&sums.right, &sums.down] {
            values.extend(lag.iter().zip(LAGGED).map(|(sum, (a, b))| sum / scale(a, b)));
        }
        for (out, value) in out.iter_mut().zip(values) {
            *out = value as f32;
        }
    }
}
