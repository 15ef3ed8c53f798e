//! The persistent memory of a machine, as the driver of hotplug sees it: devices behind those of firmware's byte code.

use core::fmt::{self, Display};

use alloc::vec::Vec;

use hotmem::PhysAddr;
use hotmem::addr::PhysRange;
use hotmem::paging::ReadPhys;
use hotmem_aml::NodeId;
use hotmem_hotplug::{DeviceId, Holds, OutOfHeap, Persistent, Reason, shown};

use super::blank::samples;
use super::error::LabelError;
use super::label::{Contents, contents};
use super::limits::HANDLE;
use super::nfit::{Bounds, Nfit};
use super::regions::{Part, Region};
use super::storage::Storage;
use crate::bridge::Bridge;
use crate::hardware::Hardware;
use crate::lists::{or_none, push};
use crate::mcfg::Mcfg;
use crate::root::Tables;
use crate::source::AcpiSource;
use crate::srat::node_of;

/// The identifier of the device that all NVDIMMs are below (ACPI 6.5, 9.20.1).
const ROOT_DEVICE: &str = "ACPI0012";
/// NVDIMMs of a region whose labels are read: machines interleave eight at most.
const MOST_NVDIMMS: usize = 32;

impl<H: Hardware> AcpiSource<H> {
    /// Reads what firmware says of persistent memory, by `_FIT`, or in the NFIT where firmware lacks that method (ACPI 6.5, 6.5.9). From then
    /// on the source has that memory, which is used as RAM on the operator's request, and what is plugged later. `ram` is what
    /// the machine was started with, and `limit` the first physical address that there cannot be. What of the table makes no
    /// sense is logged and left out, one by one.
    ///
    /// # Errors
    ///
    /// [`OutOfHeap`]. This is the one time that persistent memory takes heap; on a machine that cannot have any it takes none.
    pub fn find_pmem<P: ReadPhys>(
        &mut self,
        tables: &Tables<'_, P>,
        ram: &[PhysRange],
        limit: PhysAddr,
    ) -> Result<(), OutOfHeap> {
        let table = or_none(Nfit::find(tables), "it is left out", &mut self.left_out);
        let root = self.nvdimm_root();
        self.devices.nvdimms.root = root;
        let method = root.and_then(|root| self.aml.child(root, "_FIT"));
        if table.is_none() && method.is_none() {
            return Ok(());
        }
        let other = self.other_uses(tables)?;
        self.pmem.make_room(Bounds { ram, other: &other, limit }, root)?;
        if self.read_fit().is_none()
            && let Some(table) = table
        {
            self.pmem.read(table);
        }
        self.log_refused();
        while self.pmem.take_new().is_some() {}
        Ok(())
    }

    /// The addresses of PCI: they are not memory.
    fn other_uses<P: ReadPhys>(
        &mut self,
        tables: &Tables<'_, P>,
    ) -> Result<Vec<PhysRange>, OutOfHeap> {
        let mut all = self.all_windows()?;
        // One that is broken is reported where it is used.
        let mcfg = Mcfg::find(tables).unwrap_or_default();
        for range in mcfg.iter().flat_map(Mcfg::ranges) {
            push(&mut all, range)?;
        }
        Ok(all)
    }

    /// Reads `_FIT`; `None` if there is nothing to read.
    fn read_fit(&mut self) -> Option<()> {
        let method = self.aml.child(self.pmem.root()?, "_FIT")?;
        let Self { aml, hardware, devices, lock, pmem, .. } = self;
        let value = aml.evaluate(&mut Bridge { hardware, devices, lock: *lock }, method, &[]);
        let error = match value
            .map(|value| value.buffer().map(|bytes| pmem.read(Nfit::of_method(bytes))))
        {
            Ok(Some(())) => return Some(()),
            Ok(None) => LabelError::Value("_FIT"),
            Err(error) => LabelError::Method("_FIT", error),
        };
        log::warn!("acpi: {error}");
        None
    }

    /// Reads `_FIT` again, if firmware has said that it has changed (ACPI 6.5, 9.20.7.2).
    pub(crate) fn look_for_nvdimms(&mut self) {
        if !core::mem::take(&mut self.devices.nvdimms.changed) {
            return;
        }
        if self.read_fit().is_none() {
            return;
        }
        self.log_refused();
        let mut new = 0;
        while let Some(number) = self.pmem.take_new() {
            let range = self.pmem.get(number).map(|region| region.range).unwrap_or_default();
            log::info!("{}: {range} was plugged", self.pmem_label(number));
            new += 1;
        }
        if new == 0 {
            log::info!("acpi: NVDIMMs have changed, and no region of persistent memory is new");
        }
    }

    /// Has persistent memory that comes from now on be refused where it has addresses of these ranges: those of memory devices
    /// that ACPI does not know, say. After [`find_pmem`](Self::find_pmem).
    ///
    /// # Errors
    ///
    /// [`OutOfHeap`]: some of the ranges are not kept out then.
    pub fn keep_out(&mut self, ranges: impl Iterator<Item = PhysRange>) -> Result<(), OutOfHeap> {
        self.pmem.keep_out(ranges)
    }

