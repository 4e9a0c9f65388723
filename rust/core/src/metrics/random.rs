//! Counter-based random words: a draw is a function of (seed, resample, lane, counter), never of what came before.
//!
//! `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): word `i` of a
//! stream is `mix(key + (i + 1) γ)`. Words do not depend on each other, so the processor overlaps them.

const GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

#[inline]
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The words of one lane of one resample.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    key: u64,
}

impl Stream {
    /// `lane` keeps apart the draws of one resample: its pools and its attempts.
    pub(super) const fn new(seed: u64, resample: u64, lane: u64) -> Self {
        let seeded = mix(seed.wrapping_add(GAMMA));
        let resampled = mix(seeded.wrapping_add(resample.wrapping_add(1).wrapping_mul(GAMMA)));
        Self { key: mix(resampled.wrapping_add(lane.wrapping_add(1).wrapping_mul(GAMMA))) }
    }

    /// Word `counter`: 64 random bits.
    #[inline]
    pub(super) const fn word(self, counter: u64) -> u64 {
        mix(self.key.wrapping_add(counter.wrapping_add(1).wrapping_mul(GAMMA)))
    }

    /// Two indices below `n` from word `counter`: its low, then its high half, scaled.
    ///
    /// No index is more likely than another by more than a factor of 1 + n / 2³² (2e-6 for 10,000 clusters).
    #[inline]
    pub(super) const fn pair(self, counter: u64, n: u64) -> (usize, usize) {
        let word = self.word(counter);
        ((((word & 0xFFFF_FFFF) * n) >> 32) as usize, (((word >> 32) * n) >> 32) as usize)
    }

    /// Calls `visit` with `n` indices below `n`: one resample with replacement.
    #[inline]
    pub(super) fn resample(self, n: usize, mut visit: impl FnMut(usize)) {
        for counter in 0..(n / 2) as u64 {
            let (first, second) = self.pair(counter, n as u64);
            visit(first);
            visit(second);
        }
        if n % 2 == 1 {
            visit(self.pair((n / 2) as u64, n as u64).0);
        }
    }

    /// The stream read from its start, word by word.
    pub(super) const fn draws(self) -> Draws {
        Draws { stream: self, next: 0 }
    }
}

/// Draws of continuous distributions from one stream.
pub(super) struct Draws {
    stream: Stream,
    next: u64,
}

impl Draws {
    /// Uniform in (0, 1).
    fn uniform(&mut self) -> f64 {
        let word = self.stream.word(self.next);
        self.next += 1;
        ((word >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    /// Standard normal (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        let (u, v) = (self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Gamma with scale 1 (Marsaglia and Tsang 2000; shapes below 1 through shape + 1).
    fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let u = self.uniform();
            return self.gamma(shape + 1.0) * u.powf(1.0 / shape);
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && self.uniform().ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// Beta(a, b).
    pub(super) fn beta(&mut self, a: f64, b: f64) -> f64 {
        let (x, y) = (self.gamma(a), self.gamma(b));
        x / (x + y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_gives_its_published_words() {
        // The reference implementation from state 1234567.
        let stream = Stream { key: 1_234_567 };
        assert_eq!([stream.word(0), stream.word(1)], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn a_resample_has_n_indices_below_n_and_lanes_differ() {
        for n in [1, 2, 7, 100] {
            let mut drawn = vec![];
            Stream::new(1, 2, 0).resample(n, |i| drawn.push(i));
            assert_eq!(drawn.len(), n);
            assert!(drawn.iter().all(|&i| i < n));
        }
        assert_ne!(Stream::new(1, 2, 0).word(0), Stream::new(1, 2, 1).word(0));
        assert_ne!(Stream::new(1, 2, 0).word(0), Stream::new(1, 3, 0).word(0));
        assert_ne!(Stream::new(1, 2, 0).word(0), Stream::new(2, 2, 0).word(0));
    }

    #[test]
    fn indices_are_uniform() {
        let mut counts = [0_u32; 10];
        for resample in 0..10_000 {
            Stream::new(7, resample, 0).resample(10, |i| counts[i] += 1);
        }
        // Chi-squared with 9 degrees of freedom: 99.99% below 34.
        let chi: f64 = counts.iter().map(|&c| (f64::from(c) - 1e4).powi(2) / 1e4).sum();
        assert!(chi < 34.0, "{chi}");
    }

    #[test]
    fn beta_has_its_mean_and_variance() {
        for (a, b) in [(0.5, 0.5), (0.5, 50.5), (45.5, 5.5)] {
            let draws: Vec<f64> = (0..40_000).map(|r| Stream::new(3, r, 1).draws().beta(a, b)).collect();
            let mean = draws.iter().sum::<f64>() / 4e4;
            let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 4e4;
            let expected = a * b / ((a + b) * (a + b) * (a + b + 1.0));
            assert!((mean - a / (a + b)).abs() < 5.0 * (expected / 4e4).sqrt(), "{a} {b}: {mean}");
            assert!((variance / expected - 1.0).abs() < 0.1, "{a} {b}: {variance}");
        }
    }
}
