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
    let (data, width) = (&channel.data, channel.width);
    let mut counts = [0; 7];
    counts[..4].copy_from_slice(&of_pixels(data));
    // Along the whole plane, so that pairs of a row's last and the next row's first pixel have to be taken off again.
    let pairs = of_pairs(data, &data[1..]);
    let mut seams = [0; 2];
    for y in 1..channel.height {
        let (a, b) = (data[y * width - 1], data[y * width]);
        seams[0] += u64::from(a == b);
        seams[1] += u64::from((a ^ b) & 1 == 0);
    }
    counts[4] = pairs[0] - seams[0];
    counts[5] = pairs[1] - seams[1];
    counts[6] = of_pairs(data, &data[width..])[1];
    counts
}

/// Steps after which a lane of 8 bits is full.
const FULL: usize = 255;

/// Pixels that are odd, have bit 1 set, are 0, are 255.
#[multiversion(targets = "simd")]
fn of_pixels(data: &[u8]) -> [u64; 4] {
    let mut totals = [0; 4];
    let (chunks, rest) = data.as_chunks::<LANES>();
    for part in chunks.chunks(FULL) {
        let mut lanes = [[0_u8; LANES]; 4];
        for chunk in part {
            for l in 0..LANES {
                let x = chunk[l];
                lanes[0][l] += x & 1;
                lanes[1][l] += (x >> 1) & 1;
                lanes[2][l] += u8::from(x == 0);
                lanes[3][l] += u8::from(x == 255);
            }
        }
        for (total, lanes) in totals.iter_mut().zip(&lanes) {
            *total += sum(lanes);
        }
    }
    for &x in rest {
        totals[0] += u64::from(x & 1);
        totals[1] += u64::from((x >> 1) & 1);
        totals[2] += u64::from(x == 0);
        totals[3] += u64::from(x == 255);
    }
    totals
}

/// Pairs (a, b) that are equal, and pairs whose lowest bits are equal, over the shorter length.
#[multiversion(targets = "simd")]
fn of_pairs(a: &[u8], b: &[u8]) -> [u64; 2] {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    let mut totals = [0; 2];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.chunks(FULL).zip(b.chunks(FULL)) {
        let mut lanes = [[0_u8; LANES]; 2];
        for (a, b) in a.iter().zip(b) {
            for l in 0..LANES {
                lanes[0][l] += u8::from(a[l] == b[l]);
                lanes[1][l] += (a[l] ^ b[l] ^ 1) & 1;
            }
        }
        totals[0] += sum(&lanes[0]);
        totals[1] += sum(&lanes[1]);
    }
    for (a, b) in a_rest.iter().zip(b_rest) {
        totals[0] += u64::from(a == b);
        totals[1] += u64::from((a ^ b) & 1 == 0);
    }
    totals
}

#[inline(always)]
fn sum(lanes: &[u8; LANES]) -> u64 {
    let mut total = 0;
    for &lane in lanes {
        total += u64::from(lane);
    }
    total
}
