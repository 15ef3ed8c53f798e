//! x86_64: i440FX or Q35, the image started by QEMU through its PVH entry. Or UEFI.

use std::path::Path;

use super::{About, Boot, Firmware, LinuxGuests, MOST_CPUS, Newer, Package, Replies, Target};
use crate::machine::config::{Accel, Config, Line};
use crate::machine::exit::Exit;
use crate::setup::Program;
use crate::size::{GIB, KIB, MIB};

pub(super) const ABOUT: About = About {
    name: "x86_64",
    foreign: &["hotmem_papr", "dtoolkit"],
    qemu: Program::QEMU_X86,
    newer: &[X2APIC],
    devices: &["pc-dimm", "isa-debug-exit"],
    boards: &["q35", "pc"],
    accels: &[Accel::Tcg, Accel::Kvm],
    // Which one depends on the accelerator.
    cpu: Some(""),
    levels: &[],
    gics: &[],
    cpus: |_| (MOST_CPUS, None),
    runs_guests,
    vcpus: 8,
    linux: Some(LinuxGuests {
        package: Package { name: "linux-image-cloud-amd64", arch: "amd64" },
        target: &TARGET,
        // Behind the image, in the smallest boot memory of a tour and of a scenario.
        at: 128 * MIB,
    }),
    boots: &[
        Boot {
            // SeaBIOS, which the second and third load.
            roms: &["bios-256k.bin", "pvh.bin", "linuxboot_dma.bin"],
            ..Boot::of(Firmware::Bios, &TARGET)
        },
        Boot {
            carrier: Some(&UEFI_TARGET),
            needs: &[Program::OVMF],
            // With 96 MiB it stops at its shell.
            memory: 128 * MIB,
            ..Boot::of(Firmware::Uefi, &TARGET)
        },
    ],
    pages: &[4 * KIB],
    blocks: |_| &[128 * MIB, GIB, 2 * GIB],
    arrival: "QEMU raised an ACPI event; the kernel read the DIMM's range from the firmware's tables",
    departure: "let the firmware eject it",
    replies: Replies::Ost,
    // QEMU takes any size: the kernel itself refuses one that is not a whole number of blocks.
    memory_unit: 1,
    empty_nodes: true,
    dimm_alignment: 2 * GIB,
    slots: 256,
    linear_base: 0xffff_8000_0000_0000,
    read_exit,
    debugger: "gdb",
    samples: &[&["--smp", "1"], &["--no-lab"], &["--firmware", "uefi"]],
    machine,
    start,
    beside: &[],
};

/// The interrupt controller whose registers are MSRs, in QEMU's translator.
pub(crate) const X2APIC: Newer =
    Newer { version: 9, what: "x2APIC without KVM", without: "one scenario is left out" };

const TARGET: Target = Target {
    triple: "x86_64-unknown-none",
    // The kernel is linked at a fixed address, and its backtraces walk frame pointers.
    rustflags: &["-Crelocation-model=static", "-Cforce-frame-pointers=yes"],
    linker: None,
    system_linker: "ld.lld",
};

const UEFI_TARGET: Target = Target {
    triple: "x86_64-unknown-uefi",
    rustflags: &["-Cforce-frame-pointers=yes"],
    linker: None,
    system_linker: "lld-link",
};

/// A window larger than this needs more physical address bits than QEMU's `-cpu max` has by itself (40).
const NEEDS_MORE_BITS: u64 = 900 * GIB;
/// The option of a processor for the width of its addresses.
const PHYS_BITS: &str = "phys-bits=";

/// The kernel writes 0x10 + N to the exit device, and QEMU makes 2 x + 1 of it.
fn read_exit(code: i32, _: Option<Exit>) -> Exit {
    match code {
        255 => Exit::Panicked,
        33..=233 if code % 2 == 1 => Exit::Left(((code - 33) / 2).unsigned_abs()),
        other => Exit::Code(other),
    }
}

/// TCG's largest processor has SVM; others may lack it, or nested paging. With KVM the host decides.
fn runs_guests(config: &Config) -> Option<bool> {
    let largest = config.cpu.is_empty() || config.cpu.split(',').next() == Some("max");
    (largest && config.accel == Accel::Tcg).then_some(true)
}

fn machine(config: &Config, line: &mut Line) {
    line.add("-machine", config.board);

    let mut cpu = match config.accel {
        Accel::Tcg => String::from("max"),
        // The MSR that lists hardware mitigations: nested KVM may not take it, and no kernel here reads it.
        Accel::Kvm => String::from("host,arch-capabilities=off"),
    };
    if !config.cpu.is_empty() {
        cpu.clone_from(&config.cpu);
    }
    let has_bits = cpu.contains(PHYS_BITS);
    if config.accel == Accel::Tcg && config.window > NEEDS_MORE_BITS && !has_bits {
        cpu.push_str(&format!(",{PHYS_BITS}46"));
    }
    if config.icount.is_some() {
        // TCG counts `rep stosb` once for each byte; five-level paging would change the counts.
        cpu.push_str(",la57=off,erms=off");
    }
    line.add("-cpu", cpu);
    // Writing N to this port ends QEMU with exit code 2 N + 1.
    line.add("-device", "isa-debug-exit,iobase=0xf4,iosize=4");
}

/// UEFI starts a program as a BIOS does a kernel.
fn start(config: &Config, image: &Path, line: &mut Line) {
    if config.image.firmware == Firmware::Uefi {
        line.add("-bios", Program::OVMF.find().unwrap_or_else(|| Program::OVMF.name.into()));
    }
    Line::kernel(config, image, line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_of_the_monitor_differ_from_all_others() {
        for (code, exit) in [
            (33, Exit::Left(0)),
            (35, Exit::Left(1)),
            (233, Exit::Left(100)),
            (255, Exit::Panicked),
            (0, Exit::Code(0)),
            (1, Exit::Code(1)),
            (34, Exit::Code(34)),
            (235, Exit::Code(235)),
        ] {
            assert_eq!(read_exit(code, None), exit);
        }
    }
}
