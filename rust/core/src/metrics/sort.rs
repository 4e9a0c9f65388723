//! Sorting scores: integers that order as floats do, and a radix sort of them.

/// Bits per pass: 256 places to write to keep their pages at hand, where 2,048 do not.
const DIGIT: u32 = 8;
/// Below this length a comparison sort wins.
const RADIX_MIN: usize = 2048;

/// An integer that orders as `x` does; -0 and 0 are one.
#[inline]
pub(super) fn key(x: f64) -> u64 {
    let bits = (x + 0.0).to_bits();
    bits ^ ((((bits as i64) >> 63) as u64) | (1 << 63))
}

/// As [`key`], in 32 bits, for a score that a detector gave as `f32`.
#[inline]
fn short_key(x: f32) -> u32 {
    let bits = (x + 0.0).to_bits();
    bits ^ ((((bits as i32) >> 31) as u32) | (1 << 31))
}

/// Sorted keys of the reals, then of the fakes, and the number of reals.
pub(super) fn sorted_keys(scores: &[f64], labels: &[bool]) -> (Vec<u64>, usize) {
    // Most scores were f32 once: half the passes.
    let short = scores.iter().all(|&x| f64::from(x as f32).to_bits() == x.to_bits());
    let (mut keys, reals) = if short {
        partitioned(scores, labels, |score| u64::from(short_key(score as f32)))
    } else {
        partitioned(scores, labels, key)
    };
    let bits = if short { 32 } else { 64 };
    let mut spare = vec![0; reals.max(keys.len() - reals)];
    let (real_keys, fake_keys) = keys.split_at_mut(reals);
    radix_sort(real_keys, &mut spare, bits);
    radix_sort(fake_keys, &mut spare, bits);
    (keys, reals)
}

/// Keys of the reals from the front, of the fakes from the back: labels are a coin toss to the branch predictor.
fn partitioned(scores: &[f64], labels: &[bool], key: impl Fn(f64) -> u64) -> (Vec<u64>, usize) {
    let mut keys = vec![0; scores.len()];
    let (mut front, mut back) = (0, scores.len());
    for (&score, &fake) in scores.iter().zip(labels) {
        back -= usize::from(fake);
        keys[if fake { back } else { front }] = key(score);
        front += usize::from(!fake);
    }
    (keys, front)
}

/// Least significant digit first, all histograms in one pass; a digit that all keys share costs nothing more.
fn radix_sort(keys: &mut [u64], spare: &mut [u64], bits: u32) {
    if keys.len() < RADIX_MIN {
        keys.sort_unstable();
        return;
    }
    let passes = bits.div_ceil(DIGIT) as usize;
    let digit = |key: u64, pass: usize| (key >> (pass as u32 * DIGIT)) as usize & ((1 << DIGIT) - 1);
    let mut counts = vec![[0_usize; 1 << DIGIT]; passes];
    for &key in keys.iter() {
        for (pass, count) in counts.iter_mut().enumerate() {
            count[digit(key, pass)] += 1;
        }
    }
    let length = keys.len();
    let (mut from, mut to) = (keys, &mut spare[..length]);
    let mut swapped = false;
    for (pass, count) in counts.iter_mut().enumerate() {
        if count[digit(from[0], pass)] == from.len() {
            continue;
        }
        let mut place = 0;
        for slot in count.iter_mut() {
            place += std::mem::replace(slot, place);
        }
        for &key in from.iter() {
            let slot = &mut count[digit(key, pass)];
            to[*slot] = key;
            *slot += 1;
        }
        std::mem::swap(&mut from, &mut to);
        swapped = !swapped;
    }
    if swapped {
        to.copy_from_slice(from);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_order_as_floats() {
        let ordered = [f64::NEG_INFINITY, -1e300, -1.0, -1e-310, 0.0, 1e-310, 0.5, 1.0, f64::INFINITY];
        assert!(ordered.windows(2).all(|w| key(w[0]) < key(w[1])));
        assert!(ordered.windows(2).all(|w| short_key(w[0] as f32) <= short_key(w[1] as f32)));
        assert_eq!(key(-0.0), key(0.0));
    }

    #[test]
    fn radix_sorts() {
        for bits in [32, 64] {
            let mut keys: Vec<u64> =
                (0..10_000_u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (64 - bits)).collect();
            let mut expected = keys.clone();
            expected.sort_unstable();
            radix_sort(&mut keys, &mut vec![0; 10_000], bits);
            assert_eq!(keys, expected);
        }
    }
}
