//! How a Linux kernel begins as a guest (Linux, `Documentation/arch/arm64/booting.rst`).
//!
//! ```text
//!   the guest's memory:  | kernel, and the bytes after it that it clears | file system | device tree |
//! ```
//!
//! The kernel is what distributions ship: an Image, which is not compressed and begins with a header of 64 bytes. The
//! device tree describes the CPUs, the memory, and the devices of [`board`](super::board).

mod tree;

use super::board::gic::{DISTRIBUTOR_BYTES, REDISTRIBUTOR_BYTES};
use super::board::{
    DISTRIBUTOR, MOST_CPUS, REDISTRIBUTOR, SERIAL, SERIAL_BYTES, SERIAL_LINE, TIMER_LINE,
};
use crate::contract::{KernelStart, LinuxFiles, NoKernel, Put};
use hotmem_paging::addr::{GuestAddr, GuestRange};
use tree::Tree;

/// Bytes of an Image's header, and its magic number at offset 56.
const HEADER: usize = 64;
const MAGIC: &[u8] = b"ARM\x64";
/// The kernel's place is this many bytes behind a multiple of 2 MiB.
const BASE: u64 = 2 << 20;
/// The largest page of a kernel: what follows the kernel begins with one.
const LARGEST_PAGE: u64 = 64 << 10;
/// Bytes of a command line that arm64 keeps (COMMAND_LINE_SIZE), with its end.
const COMMAND_LINE: usize = 2048;
/// The words that the board needs.
const CONSOLE: &[u8] = b"earlycon console=ttyAMA0 ";

/// The kernel's place and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Image {
    offset: u64,
    /// With the bytes that the kernel clears.
    bytes: u64,
}

/// Reads the header of `kernel`.
fn image(kernel: &[u8]) -> Result<Image, NoKernel> {
    let header = kernel.first_chunk::<HEADER>();
    if kernel.starts_with(&[0x1f, 0x8b]) {
        return Err(NoKernel("its kernel is compressed by gzip, and an Image is needed"));
    }
    let header = header.ok_or(NoKernel("its kernel is shorter than the header of an Image"))?;
    if !header.get(56..).is_some_and(|rest| rest.starts_with(MAGIC)) {
        return Err(NoKernel("its kernel has not the magic number of an arm64 Image"));
    }
    let number = |at: usize| {
        let bytes = header.get(at..).and_then(|rest| rest.first_chunk());
        bytes.copied().map_or(0, u64::from_le_bytes)
    };
    let (offset, bytes, flags) = (number(8), number(16), number(24));
    if bytes == 0 {
        return Err(NoKernel("its kernel does not say its size, as those before 3.17"));
    }
    if flags & 1 != 0 {
        return Err(NoKernel("its kernel is big-endian"));
    }
    if offset >= BASE || !offset.is_multiple_of(4) {
        return Err(NoKernel("its kernel names a place that it cannot have"));
    }
    Ok(Image { offset, bytes: bytes.max(kernel.len() as u64) })
}

/// The places of the kernel, the file system and the device tree.
fn places(image: Image, initrd: u64, ram: GuestRange) -> Option<[GuestAddr; 3]> {
    let start = ram.start().checked_add(0).filter(|start| start.is_aligned(BASE))?;
    let kernel = start.checked_add(image.offset)?;
    let after = |at: GuestAddr, bytes: u64| {
        let end = at.get().checked_add(bytes)?.checked_next_multiple_of(LARGEST_PAGE)?;
        Some(GuestAddr::new(end))
    };
    let initrd_at = after(kernel, image.bytes)?;
    let tree_at = after(initrd_at, initrd)?;
    // The tree spans no multiple of 2 MiB, since it begins with a page and is smaller.
    let last = tree_at.checked_add(LARGEST_PAGE - 1)?;
    ram.contains(last).then_some([kernel, initrd_at, tree_at])
}

/// Prepares a kernel: see [`Guests::linux`](crate::contract::Guests::linux).
///
/// # Errors
///
/// [`NoKernel`]
pub fn prepare(
    files: &LinuxFiles<'_>,
    ram: GuestRange,
    cpus: usize,
    put: &mut Put<'_>,
) -> Result<KernelStart, NoKernel> {
    let image = image(files.kernel)?;
    let too_large = NoKernel("kernel and file system do not fit the guest's memory");
    let initrd = files.initrd.len() as u64;
    let [kernel, initrd_at, mut tree_at] = places(image, initrd, ram).ok_or(too_large)?;
    if CONSOLE.len() + files.command_line.len() >= COMMAND_LINE {
        return Err(NoKernel("its command line is longer than arm64 allows"));
    }
    let start = KernelStart { entry: kernel, arguments: [tree_at.get(), 0, 0, 0] };

    put(kernel, files.kernel)?;
    put(initrd_at, files.initrd)?;
    let initrd = GuestRange::new(initrd_at, initrd).ok_or(too_large)?;
    let mut tree = Tree::new();
    describe(&mut tree, (ram, cpus), initrd, files.command_line);
    let parts = tree.finish().ok_or(NoKernel("its device tree is too large"))?;
    for part in [&parts.head, parts.structure, parts.strings] {
        put(tree_at, part)?;
        tree_at = tree_at.checked_add(part.len() as u64).ok_or(too_large)?;
    }
    Ok(start)
}

