//! Ternary local binary patterns of luma, chroma, range and excess at half and quarter resolution.
//!
//! Photographs have speckle in chroma, generated images clean arcs and edges, and both survive a crop and a JPEG:
//! they live at 2 to 4 px, above what subsampling and quantisation take away.

use multiversion::multiversion;

use super::{About, Feature, Set};
use crate::image::{Plane, Planes};
use crate::transform::lanes::{LANES, window, window_mut};

/// The family `ternary`.
pub(super) struct Family;

const PLANES: [&str; 5] = ["y", "cb", "cr", "range", "excess"];
const LEVELS: [&str; 2] = ["half", "quarter"];
/// Classes of the 256 patterns under rotation and reflection.
pub(super) const CLASSES: usize = 30;
/// Steps of the integer planes to a grey level.
const UNIT: i32 = 64;

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "ternary",
            set: Set::Costly,
            unit: "square root of a share",
            formula: "Y, Cb, Cr of the 2x2 sums R, G, B, to 1/64 grey level: floor((77 R + 150 G + 29 B + 8) / 16), floor((-43 R - \
                      85 G + 128 B + 8) / 16), floor((128 R - 107 G - 21 B + 8) / 16), range = 16 times the 2x2 sum of max(R,G,B) - min(R,G,B), excess = \
                      16 times the 2x2 sum of max(R,G,B), minus Y (half), and floor((2x2 sum + 2) / 4) of \
                      these (quarter), odd rows and columns at the end dropped; t = (mean |dx| + mean |dy|) / 4 + 0.1 grey \
                      level; per pixel with 8 neighbours n_k, clockwise from top-left, bit k of the upper pattern: n_k - c \
                      >= t, of the lower: c - n_k >= t; both counted by class under rotation and reflection (30 classes, in \
                      order of their smallest pattern); columns: square roots of the shares",
            source: "Ojala et al. 2002 (rotation-invariant LBP); Tan and Triggs 2010 (ternary patterns)",
        }
    }

    fn columns(&self) -> Vec<String> {
        columns(&PLANES)
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let Levels { half, quarter } = planes.ternary_levels();
        for (plane, out) in half.iter().chain(quarter).zip(out.chunks_exact_mut(CLASSES)) {
            shares(plane, out);
        }
    }
}

/// Names of the columns: levels, planes, classes.
pub(super) fn columns(planes: &[&str]) -> Vec<String> {
    let smallest = classes().smallest;
    let mut columns = Vec::new();
    for level in LEVELS {
        for plane in planes {
            columns.extend(smallest.map(|pattern| format!("{plane}_{level}_{pattern:08b}")));
        }
    }
    columns
}

struct Classes {
    of: [u8; 256],
    smallest: [u8; CLASSES],
}

fn classes() -> &'static Classes {
    static TABLE: std::sync::LazyLock<Classes> = std::sync::LazyLock::new(|| {
        let mut classes = Classes { of: [0; 256], smallest: [0; CLASSES] };
        let mut count = 0;
        for pattern in 0..=255_u8 {
            let turns = |p: u8| (0..8).map(move |k| p.rotate_right(k)).fold(p, u8::min);
            let first = turns(pattern).min(turns(pattern.reverse_bits()));
            if first == pattern {
                classes.smallest[count] = pattern;
                count += 1;
            }
            classes.of[usize::from(pattern)] =
                if first == pattern { (count - 1) as u8 } else { classes.of[usize::from(first)] };
        }
        classes
    });
    &TABLE
}

/// Y, Cb, Cr, range and excess in 1/64 grey level, at half and at quarter resolution: what the ternary families share.
pub struct Levels {
    pub(super) half: [Plane<i16>; 5],
    pub(super) quarter: [Plane<i16>; 5],
}

impl Levels {
    pub(crate) fn of(channels: &[Plane<u8>; 3]) -> Self {
        let half = halved(channels);
        let quarter = half.each_ref().map(reduce);
        Self { half, quarter }
    }
}

