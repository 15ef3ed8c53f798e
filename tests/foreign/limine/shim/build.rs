//! Links the shim where its boot code expects it.

/// That of the template, whose boot code this is.
const SCRIPT: &str = "../../../../docs/template/kernel.ld";

fn main() {
    println!("cargo:rustc-link-arg=-T{}/{SCRIPT}", env!("CARGO_MANIFEST_DIR"));
    println!("cargo:rerun-if-changed={SCRIPT}");
}
