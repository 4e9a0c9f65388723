//! Decoding of a part of a JPEG file, through the `TurboJPEG` API.
//!
//! Entropy-coded data are read down to the part's last row; the inverse DCT, the upsampling of chroma and the conversion
//! of colours are made for the part alone. What comes below is not looked at, but for the mark that ends a whole file.
#![allow(unsafe_code)]

use std::ffi::c_int;

use turbojpeg_sys as tj;

use super::super::Source;
use super::MAX_SCANS;
use super::header::Header;
use crate::transform::resize::Region;

/// A chroma sample is made of its neighbour too: so many more chroma samples than asked for, on every side.
const MARGIN: usize = 2;

/// The marker that ends a file (EOI); it cannot stand inside entropy-coded data.
const END: [u8; 2] = [0xFF, 0xD9];

/// All samples of the image, of which those in `part` are decoded; the others may be zeros.
///
/// `None` where the decoder has anything to say, even a warning, where the end mark is missing, or where the decoder knows
/// no parts of such a file: the way over the whole image then tells what is wrong, or decodes it.
pub(super) fn decode(source: &Source<'_>, header: &Header<'_>, part: Region) -> Option<Vec<u8>> {
    if !source.bytes.ends_with(&END) {
        return None;
    }
    let (width, height) = (header.width as usize, header.height as usize);
    let wider = widened(header, part);
    let number = |value: usize| c_int::try_from(value).ok();
    let region = tj::tjregion {
        x: number(wider.left)?,
        y: number(wider.top)?,
        w: number(wider.width)?,
        h: number(wider.height)?,
    };
    let mut out = vec![0; width * height * 3];
    let decoder = Decoder::new()?;
    decoder.set(tj::TJPARAM_TJPARAM_STOPONWARNING, 1)?;
    if header.keeps_coefficients() {
        // To count scans costs a call an MCU; where there is one, nothing is to be counted.
        decoder.set(tj::TJPARAM_TJPARAM_SCANLIMIT, MAX_SCANS)?;
    }
    // In mega-bytes; 0 would be no limit.
    decoder.set(tj::TJPARAM_TJPARAM_MAXMEMORY, number((source.limits.memory >> 20).max(1) as usize)?)?;
    let (bytes, size) = (source.bytes.as_ptr(), source.bytes.len() as tj::size_t);
    // SAFETY: the handle is live and `bytes` lives through the call.
    let status = unsafe { tj::tj3DecompressHeader(decoder.0, bytes, size) };
    let same = decoder.get(tj::TJPARAM_TJPARAM_JPEGWIDTH) == number(width)?
        && decoder.get(tj::TJPARAM_TJPARAM_JPEGHEIGHT) == number(height)?;
    // SAFETY: the handle is live; a region that the file does not have is refused.
    if status != 0 || !same || unsafe { tj::tj3SetCroppingRegion(decoder.0, region) } != 0 {
        return None;
    }
    let first = &mut out[(wider.top * width + wider.left) * 3..];
    // SAFETY: the library writes `region.h` rows of `region.w` RGB pixels, `width` pixels apart: from `first` on they
    // end inside `out`, as `wider` lies inside the image, whose size the library has read alike.
    let status = unsafe {
        tj::tj3Decompress8(decoder.0, bytes, size, first.as_mut_ptr(), number(width * 3)?, tj::TJPF_TJPF_RGB as c_int)
    };
    (status == 0).then_some(out)
}

/// `part` and the margin that its edges need, from a whole MCU's column on.
fn widened(header: &Header<'_>, part: Region) -> Region {
    let most = |side: fn(&super::header::Component) -> u8| {
        usize::from(header.components.iter().map(side).max().unwrap_or(1)).max(1)
    };
    let (horizontal, vertical) = (most(|c| c.horizontal), most(|c| c.vertical));
    let left = part.left.saturating_sub(MARGIN * horizontal) / (8 * horizontal) * (8 * horizontal);
    let right = (part.left + part.width + MARGIN * horizontal).min(header.width as usize);
    let top = part.top.saturating_sub(MARGIN * vertical);
    let bottom = (part.top + part.height + MARGIN * vertical).min(header.height as usize);
    Region { left, top, width: right - left, height: bottom - top }
}

/// A `TurboJPEG` instance that is destroyed when it goes.
struct Decoder(tj::tjhandle);

impl Drop for Decoder {
    fn drop(&mut self) {
        // SAFETY: the handle came from tj3Init and is destroyed once.
        unsafe { tj::tj3Destroy(self.0) };
    }
}

impl Decoder {
    fn new() -> Option<Self> {
        // SAFETY: plain construction; a null handle is turned away.
        let handle = unsafe { tj::tj3Init(tj::TJINIT_TJINIT_DECOMPRESS as c_int) };
        (!handle.is_null()).then_some(Self(handle))
    }

    fn set(&self, parameter: tj::TJPARAM, value: c_int) -> Option<()> {
        // SAFETY: the handle is live; a value that is out of range is refused.
        (unsafe { tj::tj3Set(self.0, parameter as c_int, value) } == 0).then_some(())
    }

    fn get(&self, parameter: tj::TJPARAM) -> c_int {
        // SAFETY: the handle is live.
        unsafe { tj::tj3Get(self.0, parameter as c_int) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Encoding, Input, Limits, Subsampling, decode, decode_part, encode};
    use super::*;
    use crate::image::Image;

    /// Noise over a gradient: no chroma sample is like its neighbour.
    fn image(width: u32, height: u32) -> Image {
        let mut state = 1_u32;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 26) as u8
        };
        let data = (0..width * height * 3).map(|i| ((i / 7) % 190) as u8 + noise()).collect();
        Image::from_rgb(width, height, data).expect("its size is right")
    }

    #[test]
    fn a_part_has_the_pixels_of_the_whole() {
        let (width, height) = (150, 131);
        for subsampling in [Subsampling::S444, Subsampling::S422, Subsampling::S420] {
            let bytes =
                encode(&image(width, height), &Encoding::Jpeg { quality: 93, subsampling }).expect("it is an image");
            let input = Input { name: "image", bytes: &bytes };
            let whole = decode(&input, &Limits::default(), false).expect("it decodes");
            for at in 0..400_usize {
                // Every offset to the grid of MCUs comes, on both axes.
                let part = Region { left: at % 83, top: (at * 7) % 71, width: 1 + at % 67, height: 1 + (at * 3) % 60 };
                let found = decode_part(&input, &Limits::default(), |_, _| Some(part)).expect("it decodes");
                for y in part.rows() {
                    let row =
                        |image: &Image| image.data()[(y * width as usize + part.left) * 3..][..part.width * 3].to_vec();
                    assert_eq!(row(&found), row(&whole), "{subsampling:?} {part:?} row {y}");
                }
                assert!(found.data().first() == Some(&0) || part.left < 32, "only the part was decoded: {part:?}");
            }
        }
    }

    #[test]
    fn a_cut_below_the_part_is_found() {
        let encoding = Encoding::Jpeg { quality: 90, subsampling: Subsampling::S420 };
        let bytes = encode(&image(256, 256), &encoding).expect("it is an image");
        let cut = Input { name: "cut", bytes: &bytes[..bytes.len() * 9 / 10] };
        let part = Region { left: 0, top: 0, width: 64, height: 64 };
        let limits = Limits::default();
        let wrong = decode_part(&cut, &limits, |_, _| Some(part)).expect_err("it is cut");
        assert_eq!(wrong, decode(&cut, &limits, false).expect_err("it is cut"));
    }
}
