//! The 30 linear filters of the spatial rich model, pooled over rotations: moments and co-occurrences.

#![allow(clippy::needless_range_loop)] // a loop over lanes indexes several arrays at once
#![allow(clippy::inline_always)] // meant to be inlined into functions that are compiled per instruction set

use multiversion::multiversion;

use super::sums::POWER_FLOOR;
use super::{About, Feature, Set};
use crate::image::{Plane, Planes};
use crate::transform::filters::{Bank, MARGIN, Taps, correlate_rows, turned, widened};

/// Moments and truncated co-occurrences of the residuals of the 30 SRM filters.
pub(super) struct Family;

/// Rows of residuals that are made at a time: residuals and their quantised copy stay in the first-level cache.
const BAND: usize = 4;

/// Pairs are counted inside every second band: shares of so many pairs change little, and they cost the most.
const PAIRS_EVERY: usize = 2 * BAND;

/// Lanes of the accumulators: one AVX-512 register of bytes.
const LANES: usize = 64;

/// The kinds of co-occurrence that are left once (a, b), (b, a), (-a, -b) and (-b, -a) count as one, by the key
/// `|a + b| + 8 |a - b|`.
const PAIRS: [(u8, &str); 9] = [
    (key(0, 0), "pair_0_0"),
    (key(0, 1), "pair_0_1"),
    (key(0, 2), "pair_0_2"),
    (key(1, 1), "pair_1_1"),
    (key(1, -1), "pair_1_n1"),
    (key(1, 2), "pair_1_2"),
    (key(1, -2), "pair_1_n2"),
    (key(2, 2), "pair_2_2"),
    (key(2, -2), "pair_2_n2"),
];

/// A value beside the image: its key with anything is the key of no pair.
const NOWHERE: i8 = 7;

const fn key(a: i8, b: i8) -> u8 {
    (a + b).unsigned_abs() + 8 * (a - b).unsigned_abs()
}

/// A class of filters: one kernel in several rotations.
struct Class {
    name: &'static str,
    /// What a residual is divided by, in moments and in quantisation.
    divisor: i16,
    /// How many residuals of the group belong to it.
    members: usize,
}

/// Two classes whose residuals are made in one pass over the pixels.
struct Group {
    classes: [Class; 2],
    correlate: fn(&Plane<i16>, usize, usize, &mut [Vec<i16>]),
}

const fn class(name: &'static str, divisor: i16, members: usize) -> Class {
    Class { name, divisor, members }
}

/// The 30 filters. Opposite directions of first and of third order give the same residuals up to sign and a shift, so
/// 22 are computed.
const GROUPS: [Group; 5] = [
    Group {
        classes: [class("first_axial", 1, 2), class("first_diagonal", 1, 2)],
        correlate: correlate_rows::<4, First>,
    },
    Group {
        classes: [class("second_axial", 2, 2), class("second_diagonal", 2, 2)],
        correlate: correlate_rows::<4, Second>,
    },
    Group {
        classes: [class("third_axial", 3, 2), class("third_diagonal", 3, 2)],
        correlate: correlate_rows::<4, Third>,
    },
    Group { classes: [class("edge3", 4, 4), class("square3", 4, 1)], correlate: correlate_rows::<5, Three> },
    Group { classes: [class("edge5", 12, 4), class("square5", 12, 1)], correlate: correlate_rows::<5, Five> },
];

const NONE: [i16; 5] = [0; 5];

/// A kernel and its quarter turn, a diagonal kernel and its quarter turn.
const fn axial_and_diagonal(axial: [i16; 5], diagonal: Taps) -> [Taps; 4] {
    let axial = [NONE, NONE, axial, NONE, NONE];
    [axial, turned(axial), diagonal, turned(diagonal)]
}

/// The four turns of an edge kernel, and a square one.
const fn edges_and_square(edge: Taps, square: Taps) -> [Taps; 5] {
    let left = turned(edge);
    let down = turned(left);
    [edge, left, down, turned(down), square]
}

struct First;

impl Bank<4> for First {
    const KERNELS: [Taps; 4] =
        axial_and_diagonal([0, 0, -1, 1, 0], [NONE, [0, 0, 0, 1, 0], [0, 0, -1, 0, 0], NONE, NONE]);
}

struct Second;

impl Bank<4> for Second {
    const KERNELS: [Taps; 4] =
        axial_and_diagonal([0, 1, -2, 1, 0], [NONE, [0, 0, 0, 1, 0], [0, 0, -2, 0, 0], [0, 1, 0, 0, 0], NONE]);
}

struct Third;

