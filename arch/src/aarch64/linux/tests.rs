//! Files that are Linux kernels, and files that are refused.

extern crate std;

use super::*;
use dtoolkit::fdt::Fdt;
use dtoolkit::{Node, Property};
use hotmem_paging::testing::Random;
use std::vec;
use std::vec::Vec;

const MIB: u64 = 1 << 20;
const START: u64 = 0x4000_0000;

/// An Image of `len` bytes that needs `bytes`.
fn kernel(len: usize, bytes: u64) -> Vec<u8> {
    let mut kernel = vec![0xcc; len];
    kernel[..HEADER].fill(0);
    kernel[16..24].copy_from_slice(&bytes.to_le_bytes());
    kernel[24] = 0b1010;
    kernel[56..60].copy_from_slice(MAGIC);
    kernel
}

fn ram(bytes: u64) -> GuestRange {
    GuestRange::new(GuestAddr::new(START), bytes).unwrap()
}

/// The guest's memory after the preparation, and where it begins.
fn prepared(files: &LinuxFiles<'_>, bytes: u64) -> Result<(Vec<u8>, KernelStart), NoKernel> {
    let mut memory = vec![0; bytes as usize];
    let mut put = |at: GuestAddr, piece: &[u8]| {
        let at = at.get().checked_sub(START).ok_or(NoKernel("below"))? as usize;
        let room = memory.get_mut(at..at + piece.len()).ok_or(NoKernel("above"))?;
        room.copy_from_slice(piece);
        Ok(())
    };
    let start = prepare(files, ram(bytes), 2, &mut put)?;
    Ok((memory, start))
}

fn refusal(kernel: &[u8]) -> &'static str {
    let files = LinuxFiles { kernel, initrd: b"fs", command_line: b"" };
    prepared(&files, 32 * MIB).unwrap_err().0
}

#[test]
fn kernel_file_system_and_tree_lie_apart_in_the_guests_memory() {
    let image = kernel(100_000, 3 * MIB);
    let initrd = vec![7; 70_000];
    let files = LinuxFiles { kernel: &image, initrd: &initrd, command_line: b"quiet x=y" };
    let (memory, start) = prepared(&files, 32 * MIB).unwrap();
    assert_eq!(start.entry, GuestAddr::new(START));
    assert_eq!(memory[..100_000], image);
    let at = 3 * MIB as usize;
    assert!(memory[100_000..at].iter().all(|byte| *byte == 0));
    assert_eq!(memory[at..at + 70_000], initrd);

    let tree_at = (start.arguments[0] - START) as usize;
    assert_eq!(tree_at, at + 0x2_0000);
    let bytes = &memory[tree_at..];
    let total = u32::from_be_bytes(*bytes[4..].first_chunk().unwrap()) as usize;
    let tree = Fdt::new(&bytes[..total]).unwrap();
    let value = |path: &str, name: &str| {
        let node = tree.find_node(path).unwrap();
        node.property(name).unwrap().value().to_vec()
    };
    assert_eq!(value("/chosen", "bootargs"), b"earlycon console=ttyAMA0 quiet x=y\0");
    let initrd_start = (START + 3 * MIB).to_be_bytes();
    assert_eq!(value("/chosen", "linux,initrd-start"), initrd_start);
    assert_eq!(value("/chosen", "linux,initrd-end"), (START + 3 * MIB + 70_000).to_be_bytes());
    let reg = [START.to_be_bytes(), (32 * MIB).to_be_bytes()].concat();
    assert_eq!(value("/memory@40000000", "reg"), reg);
    assert_eq!(value("/psci", "method"), b"hvc\0");
    assert_eq!(value("/cpus/cpu@1", "reg"), 1_u32.to_be_bytes());
    assert_eq!(value("/cpus/cpu@1", "enable-method"), b"psci\0");
    assert!(tree.find_node("/cpus/cpu@2").is_none());
    let virtual_timer = &value("/timer", "interrupts")[24..36];
    assert_eq!(virtual_timer, [0, 0, 0, 1, 0, 0, 0, 11, 0, 0, 0, 4]);
    let controller = value("/interrupt-controller@8000000", "reg");
    assert_eq!(controller[..8], DISTRIBUTOR.to_be_bytes());
    assert_eq!(controller[24..], (2 * REDISTRIBUTOR_BYTES).to_be_bytes());
    assert_eq!(value("/serial@9000000", "interrupts"), [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 4]);
}

#[test]
fn what_is_no_kernel_is_refused_by_name() {
    let good = kernel(4096, MIB);
    let changed = |at: usize, byte: u8| {
        let mut kernel = good.clone();
        kernel[at] = byte;
        kernel
    };
    assert_eq!(refusal(b""), "its kernel is shorter than the header of an Image");
    assert_eq!(refusal(&good[..63]), "its kernel is shorter than the header of an Image");
    assert_eq!(refusal(&changed(56, 0)), "its kernel has not the magic number of an arm64 Image");
    let gzip = "its kernel is compressed by gzip, and an Image is needed";
    assert_eq!(refusal(&[0x1f, 0x8b, 8]), gzip);
    assert_eq!(refusal(&changed(24, 1)), "its kernel is big-endian");
    assert_eq!(refusal(&changed(18, 0)), "its kernel does not say its size, as those before 3.17");
    assert_eq!(refusal(&changed(15, 1)), "its kernel names a place that it cannot have");
}

#[test]
fn what_does_not_fit_is_refused() {
    let why = "kernel and file system do not fit the guest's memory";
    assert_eq!(refusal(&kernel(4096, 32 * MIB)), why);
    assert_eq!(refusal(&kernel(4096, u64::MAX)), why);
    let image = kernel(4096, 2 * MIB);
    let fits = |initrd: u64| {
        let initrd = vec![0; initrd as usize];
        let files = LinuxFiles { kernel: &image, initrd: &initrd, command_line: b"" };
        prepared(&files, 4 * MIB).map(drop)
    };
    fits(2 * MIB - LARGEST_PAGE).unwrap();
    assert_eq!(fits(2 * MIB - LARGEST_PAGE + 1), Err(NoKernel(why)));
    let line = vec![b'a'; COMMAND_LINE - CONSOLE.len()];
    let files = |command_line| LinuxFiles { kernel: &image, initrd: b"", command_line };
    prepared(&files(&line[1..]), 4 * MIB).unwrap();
    let refused = prepared(&files(&line), 4 * MIB).unwrap_err();
    assert_eq!(refused.0, "its command line is longer than arm64 allows");
}

#[test]
fn no_header_causes_a_panic_or_a_piece_outside_of_memory() {
    let mut random = Random::new(9);
    let good = kernel(5000, MIB);
    for _ in 0..2000 {
        let mut image = good.clone();
        for _ in 0..random.below(6) {
            image[random.below(64) as usize] = random.bits() as u8;
        }
        image.truncate(random.below(5001) as usize);
        let files = LinuxFiles { kernel: &image, initrd: b"fs", command_line: b"" };
        if let Err(NoKernel(why)) = prepared(&files, 2 * MIB) {
            assert!(!["above", "below"].contains(&why));
        }
    }
}
