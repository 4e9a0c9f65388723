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
    // Along the whole plane, so that pairs of a row's last and the next row's first pixel have to be taken off again.
    let (upper, last) = data.split_at(data.len() - width);
    let mut counts = of_pixels(upper, &data[1..], &data[width..]);
    for (x, &value) in last.iter().enumerate() {
        let right = last.get(x + 1);
        counts[0] += u64::from(value & 1);
        counts[1] += u64::from((value >> 1) & 1);
        counts[2] += u64::from(value == 0);
        counts[3] += u64::from(value == 255);
        counts[4] += u64::from(right.is_some_and(|&right| right == value));
        counts[5] += u64::from(right.is_some_and(|&right| (right ^ value) & 1 == 0));
    }
    for y in 1..channel.height {
        let (a, b) = (data[y * width - 1], data[y * width]);
        counts[4] -= u64::from(a == b);
        counts[5] -= u64::from((a ^ b) & 1 == 0);
    }
    counts
}

/// Steps after which a lane of 8 bits is full.
const FULL: usize = 255;

/// Of the pixels `here`, those counted by [`COLUMNS`], with their right and lower neighbours.
#[multiversion(targets = "simd")]
fn of_pixels(here: &[u8], right: &[u8], below: &[u8]) -> [u64; 7] {
    let n = here.len();
    let mut totals = [0; 7];
    let mut start = 0;
    while start < n {
        let end = n.min(start + FULL * LANES);
        let here = &here[start..end];
        let right = &right[start..end];
        let below = &below[start..end];
        let (chunks, rest) = here.as_chunks::<LANES>();
        let (right, right_rest) = right.as_chunks::<LANES>();
        let (below, below_rest) = below.as_chunks::<LANES>();
        let mut lanes = [[0_u8; LANES]; 7];
        for ((x, r), d) in chunks.iter().zip(right).zip(below) {
            add(x, r, d, &mut lanes);
        }
        for (total, lanes) in totals.iter_mut().zip(&lanes) {
            *total += sum(lanes);
        }
        for ((&x, &r), &d) in rest.iter().zip(right_rest).zip(below_rest) {
            let mut lanes = [[0_u8]; 7];
            add(&[x], &[r], &[d], &mut lanes);
            for (total, [count]) in totals.iter_mut().zip(lanes) {
                *total += u64::from(count);
            }
        }
        start = end;
    }
    totals
}

#[inline(always)]
fn add<const N: usize>(here: &[u8; N], right: &[u8; N], below: &[u8; N], lanes: &mut [[u8; N]; 7]) {
    for l in 0..N {
        let x = here[l];
        lanes[0][l] += x & 1;
        lanes[1][l] += (x >> 1) & 1;
        lanes[2][l] += u8::from(x == 0);
        lanes[3][l] += u8::from(x == 255);
        lanes[4][l] += u8::from(x == right[l]);
        lanes[5][l] += (x ^ right[l] ^ 1) & 1;
        lanes[6][l] += (x ^ below[l] ^ 1) & 1;
    }
}

#[inline(always)]
fn sum(lanes: &[u8; LANES]) -> u64 {
    let mut total = 0;
    for &lane in lanes {
        total += u64::from(lane);
    }
    total
}
