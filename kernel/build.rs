//! Chooses the firmware interface. Bare-metal builds: `HOTMEM_BARE=1` becomes `cfg(bare)`, and so does a target
//! without an operating system; the image gets its linker script.

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-env-changed=HOTMEM_BARE");
    println!("cargo::rerun-if-changed=build.rs");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    // The compiler and the project name one architecture differently.
    let arch = if arch == "powerpc64" { "ppc64".into() } else { arch };
    // An image links the firmware interface of its architecture only.
    println!("cargo::rustc-cfg={}", if arch == "ppc64" { "papr" } else { "acpi" });
    let os = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if env::var_os("HOTMEM_BARE").is_none() && os != "none" {
        return;
    }
    println!("cargo::rustc-cfg=bare");

    let here = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    let script = Path::new(&here).join("../boot/src").join(arch).join("image.ld");
    println!("cargo::rerun-if-changed={}", script.display());
    println!("cargo::rustc-link-arg-bins=-T{}", script.display());
    // Segments start on pages of their own, which have 4 KiB.
    println!("cargo::rustc-link-arg-bins=-zmax-page-size=4096");
    println!("cargo::rustc-link-arg-bins=--build-id=none");
}
