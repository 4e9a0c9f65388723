//! Autocorrelation of the residual at the periods that up-samplers leave.

use super::{About, Feature, Set};
use crate::image::Planes;
use crate::transform::fft::{self, SIDE};

/// The family `autocorrelation`.
pub(super) struct Family;

/// (vertical, horizontal) lags in pixels.
const LAGS: [(isize, isize); 21] = [
    (0, 1),
    (1, 0),
    (1, 1),
    (1, -1),
    (0, 2),
    (2, 0),
    (2, 2),
    (2, -2),
    (0, 3),
    (3, 0),
    (0, 4),
    (4, 0),
    (4, 4),
    (4, -4),
    (0, 8),
    (8, 0),
    (8, 8),
    (8, -8),
    (0, 16),
    (16, 0),
    (16, 16),
];

/// Half the side of the window whose median is the ground level.
const WINDOW: isize = 16;
const POWER_FLOOR: f64 = 1e-4;
const RATIO_FLOOR: f64 = 1e-3;

impl Feature for Family {
    fn about(&self) -> About {
        About {
            name: "autocorrelation",
            set: Set::Default,
            unit: "1",
            formula: "R: inverse transform of the residual's tile power P (see `radial`), circular over 64 px, over \
                      Σ(P + 1e-4); columns: R at 21 lags (vertical, horizontal), and |R| / (median of |R| over lags of \
                      -16..16 but (0,0) + 1e-3) at the lags with a coordinate of 4 or more",
            source: "Corvi et al., Intriguing properties of synthetic images, 2023 (autocorrelation of residuals)",
        }
    }

    fn columns(&self) -> Vec<String> {
        let name = |(dy, dx): &(isize, isize)| format!("{dy}_{dx}");
        let plain = LAGS.iter().map(|lag| format!("r_{}", name(lag)));
        plain.chain(LAGS.iter().filter(|lag| far(lag)).map(|lag| format!("peak_{}", name(lag)))).collect()
    }

    fn compute(&self, planes: &Planes<'_>, out: &mut [f32]) {
        let r = fft::autocorrelation(planes.residual_power(), POWER_FLOOR);
        let side = SIDE as isize;
        let at = |&(dy, dx): &(isize, isize)| r[(dy.rem_euclid(side) * side + dx.rem_euclid(side)) as usize];
        // R(-lag) = R(lag): half of the window has the median of the whole, which has every value twice.
        let mut ground: Vec<f64> = (0..=WINDOW)
            .flat_map(|dy| (-WINDOW..=WINDOW).map(move |dx| (dy, dx)))
            .filter(|&lag| lag > (0, 0))
            .map(|lag| at(&lag).abs())
            .collect();
        let middle = ground.len() / 2;
        let (below, &mut upper, _) = ground.select_nth_unstable_by(middle, f64::total_cmp);
        let median = f64::midpoint(below.iter().copied().fold(0.0, f64::max), upper);
        let values = LAGS.iter().map(at);
        let peaks = LAGS.iter().filter(|lag| far(lag)).map(|lag| at(lag).abs() / (median + RATIO_FLOOR));
        for (out, value) in out.iter_mut().zip(values.chain(peaks)) {
            *out = value as f32;
        }
    }
}

fn far(lag: &(isize, isize)) -> bool {
    lag.0.abs().max(lag.1.abs()) >= 4
}
