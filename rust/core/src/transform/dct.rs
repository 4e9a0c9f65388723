//! The 8×8 DCT-II over many blocks at once.

/// Blocks that one call of [`forward`] transforms side by side.
pub const LANES: usize = 16;

/// [`LANES`] blocks, position by position: `blocks[8 * y + x][lane]`.
pub type Blocks = [[f32; LANES]; 64];

/// Scale of each output of the butterfly: 1 for DC, √2 cos(kπ/16) for the others (Arai, Agui, Nakajima 1988).
const AAN: [f32; 8] = [1.0, 1.387_039_9, 1.306_563, 1.175_875_6, 1.0, 0.785_694_96, 0.541_196_1, 0.275_899_38];

/// What turns output `8 * v + u` of [`forward`] into the orthonormal coefficient: 1 / (8 a(u) a(v)).
pub const SCALE: [f32; 64] = {
    let mut scale = [0.0; 64];
    let mut k = 0;
    while k < 64 {
        scale[k] = 1.0 / (8.0 * AAN[k / 8] * AAN[k % 8]);
        k += 1;
    }
    scale
};

/// Transforms all lanes in place; outputs still need [`SCALE`]. Index `8 * v + u`: `v` vertical frequency.
///
/// Meant to be inlined into a function that is compiled per instruction set.
#[inline(always)]
pub fn forward(blocks: &mut Blocks) {
    for row in blocks.as_chunks_mut::<8>().0 {
        butterfly(row);
    }
    vertical(blocks);
}

/// As [`forward`], of blocks whose rows of samples are `rows(0)` to `rows(7)`, one block after the other.
#[inline(always)]
pub fn forward_bytes<'a>(rows: impl Fn(usize) -> &'a [u8; 8 * LANES], blocks: &mut Blocks) {
    for (y, out) in blocks.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let samples = rows(y).as_chunks::<8>().0;
        // Each half of a block's row is one integer; its bytes are taken out of it lane by lane, nothing is moved.
        let (mut left, mut right) = ([0_u32; LANES], [0_u32; LANES]);
        for l in 0..LANES {
            let eight = u64::from_le_bytes(samples[l]);
            left[l] = eight as u32;
            right[l] = (eight >> 32) as u32;
        }
        let (a, b) = (byte::<0>(&left), byte::<8>(&left));
        let (c, d) = (byte::<16>(&left), byte::<24>(&left));
        let (e, f) = (byte::<0>(&right), byte::<8>(&right));
        let (g, h) = (byte::<16>(&right), byte::<24>(&right));
        let mut row = [a, b, c, d, e, f, g, h];
        butterfly(&mut row);
        *out = row;
    }
    vertical(blocks);
}

/// The eight bits of each lane from bit `SHIFT` on. A loop over shifts tempts the compiler to scatters.
#[inline(always)]
fn byte<const SHIFT: u32>(lanes: &[u32; LANES]) -> Lane {
    let mut values = [0.0; LANES];
    for l in 0..LANES {
        values[l] = ((lanes[l] >> SHIFT) & 255) as i32 as f32;
    }
    values
}

/// The transform along columns.
#[inline(always)]
fn vertical(blocks: &mut Blocks) {
    for x in 0..8 {
        let mut column = [[0.0; LANES]; 8];
        for (y, values) in column.iter_mut().enumerate() {
            *values = blocks[8 * y + x];
        }
        butterfly(&mut column);
        for (y, values) in column.iter().enumerate() {
            blocks[8 * y + x] = *values;
        }
    }
}

type Lane = [f32; LANES];

/// The 8-point butterfly of Arai, Agui and Nakajima, on every lane.
#[inline(always)]
fn butterfly(p: &mut [Lane; 8]) {
    let [p0, p1, p2, p3, p4, p5, p6, p7] = p;
    for l in 0..LANES {
        let (s07, d07) = (p0[l] + p7[l], p0[l] - p7[l]);
        let (s16, d16) = (p1[l] + p6[l], p1[l] - p6[l]);
        let (s25, d25) = (p2[l] + p5[l], p2[l] - p5[l]);
        let (s34, d34) = (p3[l] + p4[l], p3[l] - p4[l]);

        let (e0, e3) = (s07 + s34, s07 - s34);
        let (e1, e2) = (s16 + s25, s16 - s25);
        let z1 = (e2 + e3) * std::f32::consts::FRAC_1_SQRT_2;
        p0[l] = e0 + e1;
        p4[l] = e0 - e1;
        p2[l] = e3 + z1;
        p6[l] = e3 - z1;

        let (o0, o1, o2) = (d34 + d25, d25 + d16, d16 + d07);
        let z5 = (o0 - o2) * 0.382_683_43;
        let z2 = 0.541_196_1 * o0 + z5;
        let z4 = 1.306_563 * o2 + z5;
        let z3 = o1 * std::f32::consts::FRAC_1_SQRT_2;
        let (z11, z13) = (d07 + z3, d07 - z3);
        p5[l] = z13 + z2;
        p3[l] = z13 - z2;
        p1[l] = z11 + z4;
        p7[l] = z11 - z4;
    }
}
