//! The kernel's own address space, built on the early page tables.
//!
//! ```text
//!   image    text: read, execute    rodata: read    data: read, write
//!   linear   all RAM: read, write; except the image's text and rodata: read
//! ```

// UNSAFETY: makes the first table of the tree.
#![expect(unsafe_code)]

use super::devices::{SPARE, map_pages};
use super::early::EarlyMemory;
use super::layout::{DEVICE_BASE, LINEAR_BASE, PAGE, PHYS_LIMIT};
use super::machine::{self, KernelMachine, KernelTables, LinearMemory, ROOT_BYTES, kernel_tables};
use super::module;
use super::stacks;
use core::fmt;
use hotmem::paging::{Attr, MapError, Mapper, Mapping, OutOfFrames};
use hotmem::{
    BlockSize, BootError, BootMemory, EarlyFrames, EarlyTables, Mm, PhysAddr, PhysMem, PhysRange,
};
use hotmem_arch::contract::{Features, Port as _};
use hotmem_arch::current::{Port, TrapStacks};
use hotmem_boot::current::{self, EARLY_LIMIT};
use hotmem_boot::image::{self, Segment};
use hotmem_boot::{BootInfo, RangeList};

const _: () = assert!(current::LINEAR_BASE.get() == LINEAR_BASE.get());

/// The state between the loader's hand-off and the memory manager.
#[derive(Debug)]
pub struct Boot {
    /// The kernel's page tables.
    pub tables: KernelTables,
    /// Memory that must not be writable: the kernel's text and read-only data.
    protected: [PhysRange; 2],
    /// RAM that is not used yet.
    pub early: EarlyMemory,
    /// All RAM that the linear map maps.
    pub ram: RangeList,
}

/// The reason why the kernel has no address space of its own.
#[derive(Clone, Copy, Debug)]
pub enum PrepareError {
    /// The CPU lacks a feature.
    Missing(&'static str),
    /// Firmware does not describe the RAM under the kernel's image as usable.
    Image(PhysRange),
    /// The page tables could not be built.
    Map(MapError),
}

impl fmt::Display for PrepareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(what) => write!(f, "this CPU does not have {what}"),
            Self::Image(range) => {
                write!(f, "the kernel's own image at {range} is not in usable RAM")
            }
            Self::Map(error) => error.fmt(f),
        }
    }
}

impl From<MapError> for PrepareError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

/// Builds the kernel's page tables, which are not in use yet.
///
/// Leaves of the linear map are at most a block large, so that no leaf spans two memory blocks. The kernel's own
/// allocations come from the lowest `kernelcore` bytes of RAM, if these suffice, and never from the `module`'s.
///
/// # Errors
///
/// [`PrepareError`]
pub fn prepare(
    info: &BootInfo,
    features: &Features,
    block_size: BlockSize,
    kernelcore: Option<u64>,
    module: Option<PhysRange>,
) -> Result<Boot, PrepareError> {
    if let Some(what) = features.missing {
        return Err(PrepareError::Missing(what));
    }
    let ram = mappable(&info.ram, features);
    if !ram.covers(image::phys()) {
        return Err(PrepareError::Image(image::phys()));
    }
    let module = module::note(module, &ram, image::phys());
    let mut early = EarlyMemory::new(&ram, &[image::phys(), module], EARLY_LIMIT);
    if let Some(bytes) = kernelcore {
        early.prefer(core_end(&ram, bytes));
    }

    let bytes = ROOT_BYTES;
    let root = early.take(bytes, bytes).ok_or(MapError::from(OutOfFrames { bytes }))?;
    // SAFETY: the frame was just taken from RAM below the early limit, which the early tables map writable.
    unsafe { LinearMemory.pointer(root).write_bytes(0, bytes as usize) };
    // SAFETY: the root is zeroed, and only this function uses it.
    let tables = unsafe { kernel_tables(root, features) };

    map_image(&tables, &mut early)?;
    map_linear(&tables, &mut early, &ram, block_size.bytes())?;
    stacks::map(&tables, &mut early)?;
    SPARE.fill(&mut early);
    if let Some(registers) = Port::registers() {
        // The early tables map devices at the same addresses, so the console continues to work.
        map_pages(registers, DEVICE_BASE, Attr::WRITE | Attr::DEVICE, &tables)?;
    }
    Ok(Boot { tables, protected: protected(), early, ram })
}

