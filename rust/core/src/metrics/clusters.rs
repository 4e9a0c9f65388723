//! Clusters: dense indices, and the pools that are resampled together.

/// `ids` as indices 0.. in ascending order of id, and the ids themselves.
pub(super) fn dense(ids: &[i64]) -> (Vec<u32>, Vec<i64>) {
    let (Some(&low), Some(&high)) = (ids.iter().min(), ids.iter().max()) else { return (vec![], vec![]) };
    let span = high.abs_diff(low);
    if span < 4 * ids.len() as u64 {
        // Ids are close together, as indices are: a table beats a sort.
        let mut table = vec![u32::MAX; span as usize + 1];
        for id in ids {
            table[id.abs_diff(low) as usize] = 0;
        }
        let mut kept = vec![];
        for (offset, slot) in table.iter_mut().enumerate().filter(|(_, slot)| **slot == 0) {
            *slot = kept.len() as u32;
            kept.push(low + offset as i64);
        }
        return (ids.iter().map(|id| table[id.abs_diff(low) as usize]).collect(), kept);
    }
    let mut kept = ids.to_vec();
    kept.sort_unstable();
    kept.dedup();
    (ids.iter().map(|id| kept.partition_point(|k| k < id) as u32).collect(), kept)
}

/// The clusters by what they hold: each pool is resampled by itself, to its own size.
#[derive(Debug, Clone)]
pub(super) struct Pools(pub(super) Vec<Vec<u32>>);

impl Pools {
    /// One pool of all clusters.
    pub(super) fn joint(clusters: usize) -> Self {
        Self(vec![(0..clusters as u32).collect()])
    }

    /// A pool per kind of row where no cluster holds two kinds, else one pool of all: a caption whose photograph and
    /// generations stand in one cluster must stay with them.
    ///
    /// `kinds[row]` is below 8; `clusters[row]` is dense.
    pub(super) fn by_kind(clusters: &[u32], kinds: impl Iterator<Item = u8>, count: usize) -> Self {
        let mut held = vec![0_u8; count];
        for (&cluster, kind) in clusters.iter().zip(kinds) {
            held[cluster as usize] |= 1 << kind;
        }
        if held.iter().any(|kinds| kinds.count_ones() > 1) {
            return Self::joint(count);
        }
        let pools = (0..8).map(|kind| (0..count as u32).filter(|&c| held[c as usize] == 1 << kind).collect::<Vec<_>>());
        Self(pools.filter(|pool| !pool.is_empty()).collect())
    }

    /// The number of clusters in the smallest pool.
    pub(super) fn smallest(&self) -> usize {
        self.0.iter().map(Vec::len).min().unwrap_or(0)
    }

    /// The number of draws in a resample.
    pub(super) fn draws(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dense_is_the_same_by_table_and_by_sort() {
        let near = [7, 3, 3, 9, 7];
        let far = near.map(|id| id * 1_000_000_007 - (1 << 60));
        assert_eq!(dense(&near), (vec![1, 0, 0, 2, 1], vec![3, 7, 9]));
        assert_eq!(dense(&far).0, dense(&near).0);
        assert_eq!(dense(&[i64::MIN, i64::MAX]).0, [0, 1]);
    }

    #[test]
    fn mixed_clusters_make_one_pool() {
        assert_eq!(Pools::by_kind(&[0, 1, 2], [0, 1, 1].into_iter(), 3).0, [vec![0], vec![1, 2]]);
        assert_eq!(Pools::by_kind(&[0, 1, 1], [0, 0, 1].into_iter(), 2).0, [vec![0, 1]]);
    }
}
