//! Sorting scores: integers that order as floats do, and a radix sort of them.

/// Bits per pass: 2,048 counters stay in the first-level cache.
const DIGIT: u32 = 11;
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

/// Sorted keys of the reals and of the fakes.
pub(super) fn sorted_keys(scores: &[f64], labels: &[bool]) -> (Vec<u64>, Vec<u64>) {
    let mut sides = (Vec::with_capacity(scores.len()), Vec::with_capacity(scores.len()));
    // Most scores were f32 once: half the passes.
    let short = scores.iter().all(|&x| f64::from(x as f32).to_bits() == x.to_bits());
    for (&score, &fake) in scores.iter().zip(labels) {
        let key = if short { u64::from(short_key(score as f32)) } else { key(score) };
        if fake { sides.1.push(key) } else { sides.0.push(key) }
    }
    let bits = if short { 32 } else { 64 };
    radix_sort(&mut sides.0, bits);
    radix_sort(&mut sides.1, bits);
    sides
}

/// Least significant digit first, all histograms in one pass; a digit that all keys share costs nothing more.
fn radix_sort(keys: &mut Vec<u64>, bits: u32) {
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
    let mut spare = vec![0; keys.len()];
    for (pass, count) in counts.iter_mut().enumerate() {
        if count[digit(keys[0], pass)] == keys.len() {
            continue;
        }
        let mut place = 0;
        for slot in count.iter_mut() {
            place += std::mem::replace(slot, place);
        }
        for &key in keys.iter() {
            let slot = &mut count[digit(key, pass)];
            spare[*slot] = key;
            *slot += 1;
        }
        std::mem::swap(keys, &mut spare);
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
            radix_sort(&mut keys, bits);
            assert_eq!(keys, expected);
        }
    }
}