impl Bank<4> for Third {
    const KERNELS: [Taps; 4] = axial_and_diagonal(
        [0, -1, 3, -3, 1],
        [[0, 0, 0, 0, 1], [0, 0, 0, -3, 0], [0, 0, 3, 0, 0], [0, -1, 0, 0, 0], NONE],
    );
}

struct Three;

impl Bank<5> for Three {
    const KERNELS: [Taps; 5] = edges_and_square(
        [NONE, [0, -1, 2, -1, 0], [0, 2, -4, 2, 0], NONE, NONE],
        [NONE, [0, -1, 2, -1, 0], [0, 2, -4, 2, 0], [0, -1, 2, -1, 0], NONE],
    );
}

struct Five;

impl Bank<5> for Five {
    const KERNELS: [Taps; 5] = edges_and_square(
        [[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], NONE, NONE],
        [[-1, 2, -2, 2, -1], [2, -6, 8, -6, 2], [-2, 8, -12, 8, -2], [2, -6, 8, -6, 2], [-1, 2, -2, 2, -1]],
    );
}

const MOMENTS: [&str; 3] = ["mean_abs", "log_power", "kurtosis"];
const PER_CLASS: usize = MOMENTS.len() + PAIRS.len();

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "srm30",
            set: Set::Costly,
            unit: "grey levels; ln squared grey levels; 1; share of pairs",
            formula: "r = sum K y / c where all of the 5x5 kernel lies on the image, y luma; mean_abs = E|r|, \
                      log_power = ln(E r² + 0.01), kurtosis = E r⁴ / (E r² + 0.01)²; \
                      q = clamp(round(r), -2, 2), halves away from 0; pair_a_b = share of (q, q') over right and lower \
                      neighbours that both lie in rows 0 to 3 of every 8 of r, (a, b), (b, a), (-a, -b) and (-b, -a) \
                      counted as one, n for minus; pooled over the rotations of each kernel",
            source: "Fridrich & Kodovsky 2012, Rich models for steganalysis, sections II.A-B; kernels as in AIDE \
                     (Yan et al. 2025)",
        }
    }

    fn columns(&self) -> Vec<String> {
        let names = |class: &Class| {
            MOMENTS.iter().chain(PAIRS.iter().map(|(_, name)| name)).map(|c| format!("{}_{c}", class.name)).collect()
        };
        GROUPS.iter().flat_map(|group| &group.classes).flat_map(|class| -> Vec<String> { names(class) }).collect()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let mut scratch = Scratch::for_luma(planes.luma8());
        for (group, out) in GROUPS.iter().zip(out.chunks_exact_mut(2 * PER_CLASS)) {
            let sums = scratch.sum_group(group);
            for ((class, sums), out) in group.classes.iter().zip(&sums).zip(out.chunks_exact_mut(PER_CLASS)) {
                sums.finish(class.divisor, out);
            }
        }
    }
}

/// What is counted over the residuals of one class.
#[derive(Default)]
struct Sums {
    residuals: f64,
    abs: f64,
    square: f64,
    fourth: f64,
    pairs: [u64; PAIRS.len()],
}

impl Sums {
    fn finish(&self, divisor: i16, out: &mut [f32]) {
        let (n, c) = (self.residuals, f64::from(divisor));
        let power = self.square / n / (c * c) + POWER_FLOOR;
        out[0] = (self.abs / n / c) as f32;
        out[1] = power.ln() as f32;
        out[2] = (self.fourth / n / c.powi(4) / (power * power)) as f32;
        let total = self.pairs.iter().sum::<u64>() as f64;
        for (share, &count) in out[MOMENTS.len()..].iter_mut().zip(&self.pairs) {
            *share = (count as f64 / total) as f32;
        }
    }
}

/// What one member of a group leaves behind, a band at a time.
struct Scratch {
    luma: Plane<i16>,
    /// Residuals in a row and in a column.
    width: usize,
    height: usize,
    /// What a row is lengthened to: residuals beside the image are zeros, quantised ones [`NOWHERE`].
    stride: usize,
    /// Per member, [`BAND`] rows.
    residuals: [Vec<i16>; 5],
    /// A row of [`NOWHERE`] above, then [`BAND`] rows of one member, then the right neighbour of the last.
    quantised: Vec<i8>,
}

impl Scratch {
    fn for_luma(luma: &Plane<u8>) -> Self {
        let wide = widened(luma);
        let stride = wide.width - 2 * MARGIN;
        Self {
            luma: wide,
            width: luma.width - 2 * MARGIN,
            height: luma.height - 2 * MARGIN,
            stride,
            residuals: std::array::from_fn(|_| vec![0; BAND * stride]),
            quantised: vec![NOWHERE; (BAND + 1) * stride + 1],
        }
    }

