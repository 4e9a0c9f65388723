//! The one place that calls libjpeg-turbo: decoding through `shim.c`, encoding through the `TurboJPEG` API.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int};

use turbojpeg_sys as tj;

use super::super::Source;
use super::super::encode::Subsampling;
use super::Coefficients;
use super::header::Header;
use crate::error::{Error, Result};
use crate::image::Image;

/// `struct jpeg_report` of `shim.c`.
#[repr(C)]
struct Report {
    status: i32,
    warnings: u32,
    message: [c_char; 200],
}

const DECODED: i32 = 0;
const OTHER_SIZE: i32 = 2;
const TOO_MANY_SCANS: i32 = 3;
const OUT_OF_MEMORY: i32 = 4;
const SOURCE_ENDED: u32 = 1;

unsafe extern "C" {
    fn mllmrisk_jpeg_decode(
        data: *const u8,
        size: usize,
        out: *mut u8,
        width: u32,
        height: u32,
        channels: u32,
        max_memory: usize,
        max_scans: i32,
        report: *mut Report,
    );

    fn mllmrisk_jpeg_coefficients(
        data: *const u8,
        size: usize,
        width: u32,
        height: u32,
        components: *mut ComponentOut,
        count: u32,
        max_memory: usize,
        max_scans: i32,
        report: *mut Report,
    );
}

/// `struct jpeg_component` of `shim.c`.
#[repr(C)]
struct ComponentOut {
    values: *mut i16,
    blocks_x: u32,
    blocks_y: u32,
    quantisation: [u16; 64],
}

impl Report {
    fn message(&self) -> String {
        // SAFETY: libjpeg ends its messages with a zero inside JMSG_LENGTH_MAX = 200 bytes; a report starts as zeros.
        unsafe { CStr::from_ptr(self.message.as_ptr()) }.to_string_lossy().into_owned()
    }
}

/// The samples as libjpeg gives them: RGB, or four channels as stored.
pub(super) fn decode(source: &Source<'_>, header: &Header, max_scans: i32) -> Result<Vec<u8>> {
    let channels = if header.components.len() == 4 { 4 } else { 3 };
    let size = header.width as usize * header.height as usize * channels;
    let mut out: Vec<u8> = Vec::new();
    out.try_reserve_exact(size).map_err(|_| source.over_memory())?;
    let mut report = Report { status: 0, warnings: 0, message: [0; 200] };
    // SAFETY: `data` and `report` live through the call; `out` has room for width * height * channels bytes, and the
    // shim compares these numbers with libjpeg's own before it writes a row. It keeps no pointer and never unwinds.
    unsafe {
        mllmrisk_jpeg_decode(
            source.bytes.as_ptr(),
            source.bytes.len(),
            out.as_mut_ptr(),
            header.width,
            header.height,
            channels as u32,
            max_memory(source),
            max_scans,
            &raw mut report,
        );
    }
    check(source, &report, max_scans)?;
    // SAFETY: a decode without missing data has written every row.
    unsafe { out.set_len(size) };
    Ok(out)
}

fn check(source: &Source<'_>, report: &Report, max_scans: i32) -> Result<()> {
    match report.status {
        DECODED if report.warnings == 0 => Ok(()),
        _ if report.warnings & SOURCE_ENDED != 0 => Err(source.truncated(report.message())),
        OTHER_SIZE => Err(source.corrupt("it has two frame headers that disagree")),
        TOO_MANY_SCANS => Err(source.corrupt(format!("more than {max_scans} scans"))),
        OUT_OF_MEMORY => Err(source.over_memory()),
        _ => Err(source.corrupt(report.message())),
    }
}

