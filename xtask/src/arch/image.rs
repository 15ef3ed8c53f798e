//! What an image is built for, as it is named; what that means, the descriptions say.

use clap::ValueEnum;

/// An architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Arch {
    /// 64-bit x86
    #[value(name = "x86_64")]
    X86_64,
    /// 64-bit Arm
    Aarch64,
    /// 64-bit Power, little-endian
    Ppc64,
}

/// What runs before the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Firmware {
    /// SeaBIOS, which QEMU has built in
    Bios,
    /// None: QEMU loads the kernel and starts it
    Bare,
    /// UEFI (EDK II)
    Uefi,
    /// QEMU's own minimal Open Firmware
    Vof,
    /// Slimline Open Firmware
    Slof,
}

/// An option's value, as it is typed.
pub(crate) fn typed(value: &impl ValueEnum) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

/// One kernel image: what it is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Image {
    /// The architecture.
    pub(crate) arch: Arch,
    /// What runs before it.
    pub(crate) firmware: Firmware,
    /// Bytes in a page.
    pub(crate) page: u64,
    /// Does it have the monitor, and all else that only people and tests need?
    pub(crate) lab: bool,
    /// Does it record how long locks are held?
    pub(crate) holds: bool,
}
