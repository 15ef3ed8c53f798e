//! The memory of the machine, and the two address ranges where it can be mapped.

// UNSAFETY: system calls that change what is mapped at addresses that this module reserved.
#![expect(unsafe_code)]

use hotmem::{PhysAddr, VirtAddr, VirtRange};
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::with_exposed_provenance_mut;

/// Bytes of the physical address space.
pub(crate) const PHYS_BYTES: u64 = 8 << 30;
/// The address of physical address 0 in the linear map: a 64-bit Linux uses this address only on request, also under
/// valgrind.
pub(crate) const LINEAR: VirtAddr = VirtAddr::new(0x4_0000_0000);
/// The address of pfn 0's descriptor.
pub(crate) const VMEMMAP: VirtAddr = VirtAddr::new(0x8_0000_0000);
/// Bytes of the descriptors of all of it.
const VMEMMAP_BYTES: u64 = PHYS_BYTES / 4096 * 64;

/// The memory, and both windows, which belong to this value alone in this process.
#[derive(Debug)]
pub(crate) struct Windows {
    memory: OwnedFd,
}

impl Windows {
    /// Zeroed memory, none of it mapped.
    ///
    /// # Errors
    ///
    /// The error of the system: there is no memory, or a window is in use, as by another machine of this process.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the name is a string that ends with a zero.
        let raw = unsafe { libc::memfd_create(c"hotmem".as_ptr(), libc::MFD_CLOEXEC) };
        check(raw != -1)?;
        // SAFETY: the system has just created the descriptor, and no other code uses it.
        let memory = unsafe { OwnedFd::from_raw_fd(raw) };
        // SAFETY: a call that takes no pointers.
        check(unsafe { libc::ftruncate(memory.as_raw_fd(), PHYS_BYTES as libc::off_t) } == 0)?;
        reserve(LINEAR, PHYS_BYTES, libc::MAP_FIXED_NOREPLACE)?;
        if let Err(error) = reserve(VMEMMAP, VMEMMAP_BYTES, libc::MAP_FIXED_NOREPLACE) {
            release(LINEAR, PHYS_BYTES);
            return Err(error);
        }
        Ok(Self { memory })
    }

    /// Whether all of `range` lies in one of the windows.
    pub(crate) fn has(range: VirtRange) -> bool {
        [(LINEAR, PHYS_BYTES), (VMEMMAP, VMEMMAP_BYTES)].into_iter().any(|(start, bytes)| {
            VirtRange::new(start, bytes).is_some_and(|window| window.covers(range))
        })
    }

    /// Maps the memory from `phys` on, for as many bytes as `range` has.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub(crate) fn map(&self, range: VirtRange, phys: PhysAddr, writable: bool) -> io::Result<()> {
        let writes = if writable { libc::PROT_WRITE } else { 0 };
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        let file = self.memory.as_raw_fd();
        map_at(range.start(), range.len(), libc::PROT_READ | writes, flags, file, phys.get())
    }

    /// Unmaps `range`: an access there faults again.
    ///
    /// # Errors
    ///
    /// The error of the system.
    pub(crate) fn unmap(range: VirtRange) -> io::Result<()> {
        reserve(range.start(), range.len(), libc::MAP_FIXED)
    }
}

impl Drop for Windows {
    fn drop(&mut self) {
        release(LINEAR, PHYS_BYTES);
        release(VMEMMAP, VMEMMAP_BYTES);
    }
}

/// Keeps addresses for this module, with nothing mapped there.
fn reserve(at: VirtAddr, bytes: u64, fixed: i32) -> io::Result<()> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | fixed;
    map_at(at, bytes, libc::PROT_NONE, flags, -1, 0)
}

fn map_at(at: VirtAddr, bytes: u64, prot: i32, flags: i32, fd: i32, from: u64) -> io::Result<()> {
    let (at, from) = (pointer(at), from as libc::off_t);
    // SAFETY: the addresses lie in a window, where the only Rust objects are those that the manager keeps in memory
    // which it mapped there itself; or the call is refused if anything is mapped (`MAP_FIXED_NOREPLACE`).
    let mapped = unsafe { libc::mmap(at, bytes as usize, prot, flags, fd, from) };
    check(mapped == at)
}

fn release(at: VirtAddr, bytes: u64) {
    // SAFETY: a window that this module reserved, whose machine is gone.
    let released = unsafe { libc::munmap(pointer(at), bytes as usize) };
    debug_assert_eq!(released, 0, "a window is released whole");
}

fn pointer(at: VirtAddr) -> *mut c_void {
    with_exposed_provenance_mut(at.get() as usize)
}

fn check(went_well: bool) -> io::Result<()> {
    if went_well { Ok(()) } else { Err(io::Error::last_os_error()) }
}