/// The quantised coefficients of every component as they are stored; no pixel is made.
pub(super) fn coefficients(source: &Source<'_>, header: &Header<'_>, max_scans: i32) -> Result<Vec<Coefficients>> {
    let mut found = Vec::with_capacity(header.components.len());
    for (component, (blocks_x, blocks_y)) in header.components.iter().zip(header.blocks()) {
        let size = blocks_x as usize * blocks_y as usize * 64;
        let mut values: Vec<i16> = Vec::new();
        values.try_reserve_exact(size).map_err(|_| source.over_memory())?;
        let sampling = (component.horizontal, component.vertical);
        found.push(Coefficients { blocks_x, blocks_y, values, quantisation: [0; 64], sampling });
    }
    let out = |of: &mut Coefficients| ComponentOut {
        values: of.values.as_mut_ptr(),
        blocks_x: of.blocks_x,
        blocks_y: of.blocks_y,
        quantisation: [0; 64],
    };
    let mut components: Vec<ComponentOut> = found.iter_mut().map(out).collect();
    let mut report = Report { status: 0, warnings: 0, message: [0; 200] };
    // SAFETY: `data`, `components` and `report` live through the call; each `values` has room for its blocks, whose
    // numbers the shim compares with libjpeg's own before it writes. It keeps no pointer and never unwinds.
    unsafe {
        mllmrisk_jpeg_coefficients(
            source.bytes.as_ptr(),
            source.bytes.len(),
            header.width,
            header.height,
            components.as_mut_ptr(),
            components.len() as u32,
            max_memory(source),
            max_scans,
            &raw mut report,
        );
    }
    check(source, &report, max_scans)?;
    for (to, from) in found.iter_mut().zip(components) {
        // SAFETY: a call that succeeds has written every block.
        unsafe { to.values.set_len(to.blocks_x as usize * to.blocks_y as usize * 64) };
        to.quantisation = from.quantisation;
    }
    Ok(found)
}

/// What libjpeg may take, in the range of its own type.
fn max_memory(source: &Source<'_>) -> usize {
    usize::try_from(source.limits.memory).unwrap_or(usize::MAX).min(isize::MAX as usize)
}

/// A `TurboJPEG` instance that is destroyed when it goes.
struct Compressor(tj::tjhandle);

impl Drop for Compressor {
    fn drop(&mut self) {
        // SAFETY: the handle came from tj3Init and is destroyed once.
        unsafe { tj::tj3Destroy(self.0) };
    }
}

impl Compressor {
    fn set(&self, parameter: tj::TJPARAM, value: c_int) {
        // SAFETY: the handle is live; a value that is out of range is refused, and compression then says so.
        unsafe { tj::tj3Set(self.0, parameter as c_int, value) };
    }
}

/// A baseline JFIF file with libjpeg's standard tables: the bytes that Pillow writes at the same settings.
pub(in crate::codec) fn encode(image: &Image, quality: u8, subsampling: Subsampling) -> Result<Vec<u8>> {
    let failed = |detail: String| Error::argument("image", format!("JPEG encoder: {detail}"));
    // SAFETY: plain construction; a null handle is turned away below.
    let compressor = Compressor(unsafe { tj::tj3Init(tj::TJINIT_TJINIT_COMPRESS as c_int) });
    if compressor.0.is_null() {
        return Err(failed("no memory".to_owned()));
    }
    let subsamp = match subsampling {
        Subsampling::S444 => tj::TJSAMP_TJSAMP_444,
        Subsampling::S422 => tj::TJSAMP_TJSAMP_422,
        Subsampling::S420 => tj::TJSAMP_TJSAMP_420,
    };
    compressor.set(tj::TJPARAM_TJPARAM_QUALITY, c_int::from(quality));
    compressor.set(tj::TJPARAM_TJPARAM_SUBSAMP, subsamp as c_int);
    let mut buffer: *mut u8 = std::ptr::null_mut();
    let mut size: tj::size_t = 0;
    // SAFETY: the image owns width * height * 3 bytes; the library allocates `buffer`, which is copied and freed here.
    let bytes = unsafe {
        let status = tj::tj3Compress8(
            compressor.0,
            image.data().as_ptr(),
            image.width() as c_int,
            0,
            image.height() as c_int,
            tj::TJPF_TJPF_RGB as c_int,
            &raw mut buffer,
            &raw mut size,
        );
        let bytes = if status == 0 && !buffer.is_null() {
            Ok(std::slice::from_raw_parts(buffer, size as usize).to_vec())
        } else {
            Err(CStr::from_ptr(tj::tj3GetErrorStr(compressor.0)).to_string_lossy().into_owned())
        };
        tj::tj3Free(buffer.cast());
        bytes
    };
    bytes.map_err(failed)
}
