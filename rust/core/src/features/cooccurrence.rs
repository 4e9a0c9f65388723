//! Joint histograms of neighbouring residuals, as in steganalysis.

use multiversion::multiversion;

use super::{About, Feature, Set};
use crate::image::{Plane, Planes};
use crate::transform::filters::{second_difference, square3};

/// The family `cooccurrence`.
pub(super) struct Family;

/// Residuals are clamped to -2 … 2: five symbols.
const SYMBOLS: usize = 5;
const CELLS: usize = SYMBOLS.pow(4);

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "cooccurrence",
            set: Set::Default,
            unit: "share",
            formula: "r = clamp(round(v / 4), -2, 2), v luma filtered by [[-1,2,-1],[2,-4,2],[-1,2,-1]] (halves away from \
                      0), 1 px off the edge; share of each (r1, r2, r3, r4) among four residuals in a row, horizontal and \
                      vertical together; tuples that a change of sign or of direction turns into each other are summed",
            source: "Pevný, Bas and Fridrich, Steganalysis by subtractive pixel adjacency matrix, 2010; Fridrich and \
                     Kodovský 2012 (order 4, T = 2, symmetrisation); Cozzolino and Verdoliva 2017 (for manipulations)",
        }
    }

    fn columns(&self) -> Vec<String> {
        let classes = classes();
        let mut names: Vec<Option<String>> = vec![None; classes.count];
        for (cell, &class) in classes.of.iter().enumerate() {
            let r = symbols(cell).map(|s| s as i32 - 2);
            // The first cell of a class names it.
            names[class as usize].get_or_insert_with(|| format!("{}_{}_{}_{}", r[0], r[1], r[2], r[3]));
        }
        names.into_iter().flatten().collect()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let counts = count(planes.luma8());
        let total = counts.iter().sum::<u64>() as f64;
        let classes = classes();
        let mut shares = vec![0.0; classes.count];
        for (&count, &class) in counts.iter().zip(&classes.of) {
            shares[class as usize] += count as f64 / total;
        }
        for (out, share) in out.iter_mut().zip(shares) {
            *out = share as f32;
        }
    }
}

fn symbols(cell: usize) -> [usize; 4] {
    [cell / 125, cell / 25 % 5, cell / 5 % 5, cell % 5]
}

struct Classes {
    of: [u8; CELLS],
    count: usize,
}

/// Class of each cell: those that sign and direction turn into each other share one.
fn classes() -> &'static Classes {
    static TABLE: std::sync::LazyLock<Classes> = std::sync::LazyLock::new(|| {
        let mut classes = Classes { of: [0; CELLS], count: 0 };
        for cell in 0..CELLS {
            let [a, b, c, d] = symbols(cell);
            let index = |[a, b, c, d]: [usize; 4]| ((a * 5 + b) * 5 + c) * 5 + d;
            let twins = [[d, c, b, a], [4 - a, 4 - b, 4 - c, 4 - d], [4 - d, 4 - c, 4 - b, 4 - a]].map(index);
            let first = twins.into_iter().fold(cell, usize::min);
            classes.of[cell] = if first < cell {
                classes.of[first]
            } else {
                classes.count += 1;
                (classes.count - 1) as u8
            };
        }
        classes
    });
    &TABLE
}

/// How many tuples fall into each cell, both directions.
fn count(luma: &Plane<u8>) -> [u64; CELLS] {
    let (width, height) = (luma.width - 2, luma.height - 2);
    // What lies beside the image is computed with it, so that all loops run over whole vectors, and not counted.
    let beside = width.next_multiple_of(64) + 64;
    let mut counts = Counts::new();
    let mut lines = [0; 3].map(|_: i32| vec![0_i16; beside]);
    let mut residuals = vec![0_i16; beside];
    let mut symbols = [0; 5].map(|_: i32| vec![0_u8; beside]);
    let mut cells = vec![0_u16; beside];
    for y in 0..luma.height {
        lines.rotate_left(1);
        second_difference(luma.row(y), &mut lines[2]);
        if y < 2 {
            continue;
        }
        square3(&lines[0], &lines[1], &lines[2], &mut residuals);
        symbols.rotate_left(1);
        let [a, b, c, d, e] = &mut symbols;
        quantise(&residuals, e);
        let pairs = (width - 3) / 2;
        along(e, &mut cells[..beside / 2 - 2]);
        counts.add_pairs(&cells[..pairs]);
        if width % 2 == 0 {
            counts.add_one([e[width - 4], e[width - 3], e[width - 2], e[width - 1]]);
        }
        // Rows of residuals: this one is the row y - 2.
        if y >= 6 && y % 2 == 0 {
            down(a, b, c, d, e, &mut cells);
            counts.add_pairs(&cells[..width]);
        }
    }
    if height % 2 == 0 {
        let [_, a, b, c, d] = &symbols;
        for x in 0..width {
            counts.add_one([a[x], b[x], c[x], d[x]]);
        }
    }
    counts.finish()
}

