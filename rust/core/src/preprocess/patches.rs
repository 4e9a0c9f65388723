//! The patches that the detector AIDE looks at: the windows of an image with the least and with the most texture.
//!
//! After Yan et al., A sanity check for AI-generated image detection (AIDE), 2025, section 4.1, and the authors' code:
//! windows of 32×32 at stride 16 are graded by their DCT over all three channels, the two of the lowest and the two of
//! the highest grade are enlarged to 256×256 (bilinear, in floats) and normalised with the mean and deviation of
//! `ImageNet`.

use crate::error::{Error, Result};
use crate::features::WindowGrades;
use crate::image::{Image, Planes};

/// Side of a window, in pixels.
pub const SIDE: usize = WindowGrades::SIDE;
/// Pixels from one window to the next.
pub const STRIDE: usize = 16;
/// Side of an enlarged window.
pub const ENLARGED: usize = 256;
/// Windows of an image: lowest, highest, second lowest, second highest grade, as the network takes them.
pub const COUNT: usize = 4;
/// Values of an image: [`COUNT`] × 3 × [`ENLARGED`] × [`ENLARGED`].
pub const LENGTH: usize = COUNT * 3 * ENLARGED * ENLARGED;

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Writes the patches of `image`, which `name` names in errors, to the [`LENGTH`] values of `out`.
pub fn write(name: &str, image: &Image, out: &mut [f32]) -> Result<()> {
    let (width, height) = (image.width(), image.height());
    if (width.min(height) as usize) < SIDE {
        return Err(Error::TooSmall { input: name.into(), width, height, min: SIDE as u32 });
    }
    for (out, place) in out.chunks_exact_mut(LENGTH / COUNT).zip(chosen(image)) {
        enlarge(image, place, out);
    }
    Ok(())
}

/// (top, left) of the windows, in the order of [`COUNT`]. Among equal grades the lower end takes the first in reading
/// order, the higher end the last. Of a single window, four times that.
pub fn chosen(image: &Image) -> [(usize, usize); COUNT] {
    let planes = Planes::new(image);
    let grades = WindowGrades::new();
    let mut ranking = Vec::new();
    for top in (0..=image.height() as usize - SIDE).step_by(STRIDE) {
        for left in (0..=image.width() as usize - SIDE).step_by(STRIDE) {
            let grade: f32 = planes.bytes().iter().map(|plane| grades.of(plane, top, left)).sum();
            ranking.push((grade, (top, left)));
        }
    }
    ranking.sort_by(|a, b| a.0.total_cmp(&b.0));
    let last = ranking.len() - 1;
    [0, last, 1.min(last), last.saturating_sub(1)].map(|rank| ranking[rank].1)
}

/// One window to 3 × [`ENLARGED`] × [`ENLARGED`] values: half-pixel centres, the border replicated.
fn enlarge(image: &Image, (top, left): (usize, usize), out: &mut [f32]) {
    const FACTOR: usize = ENLARGED / SIDE;
    let stride = image.width() as usize * 3;
    // Positions are odd multiples of 1 / (2 FACTOR): every sum is exact, in whatever order.
    let taps: [(usize, usize, f32); ENLARGED] = std::array::from_fn(|at| {
        let position = (at as f32 + 0.5) / FACTOR as f32 - 0.5;
        let first = position.floor();
        ((first.max(0.0)) as usize, (first + 1.0).min(SIDE as f32 - 1.0) as usize, position - first)
    });
    for (channel, plane) in out.chunks_exact_mut(ENLARGED * ENLARGED).enumerate() {
        let sample = |y: usize, x: usize| f32::from(image.data()[(top + y) * stride + (left + x) * 3 + channel]);
        let rows: [[f32; ENLARGED]; SIDE] =
            std::array::from_fn(|y| taps.map(|(a, b, t)| (1.0 - t) * sample(y, a) + t * sample(y, b)));
        for (row, &(a, b, t)) in plane.chunks_exact_mut(ENLARGED).zip(&taps) {
            for ((out, above), below) in row.iter_mut().zip(&rows[a]).zip(&rows[b]) {
                *out = (((1.0 - t) * above + t * below) / 255.0 - MEAN[channel]) / STD[channel];
            }
        }
    }
}
