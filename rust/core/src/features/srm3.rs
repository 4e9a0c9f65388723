//! Three filters of the spatial rich model on luma, with moments and neighbour correlations.

use multiversion::multiversion;

use super::sums::{MOMENTS, Moments, POWER_FLOOR};
use super::{About, Feature, Set};
use crate::image::Planes;
use crate::transform::avx512::neighbour_sums;
use crate::transform::filters::{second_difference, square3};
use crate::transform::lanes::{Strip, dot, dot_next};

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
        // Three strips stay in the first cache, with the rows that they come from.
        let mut strips: [Strip<i8>; 3] = std::array::from_fn(|_| Strip::of(n, 4096));
        // What lies beside the image is computed with it, so that all loops run over whole vectors, and then cleared.
        let beside = (n + 2).next_multiple_of(64) + 64;
        let mut lines = [0; 3].map(|_: i32| vec![0_i16; beside]);
        let mut squares = [0; 3].map(|_: i32| vec![0_i16; beside]);
        for y in 0..luma.height {
            lines.rotate_left(1);
            second_difference(luma.row(y), &mut lines[2]);
            if y < 2 {
                continue;
            }
            squares.rotate_left(1);
            square3(&lines[0], &lines[1], &lines[2], &mut squares[2]);
            if y < 4 {
                continue;
            }
            let [square3, square5, line] = strips.each_mut().map(Strip::push);
            clamped(&lines[0], &squares[0], &squares[1], &squares[2], square3, square5, line);
            for row in [square3, square5, line] {
                row[n..].fill(0);
            }
            if strips[0].is_full() || y + 1 == luma.height {
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
    fn add(&mut self, strip: &Strip<i8>, n: usize) {
        let (here, above) = strip.neighbours();
        let samples = here.len() - 1;
        for start in (0..samples).step_by(PART) {
            let part = start..(start + PART).min(samples) + 1;
            self.add_part(&here[part.clone()], &above[part]);
        }
        self.moments.count += (n * strip.len()) as f64;
        self.moments.zeros -= (samples - n * strip.len()) as f64;
    }

    /// All but the last sample of `here`, with the neighbours before them in `above`.
    fn add_part(&mut self, here: &[i8], above: &[i8]) {
        let n = here.len() - 1;
        let neighbours = if let Some([absolute, square, fourth, zeros, neighbours @ ..]) = neighbour_sums(here, above) {
            self.moments.add_sums([absolute, square, fourth, zeros].map(|sum| sum as f64), 0);
            neighbours
        } else {
            self.moments.add_padded(&here[..n]);
            [dot_next(here, here), dot(&above[..n], here), dot_next(above, here), dot_next(here, above)]
        };
        for (total, sum) in self.neighbours.iter_mut().zip(neighbours) {
            *total += sum as f64;
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

/// Samples that are summed at once; a multiple of any vector.
const PART: usize = 16_384;

/// The three clamped responses from those unclamped: the 5x5 filter is the 3x3 filter followed by
/// [[1, 0, 1], [0, 2, 0], [1, 0, 1]].
#[multiversion(targets = "simd")]
fn clamped(
    line: &[i16],
    above: &[i16],
    here: &[i16],
    below: &[i16],
    square3: &mut [i8],
    square5: &mut [i8],
    flat: &mut [i8],
) {
    let n = flat.len();
    let (above, above_right, below, below_right) = (&above[..n], &above[2..n + 2], &below[..n], &below[2..n + 2]);
    let (here, line) = (&here[1..=n], &line[1..=n]);
    let (square3, square5) = (&mut square3[..n], &mut square5[..n]);
    for x in 0..n {
        let corners = above[x] + above_right[x] + below[x] + below_right[x];
        square3[x] = here[x].clamp(-CLAMP * STEPS[0], CLAMP * STEPS[0]) as i8;
        square5[x] = (corners + 2 * here[x]).clamp(-CLAMP * STEPS[1], CLAMP * STEPS[1]) as i8;
        flat[x] = line[x].clamp(-CLAMP * STEPS[2], CLAMP * STEPS[2]) as i8;
    }
}

#[cfg(test)]
mod tests {
    use super::Sums;
    use crate::transform::avx512::neighbour_sums;
    use crate::transform::lanes::{dot, dot_next};

    #[test]
    fn vectors_sum_as_rows_do() {
        let samples: Vec<i8> = (0..=4 * 192_i64).map(|i| (i * i % 8191 % 73 - 36) as i8).collect();
        let (above, here) = (&samples[..=3 * 192], &samples[192..]);
        let n = here.len() - 1;
        let Some([absolute, square, fourth, zeros, neighbours @ ..]) = neighbour_sums(here, above) else { return };
        let mut sums = Sums::default();
        sums.moments.add_padded(&here[..n]);
        sums.moments.finish();
        let expected = [sums.moments.absolute, sums.moments.square, sums.moments.fourth, sums.moments.zeros];
        assert_eq!([absolute, square, fourth, zeros], expected.map(|sum| sum as i64));
        let products = [dot_next(here, here), dot(&above[..n], here), dot_next(above, here), dot_next(here, above)];
        assert_eq!(neighbours, products);
    }
}
