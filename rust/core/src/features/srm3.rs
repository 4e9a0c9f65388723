//! Three filters of the spatial rich model on luma, with moments and neighbour correlations.

use multiversion::multiversion;

use super::sums::{MOMENTS, Moments, POWER_FLOOR, dot};
use super::{About, Feature, Set};
use crate::image::{Plane, Planes};

/// The family `srm3`.
pub(super) struct Family;

const FILTERS: [&str; 3] = ["square3", "square5", "line"];
/// Divisors of the integer filters; a clamp of ±3 after division is one of ±3 divisors before it.
const STEPS: [i16; 3] = [4, 12, 2];
const CLAMP: i16 = 3;
const NEIGHBOURS: [&str; 4] = ["right", "down", "down_right", "down_left"];
const COLUMNS: usize = MOMENTS.len() + NEIGHBOURS.len();

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "srm3",
            set: Set::Default,
            unit: "filter levels; 1; share",
            formula: "v: luma filtered by square3x3 [[-1,2,-1],[2,-4,2],[-1,2,-1]] / 4, square5x5 (SRM) / 12 and \
                      [1,-2,1] / 2, where all three fit (2 px off the edge), clamped to ±3; mean_abs = E|v|; log_power \
                      = ln(E v² + 0.01); kurtosis = E v⁴ / (E v² + 0.01)²; shape = (E|v|)² / (E v² + 0.01); zeros = share \
                      of v = 0; right, down, down_right, down_left = E v v' / (E v² + 0.01), v' that neighbour",
            source: "Fridrich and Kodovský, Rich models for steganalysis of digital images, 2012; three filters and \
                     clamp: DeepfakeBench:training/lib/component/srm_conv.py",
        }
    }

    fn columns(&self) -> Vec<String> {
        let names = || MOMENTS.iter().chain(&NEIGHBOURS);
        FILTERS.iter().flat_map(|filter| names().map(move |name| format!("{filter}_{name}"))).collect()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let luma = planes.luma8();
        let mut sums = [Sums::default(); 3];
        let mut rows = [0; 3].map(|_: i32| vec![0_i16; luma.width - 4]);
        let mut previous = rows.clone();
        let mut scratch = [0; 3].map(|_: i32| vec![0_i16; luma.width]);
        for y in 2..luma.height - 2 {
            filter_row(luma, y, &mut scratch, &mut rows);
            for ((row, previous), sums) in rows.iter().zip(&previous).zip(&mut sums) {
                sums.add(row, (y > 2).then_some(previous));
            }
            std::mem::swap(&mut rows, &mut previous);
        }
        for ((sums, step), out) in sums.iter().zip(STEPS).zip(out.chunks_exact_mut(COLUMNS)) {
            sums.fill(f64::from(step), luma.width - 4, luma.height - 4, out);
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    moments: Moments,
    neighbours: [f64; 4],
}

impl Sums {
    fn add(&mut self, row: &[i16], above: Option<&Vec<i16>>) {
        let n = row.len();
        self.moments.add(row);
        self.neighbours[0] += dot(&row[..n - 1], &row[1..]) as f64;
        if let Some(above) = above {
            self.neighbours[1] += dot(above, row) as f64;
            self.neighbours[2] += dot(&above[..n - 1], &row[1..]) as f64;
            self.neighbours[3] += dot(&above[1..], &row[..n - 1]) as f64;
        }
    }

    fn fill(&self, step: f64, width: usize, height: usize, out: &mut [f32]) {
        self.moments.fill(step, out);
        let power = self.moments.square / (self.moments.count * step * step) + POWER_FLOOR;
        let (w, h) = (width as f64, height as f64);
        let pairs = [(w - 1.0) * h, w * (h - 1.0), (w - 1.0) * (h - 1.0), (w - 1.0) * (h - 1.0)];
        for ((out, sum), pairs) in out[MOMENTS.len()..].iter_mut().zip(self.neighbours).zip(pairs) {
            *out = (sum / (pairs * step * step) / power) as f32;
        }
    }
}

/// The three clamped filter responses of row `y`, for x from 2 to width - 3.
fn filter_row(luma: &Plane<u8>, y: usize, scratch: &mut [Vec<i16>; 3], out: &mut [Vec<i16>; 3]) {
    let rows = [luma.row(y - 2), luma.row(y - 1), luma.row(y), luma.row(y + 1), luma.row(y + 2)];
    let [outer, inner, centre] = scratch;
    let [square3, square5, line] = out;
    squares5(rows, outer, inner, centre);
    let n = square5.len();
    combine5(&outer[..n + 4], &inner[..n + 4], &centre[..n + 4], square5);
    square3_and_line(rows[1], rows[2], rows[3], square3, line);
}

/// Column sums of the square 5×5 filter, which is symmetric: what each x gives to x ± 2, to x ± 1 and to itself.
#[multiversion(targets = "simd")]
fn squares5(rows: [&[u8]; 5], outer: &mut [i16], inner: &mut [i16], centre: &mut [i16]) {
    let n = centre.len();
    let [a, b, c, d, e] = rows.map(|row| &row[..n]);
    let (outer, inner) = (&mut outer[..n], &mut inner[..n]);
    for x in 0..n {
        let far = i16::from(a[x]) + i16::from(e[x]);
        let near = i16::from(b[x]) + i16::from(d[x]);
        let here = i16::from(c[x]);
        outer[x] = 2 * (near - here) - far;
        inner[x] = 2 * far - 6 * near + 8 * here;
        centre[x] = 8 * near - 2 * far - 12 * here;
    }
}

#[multiversion(targets = "simd")]
fn combine5(outer: &[i16], inner: &[i16], centre: &[i16], out: &mut [i16]) {
    let n = out.len();
    let (outer, inner, centre) = (&outer[..n + 4], &inner[..n + 4], &centre[..n + 4]);
    let clamp = CLAMP * STEPS[1];
    for x in 0..n {
        let v = outer[x] + outer[x + 4] + inner[x + 1] + inner[x + 3] + centre[x + 2];
        out[x] = v.clamp(-clamp, clamp);
    }
}

#[multiversion(targets = "simd")]
fn square3_and_line(above: &[u8], here: &[u8], below: &[u8], square: &mut [i16], line: &mut [i16]) {
    let n = line.len();
    let square = &mut square[..n];
    let (above, here, below) = (&above[..n + 4], &here[..n + 4], &below[..n + 4]);
    let (square_clamp, line_clamp) = (CLAMP * STEPS[0], CLAMP * STEPS[2]);
    for x in 0..n {
        let second = |row: &[u8]| i16::from(row[x + 1]) - 2 * i16::from(row[x + 2]) + i16::from(row[x + 3]);
        let middle = second(here);
        square[x] = (2 * middle - second(above) - second(below)).clamp(-square_clamp, square_clamp);
        line[x] = middle.clamp(-line_clamp, line_clamp);
    }
}
