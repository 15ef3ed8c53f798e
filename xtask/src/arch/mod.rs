//! The architectures this project knows, one description each: everything that differs between them
//! outside the kernel stands in its description, and nowhere else.
//!
//! ```text
//!   x86_64.rs  aarch64.rs  ppc64.rs          each one constant of type About
//!        \         |         /
//!   Arch::about() --+--> build    target, compiler flags, linker
//!                   |--> machine  QEMU's name and arguments, exit codes
//!                   |--> qemu     which options there are, block sizes, sizes of memory
//!                   `--> setup    programs and packages
//! ```

mod aarch64;
mod choices;
pub(crate) mod image;
mod ppc64;
mod x86_64;

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};
use clap::ValueEnum;

pub(crate) use choices::{BuildChoices, Choices, OptionSize, parsed, pick, read};
pub(crate) use image::{Arch, Firmware, Image};
pub(crate) use x86_64::X2APIC;

use crate::machine::config::{Accel, Config, Line};
use crate::machine::exit::Exit;
use crate::setup::Program;
use crate::size::{Size, human};

/// A way to boot, and what an image for it is built with.
#[derive(Debug)]
pub(crate) struct Boot {
    /// What runs before the kernel.
    pub(crate) firmware: Firmware,
    /// What the image is compiled for.
    pub(crate) target: &'static Target,
    /// What the program is compiled for that carries the image, where this firmware wants one.
    pub(crate) carrier: Option<&'static Target>,
    /// What has to be installed beside the emulator.
    pub(crate) needs: &'static [Program],
    /// Files that QEMU loads by name from its own directories.
    pub(crate) roms: &'static [&'static str],
    /// Bytes of boot memory without which the firmware itself gives up.
    pub(crate) memory: u64,
}

impl Boot {
    /// One that needs nothing else.
    const fn of(firmware: Firmware, target: &'static Target) -> Self {
        Self { firmware, target, carrier: None, needs: &[], roms: &[], memory: 0 }
    }
}

/// What an image is compiled for, and how.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// The Rust target.
    pub(crate) triple: &'static str,
    /// The compiler's flags for every package.
    pub(crate) rustflags: &'static [&'static str],
    /// The linker's name where rustup's toolchain has one, if it is not the target's default.
    pub(crate) linker: Option<&'static str>,
    /// The linker's name where it is the system's (the package `lld`).
    pub(crate) system_linker: &'static str,
}

/// A kernel of Debian's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Package {
    /// The package that depends on the newest kernel.
    pub(crate) name: &'static str,
    /// The architecture, by Debian's name.
    pub(crate) arch: &'static str,
}

/// What Linux guests are made of.
#[derive(Debug)]
pub(crate) struct LinuxGuests {
    /// Debian's kernel.
    pub(crate) package: Package,
    /// What the program is built for.
    pub(crate) target: &'static Target,
    /// Where in boot memory the module goes.
    pub(crate) at: u64,
}

/// Something that QEMU has from a version on, and that is left out or goes wrong before.
#[derive(Debug)]
pub(crate) struct Newer {
    /// The first number of that version.
    pub(crate) version: u32,
    pub(crate) what: &'static str,
    /// What comes of it where it is missing.
    pub(crate) without: &'static str,
}

/// Which of the kernel's replies to a hotplug event QEMU reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replies {
    /// A status for each request, by ACPI's `_OST`.
    Ost,
    /// None for memory that is plugged; for an unplug request, only a refusal (LoPAR has a guest un-isolate the
    /// connector).
    Stays,
}