fn halved(channels: &[Plane<u8>; 3]) -> [Plane<i16>; 5] {
    let (full_width, width, height) = (channels[0].width, channels[0].width / 2, channels[0].height / 2);
    let mut made: [Plane<i16>; 5] = std::array::from_fn(|_| Plane { width, height, data: vec![0; width * height] });
    let mut sums: [Vec<i16>; 5] = std::array::from_fn(|_| vec![0; width]);
    let (mut largest, mut range) = (vec![0; 2 * full_width], vec![0; 2 * full_width]);
    for y in 0..height {
        let rows = channels.each_ref().map(|channel| &channel.data[2 * y * full_width..][..2 * full_width]);
        extremes(rows, &mut largest, &mut range);
        let [red, green, blue] = rows;
        for (rows, sums) in [red, green, blue, &largest, &range].into_iter().zip(&mut sums) {
            add_pairs(&rows[..full_width], &rows[full_width..], sums);
        }
        let out = made.each_mut().map(|plane| &mut plane.data[y * width..(y + 1) * width]);
        convert(&sums, out);
    }
    made
}

/// max(R, G, B), and that minus min(R, G, B).
#[multiversion(targets = "simd")]
fn extremes(rows: [&[u8]; 3], largest: &mut [u8], range: &mut [u8]) {
    let n = largest.len();
    let (red, green, blue, range) = (&rows[0][..n], &rows[1][..n], &rows[2][..n], &mut range[..n]);
    for x in 0..n {
        let high = red[x].max(green[x]).max(blue[x]);
        largest[x] = high;
        range[x] = high - red[x].min(green[x]).min(blue[x]);
    }
}

#[multiversion(targets = "simd")]
fn add_pairs(top: &[u8], bottom: &[u8], sums: &mut [i16]) {
    for ((sum, t), b) in sums.iter_mut().zip(top.as_chunks::<2>().0).zip(bottom.as_chunks::<2>().0) {
        *sum = i16::from(t[0]) + i16::from(t[1]) + i16::from(b[0]) + i16::from(b[1]);
    }
}

#[multiversion(targets = "simd")]
fn convert(sums: &[Vec<i16>; 5], out: [&mut [i16]; 5]) {
    let n = sums[0].len();
    let [red, green, blue, largest, spread] = sums;
    let (red, green, blue, largest, spread) = (&red[..n], &green[..n], &blue[..n], &largest[..n], &spread[..n]);
    let [luma, cb, cr, range, excess] = out;
    let (luma, cb, cr) = (&mut luma[..n], &mut cb[..n], &mut cr[..n]);
    let (range, excess) = (&mut range[..n], &mut excess[..n]);
    for x in 0..n {
        let (r, g, b) = (i32::from(red[x]), i32::from(green[x]), i32::from(blue[x]));
        luma[x] = ((77 * r + 150 * g + 29 * b + 8) >> 4) as i16;
        cb[x] = ((-43 * r - 85 * g + 128 * b + 8) >> 4) as i16;
        cr[x] = ((128 * r - 107 * g - 21 * b + 8) >> 4) as i16;
        range[x] = 16 * spread[x];
        excess[x] = 16 * largest[x] - luma[x];
    }
}

fn reduce(plane: &Plane<i16>) -> Plane<i16> {
    let (width, height) = (plane.width / 2, plane.height / 2);
    let mut data = vec![0; width * height];
    for (y, row) in data.chunks_exact_mut(width).enumerate() {
        average_pairs(plane.row(2 * y), plane.row(2 * y + 1), row);
    }
    Plane { width, height, data }
}

#[multiversion(targets = "simd")]
fn average_pairs(top: &[i16], bottom: &[i16], out: &mut [i16]) {
    for ((out, t), b) in out.iter_mut().zip(top.as_chunks::<2>().0).zip(bottom.as_chunks::<2>().0) {
        let sum = i32::from(t[0]) + i32::from(t[1]) + i32::from(b[0]) + i32::from(b[1]);
        *out = ((sum + 2) >> 2) as i16;
    }
}

pub(super) fn shares(plane: &Plane<i16>, out: &mut [f32]) {
    let (width, height) = (plane.width, plane.height);
    let threshold = threshold(plane);
    // Four tables for each kind: equal patterns in a row would wait for each other's increment in one.
    let mut tables = [[[0_u32; 256]; 4]; 2];
    let (mut upper, mut lower) = (vec![0_u8; width - 2], vec![0_u8; width - 2]);
    for y in 1..height - 1 {
        patterns(plane.row(y - 1), plane.row(y), plane.row(y + 1), threshold, &mut upper, &mut lower);
        increment(&upper, &mut tables[0]);
        increment(&lower, &mut tables[1]);
    }
    let mut counts = [0.0; CLASSES];
    for pattern in 0..256 {
        let count: u32 = tables.as_flattened().iter().map(|table| table[pattern]).sum();
        counts[usize::from(classes().of[pattern])] += f64::from(count);
    }
    let total = 2.0 * ((width - 2) * (height - 2)) as f64;
    for (out, count) in out.iter_mut().zip(counts) {
        *out = (count / total).sqrt() as f32;
    }
}

