//! Mean power spectra over 64×64 tiles.
//!
//! A tile has the smallest side that features accept, so every image has at least one, the number of bins never
//! depends on the image's size, and no size is slow. Two real tiles ride in one complex transform: their spectra
//! A and B need not be told apart, since |Z(k)|² + |Z(-k)|² = 2 (|A(k)|² + |B(k)|²) for Z = A + iB.
//!
//! AVX-512 has its own kernel (`fft_avx512`); the one below is for every other processor.

use multiversion::multiversion;

use crate::image::Plane;

/// Side of a tile, in pixels.
pub const SIDE: usize = 64;
pub(super) const AREA: usize = SIDE * SIDE;

/// Mean power per frequency, `[v * 64 + u]`, v vertical and u horizontal, in cycles per 64 px modulo 64.
///
/// Normalised by the window's energy: white noise of variance s² has power s² at every frequency.
pub type Power = Box<[f64; AREA]>;

/// What tiles are made of: bytes of luma, or residuals.
#[cfg(target_arch = "x86_64")]
pub trait Sample: Copy + Into<f32> + super::fft_avx512::Widen {}
/// What tiles are made of: bytes of luma, or residuals.
#[cfg(not(target_arch = "x86_64"))]
pub trait Sample: Copy + Into<f32> {}
impl Sample for u8 {}
impl Sample for i16 {}

/// Mean power of `plane` over tiles of [`SIDE`] px that cover it.
///
/// Along each axis of n px there are t = ceil(n / 64) tiles, the i-th starting at floor(i (n - 64) / (t - 1)): side
/// by side where 64 divides n, a little overlapped elsewhere, none partial. Each tile loses its mean and is multiplied
/// by the separable window sin²(π (i + 1/2) / 64). Both sides of `plane` must be at least [`SIDE`].
pub fn mean_power<T: Sample>(plane: &Plane<T>) -> Power {
    let (ys, xs) = (starts(plane.height), starts(plane.width));
    let window = window();
    let mut work = Work::new();
    let mut sum = vec![0.0_f64; AREA];
    let mut lanes = Box::new([0.0_f32; AREA]);
    for (index, pair) in origins(&ys, &xs).chunks(2).enumerate() {
        add_pair(plane, pair[0], pair.get(1).copied(), &window, &mut work, &mut lanes);
        if index % FLUSH == FLUSH - 1 {
            flush(&mut lanes, &mut sum);
        }
    }
    flush(&mut lanes, &mut sum);
    let energy = window.iter().map(|w| f64::from(w * w)).sum::<f64>().powi(2);
    let scale = 1.0 / (2.0 * energy * (ys.len() * xs.len()) as f64);
    Power::new(std::array::from_fn(|k| {
        let (v, u) = (k / SIDE, k % SIDE);
        (sum[at(v, u)] + sum[at((SIDE - v) % SIDE, (SIDE - u) % SIDE)]) * scale
    }))
}

/// Adds the power of one or two tiles, twice, to `sum`: their spectra in the order of [`at`].
fn add_pair<T: Sample>(
    plane: &Plane<T>,
    first: (usize, usize),
    second: Option<(usize, usize)>,
    window: &[f32; SIDE],
    work: &mut Work,
    sum: &mut [f32; AREA],
) {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx512) = super::fft_avx512::Available::detect() {
        let tile = |(top, left): (usize, usize)| &plane.data[top * plane.width + left..];
        return avx512.add_pair(tile(first), second.map(tile), plane.width, window, &mut work.a, sum);
    }
    add_pair_anywhere(plane, first, second, window, work, sum);
}

/// [`add_pair`] for any processor.
fn add_pair_anywhere<T: Sample>(
    plane: &Plane<T>,
    first: (usize, usize),
    second: Option<(usize, usize)>,
    window: &[f32; SIDE],
    work: &mut Work,
    sum: &mut [f32; AREA],
) {
    load(plane, first, window, &mut work.a.re);
    match second {
        Some(second) => load(plane, second, window, &mut work.a.im),
        None => work.a.im.fill(0.0),
    }
    transform(&mut work.a, &mut work.b);
    add_power(&work.a.re, &work.a.im, sum);
}

/// Circular autocorrelation of the tiles behind `power`, over its value at lag 0 (plus `floor`): `[dy * 64 + dx]`,
/// lags modulo 64.
pub fn autocorrelation(power: &Power, floor: f64) -> Power {
    let mut work = Work::new();
    let total = power.iter().sum::<f64>() + floor * AREA as f64;
    for (value, p) in work.a.re.iter_mut().zip(power.iter()) {
        *value = (p / total) as f32;
    }
    work.a.im.fill(0.0);
    transform(&mut work.a, &mut work.b);
    Power::new(std::array::from_fn(|k| f64::from(work.a.re[at(k / SIDE, k % SIDE)])))
}

/// Pairs of tiles whose power is summed in single precision before it joins the double-precision sum.
const FLUSH: usize = 32;

