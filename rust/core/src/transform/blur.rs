//! Gaussian blur.

use crate::error::{Error, Result};
use crate::image::Image;

/// Blurs with a Gaussian of standard deviation `sigma` pixels, cut at 4σ (rounded), the border mirrored about its edge
/// (d c b a | a b c d): `scipy.ndimage.gaussian_filter` of each channel, rounded to bytes once at the end.
pub fn gaussian_blur(image: &Image, sigma: f64) -> Result<Image> {
    if !(sigma.is_finite() && sigma > 0.0) {
        return Err(Error::argument("sigma", format!("{sigma} is not above 0")));
    }
    let kernel = half_kernel(sigma);
    let (width, height) = (image.width() as usize, image.height() as usize);
    let stride = width * 3;
    let mut planes: Vec<f32> = Vec::with_capacity(image.data().len());
    let mut padded = Vec::new();
    for row in image.data().chunks_exact(stride) {
        blur_row(row, width, &kernel, &mut padded, &mut planes);
    }
    let mut out = Vec::with_capacity(image.data().len());
    let mut sums = vec![0.0; stride];
    for y in 0..height {
        blur_column(&planes, stride, y as isize, height as isize, &kernel, &mut sums);
        out.extend(sums.iter().map(|&value| (value + 0.5) as u8));
    }
    Image::from_rgb(image.width(), image.height(), out)
}

/// The kernel's weights at 0, 1, 2, …; their whole sum, with both sides, is 1.
fn half_kernel(sigma: f64) -> Vec<f32> {
    let radius = (4.0 * sigma + 0.5) as usize;
    let weights: Vec<f64> = (0..=radius).map(|x| (-0.5 * (x as f64 / sigma).powi(2)).exp()).collect();
    let sum = 2.0 * weights.iter().sum::<f64>() - weights[0];
    weights.iter().map(|weight| (weight / sum) as f32).collect()
}

/// `at` mirrored into `0..size`, as often as it takes.
fn mirrored(at: isize, size: isize) -> usize {
    let folded = at.rem_euclid(2 * size);
    folded.min(2 * size - 1 - folded) as usize
}

/// Blurs one row of pixels and appends it.
fn blur_row(row: &[u8], width: usize, kernel: &[f32], padded: &mut Vec<f32>, out: &mut Vec<f32>) {
    let radius = kernel.len() - 1;
    padded.clear();
    for x in 0..width + 2 * radius {
        let from = 3 * mirrored(x as isize - radius as isize, width as isize);
        padded.extend(row[from..from + 3].iter().map(|&value| f32::from(value)));
    }
    let start = out.len();
    let len = row.len();
    out.resize(start + len, 0.0);
    accumulate(&mut out[start..], kernel, |k| (&padded[3 * (radius - k)..][..len], &padded[3 * (radius + k)..][..len]));
}

/// Row `y` blurred along columns, into `out`.
fn blur_column(data: &[f32], stride: usize, y: isize, height: isize, kernel: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    let row = |y: isize| &data[mirrored(y, height) * stride..][..stride];
    accumulate(out, kernel, |k| (row(y - k as isize), row(y + k as isize)));
}

/// Adds, for each distance `k`, the weighted pair of samples that lie `k` before and after.
fn accumulate<'a>(out: &mut [f32], kernel: &[f32], pair: impl Fn(usize) -> (&'a [f32], &'a [f32])) {
    for (k, &weight) in kernel.iter().enumerate() {
        let (before, after) = pair(k);
        let weight = if k == 0 { weight / 2.0 } else { weight };
        for ((sum, a), b) in out.iter_mut().zip(before).zip(after) {
            *sum += weight * (a + b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{gaussian_blur, mirrored};
    use crate::image::Image;

    #[test]
    fn the_border_mirrors_about_its_edge() {
        let at: Vec<usize> = (-4..8).map(|x| mirrored(x, 3)).collect();
        assert_eq!(at, [2, 2, 1, 0, 0, 1, 2, 2, 1, 0, 0, 1]);
    }

    #[test]
    fn brightness_is_kept() {
        for value in [0, 7, 255] {
            let image = Image::from_rgb(5, 3, vec![value; 45]).expect("its size is right");
            assert_eq!(gaussian_blur(&image, 2.5).expect("sigma is positive"), image);
        }
    }

    #[test]
    fn no_sigma_is_refused() {
        let image = Image::from_rgb(1, 1, vec![0; 3]).expect("its size is right");
        for sigma in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(gaussian_blur(&image, sigma).expect_err("not positive").code(), "argument");
        }
    }
}
