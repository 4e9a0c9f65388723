//! Rich against poor texture: a camera's noise is the same in both, a generator's is not.

use multiversion::multiversion;

use super::sums::POWER_FLOOR;
use super::{About, Feature, Set};
use crate::image::{Plane, Planes};
use crate::transform::avx512::{square_sums, step_sums};
use crate::transform::lanes::window;

/// The family `texture`.
pub(super) struct Family;

/// Side of a patch, in pixels.
const SIDE: usize = 32;
const COLUMNS: [&str; 8] = ["diversity", "power", "shape", "zeros", "right", "down", "down_right", "down_left"];

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "texture",
            set: Set::Default,
            unit: "ln grey levels; ln squared grey levels; 1; share",
            formula: "whole 32x32 patches from the image's origin, ranked by l = Σ|differences to the right, down, down-right \
                      and down-left neighbours inside the patch| of luma (ties by position), the lowest and the highest \
                      third (n / 3, rounded down) pooled; r: luma minus its 3x3 median; diversity = ln(mean l / 1024 + 0.01), \
                      power = ln(E r² + 0.01), shape = (E|r|)² / (E r² + 0.01), zeros = share of r = 0, right, down, \
                      down_right, down_left = Σ r r' / 1024 n / (E r² + 0.01) with that neighbour inside the patch; columns: \
                      poor, and rich minus poor",
            source: "Zhong et al., PatchCraft: exploring texture patch for efficient AI-generated image detection, 2023 \
                     (l_div), with a fixed grid in place of random crops",
        }
    }

    fn columns(&self) -> Vec<String> {
        ["poor", "contrast"].iter().flat_map(|part| COLUMNS.map(|column| format!("{part}_{column}"))).collect()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let (luma, residual) = (planes.luma8(), planes.residual());
        let mut patches = Vec::with_capacity(luma.data.len() / (SIDE * SIDE));
        for top in (0..=luma.height - SIDE).step_by(SIDE) {
            for left in (0..=luma.width - SIDE).step_by(2 * SIDE) {
                let pair = 2.min((luma.width - left) / SIDE);
                let diversities = diversities(luma, top, left, pair);
                for (index, diversity) in diversities.into_iter().take(pair).enumerate() {
                    patches.push(Patch { diversity, ..residuals(residual, top, left + index * SIDE) });
                }
            }
        }
        patches.sort_by_key(|patch| patch.diversity);
        let third = (patches.len() / 3).max(1);
        let poor = pooled(&patches[..third]);
        let rich = pooled(&patches[patches.len() - third..]);
        for i in 0..COLUMNS.len() {
            out[i] = poor[i] as f32;
            out[COLUMNS.len() + i] = (rich[i] - poor[i]) as f32;
        }
    }
}

/// Sums over one patch, exact.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Patch {
    diversity: u32,
    absolute: u32,
    square: u32,
    zeros: u32,
    neighbours: [i32; 4],
}

/// Of one or two patches side by side.
fn diversities(luma: &Plane<u8>, top: usize, left: usize, patches: usize) -> [u32; 2] {
    let found = step_sums(&luma.data[top * luma.width + left..], luma.width, patches);
    found.unwrap_or_else(|| {
        let mut diversities = [0; 2];
        for (index, sum) in diversities.iter_mut().take(patches).enumerate() {
            let left = left + index * SIDE;
            *sum = diversity(&std::array::from_fn(|y| *window(luma.row(top + y), left)));
        }
        diversities
    })
}

fn residuals(residual: &Plane<i16>, top: usize, left: usize) -> Patch {
    let found = square_sums(&residual.data[top * residual.width + left..], residual.width);
    let Some([absolute, square, zeros, neighbours @ ..]) = found else {
        let mut values = [[0; 2 * SIDE]; SIDE + 1];
        for y in 0..SIDE {
            values[y][..SIDE].copy_from_slice(&residual.row(top + y)[left..left + SIDE]);
        }
        return residual_sums(&values);
    };
    Patch { diversity: 0, absolute: absolute as u32, square: square as u32, zeros: zeros as u32, neighbours }
}

