//! Stored samples to 8-bit RGB, in Pillow's arithmetic.

/// Grey repeated into red, green and blue.
pub(super) fn rgb_from_grey(grey: &[u8]) -> Vec<u8> {
    grey.iter().flat_map(|&value| [value; 3]).collect()
}

/// The first three of every `channels` samples: alpha and further channels are dropped.
pub(super) fn rgb_from_wider(samples: &[u8], channels: usize) -> Vec<u8> {
    let mut rgb = vec![0; samples.len() / channels * 3];
    for (to, from) in rgb.chunks_exact_mut(3).zip(samples.chunks_exact(channels)) {
        to.copy_from_slice(&from[..3]);
    }
    rgb
}

/// The first of every `channels` samples, repeated.
pub(super) fn rgb_from_grey_wider(samples: &[u8], channels: usize) -> Vec<u8> {
    samples.chunks_exact(channels).flat_map(|pixel| [pixel[0]; 3]).collect()
}

/// Palette entries; an index beyond the palette is black.
pub(super) fn rgb_from_palette(indices: &[u8], palette: &[[u8; 3]]) -> Vec<u8> {
    let mut table = [[0; 3]; 256];
    for (to, from) in table.iter_mut().zip(palette) {
        *to = *from;
    }
    indices.iter().flat_map(|&index| table[usize::from(index)]).collect()
}

/// CMYK (0 = no ink) to RGB without a profile: `K' = 255 - K`, `R = K' - C·K'/255`, the division rounded.
pub(super) fn rgb_from_cmyk(cmyk: &[u8]) -> Vec<u8> {
    let mut rgb = vec![0; cmyk.len() / 4 * 3];
    for (to, from) in rgb.chunks_exact_mut(3).zip(cmyk.chunks_exact(4)) {
        let white = u32::from(255 - from[3]);
        for (value, &ink) in to.iter_mut().zip(from) {
            let product = u32::from(ink) * white + 128;
            *value = (white - (((product >> 8) + product) >> 8)) as u8;
        }
    }
    rgb
}

#[cfg(test)]
mod tests {
    use super::rgb_from_cmyk;

    #[test]
    fn no_ink_is_white_and_full_key_is_black() {
        assert_eq!(
            rgb_from_cmyk(&[0, 0, 0, 0, 10, 200, 255, 255, 255, 0, 0, 0]),
            [255, 255, 255, 0, 0, 0, 0, 255, 255]
        );
    }
}
