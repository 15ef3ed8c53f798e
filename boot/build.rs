//! Marks bare-metal builds: `HOTMEM_BARE=1` becomes `cfg(bare)`, without it the crate is host code.
//! So it is for the UEFI loader, a program under another system, which uses only the pure parts.

fn main() {
    println!("cargo::rerun-if-env-changed=HOTMEM_BARE");
    println!("cargo::rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if std::env::var_os("HOTMEM_BARE").is_some() && os != "uefi" {
        println!("cargo::rustc-cfg=bare");
    }
}
