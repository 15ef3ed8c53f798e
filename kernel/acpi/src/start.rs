//! From the tables to an event source.

use alloc::vec::Vec;

use hotmem_aml::{self as aml, Aml, AmlError, ErrorKind, Limits, LoadReport, NodeKind};
use hotmem_hotplug::{Latch, OutOfHeap};

use super::bridge::Bridge;
use super::device::{Devices, MEMORY_DEVICE, POWER_BUTTON};
use super::error::TableError;
use super::facs::GlobalLock;
use super::fadt::Fadt;
use super::fault::StartError;
use super::handlers::Handlers;
use super::hardware::Hardware;
use super::introduce;
use super::lists::{or_none, push};
use super::madt::Madt;
use super::mode;
use super::nvdimm::Pmem;
use super::parent::CONTAINER;
use super::root::{DSDT, Tables};
use super::source::AcpiSource;
use super::srat::{Affinity, Srat};
use super::table::Table;
use hotmem::paging::ReadPhys;

/// Bytes of heap that loading leaves to the rest of the kernel.
const RESERVE: usize = 1 << 20;

/// [`MEMORY_DEVICE`] as a compressed EISA identifier (ACPI 6.5, 19.3.4).
const MEMORY_NUMBER: [u8; 4] = [0x41, 0xD0, 0x0C, 0x80];

impl<H: Hardware> AcpiSource<H> {
    /// Enters ACPI mode, loads the byte code, and finds memory devices and events. After this, no
    /// heap is used.
    ///
    /// # Errors
    ///
    /// [`StartError`]; memory hotplug does not work then.
    pub fn new<P: ReadPhys>(
        tables: &Tables<'_, P>,
        mut hardware: H,
        latch: &'static Latch,
        limits: Limits,
    ) -> Result<Self, StartError> {
        let fadt = Fadt::find(tables)?;
        mode::enter(&fadt, &mut hardware).map_err(StartError::Mode)?;
        let mut devices = Devices::default();
        let lock = GlobalLock::find(tables, &fadt);
        let mut host = Bridge { hardware: &mut hardware, devices: &mut devices, lock };
        let mut left_out = Vec::new();
        let mut aml = load(tables, &fadt, &mut host, limits, &mut left_out)?;
        // Methods of every device are evaluated, and firmware may have thousands that do not return.
        aml.set_hurry(true);

        introduce::capabilities(&mut aml, &mut host);
        let report = aml.init(&mut host);
        if let Some((node, error)) = report.first_failure {
            let (path, failed) = (aml.path(node), report.failed);
            log::warn!("acpi: {failed} devices failed to initialise, the first is {path}: {error}");
        }
        let lost = "the lines of events are taken as their bus has them";
        let madt = or_none(Madt::find(tables), lost, &mut left_out);
        if madt.is_some_and(|madt| madt.io_apics().next().is_some()) {
            introduce::io_apics(&mut aml, &mut host);
        }
        let handlers = Handlers::find(&mut aml, &mut host, &fadt, madt.as_ref());
        find_memory(&mut aml, &mut host)?;
        aml.set_hurry(false);
        let affinity = affinities(tables, &mut left_out)?;
        Ok(Self {
            aml,
            hardware,
            fadt,
            handlers,
            devices,
            lock,
            round: None,
            left_out,
            affinity,
            latch,
            pmem: Pmem::default(),
        })
    }
}

/// Loads the DSDT and the SSDTs.
fn load<P: ReadPhys>(
    tables: &Tables<'_, P>,
    fadt: &Fadt,
    host: &mut dyn aml::Host,
    limits: Limits,
    left_out: &mut Vec<TableError>,
) -> Result<Aml, StartError> {
    let mut blocks: Vec<Table<'_>> = Vec::new();
    tables.each_definition_block(fadt.dsdt, |table| {
        if let Some(table) = or_none(table.map(Some), "the table is left out", left_out) {
            push(&mut blocks, table).map_err(|OutOfHeap| StartError::OutOfHeap)?;
        }
        Ok::<_, StartError>(())
    })?;
    let aml = load_blocks(blocks, host, limits, left_out)?;
    log_skipped(aml.load_report());
    Ok(aml)
}

