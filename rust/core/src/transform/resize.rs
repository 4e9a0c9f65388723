//! Resampling, equal to Pillow's `Image.resize` bit for bit.
//!
//! Antialiased convolution: the kernel is stretched by the scale where the image shrinks. Coefficients are rounded to
//! 22 fractional bits, and what lies between the two passes is rounded to bytes, as in Pillow's `Resample.c`, so that a
//! perturbation made here is the one that detectors were trained with.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::image::Image;

/// The resampling kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// The mean of the pixels under the output pixel.
    Box,
    /// Triangle, support 1.
    Bilinear,
    /// Keys' cubic with a = -0.5, support 2.
    Bicubic,
    /// Lanczos windowed sinc, support 3.
    Lanczos,
}

impl Kernel {
    /// Every kernel, simplest first.
    pub const ALL: [Self; 4] = [Self::Box, Self::Bilinear, Self::Bicubic, Self::Lanczos];

    /// Its name: `box`, `bilinear`, `bicubic`, `lanczos`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Box => "box",
            Self::Bilinear => "bilinear",
            Self::Bicubic => "bicubic",
            Self::Lanczos => "lanczos",
        }
    }

    /// The kernel of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kernel| kernel.name() == name)
    }

    /// The kernel of that name, or an error that lists the names.
    pub fn parse(name: &str) -> Result<Self> {
        Self::from_name(name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            Error::argument("kernel", format!("`{name}` is none of {names}"))
        })
    }

    fn support(self) -> f64 {
        match self {
            Self::Box => 0.5,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        const A: f64 = -0.5;
        match self {
            Self::Box => f64::from(u8::from(x > -0.5 && x <= 0.5)),
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            // In Pillow's order of operations: another order moves the last bit of a coefficient.
            Self::Bicubic => match x.abs() {
                x if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
                x if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
                _ => 0.0,
            },
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

/// A part of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Region {
    /// All of an image.
    pub fn whole(width: u32, height: u32) -> Self {
        Self { left: 0, top: 0, width: width as usize, height: height as usize }
    }

    /// Its columns.
    pub fn columns(&self) -> Range<usize> {
        self.left..self.left + self.width
    }

    /// Its rows.
    pub fn rows(&self) -> Range<usize> {
        self.top..self.top + self.height
    }

    /// Refuses a part that holds no pixel, or not only pixels of an image of `width` × `height`.
    pub(crate) fn check(&self, width: u32, height: u32) -> Result<()> {
        let inside = self.columns().end <= width as usize && self.rows().end <= height as usize;
        if self.width == 0 || self.height == 0 || !inside {
            return Err(Error::argument("size", format!("{self:?} is no part of {width}x{height} pixels")));
        }
        Ok(())
    }
}

/// Resamples to `width` × `height`.
pub fn resize(image: &Image, width: u32, height: u32, kernel: Kernel) -> Result<Image> {
    if width == 0 || height == 0 {
        return Err(Error::argument("size", format!("{width}x{height} holds no pixel")));
    }
    resize_part(image, width, height, Region::whole(width, height), kernel)
}

/// The part `part` of what [`resize`] gives, pixel for pixel, without making the rest.
pub fn resize_part(image: &Image, width: u32, height: u32, part: Region, kernel: Kernel) -> Result<Image> {
    part.check(width, height)?;
    let mut across = Taps::new(image.width() as usize, width as usize, part.columns(), kernel);
    let mut down = Taps::new(image.height() as usize, height as usize, part.rows(), kernel);
    let source = Rows::of(image, across.rebase(), down.rebase());
    let data = match (across.moves, down.moves) {
        (true, true) if rows_first(image, width, height) => {
            let rows = resample_rows(&source, &down);
            resample_columns(&Rows::all(&rows, source.window.len()), &across)
        }
        (true, true) => {
            let columns = resample_columns(&source, &across);
            resample_rows(&Rows::all(&columns, part.width * 3), &down)
        }
        (true, false) => resample_columns(&source, &across),
        (false, true) => resample_rows(&source, &down),
        (false, false) => source.iter().flatten().copied().collect(),
    };
    Image::from_rgb(part.width as u32, part.height as u32, data)
}

/// The part of an image of `width` × `height` that [`resize_part`] reads for a `part` that holds a pixel.
pub(crate) fn part_read(width: u32, height: u32, to: (u32, u32), part: Region, kernel: Kernel) -> Region {
    let read = |from: u32, to: u32, kept: Range<usize>| {
        let one = |at: usize| Taps::new(from as usize, to as usize, at..at + 1, kernel).rebase();
        one(kept.start).start..one(kept.end - 1).end
    };
    let (columns, rows) = (read(width, to.0, part.columns()), read(height, to.1, part.rows()));
    Region { left: columns.start, top: rows.start, width: columns.len(), height: rows.len() }
}

/// The samples that are read: a window of some rows.
struct Rows<'a> {
    data: &'a [u8],
    stride: usize,
    window: Range<usize>,
}

impl<'a> Rows<'a> {
    /// Columns and rows of `image`, in pixels.
    fn of(image: &'a Image, columns: Range<usize>, rows: Range<usize>) -> Self {
        let stride = image.width() as usize * 3;
        let data = &image.data()[rows.start * stride..rows.end * stride];
        Self { data, stride, window: columns.start * 3..columns.end * 3 }
    }

    /// Whole rows of `stride` samples.
    fn all(data: &'a [u8], stride: usize) -> Self {
        Self { data, stride, window: 0..stride }
    }

    fn iter(&self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        let window = self.window.clone();
        self.data.chunks_exact(self.stride).map(move |row| &row[window.clone()])
    }
}

/// Whether height is resampled before width: in Pillow 13, where that takes more than twice as many rows away as the
/// other order takes columns (measured on its output: its order shows where a kernel overshoots and is clipped).
fn rows_first(image: &Image, width: u32, height: u32) -> bool {
    let rows_lost = i64::from(image.height()) - i64::from(height);
    let columns_lost = i64::from(image.width()) - i64::from(width);
    rows_lost > 0 && rows_lost > 2 * columns_lost
}

/// Fractional bits of a coefficient: 8 bits of pixel and 2 of overshoot are left of 32.
const PRECISION: u32 = 32 - 8 - 2;

/// For each output position, where its input begins, and the coefficients from there on.
struct Taps {
    starts: Vec<usize>,
    coefficients: Vec<Vec<i32>>,
    /// Whether there is anything to do: at one size every pixel is itself.
    moves: bool,
}

impl Taps {
    /// Those of the output positions `kept`.
    fn new(from: usize, to: usize, kept: Range<usize>, kernel: Kernel) -> Self {
        if from == to {
            return Self { starts: kept.collect(), coefficients: Vec::new(), moves: false };
        }
        let scale = from as f64 / to as f64;
        let stretch = scale.max(1.0);
        let support = kernel.support() * stretch;
        let mut taps =
            Self { starts: Vec::with_capacity(kept.len()), coefficients: Vec::with_capacity(kept.len()), moves: true };
        for at in kept {
            let center = (at as f64 + 0.5) * scale;
            let start = (center - support + 0.5).max(0.0) as usize;
            let end = ((center + support + 0.5) as usize).min(from);
            let inverse = 1.0 / stretch;
            let weight = |x: usize| kernel.weight((x as f64 - center + 0.5) * inverse);
            let weights: Vec<f64> = (start..end).map(weight).collect();
            let sum: f64 = weights.iter().sum();
            let unit = if sum == 0.0 { 1.0 } else { sum };
            let fixed = |w: &f64| {
                let scaled = w / unit * f64::from(1 << PRECISION);
                (scaled + 0.5_f64.copysign(scaled)) as i32
            };
            taps.starts.push(start);
            taps.coefficients.push(weights.iter().map(fixed).collect());
        }
        taps
    }

    /// The input positions that are read; from now on, starts count from the first of them.
    fn rebase(&mut self) -> Range<usize> {
        let lengths = self.coefficients.iter().map(Vec::len).chain(std::iter::repeat(1));
        let end = self.starts.iter().zip(lengths).map(|(start, length)| start + length).max().unwrap_or(0);
        let first = self.starts.first().copied().unwrap_or(0);
        for start in &mut self.starts {
            *start -= first;
        }
        first..end
    }
}

fn byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Rows that are resampled side by side: the columns' loop runs over lanes, one a row.
const LANES: usize = 16;
const HALF: i32 = 1 << (PRECISION - 1);

fn resample_columns(source: &Rows<'_>, taps: &Taps) -> Vec<u8> {
    let (from, to) = (source.window.len(), taps.starts.len() * 3);
    let rows: Vec<&[u8]> = source.iter().collect();
    let mut out = vec![0; to * rows.len()];
    let mut input = vec![[0; LANES]; from];
    let mut output = vec![[0; LANES]; to];
    for (rows, out) in rows.chunks(LANES).zip(out.chunks_mut(to * LANES)) {
        side_by_side(rows, &mut input);
        convolve_lanes(&input, &mut output, taps);
        one_by_one(&output, out);
    }
    out
}

/// A square of samples.
type Block = [[u8; LANES]; LANES];

/// The first samples of all `rows`, then the second ones, ...: at most [`LANES`] rows, as long as `lanes`.
fn side_by_side(rows: &[&[u8]], lanes: &mut [[u8; LANES]]) {
    let (blocks, rest) = lanes.as_chunks_mut::<LANES>();
    for (index, block) in blocks.iter_mut().enumerate() {
        let mut square = [[0; LANES]; LANES];
        for (line, row) in square.iter_mut().zip(rows) {
            *line = row.as_chunks().0[index];
        }
        *block = turned(square);
    }
    let done = blocks.len() * LANES;
    for (lane, row) in rows.iter().enumerate() {
        for (lanes, &value) in rest.iter_mut().zip(&row[done..]) {
            lanes[lane] = value;
        }
    }
}

/// The way back: `rows` one after the other, as many as fit.
fn one_by_one(lanes: &[[u8; LANES]], rows: &mut [u8]) {
    let (blocks, rest) = lanes.as_chunks::<LANES>();
    for (index, block) in blocks.iter().enumerate() {
        for (row, line) in rows.chunks_exact_mut(lanes.len()).zip(turned(*block)) {
            row.as_chunks_mut().0[index] = line;
        }
    }
    for (lane, row) in rows.chunks_exact_mut(lanes.len()).enumerate() {
        for (value, lanes) in row[blocks.len() * LANES..].iter_mut().zip(rest) {
            *value = lanes[lane];
        }
    }
}

/// Lines for columns. To interleave the lines of one half with those of the other, four times over, moves every sample
/// to its place, and each time is one instruction a line.
#[inline]
fn turned(mut block: Block) -> Block {
    for _ in 0..LANES.ilog2() {
        let mut next = [[0; LANES]; LANES];
        for i in 0..LANES / 2 {
            let (a, b) = (block[i], block[i + LANES / 2]);
            for j in 0..LANES / 2 {
                (next[2 * i][2 * j], next[2 * i][2 * j + 1]) = (a[j], b[j]);
                (next[2 * i + 1][2 * j], next[2 * i + 1][2 * j + 1]) = (a[j + LANES / 2], b[j + LANES / 2]);
            }
        }
        block = next;
    }
    block
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "x86_64+sse4.1"))]
fn convolve_lanes(input: &[[u8; LANES]], output: &mut [[u8; LANES]], taps: &Taps) {
    for ((pixel, &start), coefficients) in output.chunks_exact_mut(3).zip(&taps.starts).zip(&taps.coefficients) {
        for (channel, out) in pixel.iter_mut().enumerate() {
            let mut sums = [HALF; LANES];
            for (lanes, &coefficient) in input[start * 3 + channel..].iter().step_by(3).zip(coefficients) {
                for (sum, &value) in sums.iter_mut().zip(lanes) {
                    *sum += i32::from(value) * coefficient;
                }
            }
            *out = sums.map(byte);
        }
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw+avx512vl", "x86_64+avx2", "x86_64+sse4.1"))]
fn resample_rows(source: &Rows<'_>, taps: &Taps) -> Vec<u8> {
    let width = source.window.len();
    let rows: Vec<&[u8]> = source.iter().collect();
    let mut out = vec![0; width * taps.starts.len()];
    let mut sums = vec![HALF; width];
    for ((out, &start), coefficients) in out.chunks_exact_mut(width).zip(&taps.starts).zip(&taps.coefficients) {
        sums.fill(HALF);
        for (row, &coefficient) in rows[start..].iter().zip(coefficients) {
            for (sum, &value) in sums.iter_mut().zip(*row) {
                *sum += i32::from(value) * coefficient;
            }
        }
        for (out, &sum) in out.iter_mut().zip(&sums) {
            *out = byte(sum);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{Kernel, Region, resize, resize_part};
    use crate::image::Image;

    #[test]
    fn a_constant_image_stays_constant() {
        let image = Image::from_rgb(37, 21, vec![201; 37 * 21 * 3]).expect("its size is right");
        for kernel in Kernel::ALL {
            for (width, height) in [(1, 1), (5, 90), (37, 3), (80, 21)] {
                let resized = resize(&image, width, height, kernel).expect("the size is positive");
                assert_eq!((resized.width(), resized.height()), (width, height));
                assert!(resized.data().iter().all(|&value| value == 201), "{kernel:?} to {width}x{height}");
            }
        }
    }

    #[test]
    fn a_box_of_two_is_the_rounded_mean() {
        let data = [10, 20, 30, 13, 20, 31, 11, 20, 30, 12, 20, 33].to_vec();
        let image = Image::from_rgb(2, 2, data).expect("its size is right");
        // Columns first, rounded: (12, 20, 31) and (12, 20, 32), then rows.
        assert_eq!(resize(&image, 1, 1, Kernel::Box).expect("the size is positive").data(), [12, 20, 32]);
    }

    #[test]
    fn a_part_is_cut_out_of_the_whole() {
        let data = (0..60 * 47 * 3).map(|i| (i * 37 % 251) as u8).collect();
        let image = Image::from_rgb(60, 47, data).expect("its size is right");
        for kernel in Kernel::ALL {
            for (width, height) in [(60, 47), (60, 20), (23, 47), (90, 31), (44, 12), (12, 44)] {
                let whole = resize(&image, width, height, kernel).expect("the size is positive");
                let part = Region { left: 3, top: 2, width: width as usize - 4, height: height as usize - 7 };
                let cut = resize_part(&image, width, height, part, kernel).expect("it is inside");
                for y in 0..part.height {
                    let start = ((y + part.top) * width as usize + part.left) * 3;
                    let expected = &whole.data()[start..][..part.width * 3];
                    assert_eq!(&cut.data()[y * part.width * 3..][..part.width * 3], expected, "{kernel:?} {width}");
                }
            }
        }
    }

    #[test]
    fn an_empty_size_is_refused() {
        let image = Image::from_rgb(1, 1, vec![0; 3]).expect("its size is right");
        assert_eq!(resize(&image, 0, 4, Kernel::Box).expect_err("no pixel").code(), "argument");
        let outside = Region { left: 1, ..Region::whole(4, 4) };
        assert_eq!(resize_part(&image, 4, 4, outside, Kernel::Box).expect_err("no pixel").code(), "argument");
    }
}