/// The smallest integer difference that reaches t.
fn threshold(plane: &Plane<i16>) -> i16 {
    let (width, height) = (plane.width, plane.height);
    let (mut across, mut down) = (0_u64, 0_u64);
    for y in 0..height {
        let row = plane.row(y);
        across += u64::from(distance(row, &row[1..]));
        if y + 1 < height {
            down += u64::from(distance(row, plane.row(y + 1)));
        }
    }
    let mean_across = across as f64 / ((width - 1) * height) as f64;
    let mean_down = down as f64 / (width * (height - 1)) as f64;
    (0.25 * (mean_across + mean_down) + 0.1 * f64::from(UNIT)).ceil() as i16
}

/// Σ |a - b| over the length of the shorter row; rows hold fewer than 2^17 differences of less than 2^15.
#[multiversion(targets = "simd")]
fn distance(a: &[i16], b: &[i16]) -> u32 {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    let mut total = 0;
    for x in 0..n {
        total += u32::from(a[x].abs_diff(b[x]));
    }
    total
}

/// Upper and lower pattern of each pixel of a row that has neighbours on both sides.
#[multiversion(targets = "simd")]
fn patterns(above: &[i16], here: &[i16], below: &[i16], threshold: i16, upper: &mut [u8], lower: &mut [u8]) {
    let n = upper.len();
    if n < LANES {
        for x in 0..n {
            block::<1>([above, here, below], x, threshold, upper, lower);
        }
        return;
    }
    for index in 0..n.div_ceil(LANES) {
        let x = (index * LANES).min(n - LANES);
        block::<LANES>([above, here, below], x, threshold, upper, lower);
    }
}

#[inline(always)]
fn block<const N: usize>(rows: [&[i16]; 3], x: usize, threshold: i16, upper: &mut [u8], lower: &mut [u8]) {
    let centre: &[i16; N] = window(rows[1], x + 1);
    let (mut up, mut down) = ([0_i16; N], [0_i16; N]);
    add_bit(window(rows[0], x), centre, threshold, 1, &mut up, &mut down);
    add_bit(window(rows[0], x + 1), centre, threshold, 2, &mut up, &mut down);
    add_bit(window(rows[0], x + 2), centre, threshold, 4, &mut up, &mut down);
    add_bit(window(rows[1], x + 2), centre, threshold, 8, &mut up, &mut down);
    add_bit(window(rows[2], x + 2), centre, threshold, 16, &mut up, &mut down);
    add_bit(window(rows[2], x + 1), centre, threshold, 32, &mut up, &mut down);
    add_bit(window(rows[2], x), centre, threshold, 64, &mut up, &mut down);
    add_bit(window(rows[1], x), centre, threshold, 128, &mut up, &mut down);
    let upper: &mut [u8; N] = window_mut(upper, x);
    let lower: &mut [u8; N] = window_mut(lower, x);
    for l in 0..N {
        upper[l] = up[l] as u8;
        lower[l] = down[l] as u8;
    }
}

#[inline(always)]
fn add_bit<const N: usize>(
    neighbour: &[i16; N],
    centre: &[i16; N],
    threshold: i16,
    bit: i16,
    up: &mut [i16; N],
    down: &mut [i16; N],
) {
    for l in 0..N {
        let step = neighbour[l] - centre[l];
        up[l] |= if step >= threshold { bit } else { 0 };
        down[l] |= if step <= -threshold { bit } else { 0 };
    }
}

fn increment(patterns: &[u8], tables: &mut [[u32; 256]; 4]) {
    let (quads, rest) = patterns.as_chunks::<4>();
    for quad in quads {
        for l in 0..4 {
            tables[l][usize::from(quad[l])] += 1;
        }
    }
    for &pattern in rest {
        tables[0][usize::from(pattern)] += 1;
    }
}