/// Everything that is particular about an architecture. In lists, the first is the default.
#[derive(Debug)]
pub(crate) struct About {
    /// The name on the command line, in reports and of the folders in `arch/` and `boot/`.
    pub(crate) name: &'static str,
    /// Packages for firmware that no machine of it has: an image holds no function of theirs.
    pub(crate) foreign: &'static [&'static str],
    /// The emulator.
    pub(crate) qemu: Program,
    /// What older versions of it lack.
    pub(crate) newer: &'static [Newer],
    /// The devices that we add, by QEMU's names.
    pub(crate) devices: &'static [&'static str],
    /// The mainboards, by QEMU's names.
    pub(crate) boards: &'static [&'static str],
    /// What can execute its instructions.
    pub(crate) accels: &'static [Accel],
    /// The default processor where there is a choice (any name that QEMU knows is taken); empty if the accelerator
    /// decides.
    pub(crate) cpu: Option<&'static str>,
    /// Privilege levels that the kernel can be entered at; empty where there is no choice.
    pub(crate) levels: &'static [u8],
    /// Versions of the interrupt controller; empty where there is no choice.
    pub(crate) gics: &'static [u8],
    /// CPUs that such a machine can have, and what limits them, if not the kernel.
    pub(crate) cpus: fn(&Config) -> (u32, Option<&'static str>),
    /// Does the kernel run guests on such a machine? `None` if that depends on the host.
    pub(crate) runs_guests: fn(&Config) -> Option<bool>,
    /// The most virtual CPUs of a guest that runs the payload.
    pub(crate) vcpus: u32,
    /// What its Linux guests are made of, if it has some.
    pub(crate) linux: Option<LinuxGuests>,
    /// Ways to boot.
    pub(crate) boots: &'static [Boot],
    /// Sizes of a page, in bytes. An image has one of them.
    pub(crate) pages: &'static [u64],
    /// Sizes of a memory block with pages of this many bytes.
    pub(crate) blocks: fn(page: u64) -> &'static [u64],
    /// How the kernel learns of a DIMM: the beginning of a sentence that goes on with what it does.
    pub(crate) arrival: &'static str,
    /// How the kernel gives a DIMM back: the end of a sentence that began with what it does before.
    pub(crate) departure: &'static str,
    /// The kernel's replies to firmware after a hotplug event.
    pub(crate) replies: Replies,
    /// QEMU refuses boot memory and DIMMs that are not a multiple of this many bytes.
    pub(crate) memory_unit: u64,
    /// Can a node be without memory until a DIMM comes?
    pub(crate) empty_nodes: bool,
    /// Where a DIMM starts is a multiple of this many bytes: a power of two, at least the largest block.
    pub(crate) dimm_alignment: u64,
    /// DIMM slots that the mainboard can have.
    pub(crate) slots: u32,
    /// Where the kernel maps physical address 0.
    pub(crate) linear_base: u64,
    /// What an exit code of QEMU means, after the kernel said how it leaves.
    pub(crate) read_exit: fn(i32, Option<Exit>) -> Exit,
    /// The debugger that Debian has for it.
    pub(crate) debugger: &'static str,
    /// Options of machines that a sample of the scenarios runs on, beside all of them on the usual one.
    pub(crate) samples: &'static [&'static [&'static str]],
    /// Adds the mainboard, the processor and the way out to QEMU's command line.
    pub(crate) machine: fn(&Config, &mut Line),
    /// Adds the image and the kernel's command line to QEMU's.
    pub(crate) start: fn(&Config, &Path, &mut Line),
    /// Files that QEMU wants beside the image: name and contents.
    pub(crate) beside: &'static [(&'static str, &'static [u8])],
}

/// CPUs that the kernel has room for.
pub(crate) const MOST_CPUS: u32 = 16;

impl Arch {
    /// What is particular about it.
    pub(crate) const fn about(self) -> &'static About {
        match self {
            Self::X86_64 => &x86_64::ABOUT,
            Self::Aarch64 => &aarch64::ABOUT,
            Self::Ppc64 => &ppc64::ABOUT,
        }
    }

    /// The name used on the command line and in reports.
    pub(crate) const fn name(self) -> &'static str {
        self.about().name
    }

    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied()
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Image {
    /// The default image of an architecture.
    pub(crate) const fn of(arch: Arch) -> Self {
        let about = arch.about();
        let (firmware, page) = (about.boots[0].firmware, about.pages[0]);
        Self { arch, firmware, page, lab: true, holds: false }
    }

    /// The way it boots.
    pub(crate) fn boot(self) -> &'static Boot {
        let about = self.arch.about();
        let boot = about.boots.iter().find(|boot| boot.firmware == self.firmware);
        // An image is only made with a firmware of its architecture.
        boot.unwrap_or(&about.boots[0])
    }

    /// The name of its folder: the architecture, and what differs from that one's default.
    pub(crate) fn folder(self) -> String {
        let mut name = self.arch.name().to_owned();
        let usual = Self::of(self.arch);
        if self.page != usual.page {
            name.push_str(&format!("-{}", Size::new(self.page).word()));
        }
        // Two firmwares may take the same image.
        if self.boot().target != usual.boot().target {
            name.push_str(&format!("-{}", self.firmware));
        }
        if !self.lab {
            name.push_str("-no-lab");
        }
        if self.holds {
            name.push_str("-holds");
        }
        name
    }
}

