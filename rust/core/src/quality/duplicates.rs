//! Pairs of perceptual hashes that differ in a few bits.
//!
//! Two hashes of at most `distance` different bits agree in at least one of `distance + 1` parts of their bits: only
//! hashes that share a part are compared (Manku, Jain, Das Sarma, Detecting near-duplicates for web crawling, 2007).

use multiversion::multiversion;

use crate::error::{Error, Result};

/// More pairs than that are refused: nearly all images are one picture then.
const MOST_PAIRS: usize = 1 << 24;

/// Parts of so few bits hold no hash apart from another: all are compared.
const MOST_PARTS: u32 = 16;

/// The pairs (i, j), i < j, of `hashes` that differ in at most `distance` bits, ascending; those of one group are left
/// out where there are groups, one a hash.
pub fn near_duplicates(hashes: &[u64], distance: u32, groups: Option<&[i64]>) -> Result<Vec<[i64; 2]>> {
    if groups.is_some_and(|groups| groups.len() != hashes.len()) {
        return Err(Error::argument("groups", format!("must be {} numbers, one a hash", hashes.len())));
    }
    let parts = if distance < MOST_PARTS { distance + 1 } else { 1 };
    let masks: Vec<u64> = (0..parts).map(|part| mask(part, parts)).collect();
    let mut found = Found { pairs: Vec::new(), groups };
    let mut order: Vec<(u64, u32)> = hashes.iter().zip(0..).map(|(&hash, index)| (hash, index)).collect();
    for (part, &shared) in masks.iter().enumerate() {
        // With a single part there is nothing to share: one run of all.
        let key = |hash: u64| if parts == 1 && distance > 0 { 0 } else { hash & shared };
        order.sort_unstable_by_key(|&(hash, index)| (key(hash), index));
        for run in order.chunk_by(|a, b| key(a.0) == key(b.0)) {
            found.compare(run, distance, &masks[..part])?;
        }
    }
    found.pairs.sort_unstable();
    Ok(found.pairs)
}

/// The bits of part `part` of `parts`.
fn mask(part: u32, parts: u32) -> u64 {
    let bits = |end: u32| if end == 64 { u64::MAX } else { (1 << end) - 1 };
    bits(64 * (part + 1) / parts) & !bits(64 * part / parts)
}

struct Found<'a> {
    pairs: Vec<[i64; 2]>,
    groups: Option<&'a [i64]>,
}

impl Found<'_> {
    /// Compares all of `run`, in ascending order of index. Pairs that share a part of `before` were found there.
    fn compare(&mut self, run: &[(u64, u32)], distance: u32, before: &[u64]) -> Result<()> {
        let codes: Vec<u64> = run.iter().map(|&(hash, _)| hash).collect();
        let mut near = Vec::new();
        for (k, &(hash, i)) in run.iter().enumerate() {
            within(hash, &codes[k + 1..], distance, &mut near);
            for &offset in &near {
                let (other, j) = run[k + 1 + offset];
                let apart = self.groups.is_none_or(|groups| groups[i as usize] != groups[j as usize]);
                if apart && before.iter().all(|mask| (hash ^ other) & mask != 0) {
                    self.pairs.push([i64::from(i), i64::from(j)]);
                }
            }
            if self.pairs.len() > MOST_PAIRS {
                let detail = format!("more than {MOST_PAIRS} pairs are near: nearly all images are one picture");
                return Err(Error::argument("hashes", detail));
            }
        }
        Ok(())
    }
}

/// Where in `codes` those are that differ from `hash` in at most `distance` bits.
#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512vl+avx512vpopcntdq+popcnt",
    "x86_64+avx2+popcnt",
    "x86_64+popcnt"
))]
fn within(hash: u64, codes: &[u64], distance: u32, near: &mut Vec<usize>) {
    const BLOCK: usize = 32;
    near.clear();
    for (block, codes) in codes.chunks(BLOCK).enumerate() {
        // Most blocks hold none: that much is known without a branch for each.
        let any = codes.iter().fold(false, |any, &code| any | ((hash ^ code).count_ones() <= distance));
        if any {
            let hits = codes.iter().enumerate().filter(|(_, code)| (hash ^ **code).count_ones() <= distance);
            near.extend(hits.map(|(at, _)| block * BLOCK + at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{mask, near_duplicates};

    #[test]
    fn parts_cover_every_bit_once() {
        for parts in 1..=16 {
            let masks: Vec<u64> = (0..parts).map(|part| mask(part, parts)).collect();
            assert_eq!(masks.iter().fold(0, |all, mask| all | mask), u64::MAX);
            assert_eq!(masks.iter().map(|mask| mask.count_ones()).sum::<u32>(), 64);
        }
    }

    #[test]
    fn pairs_are_those_that_a_look_at_all_of_them_finds() {
        let mut state = 1_u64;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state
        };
        // Copies of ten hashes with up to seven bits changed.
        let seeds: Vec<u64> = (0..10).map(|_| draw()).collect();
        let hashes: Vec<u64> =
            (0..300).map(|i| (0..i % 8).fold(seeds[i % 10], |hash, _| hash ^ 1 << (draw() >> 58))).collect();
        let groups: Vec<i64> = (0..300).map(|i| i % 7).collect();
        for distance in [0, 1, 3, 8, 15, 16, 40, 64] {
            for groups in [None, Some(groups.as_slice())] {
                let mut expected = Vec::new();
                for i in 0..300 {
                    for j in i + 1..300 {
                        let apart = groups.is_none_or(|groups| groups[i] != groups[j]);
                        if apart && (hashes[i] ^ hashes[j]).count_ones() <= distance {
                            expected.push([i as i64, j as i64]);
                        }
                    }
                }
                assert_eq!(near_duplicates(&hashes, distance, groups).expect("few pairs"), expected, "{distance}");
            }
        }
    }

    #[test]
    fn groups_must_match() {
        assert_eq!(near_duplicates(&[1, 2], 3, Some(&[1])).expect_err("one group").code(), "argument");
    }
}
