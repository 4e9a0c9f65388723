//! Compiles the door to libjpeg-turbo against the headers that its own crate installed.

use std::path::{Path, PathBuf};

fn main() {
    const SOURCES: [&str; 2] = ["src/codec/jpeg/shim.c", "src/codec/jpeg/entropy.c"];
    for source in SOURCES.iter().chain(&["src/codec/jpeg/entropy.h"]) {
        println!("cargo:rerun-if-changed={source}");
    }
    println!("cargo:rerun-if-env-changed=DEP_TURBOJPEG_INCLUDE");
    let include = std::env::var("DEP_TURBOJPEG_INCLUDE").expect("turbojpeg-sys says where its headers are");
    let folders: Vec<PathBuf> = include.split(',').map(PathBuf::from).collect();
    cc::Build::new().files(SOURCES).includes(&folders).warnings(true).extra_warnings(true).compile("mllmrisk_jpeg");

    let simd = folders.iter().any(|folder| has_simd(&folder.join("../lib")));
    println!("cargo:rustc-env=MLLMRISK_JPEG_SIMD={simd}");
    let version = folders.iter().find_map(|folder| version(&folder.join("jconfig.h"))).unwrap_or_default();
    println!("cargo:rustc-env=MLLMRISK_LIBJPEG_TURBO={version}");
    println!("cargo:rustc-env=MLLMRISK_PROFILE={}", std::env::var("PROFILE").unwrap_or_default());
}

/// Whether the static library holds the vector code (on x86 it is there only where nasm was found).
fn has_simd(folder: &Path) -> bool {
    const SYMBOLS: [&[u8]; 2] = [b"jsimd_idct_islow_avx2", b"jsimd_idct_islow_neon"];
    let bytes =
        ["libturbojpeg.a", "turbojpeg-static.lib"].iter().find_map(|name| std::fs::read(folder.join(name)).ok());
    bytes.is_some_and(|bytes| SYMBOLS.iter().any(|symbol| bytes.windows(symbol.len()).any(|window| window == *symbol)))
}

/// The version that the installed header states.
fn version(header: &Path) -> Option<String> {
    let text = std::fs::read_to_string(header).ok()?;
    let line = text.lines().find(|line| line.starts_with("#define LIBJPEG_TURBO_VERSION "))?;
    line.split_whitespace().last().map(str::to_owned)
}