impl About {
    /// The smallest memory block, in bytes, with pages of `page` bytes.
    pub(crate) fn block(&self, page: u64) -> u64 {
        (self.blocks)(page).iter().copied().min().unwrap_or(self.dimm_alignment)
    }

    /// Checks a size of boot memory or of a DIMM that the option `option` asks for.
    ///
    /// # Errors
    /// When QEMU would refuse it; the error names the option and the size.
    pub(crate) fn check_memory(&self, option: &str, size: Size) -> Result<()> {
        let unit = self.memory_unit;
        if !size.bytes().is_multiple_of(unit) {
            bail!(
                "{option} {}: memory of {} comes in multiples of {}",
                size.word(),
                self.name,
                human(unit)
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_description_is_whole_and_fits_itself() {
        for &arch in Arch::value_variants() {
            let about = arch.about();
            assert_eq!(arch.to_possible_value().unwrap().get_name(), about.name);
            assert!(
                !about.boards.is_empty() && !about.accels.is_empty() && !about.boots.is_empty()
            );
            assert!(about.dimm_alignment.is_power_of_two());
            for words in about.samples {
                let usual = Config { cpus: 4, ..Config::of(arch) };
                assert_ne!(choices::read(arch, words, 4).unwrap(), usual, "{words:?}");
            }
            for &page in about.pages {
                let blocks = (about.blocks)(page);
                assert!(blocks.iter().all(|block| block.is_power_of_two() && *block > page));
                assert!(blocks.iter().all(|block| *block <= about.dimm_alignment), "{arch}");
                assert!(!blocks.is_empty(), "{arch}");
            }
        }
    }

    #[test]
    fn what_the_kernel_said_counts_if_qemus_code_fits_it() {
        let (left, failed) = (Some(Exit::Left(0)), Some(Exit::Left(7)));
        for (arch, code, said, exit) in [
            (Arch::Aarch64, 0, left, Exit::Left(0)),
            (Arch::Aarch64, 0, failed, Exit::Left(7)),
            (Arch::Aarch64, 0, Some(Exit::Panicked), Exit::Panicked),
            (Arch::Aarch64, 0, None, Exit::Code(0)),
            (Arch::Aarch64, 1, left, Exit::Code(1)),
            (Arch::Ppc64, 0, left, Exit::Left(0)),
            (Arch::Ppc64, 1, failed, Exit::Left(7)),
            (Arch::Ppc64, 1, Some(Exit::Panicked), Exit::Panicked),
            (Arch::Ppc64, 0, failed, Exit::Code(0)),
            (Arch::Ppc64, 1, left, Exit::Code(1)),
            (Arch::Ppc64, 1, None, Exit::Code(1)),
        ] {
            assert_eq!((arch.about().read_exit)(code, said), exit, "{arch}, {code}, {said:?}");
        }
    }

    #[test]
    fn images_that_differ_have_folders_that_differ() {
        let usual = Image::of(Arch::Aarch64);
        assert_eq!(usual.folder(), "aarch64");
        assert_eq!(Image { page: 64 << 10, ..usual }.folder(), "aarch64-64K");
        assert_eq!(Image::of(Arch::X86_64).folder(), "x86_64");
        assert_eq!(Image { lab: false, ..usual }.folder(), "aarch64-no-lab");
        assert_eq!(Image { holds: true, ..usual }.folder(), "aarch64-holds");
    }

    #[test]
    fn memory_that_qemu_would_refuse_is_refused_with_its_option() {
        let size = |text: &str| text.parse::<Size>().unwrap();
        let error = ppc64::ABOUT.check_memory("--dimm", size("100M")).unwrap_err().to_string();
        assert_eq!(error, "--dimm 100M: memory of ppc64 comes in multiples of 256 MiB");
        ppc64::ABOUT.check_memory("--dimm", size("512M")).unwrap();
        x86_64::ABOUT.check_memory("--dimm", size("100M")).unwrap();
    }
}
