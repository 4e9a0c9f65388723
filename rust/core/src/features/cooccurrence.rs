//! Joint histograms of neighbouring residuals, as in steganalysis.

use multiversion::multiversion;

use super::{About, Feature, Set};
use crate::image::{Plane, Planes};
use crate::transform::lanes::{LANES, blocks, start, window, window_mut};

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
        let total: f64 = counts.iter().map(|&count| f64::from(count)).sum();
        let classes = classes();
        let mut shares = vec![0.0; classes.count];
        for (&count, &class) in counts.iter().zip(&classes.of) {
            shares[class as usize] += f64::from(count) / total;
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
fn count(luma: &Plane<u8>) -> [u32; CELLS] {
    let width = luma.width - 2;
    // Two tables a direction: equal neighbours would wait for each other's increment in one.
    let mut tables = [[0_u32; CELLS]; 4];
    let mut symbols = [0; 4].map(|_: i32| vec![0_u8; width]);
    let mut cells = vec![0_u16; width];
    for y in 1..luma.height - 1 {
        symbols.rotate_left(1);
        quantise(luma.row(y - 1), luma.row(y), luma.row(y + 1), &mut symbols[3]);
        let [a, b, c, d] = &symbols;
        cells_of([d, &d[1..], &d[2..], &d[3..]], &mut cells[..width - 3]);
        let [t0, t1, t2, t3] = &mut tables;
        increment(&cells[..width - 3], t0, t1);
        if y >= 4 {
            cells_of([a, b, c, d], &mut cells);
            increment(&cells, t2, t3);
        }
    }
    std::array::from_fn(|cell| tables.iter().map(|table| table[cell]).sum())
}

#[multiversion(targets = "simd")]
fn quantise(above: &[u8], here: &[u8], below: &[u8], out: &mut [u8]) {
    let n = out.len();
    for block in 0..blocks(n) {
        let x = start(block, n);
        let above: &[u8; LANES + 2] = window(above, x);
        let here: &[u8; LANES + 2] = window(here, x);
        let below: &[u8; LANES + 2] = window(below, x);
        let out: &mut [u8; LANES] = window_mut(out, x);
        for l in 0..LANES {
            let corners = i16::from(above[l]) + i16::from(above[l + 2]) + i16::from(below[l]) + i16::from(below[l + 2]);
            let sides = i16::from(above[l + 1]) + i16::from(below[l + 1]) + i16::from(here[l]) + i16::from(here[l + 2]);
            let v = 2 * sides - corners - 4 * i16::from(here[l + 1]);
            // v >> 15 is -1 below 0: halves go away from 0 on both sides.
            out[l] = (((v + 2 + (v >> 15)) >> 2).clamp(-2, 2) + 2) as u8;
        }
    }
}

#[multiversion(targets = "simd")]
fn cells_of(symbols: [&[u8]; 4], cells: &mut [u16]) {
    let n = cells.len();
    for block in 0..blocks(n) {
        let x = start(block, n);
        let a: &[u8; LANES] = window(symbols[0], x);
        let b: &[u8; LANES] = window(symbols[1], x);
        let c: &[u8; LANES] = window(symbols[2], x);
        let d: &[u8; LANES] = window(symbols[3], x);
        let cells: &mut [u16; LANES] = window_mut(cells, x);
        for l in 0..LANES {
            cells[l] = (u16::from(a[l]) * 5 + u16::from(b[l])) * 25 + u16::from(c[l]) * 5 + u16::from(d[l]);
        }
    }
}

fn increment(cells: &[u16], even: &mut [u32; CELLS], odd: &mut [u32; CELLS]) {
    let (pairs, rest) = cells.as_chunks::<2>();
    for &[a, b] in pairs {
        even[usize::from(a).min(CELLS - 1)] += 1;
        odd[usize::from(b).min(CELLS - 1)] += 1;
    }
    for &cell in rest {
        even[usize::from(cell)] += 1;
    }
}
