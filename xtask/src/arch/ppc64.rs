//! ppc64: QEMU's `pseries` board, whose hotplug events come from RTAS; there is no ACPI.

use super::{About, Boot, Firmware, MOST_CPUS, Newer, Replies, Target};
use crate::machine::config::{Accel, Config, Line};
use crate::machine::exit::Exit;
use crate::setup::Program;
use crate::size::{KIB, MIB};

pub(super) const ABOUT: About = About {
    name: "ppc64",
    foreign: &["hotmem_acpi", "hotmem_aml"],
    qemu: Program::QEMU_PPC,
    newer: &[MSGSNDP],
    devices: &["pc-dimm"],
    boards: &["pseries"],
    accels: &[Accel::Tcg],
    cpu: Some("power9"),
    levels: &[],
    gics: &[],
    cpus: |_| (MOST_CPUS, None),
    runs_guests,
    vcpus: 1,
    linux: None,
    boots: &[
        Boot { roms: &["vof.bin"], ..Boot::of(Firmware::Vof, &TARGET) },
        Boot { roms: &["slof.bin"], ..Boot::of(Firmware::Slof, &TARGET) },
    ],
    pages: &[64 * KIB, 4 * KIB],
    blocks: |_| &[LMB],
    arrival: "QEMU raised an RTAS hotplug event; the kernel took the DIMM over, one logical memory block after \
              the other",
    departure: "gave its logical memory blocks back to the hypervisor",
    replies: Replies::Stays,
    memory_unit: LMB,
    // Only with a form of affinity newer than the first, which is the one negotiated.
    empty_nodes: false,
    dimm_alignment: LMB,
    slots: 32,
    linear_base: 0xc000_0000_0000_0000,
    read_exit,
    debugger: "gdb-multiarch",
    samples: &[
        &["--smp", "1"],
        &["--page-size", "4K"],
        &["--cpu", "power10"],
        &["--firmware", "slof"],
        &["--no-lab"],
    ],
    machine,
    start: Line::kernel,
    beside: &[],
};

/// A message from a guest to a thread, its own too.
const MSGSNDP: Newer = Newer {
    version: 10,
    what: "msgsndp in guests",
    without: "a guest that uses it may end QEMU, as it does 7.2",
};

/// A logical memory block, the unit that firmware hands over (`ibm,lmb-size`).
const LMB: u64 = 256 * MIB;

/// There is no bare-metal target for this architecture: the image is a static program for none of Linux's
/// services, at a fixed address.
const TARGET: Target = Target {
    triple: "powerpc64le-unknown-linux-gnu",
    rustflags: &[
        "-Crelocation-model=static",
        "-Cpanic=abort",
        "-Cforce-frame-pointers=yes",
        "-Clinker-flavor=ld.lld",
    ],
    linker: Some("rust-lld"),
    system_linker: "ld.lld",
};

/// RTAS knows two ends only: power-off, and an operating system that gave up. The kernel's last line says more.
fn read_exit(code: i32, said: Option<Exit>) -> Exit {
    let fits = |said: &Exit| code == i32::from(*said != Exit::Left(0));
    said.filter(fits).unwrap_or(Exit::Code(code))
}

fn machine(config: &Config, line: &mut Line) {
    let mut board = String::from(config.board);
    if config.image.firmware == Firmware::Vof {
        board.push_str(",x-vof=on");
    }
    // What QEMU's translator does not have, and would otherwise warn of.
    board.push_str(",cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off");
    if runs_guests(config) == Some(true) {
        board.push_str(",cap-nested-hv=on");
    }
    line.add("-machine", board);
    line.add("-cpu", config.cpu.as_str());
    line.add("-action", "panic=exit-failure");
}

/// Processors before POWER9 have no nested HV, and QEMU does not start with it.
fn runs_guests(config: &Config) -> Option<bool> {
    Some(!config.cpu.to_ascii_lowercase().starts_with("power8"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::arch::{Arch, Image};

    fn line(config: &Config) -> String {
        let words = config.arguments(Path::new("/i/k.elf"), Path::new("/tmp/q"));
        words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_default_is_a_power9_under_qemus_own_open_firmware() {
        let line = line(&Config::of(Arch::Ppc64).word("placement=block"));
        assert!(line.contains("-machine pseries,x-vof=on,cap-cfpc=broken,"), "{line}");
        assert!(
            line.contains(",cap-nested-hv=on -cpu power9 -action panic=exit-failure"),
            "{line}"
        );
        assert!(line.ends_with("-kernel /i/k.elf -append placement=block"), "{line}");
    }

    #[test]
    fn slof_runs_the_same_image() {
        let image = Image { firmware: Firmware::Slof, ..Image::of(Arch::Ppc64) };
        assert!(!line(&Config { image, ..Config::of(Arch::Ppc64) }).contains("x-vof"));
        assert_eq!(image.folder(), "ppc64");
    }
}
