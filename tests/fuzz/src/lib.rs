//! Hostile input: each target reads bytes as something that firmware, a host, a guest or an operator wrote.
//!
//! ```text
//!   cargo-fuzz, guided by coverage   targets/NAME.rs  --\
//!                                                        >--  TARGETS: fn(&[u8])
//!   cargo test, the inputs it found  tests/replay.rs  --/
//! ```
//!
//! A target fails by a panic, an overflow, an access out of bounds, or by not returning. What it may return is a matter of
//! the tests beside the code; targets add only what must hold for any input.

mod acpi;
mod aml;
mod boot;
mod entries;
mod guests;
mod input;
mod nvdimm;
mod operator;
mod papr;
mod virtio;

/// A target's name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("acpi_tables", acpi::tables),
    ("aml", aml::table),
    ("aml_resources", aml::resource_list),
    ("device_tree", papr::tree),
    ("entries", entries::words),
    ("guest_exits", guests::exits),
    ("guest_files", guests::files),
    ("guest_own", guests::own),
    ("nvdimm", nvdimm::tables),
    ("operator", operator::lines),
    ("rtas", papr::events),
    ("start_info", boot::start_info),
    ("table_loader", boot::script),
    ("virtio_mem", virtio::device),
    ("virtio_pci", virtio::function),
];

/// Runs the target called `name` with an input.
///
/// # Panics
///
/// If the target finds a fault, or does not exist.
pub fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|(target, _)| *target == name);
    assert!(target.is_some(), "there is no target {name}");
    if let Some((_, target)) = target {
        target(input);
    }
}
