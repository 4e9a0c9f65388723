//! Three filters of the spatial rich model on luma, with moments and neighbour correlations.

use multiversion::multiversion;

use super::sums::{MOMENTS, Moments, POWER_FLOOR};
use super::{About, Feature, Set};
use crate::image::Planes;
use crate::transform::lanes::{LANES, Strip, blocks, dot, dot_next, start, window, window_mut};

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
        let n = luma.width - 4;
        let mut sums: [Sums; 3] = Default::default();
        let mut strips: [Strip; 3] = std::array::from_fn(|_| Strip::new(n));
        for y in 2..luma.height - 2 {
            let window = std::array::from_fn(|i| luma.row(y + i - 2));
            filter(window, n, strips.each_mut().map(Strip::push));
            if strips[0].is_full() || y == luma.height - 3 {
                for (sums, strip) in sums.iter_mut().zip(&mut strips) {
                    sums.add(strip, n);
                    strip.restart();
                }
            }
        }
        for ((sums, step), out) in sums.iter_mut().zip(STEPS).zip(out.chunks_exact_mut(COLUMNS)) {
            sums.moments.finish();
            sums.fill(f64::from(step), luma.width - 4, luma.height - 4, out);
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Sums {
    moments: Moments,
    neighbours: [f64; 4],
}

impl Sums {
    fn add(&mut self, strip: &Strip, n: usize) {
        let (here, above) = (strip.here(), strip.above());
        self.moments.add(here, n * strip.len());
        self.neighbours[0] += dot_next(here, here) as f64;
        self.neighbours[1] += dot(above, here) as f64;
        self.neighbours[2] += dot_next(above, here) as f64;
        self.neighbours[3] += dot_next(here, above) as f64;
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

/// The three clamped filter responses at (x + 2, centre row), x < n.
#[multiversion(targets = "simd")]
fn filter(rows: [&[u8]; 5], n: usize, out: [&mut [i16]; 3]) {
    let [square3, square5, line] = out;
    for block in 0..blocks(n) {
        let x = start(block, n);
        let (mut far, mut near, mut here) = ([0_i16; LANES + 4], [0_i16; LANES + 4], [0_i16; LANES + 4]);
        let a: &[u8; LANES + 4] = window(rows[0], x);
        let b: &[u8; LANES + 4] = window(rows[1], x);
        let c: &[u8; LANES + 4] = window(rows[2], x);
        let d: &[u8; LANES + 4] = window(rows[3], x);
        let e: &[u8; LANES + 4] = window(rows[4], x);
        for l in 0..LANES + 4 {
            far[l] = i16::from(a[l]) + i16::from(e[l]);
            near[l] = i16::from(b[l]) + i16::from(d[l]);
            here[l] = i16::from(c[l]);
        }
        let square3: &mut [i16; LANES] = window_mut(square3, x);
        let square5: &mut [i16; LANES] = window_mut(square5, x);
        let line: &mut [i16; LANES] = window_mut(line, x);
        for l in 0..LANES {
            // The filters are symmetric: sums over the two columns at each distance, times the filter's column.
            let (far2, near2, here2) = (far[l] + far[l + 4], near[l] + near[l + 4], here[l] + here[l + 4]);
            let (far1, near1, here1) = (far[l + 1] + far[l + 3], near[l + 1] + near[l + 3], here[l + 1] + here[l + 3]);
            let (far0, near0, here0) = (far[l + 2], near[l + 2], here[l + 2]);
            let five =
                (2 * (near2 - here2) - far2) + (2 * far1 - 6 * near1 + 8 * here1) + (8 * near0 - 2 * far0 - 12 * here0);
            let three = 2 * (here1 + near0) - near1 - 4 * here0;
            square3[l] = three.clamp(-CLAMP * STEPS[0], CLAMP * STEPS[0]);
            square5[l] = five.clamp(-CLAMP * STEPS[1], CLAMP * STEPS[1]);
            line[l] = (here1 - 2 * here0).clamp(-CLAMP * STEPS[2], CLAMP * STEPS[2]);
        }
    }
}