    /// Where persistent memory is: nothing else can be there.
    pub fn persistent_ranges(&self) -> impl Iterator<Item = PhysRange> + '_ {
        self.pmem.ranges()
    }

    /// Takes note of persistent memory that was used and is gone.
    pub(crate) fn take_lost_pmem(&mut self) -> Option<DeviceId> {
        let number = self.pmem.take_lost()?;
        self.pmem_device(number)
    }

    /// The device that persistent memory with this number is for the driver.
    fn pmem_device(&self, number: usize) -> Option<DeviceId> {
        u16::try_from(self.devices.len() + number).ok().map(DeviceId::new)
    }

    fn log_refused(&self) {
        self.pmem.refused().iter().for_each(|error| log::warn!("acpi: NFIT: {error}"));
    }

    /// The device that NVDIMMs are below.
    fn nvdimm_root(&mut self) -> Option<NodeId> {
        let (aml, mut host) = self.interpreter();
        let mut last = None;
        while let Some(device) = aml.next_device(last) {
            last = Some(device);
            if aml.has_id(&mut host, device, ROOT_DEVICE) == Ok(true) {
                return Some(device);
            }
        }
        None
    }

    /// The number of a device that is persistent memory.
    pub(crate) fn pmem_number(&self, device: DeviceId) -> Option<usize> {
        let number = usize::from(device.number()).checked_sub(self.devices.len())?;
        (number < self.pmem.len()).then_some(number)
    }

    /// The persistent memory with a number, and what its labels say.
    pub(crate) fn persistent_memory(&mut self, number: usize) -> Option<Persistent> {
        let region = *self.pmem.get(number)?;
        let device = self.pmem_device(number)?;
        let near = self.affinity.iter().find(|entry| entry.range.contains(region.range.start()));
        let domain = region.domain.or(near.map(|entry| entry.domain));
        let node = node_of(domain.unwrap_or(0).into());
        Some(Persistent { device, range: region.range, node, holds: self.holds(number, &region) })
    }

    /// What the labels of all NVDIMMs of a region say.
    fn holds(&mut self, number: usize, region: &Region) -> Holds {
        if let Some(node) = self.devices.with_memory_in(region.range) {
            let path = self.aml.path(node);
            return Holds::Unknown(Reason::new(shown(|f| {
                write!(f, "{path} names memory of it as its own")
            })));
        }
        let (mut at, mut covered, mut is_labelled) = (0, 0_u64, true);
        let mut says = "";
        while let Some(part) = self.pmem.part(number, at) {
            if at == MOST_NVDIMMS {
                return Holds::Unknown(Reason::new("more NVDIMMs than are looked at"));
            }
            at += 1;
            covered = covered.saturating_add(part.length);
            let handle = part.handle;
            match self.labels(&part) {
                Err(error) => {
                    return Holds::Unknown(Reason::new(shown(|f| {
                        write!(f, "the labels of NVDIMM {handle:#x}: {error}")
                    })));
                }
                Ok(Contents::Namespace(name)) => {
                    return Holds::Data(Reason::new(shown(|f| {
                        write!(
                            f,
                            "the label of NVDIMM {handle:#x} says that it holds the namespace {name}"
                        )
                    })));
                }
                Ok(said @ (Contents::NoArea | Contents::Empty | Contents::NoNamespace)) => {
                    says = said.text().unwrap_or(says);
                    is_labelled &= said == Contents::NoNamespace;
                }
            }
        }
        if covered < region.range.len() {
            // A part that is left out, or too short, has labels that were not looked at.
            return Holds::Unknown(Reason::new("the NFIT does not name the NVDIMMs of all of it"));
        }
        let found = if is_labelled || self.pmem.is_ours(number) {
            None
        } else {
            self.contents(region, says)
        };
        found.unwrap_or_else(|| Holds::Nothing(Reason::new(says)))
    }

    /// What is in a region that has no labels, if anything is: nothing can say there that the memory is free. `says` is why.
    fn contents(&mut self, region: &Region, says: &str) -> Option<Holds> {
        samples(region.range).find_map(|piece| match self.hardware.first_used(piece) {
            Ok(None) => None,
            Ok(Some(at)) => Some(Holds::Data(Reason::new(shown(|f| {
                write!(f, "{says}, and memory at {at} is not zero")
            })))),
            Err(error) => Some(Holds::Unknown(Reason::new(shown(|f| {
                write!(f, "{says}, and memory in {piece} cannot be read: {error}")
            })))),
        })
    }

    fn labels(&mut self, part: &Part) -> Result<Contents, LabelError> {
        let device = self.nvdimm(part.handle)?;
        let mut storage = Storage::find(self, device)?;
        contents(&mut storage, part)
    }

    /// The device of the NVDIMM with a handle.
    fn nvdimm(&mut self, handle: u32) -> Result<NodeId, LabelError> {
        let none = LabelError::NoDevice(handle);
        let root = self.pmem.root().ok_or(none)?;
        let (mut at, mut found) = (None, None);
        loop {
            let later = self.aml.children(root).filter(|&child| at.is_none_or(|at| child > at));
            let Some(device) = later.min() else { return found.ok_or(none) };
            at = Some(device);
            let (aml, mut host) = self.interpreter();
            let address = aml.child_integer(&mut host, device, "_ADR");
            let is_it = |address: u64| address & u64::from(HANDLE) == u64::from(handle & HANDLE);
            if !address.is_ok_and(|address| address.is_some_and(is_it)) {
                continue;
            }
            if found.replace(device).is_some() {
                return Err(LabelError::Devices(handle));
            }
        }
    }

    /// What messages call persistent memory.
    pub(crate) fn pmem_label(&self, number: usize) -> impl Display + '_ {
        let index = self.pmem.any(number).map_or(0, |region| region.index);
        shown(move |f: &mut fmt::Formatter<'_>| {
            write!(f, "persistent memory {number} (range {index} of the NFIT)")
        })
    }
}

impl Contents {
    /// What it says if it has no namespace.
    const fn text(&self) -> Option<&'static str> {
        match self {
            Self::NoArea => Some("its NVDIMM has no label storage area"),
            Self::Empty => Some("its label storage area is empty"),
            Self::NoNamespace => Some("its labels name no namespace"),
            Self::Namespace(_) => None,
        }
    }
}
