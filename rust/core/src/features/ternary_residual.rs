//! Ternary local binary patterns of the chroma that luma does not explain.
//!
//! Joins [`super::ternary`], whose planes, reduction and histograms it shares. Everything but one quotient is an integer, so
//! the columns are the same on every machine.

use multiversion::multiversion;

use super::ternary::{self, CLASSES};
use super::{About, Feature, Set};
use crate::image::{Plane, Planes};

/// The family `ternary_residual`.
pub(super) struct Family;

const PLANES: [&str; 2] = ["cb_residual", "cr_residual"];
/// Samples of the guided filter's 5x5 window.
const WINDOW: i32 = 25;
/// Added to the guide's variance: 4 grey levels squared, times [`WINDOW`], in squares of 1/64 grey level.
const RIDGE: i32 = 4 * 64 * 64 * WINDOW;
/// Slopes are integers in 1/1024.
const SLOPE_BITS: u32 = 10;
/// Half the range of luma, taken off it to keep sums of 25 products inside 32 bits; no residual depends on it.
const MIDDLE: i16 = 8160;
/// Bound of a residual, 256 grey levels: differences of two stay inside 16 bits.
const LARGEST: i32 = 16383;

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "ternary_residual",
            set: Set::Costly,
            unit: "square root of a share",
            formula: "Y, Cb, Cr of `ternary`; in 5x5 windows, mirrored at edges with the edge repeated, with y and c the means of Y \
                      and C rounded, a = round(1024 sum (Y - y)(C - c) / (sum (Y - y)^2 + 25 * 4 * 64^2)), divided in f32, \
                      ties to even; residual = round(floor((sum over the windows around a pixel of 1024 (C - c) - \
                      a (Y - y), C and Y its own, + 512) / 1024) / 25), within +-16383; of it the histogram of `ternary`",
            source: "He et al. 2013 (guided filter, eq. 5, 6, 8); Tan and Triggs 2010 (ternary patterns); Ojala et al. 2002",
        }
    }

    fn columns(&self) -> Vec<String> {
        ternary::columns(&PLANES)
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let levels = planes.ternary_levels();
        let (on_half, on_quarter) = out.split_at_mut(PLANES.len() * CLASSES);
        for ([luma, cb, cr, ..], out) in [(&levels.half, on_half), (&levels.quarter, on_quarter)] {
            let guide = centred(luma);
            for (chroma, out) in [cb, cr].into_iter().zip(out.chunks_exact_mut(CLASSES)) {
                ternary::shares(&residual(&guide, chroma), out);
            }
        }
    }
}

fn centred(luma: &Plane<i16>) -> Plane<i16> {
    Plane { width: luma.width, height: luma.height, data: luma.data.iter().map(|y| y - MIDDLE).collect() }
}

/// `chroma` less what a guided filter predicts of it from `guide`.
fn residual(guide: &Plane<i16>, chroma: &Plane<i16>) -> Plane<i16> {
    let (width, height) = (guide.width, guide.height);
    let none = vec![0; width];
    let [slope, guide_mean, chroma_mean] = fits(guide, chroma, &none);
    let mut data = vec![0; width * height];
    let mut sums = [0; 2].map(|_: i32| vec![0; width + 4]);
    for Step { entering, leaving, centre } in steps(height) {
        let rows = |y| [&slope, &guide_mean, &chroma_mean].map(|plane| plane.row(y));
        slide_fits(leaving.map_or([&none; 3].map(Vec::as_slice), rows), rows(entering), &mut sums);
        if let Some(y) = centre {
            mirror(&mut sums);
            subtract_fits(guide.row(y), chroma.row(y), &sums, &mut data[y * width..(y + 1) * width]);
        }
    }
    Plane { width, height, data }
}

/// Of the window around each pixel: the slope of `chroma` over `guide`, their means.
fn fits(guide: &Plane<i16>, chroma: &Plane<i16>, none: &[i16]) -> [Plane<i16>; 3] {
    let (width, height) = (guide.width, guide.height);
    let mut made = [0; 3].map(|_: i32| Plane { width, height, data: vec![0; width * height] });
    let mut sums = [0; 4].map(|_: i32| vec![0; width + 4]);
    for Step { entering, leaving, centre } in steps(height) {
        let rows = |y| [guide.row(y), chroma.row(y)];
        slide_products(leaving.map_or([none; 2], rows), rows(entering), &mut sums);
        if let Some(y) = centre {
            mirror(&mut sums);
            fit(&sums, made.each_mut().map(|plane| &mut plane.data[y * width..(y + 1) * width]));
        }
    }
    made
}

/// A window of five rows moves down by one.
struct Step {
    entering: usize,
    leaving: Option<usize>,
    /// The row that the window is around, once it is whole.
    centre: Option<usize>,
}

/// Moves a window of five rows over a plane, mirrored at its edges.
fn steps(height: usize) -> impl Iterator<Item = Step> {
    let mirrored = move |y: usize| {
        // `y` counts from two rows above the plane.
        let last = height + 1;
        if y < 2 { 1 - y } else { y.min(2 * last + 1 - y) - 2 }
    };
    (0..height + 4).map(move |y| Step {
        entering: mirrored(y),
        leaving: y.checked_sub(5).map(mirrored),
        centre: y.checked_sub(4),
    })
}

