//! Links the kernel behind the device tree, which QEMU leaves at the start of RAM.

fn main() {
    println!("cargo:rustc-link-arg=-T{}/kernel.ld", env!("CARGO_MANIFEST_DIR"));
    println!("cargo:rerun-if-changed=kernel.ld");
}