/// Loads the DSDT, and of the SSDTs those that the heap has room for: the others are left out one by one, the
/// largest first, and last those that describe memory. What code tables hold outside methods runs again then.
fn load_blocks(
    mut blocks: Vec<Table<'_>>,
    host: &mut dyn aml::Host,
    limits: Limits,
    left_out: &mut Vec<TableError>,
) -> Result<Aml, StartError> {
    loop {
        match load_leaving(RESERVE, &blocks, host, limits) {
            Err(error) if error.kind == ErrorKind::OutOfHeap => {}
            result => return Ok(result?),
        }
        let ssdts = blocks.iter().enumerate().filter(|(_, block)| block.signature() != DSDT);
        let size = |block: &Table<'_>| (!describes_memory(block.bytes()), block.bytes().len());
        let Some((index, _)) = ssdts.max_by_key(|(_, block)| size(block)) else {
            // The DSDT alone may use the heap that was reserved for the rest of the kernel.
            return Ok(load_leaving(0, &blocks, host, limits)?);
        };
        let block = blocks.remove(index);
        let (table, at, length) = (block.signature(), block.address(), block.bytes().len() as u32);
        let error = TableError::NoRoom { table, at, length };
        or_none::<()>(Err(error), "it is left out", left_out);
    }
}

/// Whether byte code names memory devices or containers of them, as text or as the number that stands for it.
fn describes_memory(code: &[u8]) -> bool {
    let ids = [MEMORY_DEVICE.as_bytes(), MEMORY_NUMBER.as_slice(), CONTAINER.as_bytes()];
    ids.iter().any(|id| code.windows(id.len()).any(|bytes| bytes == *id))
}

/// Loads tables if so many bytes of heap are left then.
fn load_leaving(
    reserve: usize,
    blocks: &[Table<'_>],
    host: &mut dyn aml::Host,
    limits: Limits,
) -> Result<Aml, AmlError> {
    let no_room = |_| AmlError::from(ErrorKind::OutOfHeap);
    let mut rest: Vec<u8> = Vec::new();
    rest.try_reserve_exact(reserve).map_err(no_room)?;
    let mut list: Vec<&[u8]> = Vec::new();
    list.try_reserve_exact(blocks.len()).map_err(no_room)?;
    list.extend(blocks.iter().map(Table::bytes));
    let loaded = Aml::load(host, &list, limits);
    // Never read, but it has to be there until then.
    core::hint::black_box(&rest);
    loaded
}

/// Logs what could not be loaded from the tables.
fn log_skipped(report: &LoadReport) {
    const LOGGED: usize = 8;
    for skipped in report.skipped().iter().take(LOGGED) {
        log::warn!("acpi: left out: {skipped}");
    }
    let more = (report.count() as usize).saturating_sub(LOGGED);
    if more != 0 {
        log::warn!("acpi: left out: {more} more");
    }
}

/// Finds the memory devices, there or not, the devices around them, and the power buttons.
fn find_memory<H: Hardware>(aml: &mut Aml, host: &mut Bridge<'_, H>) -> Result<(), StartError> {
    let mut last = None;
    while let Some(node) = aml.next_device(last) {
        last = Some(node);
        // A device whose identifier cannot be read does not keep the others from being used.
        let mut is = |id, host: &mut Bridge<'_, H>| {
            aml.has_id(host, node, id).unwrap_or_else(|error| {
                log::warn!("acpi: {}: {error}", aml.path(node));
                false
            })
        };
        let index = host.devices.len() as u16;
        let room = if is(MEMORY_DEVICE, host) {
            host.devices.push(node) && push_parents(aml, node, index, host.devices)
        } else if is(POWER_BUTTON, host) {
            host.devices.push_button(node)
        } else if is(CONTAINER, host) {
            host.devices.parents.push(node, index..index)
        } else {
            true
        };
        if !room {
            return Err(StartError::OutOfHeap);
        }
    }
    Ok(())
}

/// Takes note of the devices that a memory device is below; `false` if the heap is full.
fn push_parents(aml: &Aml, node: aml::NodeId, index: u16, devices: &mut Devices) -> bool {
    let mut above = aml.parent(node);
    while let Some(here) = above {
        let is_device = aml.kind(here) == NodeKind::Device;
        if is_device && !devices.parents.push(here, index..index + 1) {
            return false;
        }
        above = aml.parent(here);
    }
    true
}

/// The SRAT's ranges, for as long as the kernel runs. A machine without one has none.
fn affinities<P: ReadPhys>(
    tables: &Tables<'_, P>,
    left_out: &mut Vec<TableError>,
) -> Result<Vec<Affinity>, StartError> {
    let mut list = Vec::new();
    let lost = "devices that do not say their node are on node 0";
    if let Some(srat) = or_none(Srat::find(tables), lost, left_out) {
        for entry in srat.memory() {
            push(&mut list, entry).map_err(|OutOfHeap| StartError::OutOfHeap)?;
        }
    }
    Ok(list)
}
