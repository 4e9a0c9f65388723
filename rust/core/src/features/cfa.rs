//! Traces of a colour filter array: every second pixel is interpolated, so its prediction error is smaller.

use multiversion::multiversion;

use super::{About, Feature, Set};
use crate::image::{Plane, Planes};
use crate::transform::avx512::error_sums;
use crate::transform::lanes::{LANES, Window, blocks, padded, start, window, window_mut};

/// The family `cfa`.
pub(super) struct Family;

const CHANNELS: [&str; 3] = ["r", "g", "b"];
const COLUMNS: [&str; 4] = ["peak", "both", "rows", "columns"];
/// In grey levels.
const FLOOR: f64 = 0.01;

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "cfa",
            set: Set::Default,
            unit: "ln ratio; ratio",
            formula: "per channel e = |x - (N + S + E + W) / 4|, 1 px off the edge, cropped to even sides, n places; F(u,v): \
                      sum of e times exp(-2πi (u x + v y)); peak = ln(1 + |F(1/2,1/2)| / (sqrt(ln 2 Σ(e - mean e)²) + \
                      0.01 sqrt n)), over the median that a white e would have; both, rows, columns = |F| / (n (mean e + \
                      0.01)) at (1/2,1/2), (0,1/2), (1/2,0)",
            source: "Popescu and Farid, Exposing digital forgeries in color filter array interpolated images, 2005; Gallagher \
                     and Chen, Image authentication by detecting traces of demosaicing, 2008",
        }
    }

    fn columns(&self) -> Vec<String> {
        CHANNELS.iter().flat_map(|channel| COLUMNS.map(|column| format!("{channel}_{column}"))).collect()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        for (channel, out) in planes.bytes().iter().zip(out.chunks_exact_mut(COLUMNS.len())) {
            channel_columns(channel, out);
        }
    }
}

fn channel_columns(channel: &Plane<u8>, out: &mut [f32]) {
    let (width, height) = ((channel.width - 2) & !1, (channel.height - 2) & !1);
    let Sums { parities: [[a, b], [c, d]], square } =
        by_vectors(channel, width, height).unwrap_or_else(|| by_rows(channel, width, height));
    let (sum, both, rows, columns) = (a + b + c + d, a - b - c + d, a + b - c - d, a - b + c - d);
    let n = (width * height) as f64;
    let spread = (square - sum * sum / n).max(0.0) / 16.0;
    let median = (std::f64::consts::LN_2 * spread).sqrt() + FLOOR * n.sqrt();
    let level = n * (sum / 4.0 / n + FLOOR);
    out[0] = (both.abs() / 4.0 / median).ln_1p() as f32;
    out[1] = (both.abs() / 4.0 / level) as f32;
    out[2] = (rows.abs() / 4.0 / level) as f32;
    out[3] = (columns.abs() / 4.0 / level) as f32;
}

/// Sums over errors in quarters of a grey level: integers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sums {
    /// By parity of row and column.
    parities: [[f64; 2]; 2],
    square: f64,
}

/// By vectors of pixels, where the machine can.
fn by_vectors(channel: &Plane<u8>, width: usize, height: usize) -> Option<Sums> {
    let mut totals = [0; 5];
    let stride = channel.width;
    for part in (Window { start: stride + 1, width, height, stride }).parts() {
        for (total, sum) in totals.iter_mut().zip(error_sums(&channel.data, part)?) {
            *total += sum;
        }
    }
    let [even, even_alternating, odd, odd_alternating, square] = totals.map(|total| total as f64);
    let columns = |sum: f64, alternating: f64| [0.5 * (sum + alternating), 0.5 * (sum - alternating)];
    Some(Sums { parities: [columns(even, even_alternating), columns(odd, odd_alternating)], square })
}

/// Row after row.
fn by_rows(channel: &Plane<u8>, width: usize, height: usize) -> Sums {
    let mut errors = padded(width);
    let mut sums = Sums::default();
    let mut lanes = [[0_i32; LANES]; 3];
    let mut pending = 0;
    for y in 0..height {
        prediction_errors(channel.row(y), channel.row(y + 1), channel.row(y + 2), width, &mut errors);
        let [even, odd, squares] = &mut lanes;
        add(&errors, if y % 2 == 0 { even } else { odd }, squares);
        pending += blocks(width);
        // 1024 squares of at most 1020 stay inside 32 bits; a row of any size has fewer blocks than that again.
        if pending >= 512 || y + 1 == height {
            for (x, &value) in lanes.as_flattened().iter().enumerate() {
                match x / LANES {
                    2 => sums.square += f64::from(value),
                    parity => sums.parities[parity][x % 2] += f64::from(value),
                }
            }
            lanes = [[0; LANES]; 3];
            pending = 0;
        }
    }
    sums
}

#[multiversion(targets = "simd")]
fn prediction_errors(above: &[u8], here: &[u8], below: &[u8], n: usize, out: &mut [i16]) {
    for block in 0..blocks(n) {
        let x = start(block, n);
        let above: &[u8; LANES + 2] = window(above, x);
        let here: &[u8; LANES + 2] = window(here, x);
        let below: &[u8; LANES + 2] = window(below, x);
        let out: &mut [i16; LANES] = window_mut(out, x);
        for l in 0..LANES {
            let vertical = i16::from(above[l + 1]) + i16::from(below[l + 1]);
            let horizontal = i16::from(here[l]) + i16::from(here[l + 2]);
            out[l] = (4 * i16::from(here[l + 1]) - vertical - horizontal).abs();
        }
    }
}

#[multiversion(targets = "simd")]
fn add(errors: &[i16], sums: &mut [i32; LANES], squares: &mut [i32; LANES]) {
    for block in errors.as_chunks::<LANES>().0 {
        for l in 0..LANES {
            let e = i32::from(block[l]);
            sums[l] += e;
            squares[l] += e * e;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{by_rows, by_vectors};
    use crate::image::Plane;

    #[test]
    fn vectors_sum_as_rows_do() {
        for (width, height, range) in [(66, 66, 256), (131, 68, 256), (18_000, 66, 256), (300, 512, 2)] {
            let data = (0..width * height).map(|i| (i * i % 8191 % range * 255 / (range - 1)) as u8).collect();
            let plane = Plane { width, height, data };
            let (width, height) = ((width - 2) & !1, (height - 2) & !1);
            if let Some(sums) = by_vectors(&plane, width, height) {
                assert_eq!(sums, by_rows(&plane, width, height));
            }
        }
    }
}
