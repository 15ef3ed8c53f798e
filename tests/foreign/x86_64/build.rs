//! Links the kernel where its boot code expects it. The loader of the crate `bootloader` takes it wherever it is linked.

/// That of the template, whose boot code this is.
const SCRIPT: &str = "../../../docs/template/kernel.ld";

fn main() {
    if std::env::var_os("CARGO_FEATURE_BOOTLOADER").is_none() {
        println!("cargo:rustc-link-arg=-T{}/{SCRIPT}", env!("CARGO_MANIFEST_DIR"));
    }
    println!("cargo:rerun-if-changed={SCRIPT}");
}