/// Σ of absolute differences to four neighbours.
#[multiversion(targets = "simd")]
fn diversity(pixels: &[[u8; SIDE]; SIDE]) -> u32 {
    // 32 rows of 4 differences of at most 255 stay inside 16 bits. The last column has no neighbour to the right.
    let mut lanes = [0_u16; SIDE];
    for y in 0..SIDE {
        let here = &pixels[y];
        let below = &pixels[(y + 1).min(SIDE - 1)];
        let has_below = if y + 1 < SIDE { u16::MAX } else { 0 };
        let (mut here_right, mut below_right) = ([0; SIDE], [0; SIDE]);
        here_right[..SIDE - 1].copy_from_slice(&here[1..]);
        below_right[..SIDE - 1].copy_from_slice(&below[1..]);
        for x in 0..SIDE {
            let has_right = if x + 1 < SIDE { u16::MAX } else { 0 };
            let right = u16::from(here[x].abs_diff(here_right[x])) & has_right;
            let down = u16::from(here[x].abs_diff(below[x])) & has_below;
            let diagonals = u16::from(here[x].abs_diff(below_right[x])) + u16::from(here_right[x].abs_diff(below[x]));
            lanes[x] += right + down + (diagonals & has_right & has_below);
        }
    }
    let mut total = 0;
    for &lane in &lanes {
        total += u32::from(lane);
    }
    total
}

/// Sums over a patch that zeros follow on the right and below: pairs that leave the patch add nothing.
#[multiversion(targets = "simd")]
fn residual_sums(r: &[[i16; 2 * SIDE]; SIDE + 1]) -> Patch {
    let (mut absolute, mut square, mut zeros) = ([0_i32; SIDE], [0_i32; SIDE], [0_i32; SIDE]);
    let (mut right, mut down) = ([0_i32; SIDE], [0_i32; SIDE]);
    let (mut down_right, mut down_left) = ([0_i32; SIDE], [0_i32; SIDE]);
    for y in 0..SIDE {
        let (here, below) = (&r[y], &r[y + 1]);
        for x in 0..SIDE {
            let (v, w) = (i32::from(here[x]), i32::from(here[x + 1]));
            let (u, t) = (i32::from(below[x]), i32::from(below[x + 1]));
            absolute[x] += v.abs();
            square[x] += v * v;
            zeros[x] += i32::from(v == 0);
            right[x] += v * w;
            down[x] += v * u;
            down_right[x] += v * t;
            down_left[x] += w * u;
        }
    }
    Patch {
        diversity: 0,
        absolute: total(&absolute) as u32,
        square: total(&square) as u32,
        zeros: total(&zeros) as u32,
        neighbours: [total(&right), total(&down), total(&down_right), total(&down_left)],
    }
}

#[inline(always)]
fn total(lanes: &[i32; SIDE]) -> i32 {
    let mut total = 0;
    for &lane in lanes {
        total += lane;
    }
    total
}

/// The values of [`COLUMNS`] over `patches` together.
fn pooled(patches: &[Patch]) -> [f64; 8] {
    let n = (patches.len() * SIDE * SIDE) as f64;
    let mean = |value: fn(&Patch) -> u32| patches.iter().map(|patch| f64::from(value(patch))).sum::<f64>() / n;
    let absolute = mean(|patch| patch.absolute);
    let power = mean(|patch| patch.square) + POWER_FLOOR;
    let correlation = |i: usize| patches.iter().map(|patch| f64::from(patch.neighbours[i])).sum::<f64>() / n / power;
    [
        (mean(|patch| patch.diversity) + 0.01).ln(),
        power.ln(),
        absolute * absolute / power,
        mean(|patch| patch.zeros),
        correlation(0),
        correlation(1),
        correlation(2),
        correlation(3),
    ]
}

#[cfg(test)]
mod tests {
    use super::{SIDE, diversities, diversity, residual_sums, residuals};
    use crate::image::Plane;
    use crate::transform::lanes::window;

    #[test]
    fn vectors_sum_as_rows_do() {
        let (width, height) = (131, 70);
        let bytes = Plane { width, height, data: (0..width * height).map(|i| (i * i % 8191) as u8).collect() };
        let differences =
            bytes.data.iter().rev().zip(&bytes.data).map(|(&a, &b)| i16::from(a) - i16::from(b)).collect();
        let differences = Plane { width, height, data: differences };
        for (top, left) in [(0, 0), (37, 66), (38, 67)] {
            let mut samples = [[0; 2 * SIDE]; SIDE + 1];
            for y in 0..SIDE {
                samples[y][..SIDE].copy_from_slice(&differences.row(top + y)[left..left + SIDE]);
            }
            assert_eq!(residuals(&differences, top, left), residual_sums(&samples));
            let expected =
                [left, left + SIDE].map(|left| diversity(&std::array::from_fn(|y| *window(bytes.row(top + y), left))));
            assert_eq!(diversities(&bytes, top, left, 2), expected);
            assert_eq!(diversities(&bytes, top, left, 1)[0], expected[0]);
        }
    }
}