/// Fills the two columns on each side of each row.
fn mirror(rows: &mut [Vec<i32>]) {
    for row in rows {
        let n = row.len();
        (row[0], row[1]) = (row[3], row[2]);
        (row[n - 2], row[n - 1]) = (row[n - 3], row[n - 4]);
    }
}

#[multiversion(targets = "simd")]
fn slide_products(old: [&[i16]; 2], new: [&[i16]; 2], sums: &mut [Vec<i32>; 4]) {
    let n = new[0].len();
    let [old_guide, old_chroma] = old.map(|row| &row[..n]);
    let [new_guide, new_chroma] = new.map(|row| &row[..n]);
    let [guide, chroma, square, product] = sums.each_mut().map(|row| &mut row[2..n + 2]);
    for x in 0..n {
        let (g0, c0) = (i32::from(old_guide[x]), i32::from(old_chroma[x]));
        let (g1, c1) = (i32::from(new_guide[x]), i32::from(new_chroma[x]));
        guide[x] += g1 - g0;
        chroma[x] += c1 - c0;
        square[x] += g1 * g1 - g0 * g0;
        product[x] += g1 * c1 - g0 * c0;
    }
}

/// Samples and their products are at most 8160 and its square: their sums over a window, and those about the rounded
/// means, stay inside 32 bits.
#[multiversion(targets = "simd")]
fn fit(sums: &[Vec<i32>; 4], out: [&mut [i16]; 3]) {
    let [slope, guide_mean, chroma_mean] = out;
    let n = slope.len();
    let (guide_mean, chroma_mean) = (&mut guide_mean[..n], &mut chroma_mean[..n]);
    let [guide, chroma, square, product] = sums.each_ref().map(|row| &row[..n + 4]);
    for x in 0..n {
        let (guide, chroma) = (across(guide, x), across(chroma, x));
        let (g, c) = (mean(guide), mean(chroma));
        let rest = guide - WINDOW * g;
        let variance = across(square, x) - g * guide - g * rest;
        let covariance = across(product, x) - g * chroma - c * rest;
        // At most 8160 / (2 * 128) steps of 1024 to either side.
        let a = covariance as f32 / (variance + RIDGE) as f32 * (1 << SLOPE_BITS) as f32;
        slope[x] = nearest(a) as i16;
        guide_mean[x] = g as i16;
        chroma_mean[x] = c as i16;
    }
}

#[multiversion(targets = "simd")]
fn slide_fits(old: [&[i16]; 3], new: [&[i16]; 3], sums: &mut [Vec<i32>; 2]) {
    let n = new[0].len();
    let (old, new) = (old.map(|row| &row[..n]), new.map(|row| &row[..n]));
    let [slope, offset] = sums.each_mut().map(|row| &mut row[2..n + 2]);
    let intercept = |a: i16, g: i16, c: i16| (i32::from(c) << SLOPE_BITS) - i32::from(a) * i32::from(g);
    for x in 0..n {
        slope[x] += i32::from(new[0][x]) - i32::from(old[0][x]);
        offset[x] += intercept(new[0][x], new[1][x], new[2][x]) - intercept(old[0][x], old[1][x], old[2][x]);
    }
}

/// Sums wrap on their way, and come back: a sample is less than 4.9 deviations from the mean of a window that holds it,
/// so a window predicts less than 4.9 * 8160 around its mean, and the sum of 25 in 1/1024 is less than 2^31.
#[multiversion(targets = "simd")]
fn subtract_fits(guide: &[i16], chroma: &[i16], sums: &[Vec<i32>; 2], out: &mut [i16]) {
    let n = out.len();
    let (guide, chroma) = (&guide[..n], &chroma[..n]);
    let [slope, offset] = sums.each_ref().map(|row| &row[..n + 4]);
    for x in 0..n {
        let predicted = i32::from(guide[x]).wrapping_mul(across(slope, x)).wrapping_add(across(offset, x));
        let left = (i32::from(chroma[x]) * (WINDOW << SLOPE_BITS)).wrapping_sub(predicted);
        let left = (left + (1 << (SLOPE_BITS - 1))) >> SLOPE_BITS;
        out[x] = mean(left).clamp(-LARGEST, LARGEST) as i16;
    }
}

/// Sum of the five columns around column `x` of a row with two more on each side.
#[inline(always)]
fn across(row: &[i32], x: usize) -> i32 {
    let five = [row[x + 1], row[x + 2], row[x + 3], row[x + 4]];
    five.iter().fold(row[x], |sum, &value| sum.wrapping_add(value))
}

/// `sum / 25` to the nearest integer, for |sum| < 2^21: a quotient is 1/50 or more from a tie, farther than the product
/// by the rounded 1/25 is from it.
#[inline(always)]
fn mean(sum: i32) -> i32 {
    const SHARE: f32 = 1.0 / WINDOW as f32;
    nearest(sum as f32 * SHARE)
}

/// The integer nearest to `x`, ties to even, for |x| < 2^22.
#[inline(always)]
fn nearest(x: f32) -> i32 {
    // At 1.5 * 2^23 the last place of the mantissa is one.
    const SHIFT: f32 = 12_582_912.0;
    (x + SHIFT).to_bits() as i32 - SHIFT.to_bits() as i32
}
