//! Least significant bits and saturation, channel by channel.

use multiversion::multiversion;

use super::{About, Feature, Set};
use crate::image::{Plane, Planes};

/// The family `bits`.
pub(super) struct Family;

const CHANNELS: [&str; 3] = ["r", "g", "b"];
const COLUMNS: [&str; 7] = ["lsb", "second", "black", "white", "same_right", "lsb_right", "lsb_down"];
const LANES: usize = 64;

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "bits",
            set: Set::Default,
            unit: "share",
            formula: "per channel, shares of pixels with: lsb x odd; second bit 1 of x set; black x = 0; white x = 255; \
                      same_right x equal to its right neighbour; lsb_right, lsb_down lowest bit equal to the neighbour's \
                      (pixels that have that neighbour)",
            source: "Westfeld and Pfitzmann, Attacks on steganographic systems, 1999 (bit planes); saturation: McCloskey and \
                     Albright 2018",
        }
    }

    fn columns(&self) -> Vec<String> {
        CHANNELS.iter().flat_map(|channel| COLUMNS.map(|column| format!("{channel}_{column}"))).collect()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        for (channel, out) in planes.bytes().iter().zip(out.chunks_exact_mut(COLUMNS.len())) {
            let counts = count(channel);
            let (w, h) = (channel.width as f64, channel.height as f64);
            let places = [w * h, w * h, w * h, w * h, (w - 1.0) * h, (w - 1.0) * h, w * (h - 1.0)];
            for ((out, count), places) in out.iter_mut().zip(counts).zip(places) {
                *out = (count as f64 / places) as f32;
            }
        }
    }
}

fn count(channel: &Plane<u8>) -> [u64; 7] {
    let mut counts = [0; 7];
    for y in 0..channel.height {
        let row = channel.row(y);
        for (total, count) in counts.iter_mut().zip(of_pixels(row)) {
            *total += count;
        }
        let [same, lowest] = of_neighbours(&row[..row.len() - 1], &row[1..]);
        counts[4] += same;
        counts[5] += lowest;
        if y + 1 < channel.height {
            counts[6] += of_neighbours(row, channel.row(y + 1))[1];
        }
    }
    counts
}

/// Pixels that are odd, have bit 1 set, are 0, are 255.
#[multiversion(targets = "simd")]
fn of_pixels(row: &[u8]) -> [u64; 4] {
    let tests = |x: u8| [x & 1, (x >> 1) & 1, u8::from(x == 0), u8::from(x == 255)];
    let mut totals = [0; 4];
    // 255 steps fill a lane of 8 bits.
    for part in row.chunks(255 * LANES) {
        let mut lanes = [[0_u8; LANES]; 4];
        let (chunks, rest) = part.as_chunks::<LANES>();
        for chunk in chunks {
            for l in 0..LANES {
                let hits = tests(chunk[l]);
                for (lanes, hit) in lanes.iter_mut().zip(hits) {
                    lanes[l] += hit;
                }
            }
        }
        for (total, lanes) in totals.iter_mut().zip(&lanes) {
            *total += lanes.iter().map(|&lane| u64::from(lane)).sum::<u64>();
        }
        for &x in rest {
            for (total, hit) in totals.iter_mut().zip(tests(x)) {
                *total += u64::from(hit);
            }
        }
    }
    totals
}

/// Pairs that are equal, and pairs whose lowest bits are equal.
#[multiversion(targets = "simd")]
fn of_neighbours(a: &[u8], b: &[u8]) -> [u64; 2] {
    let mut totals = [0; 2];
    for (a, b) in a.chunks(255 * LANES).zip(b.chunks(255 * LANES)) {
        let mut lanes = [[0_u8; LANES]; 2];
        let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        for (a, b) in a.iter().zip(b) {
            for l in 0..LANES {
                lanes[0][l] += u8::from(a[l] == b[l]);
                lanes[1][l] += (a[l] ^ b[l] ^ 1) & 1;
            }
        }
        for (total, lanes) in totals.iter_mut().zip(&lanes) {
            *total += lanes.iter().map(|&lane| u64::from(lane)).sum::<u64>();
        }
        for (a, b) in a_rest.iter().zip(b_rest) {
            totals[0] += u64::from(a == b);
            totals[1] += u64::from((a ^ b ^ 1) & 1);
        }
    }
    totals
}
