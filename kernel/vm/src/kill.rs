//! Takes guests apart: all of their memory is cleared, and free afterwards.

use crate::Shared;
use crate::console::Console;
use crate::id::{VcpuId, VmId};
use crate::platform::Platform;
use crate::space::Space;
use crate::status::State;
use crate::switch::{self, Fresh};
use crate::vms::{VmError, Vms};
use alloc::vec::Vec;
use hotmem::Pfn;
use hotmem::paging::{Gather, GuestAddr, GuestRange, Mapper};

/// Poll limit of a wait for a CPU to leave a guest: see [`Residence`](crate::residence::Residence).
const MAX_TURNS: u64 = 1 << 24;

/// Extents that are freed after one flush.
const BATCH: u64 = 512;

impl<M: Shared, P: Platform> Vms<M, P> {
    /// Ends a guest and frees all of its memory.
    ///
    /// # Errors
    ///
    /// [`VmError::Busy`] if its CPU does not leave it, and it stays; [`VmError::NotFlushed`], and what it still has
    /// stays in use for ever.
    pub fn kill(&self, id: VmId) -> Result<(), VmError> {
        self.at_home()?;
        let slot = self.slot(id).ok_or(VmError::Full)?;
        let before = core::mem::replace(&mut slot.life.lock().state, State::Changing);
        // One that has ended may have CPUs that have not left it yet.
        if before != State::Ready && !self.wait_for_vcpus(id) {
            let name = slot.life.lock().name;
            self.change_state(id, if before == State::Runs { State::Paused } else { before });
            return Err(name.map_or(VmError::Full, VmError::Busy));
        }
        for place in &slot.vcpus {
            let vcpu = place.lock().take();
            drop(vcpu);
        }
        *slot.console.lock() = Console::default();
        let apart = self.take_apart(id);
        self.change_state(id, State::Absent);
        apart
    }

    /// Waits until the CPUs that run a guest have put its virtual CPUs back: all are interrupted before the first wait,
    /// even those that have, since one whose virtual CPU is off sleeps until then. Returns whether they have.
    pub(crate) fn wait_for_vcpus(&self, id: VmId) -> bool {
        let all = self.vcpus(id);
        all.iter().for_each(|(_, cpu)| P::kick(*cpu));
        all.into_iter().all(|(at, _)| {
            (0..MAX_TURNS).any(|_| {
                let back = self.is_back(at);
                if !back {
                    self.mm().machine().relax();
                }
                back
            })
        })
    }

    /// Whether no CPU has this virtual CPU.
    fn is_back(&self, at: VcpuId) -> bool {
        self.host.vcpu(at).is_none_or(|place| place.lock().is_some())
    }

    /// Frees the memory and the tables of a guest that does not run.
    pub(crate) fn take_apart(&self, id: VmId) -> Result<(), VmError> {
        let Some(space) = self.slot(id).and_then(|slot| slot.space.lock().take()) else {
            return Ok(());
        };
        let unit = space.order.pages() * M::PAGE_BYTES;
        let mut at = 0;
        while at < space.ram.len() {
            let bytes = (unit * BATCH).min(space.ram.len() - at);
            let range = GuestRange::new(space.ram.start().add(at), bytes).unwrap_or_default();
            if let Err(error) = self.free_range(&space, id, range, unit) {
                // A CPU may still walk the tables: they stay, and so does the memory.
                core::mem::forget(space);
                return Err(error);
            }
            at += bytes;
        }
        Ok(())
    }

    fn free_range(
        &self,
        space: &Space<M, P>,
        id: VmId,
        range: GuestRange,
        unit: u64,
    ) -> Result<(), VmError> {
        let addresses = (0..range.len()).step_by(unit as usize);
        let mapped = |offset| -> Option<Pfn> {
            let at: GuestAddr = range.start().add(offset);
            Some(M::pfn(space.tables.translate(at)?.target(at)))
        };
        let extents: Vec<Pfn> = addresses.filter_map(mapped).collect();
        let mut gather = Gather::new(space.tables.tlb(), self.frames(id));
        let unmapped = space.tables.unmap(range, &mut gather);
        if let Err(hotmem::paging::UnmapError::NotFlushed(cpu)) = gather.conclude(unmapped) {
            return Err(VmError::NotFlushed(cpu));
        }
        let (scrub, order) = (self.host.scrubs(), space.order);
        for pfn in extents {
            let extent = Fresh { pfn, order };
            if let Err(error) = switch::clear_and_free(self.mm(), &extent, &self.pages, scrub) {
                log::error!("guest {}: {pfn} is lost: {error}", id.number());
            }
        }
        Ok(())
    }
}