fn flush(lanes: &mut [f32; AREA], sum: &mut [f64]) {
    for (lane, sum) in lanes.iter_mut().zip(sum) {
        *sum += f64::from(std::mem::take(lane));
    }
}

fn starts(n: usize) -> Vec<usize> {
    let tiles = n.div_ceil(SIDE);
    (0..tiles).map(|i| i * (n - SIDE) / (tiles - 1).max(1)).collect()
}

fn origins(ys: &[usize], xs: &[usize]) -> Vec<(usize, usize)> {
    ys.iter().flat_map(|&y| xs.iter().map(move |&x| (y, x))).collect()
}

fn window() -> [f32; SIDE] {
    std::array::from_fn(|i| ((i as f64 + 0.5) * std::f64::consts::PI / SIDE as f64).sin().powi(2) as f32)
}

/// A complex tile.
pub(super) struct Tile {
    pub(super) re: Box<[f32; AREA]>,
    pub(super) im: Box<[f32; AREA]>,
}

struct Work {
    a: Tile,
    b: Tile,
}

impl Work {
    fn new() -> Self {
        let tile = || Tile { re: Box::new([0.0; AREA]), im: Box::new([0.0; AREA]) };
        Self { a: tile(), b: tile() }
    }
}

fn load<T: Copy + Into<f32>>(
    plane: &Plane<T>,
    (top, left): (usize, usize),
    window: &[f32; SIDE],
    out: &mut [f32; AREA],
) {
    let mut lanes = [0.0_f32; SIDE];
    for (y, row) in out.as_chunks_mut::<SIDE>().0.iter_mut().enumerate() {
        for ((value, &sample), lane) in row.iter_mut().zip(&plane.row(top + y)[left..]).zip(&mut lanes) {
            *value = sample.into();
            *lane += *value;
        }
    }
    centre_and_window(out, lanes.iter().sum::<f32>() / AREA as f32, window);
}

#[multiversion(targets = "simd")]
fn centre_and_window(tile: &mut [f32; AREA], mean: f32, window: &[f32; SIDE]) {
    for (row, vertical) in tile.as_chunks_mut::<SIDE>().0.iter_mut().zip(window) {
        for (value, horizontal) in row.iter_mut().zip(window) {
            *value = (*value - mean) * (vertical * horizontal);
        }
    }
}

/// Where [`transform`] leaves frequency `k`: two radix-8 passes leave the octal digits of the index swapped.
fn place(k: usize) -> usize {
    (k % 8) * 8 + k / 8
}

/// Index of frequency (v vertical, u horizontal) in what [`transform`] leaves.
fn at(v: usize, u: usize) -> usize {
    place(u) * SIDE + place(v)
}

/// 2-D transform of `a`, in place: `[place(u) * 64 + place(v)]`, horizontal frequency first.
fn transform(a: &mut Tile, work: &mut Tile) {
    columns(a, work);
    transpose(&a.re, &mut work.re);
    transpose(&a.im, &mut work.im);
    std::mem::swap(a, work);
    columns(a, work);
}

/// The 64-point transform of every column of `tile`, in place: 64 = 8 × 8, two passes of 8-point transforms.
fn columns(tile: &mut Tile, work: &mut Tile) {
    for (j, factors) in twiddles().iter().enumerate() {
        pass(&tile.re, &tile.im, &mut work.re, &mut work.im, (j, 8), factors);
    }
    for k in 0..8 {
        pass(&work.re, &work.im, &mut tile.re, &mut tile.im, (8 * k, 1), &[(1.0, 0.0); 8]);
    }
}

pub(super) type Complex = (f32, f32);

/// exp(-2πi jk / 64) at `[j][k]`.
pub(super) fn twiddles() -> &'static [[Complex; 8]; 8] {
    static TABLE: std::sync::LazyLock<[[Complex; 8]; 8]> = std::sync::LazyLock::new(|| {
        std::array::from_fn(|j| {
            std::array::from_fn(|k| {
                let angle = -std::f64::consts::TAU * (j * k) as f64 / SIDE as f64;
                (angle.cos() as f32, angle.sin() as f32)
            })
        })
    });
    &TABLE
}