/// Cells of two tuples in one: five symbols in a row.
const PAIRS: usize = CELLS * SYMBOLS;

/// What a cell is taken modulo, so that no index is outside.
const MODULUS: usize = PAIRS.next_power_of_two();
/// Not a power of two: the same cell of two tables would look like one address to the processor's store queue.
const TABLE: usize = MODULUS + 160;

/// Counts tuples; two that overlap in three symbols cost one increment.
struct Counts {
    /// Four, as equal neighbours would wait for each other's increment in one; 16 bits, so that all stay in the first
    /// cache.
    pairs: Box<[[u16; TABLE]; 4]>,
    /// Increments of the first table at most, since all were emptied.
    pending: usize,
    tuples: [u64; CELLS],
}

impl Counts {
    #[allow(clippy::large_stack_arrays)] // 34 KB on their way to the heap, once an image
    fn new() -> Self {
        Self { pairs: Box::new([[0; TABLE]; 4]), pending: 0, tuples: [0; CELLS] }
    }

    /// Counts both tuples of each cell of five symbols.
    fn add_pairs(&mut self, cells: &[u16]) {
        for cells in cells.chunks(1 << 16) {
            let increments = cells.len() / 4 + 1;
            if self.pending + increments > usize::from(u16::MAX) {
                self.empty();
            }
            self.pending += increments;
            let [t0, t1, t2, t3] = &mut *self.pairs;
            let (fours, rest) = cells.as_chunks::<4>();
            let at = |cell: u16| usize::from(cell) % MODULUS;
            for &[a, b, c, d] in fours {
                t0[at(a)] += 1;
                t1[at(b)] += 1;
                t2[at(c)] += 1;
                t3[at(d)] += 1;
            }
            for (&cell, table) in rest.iter().zip([t0, t1, t2]) {
                table[at(cell)] += 1;
            }
        }
    }

    fn add_one(&mut self, symbols: [u8; 4]) {
        self.tuples[symbols.into_iter().fold(0, |cell, symbol| cell * SYMBOLS + usize::from(symbol))] += 1;
    }

    /// Moves the pairs to the tuples: the first four and the last four symbols of each.
    fn empty(&mut self) {
        let mut sums = [0_u32; PAIRS];
        for table in self.pairs.iter() {
            for (sum, &count) in sums.iter_mut().zip(table) {
                *sum += u32::from(count);
            }
        }
        for (tuple, sums) in self.tuples.iter_mut().zip(sums.as_chunks::<SYMBOLS>().0) {
            *tuple += u64::from(sums.iter().sum::<u32>());
        }
        for sums in sums.as_chunks::<CELLS>().0 {
            for (tuple, &sum) in self.tuples.iter_mut().zip(sums) {
                *tuple += u64::from(sum);
            }
        }
        self.pairs.as_flattened_mut().fill(0);
        self.pending = 0;
    }

    fn finish(mut self) -> [u64; CELLS] {
        self.empty();
        self.tuples
    }
}

#[multiversion(targets = "simd")]
fn quantise(residuals: &[i16], out: &mut [u8]) {
    let n = out.len();
    let residuals = &residuals[..n];
    for x in 0..n {
        let v = residuals[x];
        // v >> 15 is -1 below 0: halves go away from 0 on both sides.
        out[x] = (((v + 2 + (v >> 15)) >> 2).clamp(-2, 2) + 2) as u8;
    }
}

/// Cells of five symbols in a row, from each second symbol on.
#[multiversion(targets = "simd")]
fn along(symbols: &[u8], cells: &mut [u16]) {
    let n = cells.len();
    let words = &symbols.as_chunks::<2>().0[..n + 2];
    let pair = |word: [u8; 2]| u16::from(word[0]) * 5 + u16::from(word[1]);
    for i in 0..n {
        cells[i] = (pair(words[i]) * 25 + pair(words[i + 1])) * 5 + u16::from(words[i + 2][0]);
    }
}

/// Cells of five symbols in a column.
#[multiversion(targets = "simd")]
fn down(a: &[u8], b: &[u8], c: &[u8], d: &[u8], e: &[u8], cells: &mut [u16]) {
    let n = cells.len();
    let (a, b, c, d, e) = (&a[..n], &b[..n], &c[..n], &d[..n], &e[..n]);
    for x in 0..n {
        let [a, b, c, d, e] = [a[x], b[x], c[x], d[x], e[x]].map(u16::from);
        cells[x] = (((a * 5 + b) * 5 + c) * 5 + d) * 5 + e;
    }
}
