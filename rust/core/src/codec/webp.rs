//! WebP through libwebp.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::mem::MaybeUninit;

use libwebp_sys as webp;
use webp::VP8StatusCode as Status;

use super::{Source, pixels};
use crate::error::{Error, Result};
use crate::image::Image;

/// Decodes a still image, or the first frame of an animation on its canvas; alpha is dropped.
pub(super) fn decode(source: &Source<'_>) -> Result<Image> {
    let features = features(source)?;
    let (width, height) = (features.width as u32, features.height as u32);
    let pixels = u64::from(width) * u64::from(height);
    // libwebp keeps a lossless image as 4 bytes a pixel, and an animation two canvases of them beside a frame.
    let extra = pixels * if features.has_animation != 0 { 12 } else { 4 };
    source.admit(width, height, extra)?;
    let data =
        if features.has_animation != 0 { first_frame(source, width, height)? } else { still(source, width, height)? };
    Image::from_rgb(width, height, data)
}

/// What the headers say.
pub(super) fn features(source: &Source<'_>) -> Result<webp::WebPBitstreamFeatures> {
    let mut features = MaybeUninit::<webp::WebPBitstreamFeatures>::zeroed();
    // SAFETY: the bytes live through the call, which fills `features`; all zeros are a valid value of it.
    let (status, features) = unsafe {
        let status = webp::WebPGetFeatures(source.bytes.as_ptr(), source.bytes.len(), features.as_mut_ptr());
        (status, features.assume_init())
    };
    check(source, status)?;
    Ok(features)
}

fn check(source: &Source<'_>, status: Status) -> Result<()> {
    match status {
        Status::VP8_STATUS_OK => Ok(()),
        Status::VP8_STATUS_NOT_ENOUGH_DATA | Status::VP8_STATUS_SUSPENDED => {
            Err(source.truncated("the data end before the image does"))
        }
        Status::VP8_STATUS_OUT_OF_MEMORY => Err(source.over_memory()),
        Status::VP8_STATUS_UNSUPPORTED_FEATURE => Err(source.unsupported("a feature that libwebp does not know")),
        _ => Err(source.corrupt("the bitstream is broken")),
    }
}

fn still(source: &Source<'_>, width: u32, height: u32) -> Result<Vec<u8>> {
    let size = width as usize * height as usize * 3;
    let mut out: Vec<u8> = Vec::new();
    out.try_reserve_exact(size).map_err(|_| source.over_memory())?;
    let mut config = webp::WebPDecoderConfig::new().map_err(|()| source.corrupt("libwebp has another version"))?;
    config.output.colorspace = webp::WEBP_CSP_MODE::MODE_RGB;
    config.output.is_external_memory = 1;
    config.output.u.RGBA = webp::WebPRGBABuffer { rgba: out.as_mut_ptr(), stride: (width * 3) as c_int, size };
    // SAFETY: the output buffer has `size` bytes of room, as the config says; libwebp refuses an image that needs more.
    let status = unsafe { webp::WebPDecode(source.bytes.as_ptr(), source.bytes.len(), &raw mut config) };
    check(source, status)?;
    if (config.output.width, config.output.height) != (width as c_int, height as c_int) {
        return Err(source.corrupt("its headers disagree about its size"));
    }
    // SAFETY: a decode with status OK has written every row.
    unsafe { out.set_len(size) };
    Ok(out)
}

/// An animation decoder that is deleted when it goes.
struct Animation(*mut webp::WebPAnimDecoder);

impl Drop for Animation {
    fn drop(&mut self) {
        // SAFETY: made by WebPAnimDecoderNew, deleted once; null is accepted.
        unsafe { webp::WebPAnimDecoderDelete(self.0) };
    }
}

fn first_frame(source: &Source<'_>, width: u32, height: u32) -> Result<Vec<u8>> {
    let data = webp::WebPData { bytes: source.bytes.as_ptr(), size: source.bytes.len() };
    let mut options = MaybeUninit::<webp::WebPAnimDecoderOptions>::zeroed();
    // SAFETY: the options are filled by their initialiser; `data` outlives the decoder; the canvas that GetNext points
    // to holds width * height * 4 bytes and stays until the decoder goes, after the copy.
    unsafe {
        if webp::WebPAnimDecoderOptionsInit(options.as_mut_ptr()) == 0 {
            return Err(source.corrupt("libwebp has another version"));
        }
        (*options.as_mut_ptr()).color_mode = webp::WEBP_CSP_MODE::MODE_RGBA;
        (*options.as_mut_ptr()).use_threads = 0;
        let animation = Animation(webp::WebPAnimDecoderNew(&raw const data, options.as_ptr()));
        if animation.0.is_null() {
            return Err(source.truncated("its frames are incomplete"));
        }
        let mut info = webp::WebPAnimInfo::default();
        webp::WebPAnimDecoderGetInfo(animation.0, &raw mut info);
        if (info.canvas_width, info.canvas_height) != (width, height) {
            return Err(source.corrupt("its headers disagree about its size"));
        }
        let mut canvas: *mut u8 = std::ptr::null_mut();
        let mut time: c_int = 0;
        if webp::WebPAnimDecoderGetNext(animation.0, &raw mut canvas, &raw mut time) == 0 || canvas.is_null() {
            return Err(source.corrupt("its first frame is broken"));
        }
        let rgba = std::slice::from_raw_parts(canvas, width as usize * height as usize * 4);
        Ok(pixels::rgb_from_wider(rgba, 4))
    }
}

/// A lossy WebP file at libwebp's default effort.
pub(super) fn encode(image: &Image, quality: u8) -> Result<Vec<u8>> {
    const MAX_SIDE: u32 = 16_383;
    if image.width() > MAX_SIDE || image.height() > MAX_SIDE {
        let size = format!("{}x{}", image.width(), image.height());
        return Err(Error::argument("image", format!("{size} is over WebP's {MAX_SIDE} px a side")));
    }
    let mut buffer: *mut u8 = std::ptr::null_mut();
    // SAFETY: the image owns height rows of width * 3 bytes; the library allocates `buffer`, copied and freed here.
    let bytes = unsafe {
        let size = webp::WebPEncodeRGB(
            image.data().as_ptr(),
            image.width() as c_int,
            image.height() as c_int,
            (image.width() * 3) as c_int,
            f32::from(quality),
            &raw mut buffer,
        );
        let bytes = (size > 0 && !buffer.is_null()).then(|| std::slice::from_raw_parts(buffer, size).to_vec());
        webp::WebPFree(buffer.cast());
        bytes
    };
    bytes.ok_or_else(|| Error::argument("image", "WebP encoder: no memory"))
}

/// libwebp's version.
pub(super) fn version() -> String {
    // SAFETY: a constant is returned.
    let version = unsafe { webp::WebPGetDecoderVersion() };
    format!("{}.{}.{}", version >> 16, (version >> 8) & 255, version & 255)
}