/// The 8-point transform across the eight rows `first + i * stride`, its k-th output times `factors[k]`.
#[multiversion(targets = "simd")]
fn pass(
    re: &[f32; AREA],
    im: &[f32; AREA],
    out_re: &mut [f32; AREA],
    out_im: &mut [f32; AREA],
    (first, stride): (usize, usize),
    factors: &[Complex; 8],
) {
    let re = re.as_chunks::<SIDE>().0;
    let im = im.as_chunks::<SIDE>().0;
    let out_re = out_re.as_chunks_mut::<SIDE>().0;
    let out_im = out_im.as_chunks_mut::<SIDE>().0;
    for half in 0..SIDE / LANES {
        let mut z = [[[0.0_f32; LANES]; 2]; 8];
        for (i, z) in z.iter_mut().enumerate() {
            z[0].copy_from_slice(&re[first + i * stride][half * LANES..(half + 1) * LANES]);
            z[1].copy_from_slice(&im[first + i * stride][half * LANES..(half + 1) * LANES]);
        }
        for l in 0..LANES {
            let at = |i: usize| (z[i][0][l], z[i][1][l]);
            let outputs = dft8([at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)]);
            for k in 0..8 {
                let (r, i) = times(outputs[k], factors[k]);
                z[k][0][l] = r;
                z[k][1][l] = i;
            }
        }
        for (k, z) in z.iter().enumerate() {
            out_re[first + k * stride][half * LANES..(half + 1) * LANES].copy_from_slice(&z[0]);
            out_im[first + k * stride][half * LANES..(half + 1) * LANES].copy_from_slice(&z[1]);
        }
    }
}

/// Columns that one step of [`pass`] holds in registers.
const LANES: usize = 16;

/// The 8-point transform.
#[inline(always)]
fn dft8(x: [Complex; 8]) -> [Complex; 8] {
    let [e0, e1, e2, e3] = dft4(x[0], x[2], x[4], x[6]);
    let [o0, o1, o2, o3] = dft4(x[1], x[3], x[5], x[7]);
    let half = std::f32::consts::FRAC_1_SQRT_2;
    let o1 = ((o1.0 + o1.1) * half, (o1.1 - o1.0) * half);
    let o2 = (o2.1, -o2.0);
    let o3 = ((o3.1 - o3.0) * half, -(o3.0 + o3.1) * half);
    [plus(e0, o0), plus(e1, o1), plus(e2, o2), plus(e3, o3), minus(e0, o0), minus(e1, o1), minus(e2, o2), minus(e3, o3)]
}

/// The 4-point transform.
#[inline(always)]
fn dft4(a: Complex, b: Complex, c: Complex, d: Complex) -> [Complex; 4] {
    let (s, t) = (plus(a, c), minus(a, c));
    let (u, v) = (plus(b, d), minus(b, d));
    [plus(s, u), (t.0 + v.1, t.1 - v.0), minus(s, u), (t.0 - v.1, t.1 + v.0)]
}

#[inline(always)]
fn plus(a: Complex, b: Complex) -> Complex {
    (a.0 + b.0, a.1 + b.1)
}

#[inline(always)]
fn minus(a: Complex, b: Complex) -> Complex {
    (a.0 - b.0, a.1 - b.1)
}

#[inline(always)]
fn times(a: Complex, b: Complex) -> Complex {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

/// Left to the baseline instruction set: plain moves are faster than the scatter that wider ones tempt the compiler to.
fn transpose(from: &[f32; AREA], to: &mut [f32; AREA]) {
    const BLOCK: usize = 8;
    for top in (0..SIDE).step_by(BLOCK) {
        for left in (0..SIDE).step_by(BLOCK) {
            for y in 0..BLOCK {
                for x in 0..BLOCK {
                    to[(left + x) * SIDE + top + y] = from[(top + y) * SIDE + left + x];
                }
            }
        }
    }
}

#[multiversion(targets = "simd")]
fn add_power(re: &[f32; AREA], im: &[f32; AREA], sum: &mut [f32; AREA]) {
    for ((sum, r), i) in sum.iter_mut().zip(re).zip(im) {
        *sum += r * r + i * i;
    }
}

#[cfg(test)]
mod tests {
    use super::{AREA, Plane, SIDE, Sample, Work, add_pair, add_pair_anywhere, window};

    /// Power of tiles at odd places, by the kernel of this processor and by the one for any.
    fn compare<T: Sample>(sample: impl Fn(u32) -> T) {
        let (width, height) = (150, 80);
        let data = (0..width * height).map(|i: usize| sample((i as u32).wrapping_mul(2_654_435_761) >> 16)).collect();
        let plane = Plane { width, height, data };
        for second in [Some((5, 83)), None] {
            let mut sums = [0, 1].map(|_| Box::new([0.0_f32; AREA]));
            add_pair(&plane, (16, 1), second, &window(), &mut Work::new(), &mut sums[0]);
            add_pair_anywhere(&plane, (16, 1), second, &window(), &mut Work::new(), &mut sums[1]);
            // Rounding moves amplitudes by as much at every frequency, the faint ones too.
            let largest = sums[1].iter().copied().fold(0.0, f32::max).sqrt();
            for v in 0..SIDE {
                for u in 0..SIDE {
                    let [one, other] = sums.each_ref().map(|sum| sum[super::at(v, u)].sqrt());
                    assert!((one - other).abs() <= 1e-6 * largest, "({v}, {u}), {second:?}: {one} {other} {largest}");
                }
            }
        }
    }

    #[test]
    fn kernels_agree() {
        compare(|i| (i % 256) as u8);
        compare(|i| (i % 511) as i16 - 255);
    }
}
