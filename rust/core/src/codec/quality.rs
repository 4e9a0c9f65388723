//! The IJG quality that quantisation tables stand for.

/// The standard luma table (JPEG, Annex K.1), natural order.
const LUMA: [u16; 64] = [
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
];

/// The standard chroma table (JPEG, Annex K.2), natural order.
const CHROMA: [u16; 64] = [
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99,
    99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
    99, 99, 99, 99, 99, 99,
];

/// libjpeg's `jpeg_quality_scaling` and `jpeg_add_quant_table`, baseline.
fn scaled(standard: &[u16; 64], quality: u32) -> [u16; 64] {
    let percent = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    standard.map(|value| ((u32::from(value) * percent + 50) / 100).clamp(1, 255) as u16)
}

/// The quality from 1 to 100 whose tables are nearest (least sum of absolute differences), and whether they are equal.
pub(super) fn estimate(luma: &[u16; 64], chroma: Option<&[u16; 64]>) -> (u8, bool) {
    let distance = |table: &[u16; 64], standard: &[u16; 64], quality: u32| -> u32 {
        let scaled = scaled(standard, quality);
        table.iter().zip(&scaled).map(|(a, b)| u32::from(a.abs_diff(*b))).sum()
    };
    let (quality, distance) = (1..=100_u32)
        .map(|quality| {
            let chroma = chroma.map_or(0, |table| distance(table, &CHROMA, quality));
            (quality, distance(luma, &LUMA, quality) + chroma)
        })
        .min_by_key(|&(_, distance)| distance)
        .unwrap_or((1, u32::MAX));
    (quality as u8, distance == 0)
}

#[cfg(test)]
mod tests {
    use super::{CHROMA, LUMA, estimate, scaled};

    #[test]
    fn standard_tables_give_their_own_quality() {
        for quality in 1..=100 {
            let (luma, chroma) = (scaled(&LUMA, quality), scaled(&CHROMA, quality));
            assert_eq!(estimate(&luma, Some(&chroma)), (quality as u8, true));
        }
    }

    #[test]
    fn other_tables_are_near_and_not_exact() {
        let mut luma = scaled(&LUMA, 80);
        luma[5] += 1;
        assert_eq!(estimate(&luma, None), (80, false));
    }
}
