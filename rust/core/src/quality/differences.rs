//! Differences of neighbours in luma: how rough a picture is, and whether it is rough along a grid.

use multiversion::multiversion;

use crate::image::Plane;

/// Periods of the grids that are looked for, in pixels.
const PERIODS: [usize; 3] = [8, 16, 32];

/// Squared grey levels that [`Differences::seams`] adds to what a grid is compared with.
const SEAM_FLOOR: f64 = 1.0;

/// What differences of neighbours say.
pub(super) struct Differences {
    /// Mean squared difference of neighbours: the mean of the two axes' means.
    pub(super) square: f64,
    /// Variance of the Laplacian.
    pub(super) laplacian: f64,
    /// How much rougher the best grid's lines are than the rest.
    pub(super) seams: f64,
}

/// Differences of the neighbours in `luma`.
pub(super) fn of(luma: &Plane<u8>) -> Differences {
    let (width, height) = (luma.width, luma.height);
    let mut columns = vec![0_u64; width - 1];
    let mut rows = Vec::with_capacity(height - 1);
    let mut narrow = vec![0_u32; width - 1];
    let (mut sum, mut square) = (0_i64, 0_u64);
    for y in 0..height {
        let row = luma.row(y);
        add_squares(row, &row[1..], &mut narrow);
        // 65,000 squares of a difference of 255 stay inside 32 bits.
        if y % 65_000 == 64_999 || y + 1 == height {
            for (column, narrow) in columns.iter_mut().zip(&mut narrow) {
                *column += u64::from(std::mem::take(narrow));
            }
        }
        if y > 0 {
            rows.push(squares(luma.row(y - 1), row));
        }
        if y > 0 && y + 1 < height {
            let (part, part_square) = laplacian(luma.row(y - 1), row, luma.row(y + 1));
            sum += part;
            square += part_square;
        }
    }
    let inner = ((width - 2) * (height - 2)) as f64;
    let across = columns.iter().sum::<u64>() as f64 / ((width - 1) * height) as f64;
    let down = rows.iter().sum::<u64>() as f64 / (width * (height - 1)) as f64;
    let seams = PERIODS.map(|p| contrast(&columns, height, p).min(contrast(&rows, width, p)));
    Differences {
        square: f64::midpoint(across, down),
        laplacian: (square as f64 / inner - (sum as f64 / inner).powi(2)).max(0.0),
        seams: seams.into_iter().fold(0.0, f64::max),
    }
}

/// 1 - D / 2V, with a variance of at least that of rounding to integers.
pub(super) fn neighbour(square: f64, variance: f64) -> f64 {
    1.0 - square / (2.0 * variance.max(1.0 / 12.0))
}

/// Mean of the lines at multiples of `period` over that of all others; `lines[i]` sums `length` squared differences
/// between lines i and i + 1.
fn contrast(lines: &[u64], length: usize, period: usize) -> f64 {
    let (mut on, mut n_on, mut off) = (0, 0, 0);
    for (i, &line) in lines.iter().enumerate() {
        if (i + 1) % period == 0 {
            on += line;
            n_on += 1;
        } else {
            off += line;
        }
    }
    let mean = |sum: u64, n: usize| sum as f64 / (n * length) as f64;
    mean(on, n_on) / (mean(off, lines.len() - n_on) + SEAM_FLOOR)
}

/// Adds (a - b)² to `sums`, over the shortest length.
#[multiversion(targets = "simd")]
fn add_squares(a: &[u8], b: &[u8], sums: &mut [u32]) {
    for ((&a, &b), sum) in a.iter().zip(b).zip(sums) {
        let difference = u16::from(a.abs_diff(b));
        *sum += u32::from(difference * difference);
    }
}

/// Σ (a - b)².
#[multiversion(targets = "simd")]
fn squares(a: &[u8], b: &[u8]) -> u64 {
    let mut total = 0;
    // 4096 squares of at most 255² stay inside 32 bits.
    for (a, b) in a.chunks(4096).zip(b.chunks(4096)) {
        let mut part = 0_u32;
        for (&a, &b) in a.iter().zip(b) {
            let difference = u16::from(a.abs_diff(b));
            part += u32::from(difference * difference);
        }
        total += u64::from(part);
    }
    total
}

/// Σ and Σ² of 4 x - left - right - above - below over a row's inner pixels.
#[multiversion(targets = "simd")]
fn laplacian(above: &[u8], row: &[u8], below: &[u8]) -> (i64, u64) {
    let inner = row.len() - 2;
    let (mut sum, mut square) = (0_i64, 0_u64);
    let mut start = 0;
    while start < inner {
        // 2048 squares of at most 1020² stay inside 32 bits.
        let n = (inner - start).min(2048);
        let (above, below) = (&above[start + 1..][..n], &below[start + 1..][..n]);
        let (left, here, right) = (&row[start..][..n], &row[start + 1..][..n], &row[start + 2..][..n]);
        let (mut part, mut part_square) = (0_i32, 0_u32);
        for i in 0..n {
            let sides = i16::from(left[i]) + i16::from(right[i]) + i16::from(above[i]) + i16::from(below[i]);
            let value = i32::from(4 * i16::from(here[i]) - sides);
            part += value;
            part_square += (value * value) as u32;
        }
        sum += i64::from(part);
        square += u64::from(part_square);
        start += n;
    }
    (sum, square)
}