/// The nodes of CPUs, by their affinities.
const CPUS: [&str; MOST_CPUS] =
    ["cpu@0", "cpu@1", "cpu@2", "cpu@3", "cpu@4", "cpu@5", "cpu@6", "cpu@7"];

/// The handles of the nodes that others name.
const CONTROLLER: u32 = 1;
const CLOCK: u32 = 2;
/// The kinds of interrupts, and a level.
const SHARED: u32 = 0;
const PRIVATE: u32 = 1;
const LEVEL_HIGH: u32 = 4;

/// Writes the tree of a guest with this memory and so many CPUs.
fn describe(
    tree: &mut Tree,
    (ram, cpus): (GuestRange, usize),
    initrd: GuestRange,
    command_line: &[u8],
) {
    tree.node("", |tree| {
        tree.cells("#address-cells", [2]);
        tree.cells("#size-cells", [2]);
        tree.text("compatible", "linux,dummy-virt");
        tree.text("model", "hotmem");
        tree.cells("interrupt-parent", [CONTROLLER]);
        tree.node("chosen", |tree| {
            tree.property("bootargs", &[CONSOLE, command_line, &[0]]);
            tree.text("stdout-path", "/serial@9000000");
            tree.ranges("linux,initrd-start", [initrd.start().get()]);
            tree.ranges("linux,initrd-end", [initrd.start().get() + initrd.len()]);
        });
        tree.node("memory@40000000", |tree| {
            tree.text("device_type", "memory");
            tree.ranges("reg", [ram.start().get(), ram.len()]);
        });
        tree.node("cpus", |tree| {
            tree.cells("#address-cells", [1]);
            tree.cells("#size-cells", [0]);
            for (number, name) in (0..).zip(CPUS).take(cpus) {
                tree.node(name, |tree| {
                    tree.text("device_type", "cpu");
                    tree.text("compatible", "arm,armv8");
                    tree.text("enable-method", "psci");
                    tree.cells("reg", [number]);
                });
            }
        });
        tree.node("psci", |tree| {
            tree.text("compatible", "arm,psci-1.0\0arm,psci-0.2");
            tree.text("method", "hvc");
        });
        devices(tree, cpus);
    });
}

fn devices(tree: &mut Tree, cpus: usize) {
    tree.node("interrupt-controller@8000000", |tree| {
        tree.text("compatible", "arm,gic-v3");
        tree.property("interrupt-controller", &[]);
        tree.cells("#interrupt-cells", [3]);
        let redistributor = [REDISTRIBUTOR, REDISTRIBUTOR_BYTES * cpus as u64];
        tree.ranges("reg", [DISTRIBUTOR, DISTRIBUTOR_BYTES, redistributor[0], redistributor[1]]);
        tree.cells("phandle", [CONTROLLER]);
    });
    tree.node("timer", |tree| {
        tree.text("compatible", "arm,armv8-timer");
        // Secure, non-secure, virtual, hypervisor: the guest has the third.
        let line = |id: u32| [PRIVATE, id - 16, LEVEL_HIGH];
        let lines =
            [line(29), line(30), line(TIMER_LINE), line(26)].map(|line| line.map(u32::to_be_bytes));
        tree.property("interrupts", &[lines.as_flattened().as_flattened()]);
        tree.property("always-on", &[]);
    });
    tree.node("clock", |tree| {
        tree.text("compatible", "fixed-clock");
        tree.cells("#clock-cells", [0]);
        tree.cells("clock-frequency", [24_000_000]);
        tree.cells("phandle", [CLOCK]);
    });
    tree.node("serial@9000000", |tree| {
        tree.text("compatible", "arm,pl011\0arm,primecell");
        tree.ranges("reg", [SERIAL, SERIAL_BYTES]);
        tree.cells("interrupts", [SHARED, SERIAL_LINE - 32, LEVEL_HIGH]);
        tree.cells("clocks", [CLOCK, CLOCK]);
        tree.text("clock-names", "uartclk\0apb_pclk");
    });
}

#[cfg(test)]
mod tests;
