//! aarch64: QEMU's `virt` board with ACPI. The ELF goes into RAM by the generic loader; a firmware of four
//! zero bytes makes QEMU create the device for hotplug events, which it does not without any. Or UEFI.

use std::ffi::OsString;
use std::path::Path;

use super::{About, Boot, Firmware, LinuxGuests, MOST_CPUS, Package, Replies, Target};
use crate::machine::config::{Accel, Config, Line, joined};
use crate::machine::exit::Exit;
use crate::setup::Program;
use crate::size::{GIB, KIB, MIB};

pub(super) const ABOUT: About = About {
    name: "aarch64",
    foreign: &["hotmem_papr"],
    qemu: Program::QEMU_ARM,
    newer: &[],
    devices: &["pc-dimm"],
    boards: &["virt"],
    accels: &[Accel::Tcg],
    cpu: Some("neoverse-n1"),
    levels: &[2, 1],
    gics: &[3, 2],
    cpus: |config| match config.gic {
        // Its registers have a bit for each CPU (GIC architecture 2.0, 4.3.12).
        Some(2) => (8, Some("--gic 2")),
        _ => (MOST_CPUS, None),
    },
    // EL2 with the virtualization host extensions, which Armv8.0 does not have.
    runs_guests: |config| Some(config.level != Some(1) && config.cpu != "cortex-a72"),
    vcpus: 8,
    linux: Some(LinuxGuests {
        package: Package { name: "linux-image-cloud-arm64", arch: "arm64" },
        target: &TARGET,
        // Behind the image and the ACPI tables.
        at: 0x4800_0000,
    }),
    boots: &[
        Boot::of(Firmware::Bare, &TARGET),
        Boot {
            carrier: Some(&UEFI_TARGET),
            needs: &[Program::EDK2],
            // With 128 MiB it stops at an exception of its own.
            memory: 192 * MIB,
            ..Boot::of(Firmware::Uefi, &TARGET)
        },
    ],
    pages: &[4 * KIB, 16 * KIB, 64 * KIB],
    // A section, the smallest block, is 512 MiB with 64 KiB pages.
    blocks: |page| match page {
        PAGE_64K => &[512 * MIB, GIB, 2 * GIB],
        _ => &[128 * MIB, GIB, 2 * GIB],
    },
    arrival: "QEMU raised an ACPI event; the kernel read the DIMM's range from the firmware's tables",
    departure: "let the firmware eject it",
    replies: Replies::Ost,
    memory_unit: 1,
    empty_nodes: true,
    dimm_alignment: 2 * GIB,
    slots: 256,
    linear_base: 0xffff_0000_0000_0000,
    read_exit,
    debugger: "gdb-multiarch",
    samples: &[
        &["--smp", "1"],
        &["--page-size", "16K"],
        &["--page-size", "64K"],
        &["--cpu", "max", "--el", "1", "--gic", "2"],
        &["--cpu", "cortex-a72"],
        &["--firmware", "uefi"],
    ],
    machine,
    start,
    beside: &[(NO_FIRMWARE, &[0; 4])],
};

const PAGE_64K: u64 = 64 * KIB;
/// An empty file in place of firmware.
const NO_FIRMWARE: &str = "no-firmware.bin";
/// How the kernel finds its command line where no loader passes one: a file of QEMU's fw_cfg.
const COMMAND_LINE: &str = "opt/hotmem/cmdline";

const TARGET: Target = Target {
    triple: "aarch64-unknown-none-softfloat",
    rustflags: &["-Crelocation-model=static", "-Cforce-frame-pointers=yes"],
    linker: None,
    system_linker: "ld.lld",
};

const UEFI_TARGET: Target = Target {
    triple: "aarch64-unknown-uefi",
    rustflags: &["-Cforce-frame-pointers=yes"],
    linker: None,
    system_linker: "lld-link",
};

/// The firmware turns the machine off, and takes no code (PSCI): the kernel's last line has it. QEMU could take one by
/// semihosting, but it would from a guest as well.
fn read_exit(code: i32, said: Option<Exit>) -> Exit {
    said.filter(|_| code == 0).unwrap_or(Exit::Code(code))
}

fn machine(config: &Config, line: &mut Line) {
    let mut board = format!("{},gic-version={}", config.board, config.gic.unwrap_or(3));
    if config.level == Some(2) {
        board.push_str(",virtualization=on");
    }
    if !config.its {
        board.push_str(",its=off");
    }
    line.add("-machine", board);
    line.add("-cpu", config.cpu.as_str());
}

fn start(config: &Config, image: &Path, line: &mut Line) {
    if config.image.firmware == Firmware::Uefi {
        line.add("-bios", Program::EDK2.find().unwrap_or_else(|| Program::EDK2.name.into()));
        return Line::kernel(config, image, line);
    }
    line.add("-bios", image.with_file_name(NO_FIRMWARE));
    line.add("-device", joined("loader,file=", image, ",cpu-num=0"));
    if !config.words.is_empty() {
        let words = config.words.join(" ").replace(',', ",,");
        line.add("-fw_cfg", OsString::from(format!("name={COMMAND_LINE},string={words}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::{Arch, Image};

    fn line(config: &Config) -> String {
        let words = config.arguments(Path::new("/i/k.elf"), Path::new("/tmp/q"));
        words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_default_is_a_neoverse_entered_at_el2_by_the_loader() {
        let line = line(&Config::of(Arch::Aarch64).word("placement=block").word("a,b"));
        assert!(line.contains("-machine virt,gic-version=3,virtualization=on -cpu neoverse-n1 "));
        assert!(
            line.ends_with(
                "-bios /i/no-firmware.bin -device loader,file=/i/k.elf,cpu-num=0 \
                 -fw_cfg name=opt/hotmem/cmdline,string=placement=block a,,b"
            ),
            "{line}"
        );
    }

    #[test]
    fn level_and_interrupt_controller_are_the_boards_options() {
        let config = Config {
            level: Some(1),
            gic: Some(2),
            cpu: "cortex-a72".into(),
            ..Config::of(Arch::Aarch64)
        };
        assert!(line(&config).contains("-machine virt,gic-version=2 -cpu cortex-a72 "));
    }

    #[test]
    fn uefi_gets_the_image_and_its_command_line_as_a_kernel() {
        let image = Image { firmware: Firmware::Uefi, ..Image::of(Arch::Aarch64) };
        let line = line(&Config { image, ..Config::of(Arch::Aarch64) }.word("log=debug"));
        assert!(line.ends_with("-kernel /i/k.elf -append log=debug"), "{line}");
        assert!(line.contains("QEMU_EFI.fd") || line.contains("edk2-aarch64"), "{line}");
    }
}
