//! The 3×3 median residual.

use multiversion::multiversion;

use crate::image::Plane;

/// `plane` minus its 3×3 median, edges replicated.
pub fn residual(plane: &Plane<u8>) -> Plane<i16> {
    let (width, height) = (plane.width, plane.height);
    let mut data = vec![0; plane.data.len()];
    // Each column of three is sorted once and serves three medians; one guard column on each side replicates edges.
    let mut sorted = [0; 3].map(|_: i32| vec![0_u8; width + 2]);
    for (y, out) in data.chunks_exact_mut(width).enumerate() {
        let [low, middle, high] = &mut sorted;
        let (above, below) = (plane.row(y.saturating_sub(1)), plane.row((y + 1).min(height - 1)));
        sort_columns(above, plane.row(y), below, &mut low[1..=width], &mut middle[1..=width], &mut high[1..=width]);
        for row in &mut sorted {
            row[0] = row[1];
            row[width + 1] = row[width];
        }
        subtract_median(plane.row(y), &sorted[0], &sorted[1], &sorted[2], out);
    }
    Plane { width, height, data }
}

#[multiversion(targets = "simd")]
fn sort_columns(above: &[u8], here: &[u8], below: &[u8], low: &mut [u8], middle: &mut [u8], high: &mut [u8]) {
    let inputs = above.iter().zip(here).zip(below);
    for ((((&a, &b), &c), low), (middle, high)) in inputs.zip(low).zip(middle.iter_mut().zip(high)) {
        *low = a.min(b).min(c);
        *middle = median(a, b, c);
        *high = a.max(b).max(c);
    }
}

#[multiversion(targets = "simd")]
fn subtract_median(here: &[u8], low: &[u8], middle: &[u8], high: &[u8], out: &mut [i16]) {
    let n = out.len();
    let (here, low, middle, high) = (&here[..n], &low[..n + 2], &middle[..n + 2], &high[..n + 2]);
    for x in 0..n {
        let largest_low = low[x].max(low[x + 1]).max(low[x + 2]);
        let middle_middle = median(middle[x], middle[x + 1], middle[x + 2]);
        let smallest_high = high[x].min(high[x + 1]).min(high[x + 2]);
        out[x] = i16::from(here[x]) - i16::from(median(largest_low, middle_middle, smallest_high));
    }
}

#[inline(always)]
fn median(a: u8, b: u8, c: u8) -> u8 {
    a.min(b).max(a.max(b).min(c))
}
