//! What this kernel requests of its loader, and the responses.

use limine::BaseRevision;
use limine::memory_map::EntryType;
use limine::mp::Cpu;
use limine::request::{BootloaderInfoRequest, HhdmRequest, MemoryMapRequest, MpRequest};
use limine::request::{ExecutableAddressRequest, RequestsEndMarker, RequestsStartMarker};
use limine::request::{PagingModeRequest, RsdpRequest, StackSizeRequest};
use limine::response::BootloaderInfoResponse;
use x86_64::structures::paging::{FrameAllocator, PhysFrame, Size4KiB};
use x86_64::{PhysAddr, VirtAddr};

macro_rules! requests {
    ($section:literal: $($name:ident: $type:ty = $value:expr;)*) => {
        // SAFETY: a section of this kernel's, of which the loader looks for values by their first words.
        $(#[used] #[unsafe(link_section = $section)] static $name: $type = $value;)*
    };
}

/// Byte code of ACPI runs on the stack.
const STACK: u64 = 512 << 10;

// The loader looks from the start to the end: the linker's script keeps this order.
requests! { ".requests.start": START: RequestsStartMarker = RequestsStartMarker::new(); }
requests! { ".requests.end": END: RequestsEndMarker = RequestsEndMarker::new(); }
requests! {
    ".requests":
    BASE_REVISION: BaseRevision = BaseRevision::new();
    LOADER: BootloaderInfoRequest = BootloaderInfoRequest::new();
    HHDM: HhdmRequest = HhdmRequest::new();
    MEMORY: MemoryMapRequest = MemoryMapRequest::new();
    RSDP: RsdpRequest = RsdpRequest::new(); // glue: memory
    ADDRESS: ExecutableAddressRequest = ExecutableAddressRequest::new();
    CPUS: MpRequest = MpRequest::new();
    // Tables of four levels. Limine chooses the offset at random only for a kernel that says so.
    MODE: PagingModeRequest = PagingModeRequest::new();
    STACKS: StackSizeRequest = StackSizeRequest::new().with_size(STACK);
}

/// Ranges of RAM that the kernel uses.
pub const MOST: usize = 16;
/// The smallest that it uses.
const LEAST: u64 = 2 << 20;
/// Bytes for the tables that the kernel makes before there is a manager.
const EARLY: u64 = 1 << 20;

/// The machine, by the loader's responses.
pub struct BootInfo {
    /// The loader's name and version.
    pub loader: Option<&'static BootloaderInfoResponse>,
    /// Where physical memory is mapped.
    pub offset: VirtAddr,
    /// The root pointer of ACPI.
    #[cfg_attr(not(feature = "hotmem"), expect(dead_code))]
    pub rsdp: PhysAddr, // glue: memory
    /// Where the kernel's image is.
    pub kernel: PhysAddr,
    /// The CPUs but this one.
    pub others: &'static [&'static Cpu],
    ram: [(u64, u64); MOST],
    count: usize,
}

impl BootInfo {
    /// Reads the responses.
    pub fn read() -> Self {
        assert!(BASE_REVISION.is_supported(), "the loader knows this revision of the protocol");
        let hhdm = HHDM.get_response().expect("an offset of physical memory");
        let memory = MEMORY.get_response().expect("a memory map");
        let rsdp = RSDP.get_response().expect("ACPI tables"); // glue: memory
        let address = ADDRESS.get_response().expect("the kernel's address");
        let cpus = CPUS.get_response().expect("the CPUs");
        let mut boot = Self {
            loader: LOADER.get_response(),
            offset: VirtAddr::new(hhdm.offset()),
            rsdp: PhysAddr::new(rsdp.address() as u64), // glue: memory
            kernel: PhysAddr::new(address.physical_base()),
            others: cpus.cpus(),
            ram: [(0, 0); MOST],
            count: 0,
        };
        let usable = memory.entries().iter().filter(|entry| entry.entry_type == EntryType::USABLE);
        for entry in usable.filter(|entry| entry.length >= LEAST).take(MOST) {
            boot.ram[boot.count] = (entry.base, entry.length);
            boot.count += 1;
        }
        boot
    }

    /// Ranges of RAM that nothing uses, ascending: start and bytes.
    // glue: memory {
    #[cfg(feature = "hotmem")]
    pub fn ram(&self) -> &[(u64, u64)] {
        &self.ram[..self.count]
    }
    // glue: }

    /// Frames for tables, from the start of the last range.
    pub fn early_frames(&mut self) -> EarlyFrames {
        let (at, len) = self.ram[..self.count].last_mut().expect("memory");
        let frames = EarlyFrames { next: *at, end: *at + EARLY };
        (*at, *len) = (*at + EARLY, *len - EARLY);
        frames
    }
}

/// Frames, one after the other.
pub struct EarlyFrames {
    next: u64,
    end: u64,
}

// SAFETY: each frame is given once, and is in no other range.
unsafe impl FrameAllocator<Size4KiB> for EarlyFrames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let at = self.next;
        self.next += 4096;
        (self.next <= self.end).then(|| PhysFrame::containing_address(PhysAddr::new(at)))
    }
}
