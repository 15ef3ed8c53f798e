//! Marks bare-metal builds: `HOTMEM_BARE=1` becomes `cfg(bare)`, and so does a target without an operating system.
//! Any other build is for the host, with a fake machine.

fn main() {
    println!("cargo::rerun-if-env-changed=HOTMEM_BARE");
    println!("cargo::rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if std::env::var_os("HOTMEM_BARE").is_some() || os == "none" {
        println!("cargo::rustc-cfg=bare");
    }
}
