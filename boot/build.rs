//! Marks bare-metal builds: `HOTMEM_BARE=1` becomes `cfg(bare)`, without it the crate is host code.

fn main() {
    println!("cargo::rerun-if-env-changed=HOTMEM_BARE");
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var_os("HOTMEM_BARE").is_some() {
        println!("cargo::rustc-cfg=bare");
    }
}