/// The end of the lowest `bytes` of `ram`.
fn core_end(ram: &RangeList, bytes: u64) -> PhysAddr {
    let mut left = bytes;
    for range in ram.iter() {
        if left <= range.len() {
            return range.start().add(left);
        }
        left -= range.len();
    }
    PhysAddr::new(u64::MAX)
}

/// The part of `ram` that fits the linear map and that the CPU can address.
fn mappable(ram: &RangeList, features: &Features) -> RangeList {
    let limit = PHYS_LIMIT.min(features.phys_limit);
    let mut kept = whole_pages(ram);
    kept.remove(PhysRange::new(limit, u64::MAX - limit.get()).unwrap_or_default());
    if kept.bytes() < ram.bytes() {
        log::warn!("RAM from {limit} on, or in parts of pages, is left unused");
    }
    kept
}

/// The whole pages of `ram`; firmware describes ranges in the smallest page size.
fn whole_pages(ram: &RangeList) -> RangeList {
    let mut whole = RangeList::new();
    for range in ram.iter() {
        let Some(start) = range.start().checked_add(PAGE - 1) else { continue };
        let (start, end) = (start.align_down(PAGE), range.end().align_down(PAGE));
        let len = end.get().saturating_sub(start.get());
        whole.insert(PhysRange::new(start, len).unwrap_or_default());
    }
    whole
}

/// The memory that must not be writable.
fn protected() -> [PhysRange; 2] {
    [Segment::Text.phys(), Segment::Rodata.phys()]
}

fn map_image(tables: &KernelTables, early: &mut EarlyMemory) -> Result<(), MapError> {
    for segment in Segment::ALL {
        let attr = match segment {
            Segment::Text => Attr::EXECUTE,
            Segment::Rodata => Attr::empty(),
            Segment::Data => Attr::WRITE,
        };
        let (virt, phys) = (segment.virt(), segment.phys());
        let mapping = Mapping {
            virt: virt.start(),
            phys: phys.start(),
            len: virt.len(),
            attr,
            max_leaf: PAGE,
        };
        tables.map(&mapping, &EarlyTables::new(early))?;
    }
    Ok(())
}

fn map_linear(
    tables: &KernelTables,
    early: &mut EarlyMemory,
    ram: &RangeList,
    max_leaf: u64,
) -> Result<(), MapError> {
    let mut map = |range: PhysRange, attr| {
        let (virt, phys) = (LINEAR_BASE.add(range.start().get()), range.start());
        let mapping = Mapping { virt, phys, len: range.len(), attr, max_leaf };
        tables.map(&mapping, &EarlyTables::new(early))
    };

    for range in protected() {
        map(range, Attr::empty())?;
    }
    for range in ram.iter() {
        let mut writable = RangeList::from(range);
        protected().into_iter().for_each(|range| writable.remove(range));
        writable.iter().try_for_each(|range| map(range, Attr::WRITE))?;
    }
    Ok(())
}

impl Boot {
    /// The stacks that traps run on.
    pub fn trap_stacks(&self) -> TrapStacks {
        stacks::for_traps(0)
    }

    /// Called once the kernel's tables and stack are in use: all memory is mapped now, and the memory of the entry
    /// code with its tables and stack is ordinary RAM.
    pub fn settle(&mut self) {
        self.early.lift_limit();
        let whole = image::phys();
        let entry = Segment::Text.phys().start().offset_from(whole.start());
        if let Some(entry) = PhysRange::new(whole.start(), entry) {
            self.early.give(entry);
        }
    }

    /// The kernel's page tables.
    pub fn tables(&self) -> &KernelTables {
        &self.tables
    }
}

/// Hands all memory over to the memory manager, which manages it from now on.
///
/// # Errors
///
/// [`BootError`], after which the kernel cannot continue.
pub fn take_over(
    boot: Boot,
    memory: &BootMemory<'_>,
) -> Result<&'static Mm<KernelMachine>, BootError> {
    let Boot { tables, protected, mut early, .. } = boot;
    machine::start(tables, protected, &mut early, memory)
}