    /// The sums of both classes of `group`.
    fn sum_group(&mut self, group: &Group) -> [Sums; 2] {
        let (width, stride) = (self.width, self.stride);
        let mut sums = [Sums::default(), Sums::default()];
        let classes = group.classes.iter().enumerate().flat_map(|(c, class)| std::iter::repeat_n(c, class.members));
        let classes: Vec<usize> = classes.collect();
        for top in (0..self.height).step_by(BAND) {
            let rows = BAND.min(self.height - top);
            (group.correlate)(&self.luma, top, rows, &mut self.residuals);
            for (&class, residuals) in classes.iter().zip(&mut self.residuals) {
                let residuals = &mut residuals[..rows * stride];
                let sums = &mut sums[class];
                for row in residuals.chunks_exact_mut(stride) {
                    row[width..].fill(0);
                }
                sums.residuals += (rows * width) as f64;
                add_moments(residuals, sums);
                if top % PAIRS_EVERY == 0 {
                    let quantised = &mut self.quantised[..=(rows + 1) * stride];
                    quantise(residuals, group.classes[class].divisor, &mut quantised[stride..]);
                    for row in quantised[stride..].chunks_exact_mut(stride) {
                        row[width..].fill(NOWHERE);
                    }
                    count_pairs(quantised, stride, &mut sums.pairs);
                }
            }
        }
        sums
    }
}

/// Adds whole rows of [`LANES`]-multiple length.
#[multiversion(targets = "simd")]
fn add_moments(residuals: &[i16], sums: &mut Sums) {
    const WIDE: usize = 32;
    let (mut abs, mut square, mut fourth) = ([0.0_f32; WIDE], [0.0_f32; WIDE], [0.0_f32; WIDE]);
    for chunk in residuals.as_chunks::<WIDE>().0 {
        for lane in 0..WIDE {
            let r = f32::from(chunk[lane]);
            abs[lane] += r.abs();
            square[lane] += r * r;
            fourth[lane] += (r * r) * (r * r);
        }
    }
    for lane in 0..WIDE {
        sums.abs += f64::from(abs[lane]);
        sums.square += f64::from(square[lane]);
        sums.fourth += f64::from(fourth[lane]);
    }
}

/// `round(r / divisor)`, halves away from zero, truncated to ±2.
#[multiversion(targets = "simd")]
fn quantise(residuals: &[i16], divisor: i16, out: &mut [i8]) {
    // The smallest |r| that rounds to 1 and to 2.
    let (one, two) = ((divisor + 1) / 2, (3 * divisor + 1) / 2);
    for (q, &r) in out.iter_mut().zip(residuals) {
        let size = r.abs();
        let level = i16::from(size >= one) + i16::from(size >= two);
        *q = (if r < 0 { -level } else { level }) as i8;
    }
}

/// Counts the pairs of each value below the first row with its right and its upper neighbour; `quantised` is whole
/// rows of `stride` values and one value more.
#[multiversion(targets = "simd")]
fn count_pairs(quantised: &[i8], stride: usize, counts: &mut [u64; PAIRS.len()]) {
    let end = quantised.len() - 1;
    let (values, right, upper) = (&quantised[stride..end], &quantised[stride + 1..], &quantised[..end - stride]);
    // Two pairs per value: 127 chunks fill a byte.
    let size = 127 * LANES;
    for ((values, right), upper) in values.chunks(size).zip(right.chunks(size)).zip(upper.chunks(size)) {
        let mut lanes = [[0_u8; LANES]; PAIRS.len()];
        let (values, right, upper) = (values.as_chunks::<LANES>().0, right.as_chunks().0, upper.as_chunks().0);
        for ((values, right), upper) in values.iter().zip(right).zip(upper) {
            add_keys(values, right, &mut lanes);
            add_keys(values, upper, &mut lanes);
        }
        for (count, lanes) in counts.iter_mut().zip(&lanes) {
            for &n in lanes {
                *count += u64::from(n);
            }
        }
    }
}

#[inline(always)]
fn add_keys(a: &[i8; LANES], b: &[i8; LANES], lanes: &mut [[u8; LANES]; PAIRS.len()]) {
    let mut keys = [0_u8; LANES];
    for lane in 0..LANES {
        keys[lane] = key(a[lane], b[lane]);
    }
    for kind in 0..PAIRS.len() {
        for lane in 0..LANES {
            lanes[kind][lane] += u8::from(keys[lane] == PAIRS[kind].0);
        }
    }
}
