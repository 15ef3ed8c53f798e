//! Memory of the host in the place of physical memory, and tables in it.

// UNSAFETY: makes page tables of raw memory of the host, and walks them.
#![expect(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use hotmem::paging::{Attr, TableAt};
use hotmem::{PhysAddr, PhysRange, VirtAddr};
use std::io::Error;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::{NonNull, null_mut};
use x86_64::structures::paging::mapper::PageTableFrameMapping;
use x86_64::structures::paging::{MappedPageTable, OffsetPageTable, PageTable, PhysFrame};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const GIB: u64 = 1 << 30;

/// The address of the root table.
pub(crate) const ROOT: u64 = 0x1000;
/// The source of the tables below it.
const FRAMES: u64 = MIB;

/// Every set of accesses.
pub(crate) fn all_attrs() -> Vec<Attr> {
    (0..16).map(Attr::from_bits_truncate).collect()
}

/// Memory of the host, from physical address 0 on: a file without a name, so that it can be mapped at further addresses.
pub(crate) struct Arena {
    base: NonNull<u8>,
    bytes: u64,
    file: OwnedFd,
}

// SAFETY: it owns the memory, and a test that shares it orders its own accesses.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

impl Arena {
    pub(crate) fn new(bytes: u64) -> Self {
        // SAFETY: the name is a string that ends with a zero.
        let raw = unsafe { libc::memfd_create(c"arena".as_ptr(), libc::MFD_CLOEXEC) };
        assert!(raw != -1, "{}", Error::last_os_error());
        // SAFETY: the system has just created the descriptor, and no other code uses it.
        let file = unsafe { OwnedFd::from_raw_fd(raw) };
        // SAFETY: a call that takes no pointers.
        let sized = unsafe { libc::ftruncate(file.as_raw_fd(), bytes as libc::off_t) };
        assert!(sized == 0, "{}", Error::last_os_error());
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let (shared, at) = (libc::MAP_SHARED, null_mut());
        // SAFETY: the system chooses addresses of no other use.
        let base = unsafe { libc::mmap(at, bytes as usize, access, shared, file.as_raw_fd(), 0) };
        assert!(base != libc::MAP_FAILED, "{}", Error::last_os_error());
        base.expose_provenance();
        Self { base: NonNull::new(base.cast()).unwrap(), bytes, file }
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The file that it is.
    pub(crate) fn file(&self) -> i32 {
        self.file.as_raw_fd()
    }

    /// A pointer to the byte at `at`.
    pub(crate) fn at(&self, at: PhysAddr) -> NonNull<u8> {
        assert!(at.get() < self.bytes(), "no memory at {at}");
        // SAFETY: in bounds, by the assertion.
        unsafe { self.base.add(at.get() as usize) }
    }

    /// The distance from physical addresses to those of the host.
    pub(crate) fn offset(&self) -> x86_64::VirtAddr {
        x86_64::VirtAddr::from_ptr(self.base.as_ptr())
    }

    pub(crate) fn root(&self) -> PhysFrame {
        PhysFrame::containing_address(x86_64::PhysAddr::new(ROOT))
    }

    /// Memory for tables below the root.
    pub(crate) fn table_ram(&self) -> PhysRange {
        PhysRange::new(PhysAddr::new(FRAMES), self.bytes() - FRAMES).unwrap()
    }

    pub(crate) fn spoil(&self, frame: PhysAddr, bytes: u64) {
        // SAFETY: the frame of an unused table, in bounds of the memory.
        unsafe { self.at(frame).write_bytes(0xa5, bytes as usize) };
    }

    fn root_table<'a>(&self) -> &'a mut PageTable {
        // SAFETY: the root is memory of a table's size, which the test uses by one mapper only, and no longer than
        // the arena.
        unsafe { self.at(PhysAddr::new(ROOT)).cast::<PageTable>().as_mut() }
    }

    /// Tables over this memory, which outlives them in every test.
    pub(crate) fn offset_table(&self) -> OffsetPageTable<'static> {
        // SAFETY: the root is a table, and so is what it leads to, at that offset.
        unsafe { OffsetPageTable::new(self.root_table(), self.offset()) }
    }

    /// The same, by a function from frames to pointers.
    pub(crate) fn mapped_table(&self) -> MappedPageTable<'static, ByFunction> {
        // SAFETY: as above.
        unsafe { MappedPageTable::new(self.root_table(), ByFunction(self.offset().as_u64())) }
    }

    /// A CPU's walk, which reads the words of the tables: they, and the target with the accesses that every level
    /// allows.
    pub(crate) fn walk(&self, at: VirtAddr) -> (Vec<TableAt>, Option<(PhysAddr, Attr)>) {
        let (mut table, mut tables) = (ROOT, Vec::new());
        let mut allowed = Attr::all();
        for (level, shift) in [39, 30, 21, 12].into_iter().enumerate() {
            let (frame, span) = (PhysAddr::new(table), 1 << (shift + 9));
            tables.push(TableAt { level, frame, bytes: 4096, virt: at.align_down(span), span });
            let word = self.at(frame.add(8 * (at.get() >> shift & 511))).cast::<u64>();
            // SAFETY: an entry of a table.
            let entry = unsafe { word.read_volatile() };
            if entry & 1 == 0 {
                break;
            }
            allowed &= attr(entry) | Attr::DEVICE;
            let target = entry & 0x000f_ffff_ffff_f000;
            if shift == 12 || entry & 1 << 7 != 0 {
                let target = PhysAddr::new(target | at.get() & ((1 << shift) - 1));
                return (tables, Some((target, allowed & (attr(entry) | !Attr::DEVICE))));
            }
            table = target;
        }
        (tables, None)
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        // SAFETY: `new` mapped as many bytes there, and nothing uses them any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes as usize) };
    }
}

fn attr(entry: u64) -> Attr {
    let mut attr = Attr::empty();
    attr.set(Attr::WRITE, entry & 1 << 1 != 0);
    attr.set(Attr::USER, entry & 1 << 2 != 0);
    attr.set(Attr::DEVICE, entry & 3 << 3 == 3 << 3);
    attr.set(Attr::EXECUTE, entry >> 63 == 0);
    attr
}

/// Pointers to frames by a function.
#[derive(Debug)]
pub(crate) struct ByFunction(u64);

// SAFETY: the arena's memory, from its first byte on.
unsafe impl PageTableFrameMapping for ByFunction {
    fn frame_to_pointer(&self, frame: PhysFrame) -> *mut PageTable {
        std::ptr::with_exposed_provenance_mut((self.0 + frame.start_address().as_u64()) as usize)
    }
}
