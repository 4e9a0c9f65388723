//! Where one axis of an image lies on one axis of the input.

use std::borrow::Cow;

use super::Padding;

/// How an odd remainder of a centre crop is halved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// Half to even, as torchvision does.
    Even,
    /// Downwards, as transformers and albumentations do.
    Down,
}

/// `size` positions, of which `kept` are those of the image from `from` on; `before` of the others come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Axis {
    pub(super) from: usize,
    pub(super) kept: usize,
    pub(super) before: usize,
    pub(super) size: usize,
}

/// `side` pixels in the centre of `size`, or the centre of them.
pub(super) fn place(side: usize, size: usize, rounding: Rounding) -> Axis {
    if side < size {
        return Axis { from: 0, kept: side, before: (size - side) / 2, size };
    }
    let odd = (side - size) % 2;
    let half = (side - size) / 2;
    // Half of an odd number lies between two integers: the even one of them, or the lower one.
    let from = if rounding == Rounding::Even && odd == 1 { half + half % 2 } else { half };
    Axis { from, kept: size, before: 0, size }
}

/// As [`place`], with the fraction `at` of the free room before what is kept: `at` uniform from 0 to 1 (without 1) makes
/// every place equally likely.
pub(super) fn place_at(side: usize, size: usize, at: f64) -> Axis {
    let free = side.saturating_sub(size);
    Axis { from: ((at * (free + 1) as f64) as usize).min(free), ..place(side, size, Rounding::Down) }
}

/// Where tiles of `size` begin on `side` pixels; the last is moved back inside.
pub(super) fn tile_starts(side: usize, size: usize, stride: usize) -> Vec<usize> {
    let last = side.saturating_sub(size);
    let mut starts: Vec<usize> = (0..last).step_by(stride).collect();
    starts.push(last);
    starts
}

impl Axis {
    /// The image's position at `at`; `None` outside.
    pub(super) fn source(&self, at: usize) -> Option<usize> {
        (self.before..self.before + self.kept).contains(&at).then(|| at - self.before + self.from)
    }

    /// The image's position at `at`, mirrored into it where `at` is outside.
    pub(super) fn mirrored(&self, at: usize) -> usize {
        let period = (2 * (self.kept - 1)).max(1);
        // Padding comes before and after a whole side: what is kept begins at its first pixel.
        let position = (at + period * self.before.div_ceil(period) - self.before) % period;
        self.from + position.min(period - position).min(self.kept - 1)
    }

    /// What stands on this axis for one row of an image.
    pub(super) fn row<'a>(&self, row: &'a [u8], padding: Padding) -> Cow<'a, [u8]> {
        let kept = &row[self.from * 3..(self.from + self.kept) * 3];
        if self.kept == self.size {
            return Cow::Borrowed(kept);
        }
        let mut padded = Vec::with_capacity(self.size * 3);
        match padding {
            Padding::Constant(level) => {
                padded.resize(self.before * 3, level);
                padded.extend_from_slice(kept);
                padded.resize(self.size * 3, level);
            }
            Padding::Reflect => {
                let positions = (0..self.size).map(|at| self.mirrored(at));
                padded.extend(positions.flat_map(|x| &row[3 * x..3 * x + 3]));
            }
        }
        Cow::Owned(padded)
    }
}

#[cfg(test)]
mod tests {
    use super::{Axis, Rounding, place, tile_starts};

    #[test]
    fn half_of_an_odd_remainder_is_the_even_neighbour_or_the_lower_one() {
        let from = |side, rounding| place(side, 10, rounding).from;
        // Remainders 0 to 7: Python's round() of 0, .5, 1, 1.5, 2, 2.5, 3, 3.5.
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(|more| from(10 + more, Rounding::Even)), [0, 0, 1, 2, 2, 2, 3, 4]);
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(|more| from(10 + more, Rounding::Down)), [0, 0, 1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn a_mirror_swings_between_the_outermost_pixels() {
        let axis = Axis { from: 0, kept: 3, before: 5, size: 12 };
        let positions: Vec<usize> = (0..12).map(|at| axis.mirrored(at)).collect();
        assert_eq!(positions, [1, 0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]);
    }

    #[test]
    fn one_pixel_is_its_own_mirror() {
        let axis = Axis { from: 0, kept: 1, before: 2, size: 4 };
        assert_eq!([0, 1, 2, 3].map(|at| axis.mirrored(at)), [0; 4]);
    }

    #[test]
    fn the_last_tile_ends_where_the_image_does() {
        assert_eq!(tile_starts(500, 224, 224), [0, 224, 276]);
        assert_eq!(tile_starts(448, 224, 224), [0, 224]);
        assert_eq!(tile_starts(224, 224, 100), [0]);
        assert_eq!(tile_starts(100, 224, 224), [0]);
    }
}
