//! Creates guests: memory, tables and the program.

use crate::Shared;
use crate::console::Console;
use crate::devices::GuestDevices;
use crate::frames::GuestFrames;
use crate::id::{MAX_VCPUS, VmId};
use crate::image;
use crate::life::Life;
use crate::name::Name;
use crate::platform::Platform;
use crate::program::{Begin, Loaded, Program};
use crate::residence::Residence;
use crate::space::Space;
use crate::status::State;
use crate::switch::{self, Fresh, GuestTables, OwnVcpu, Root};
use crate::vcpus::VcpuLife;
use crate::vms::{VmError, Vms};
use crate::word::PageWord;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::marker::PhantomData;
use core::sync::atomic::Ordering;
use hotmem::paging::{GuestAddr, GuestRange};
use hotmem::{NodeId, Order, Request};
use hotmem_arch::contract::{Guests, Misdeed, NoKernel, payload_kind};

impl<M: Shared, P: Platform> Vms<M, P> {
    /// Creates a guest with `vcpus` virtual CPUs and `bytes` of memory in extents of `order`, on `node` or anywhere, that
    /// will run `program`.
    ///
    /// # Errors
    ///
    /// [`VmError`]: nothing has changed.
    pub fn create(
        &self,
        name: Name,
        bytes: u64,
        order: Order,
        node: Option<NodeId>,
        vcpus: usize,
        program: &Program<'_>,
    ) -> Result<VmId, VmError> {
        self.at_home()?;
        if self.find(name).is_ok() {
            return Err(VmError::Exists(name));
        }
        self.enabled.enable::<M, P>(self.mm()).map_err(VmError::NoGuests)?;
        let ram = Self::ram(bytes, order)?;
        Self::check_vcpus(vcpus)?;
        let (pages, free) = (bytes / M::PAGE_BYTES, self.mm().stats().pages.free);
        if pages > free {
            return Err(VmError::TooLarge { pages, free });
        }
        let id = self.reserve(name, vcpus).ok_or(VmError::Full)?;
        let made =
            self.make(id, ram, order, node).and_then(|()| self.load(id, (ram, vcpus), program));
        let made = made.or_else(|error| self.take_apart(id).and(Err(error)));
        self.change_state(id, if made.is_ok() { State::Ready } else { State::Absent });
        made.map(|()| id)
    }

    /// Refuses what cannot be the number of a guest's virtual CPUs.
    fn check_vcpus(vcpus: usize) -> Result<(), VmError> {
        let most = MAX_VCPUS.min(P::Guests::MOST_CPUS);
        if !(1..=most).contains(&vcpus) {
            return Err(VmError::Vcpus(most));
        }
        Ok(())
    }

    /// The addresses of a guest's memory.
    fn ram(bytes: u64, order: Order) -> Result<GuestRange, VmError> {
        let unit = order.pages() * M::PAGE_BYTES;
        let start = P::Guests::GUEST_RAM;
        let most = P::Guests::GUEST_LIMIT.offset_from(start);
        let least = unit.max(Self::code_bytes() + M::PAGE_BYTES);
        let fits = bytes >= least && bytes <= most && bytes.is_multiple_of(unit);
        let what = "the memory of a guest is";
        let size = VmError::Size { what, least, most, unit };
        GuestRange::new(start, bytes).filter(|_| fits).ok_or(size)
    }

    /// Has the payload of a guest that does not run work on so many bytes only, from its next beginning on; or on all that
    /// it can. One that is paused goes on with what it has.
    ///
    /// # Errors
    ///
    /// [`VmError::Size`] if it cannot; [`VmError::State`] if it has begun; [`VmError::NoPayload`].
    pub fn limit_work(&self, id: VmId, bytes: Option<u64>) -> Result<(), VmError> {
        let ram = self.host.with_space(id.number(), |space| space.ram).ok_or(VmError::Full)?;
        let slot = self.slot(id).ok_or(VmError::Full)?;
        let mut life = slot.life.lock();
        let name = life.name.ok_or(VmError::Full)?;
        let begins = matches!(life.state, State::Ready | State::Done);
        let Some(bytes) = bytes else {
            life.work = life.work.filter(|_| !begins);
            return Ok(());
        };
        if life.program != Loaded::Payload {
            return Err(VmError::NoPayload(name));
        }
        if !begins {
            return Err(VmError::State(name, life.state));
        }
        let (unit, most) = (M::PAGE_BYTES, ram.len() - Self::code_bytes());
        let least = unit * life.vcpus.len() as u64;
        if !(least..=most).contains(&bytes) || !bytes.is_multiple_of(unit) {
            return Err(VmError::Size { what: "the payload works on", least, most, unit });
        }
        life.work = Some(bytes);
        Ok(())
    }

    /// Bytes of the pages that hold the payload.
    fn code_bytes() -> u64 {
        (P::Guests::payload().len() as u64).next_multiple_of(M::PAGE_BYTES)
    }

    /// A free place, which gets the name.
    fn reserve(&self, name: Name, vcpus: usize) -> Option<VmId> {
        VmId::all().find(|id| {
            self.slot(*id).is_some_and(|slot| {
                let mut life = slot.life.lock();
                let free = life.state == State::Absent;
                if free {
                    let vcpus = vec![VcpuLife::default(); vcpus];
                    let name = Some(name);
                    *life = Life { name, state: State::Changing, vcpus, ..Life::default() };
                }
                free
            })
        })
    }

    pub(crate) fn change_state(&self, id: VmId, state: State) {
        if let Some(slot) = self.slot(id) {
            slot.life.lock().state = state;
        }
    }

    pub(crate) fn frames(&self, id: VmId) -> GuestFrames<'_, M, P> {
        let (scrub, platform) = (self.host.scrubs(), PhantomData);
        GuestFrames { mm: self.mm(), mover: self.tables, id, scrub, platform }
    }

    /// Puts the program into the memory.
    fn load(
        &self,
        id: VmId,
        board: (GuestRange, usize),
        program: &Program<'_>,
    ) -> Result<(), VmError> {
        let slot = self.slot(id).ok_or(VmError::Full)?;
        let console = match program {
            Program::Payload => Some(Console::default()),
            Program::Linux(_) | Program::Own(_) => Console::new(),
        };
        let console = console.ok_or(VmError::Heap)?;
        let program = self.put(id, board, program).map_err(VmError::NoKernel)?;
        *slot.console.lock() = console;
        slot.called.store(0, Ordering::Relaxed);
        slot.life.lock().program = program;
        Ok(())
    }

    /// Writes the program to the memory of a guest with so many virtual CPUs.
    fn put(
        &self,
        id: VmId,
        (ram, vcpus): (GuestRange, usize),
        program: &Program<'_>,
    ) -> Result<Loaded, NoKernel> {
        let mut put = |at, bytes: &[u8]| {
            let write = |space: &mut Space<M, P>| {
                switch::write::<M, P>(self.mm(), &mut space.tables, at, bytes)
            };
            let written = self.host.with_space(id.number(), write).unwrap_or(false);
            if written { Ok(()) } else { Err(NoKernel("it does not fit the guest's memory")) }
        };
        match program {
            Program::Payload => put(ram.start(), P::Guests::payload()).map(|()| Loaded::Payload),
            Program::Linux(files) => {
                P::Guests::linux(files, ram, vcpus, &mut put).map(Loaded::Linux)
            }
            Program::Own(files) => {
                let described = P::Guests::describe(ram, vcpus, &mut put)?;
                let machine = P::Guests::ELF_MACHINE;
                image::place(files, machine, &described, &mut put).map(Loaded::Own)
            }
        }
    }

    /// Makes tables and memory.
    fn make(
        &self,
        id: VmId,
        ram: GuestRange,
        order: Order,
        node: Option<NodeId>,
    ) -> Result<(), VmError> {
        let slot = self.slot(id).ok_or(VmError::Full)?;
        let root = Root::new(self.mm(), self.tables, id, GuestTables::<M, P>::ROOT_BYTES)?;
        let root = Arc::new(root);
        let vcpus = slot.life.lock().vcpus.len();
        let residences: Arc<[Residence]> = (0..vcpus).map(|_| Residence::default()).collect();
        let tables = root.tables::<P>(self.mm(), &residences).map_err(VmError::NotFlushed)?;
        *slot.space.lock() = Some(Space::new(self.mm(), id, ram, order, root, residences, tables));
        self.fill(id, ram, order, node)
    }

    /// Allocates and maps the memory, which is zero.
    fn fill(
        &self,
        id: VmId,
        ram: GuestRange,
        order: Order,
        node: Option<NodeId>,
    ) -> Result<(), VmError> {
        let request = Request::from(order);
        let request = node.map_or(request, |node| request.on(node));
        let first = ram.start().get() / M::PAGE_BYTES;
        for offset in (0..ram.len() / M::PAGE_BYTES).step_by(order.pages() as usize) {
            let word = PageWord { vm: id.number(), frame: first + offset };
            let mm = self.mm();
            let fresh = Fresh::new(mm, request, order, &self.pages, word.encode())?;
            let mapped = self
                .host
                .with_space(id.number(), |space| space.map(word.frame, &fresh, &self.frames(id)));
            if let Some(Err(error)) = mapped {
                fresh.free(mm, &self.pages);
                return Err(VmError::Map(error));
            }
        }
        Ok(())
    }

    /// New virtual CPUs: the first at the beginning of the program, the payload's for `rounds` rounds; the others off.
    pub(crate) fn fresh_vcpus(
        &self,
        id: VmId,
        rounds: u64,
        misdeed: Misdeed,
    ) -> Result<Vec<Box<OwnVcpu<M, P>>>, VmError> {
        let made = self.host.with_space(id.number(), |space| {
            (space.ram, Arc::clone(&space.root), Arc::clone(&space.residences))
        });
        let Some((ram, root, residences)) = made else { return Ok(Vec::new()) };
        let loaded = self.slot(id).map_or(Loaded::Payload, |slot| slot.life.lock().program);
        let begin = match loaded {
            Loaded::Linux(start) => Begin::Linux(start),
            Loaded::Own(start) => Begin::Own(start),
            Loaded::Payload => {
                let work: GuestAddr = ram.start().add(Self::code_bytes());
                let all = ram.len() - Self::code_bytes();
                let work_bytes = self.slot(id).and_then(|slot| slot.life.lock().work);
                let bytes = work_bytes.map_or(all, |bytes| bytes.min(all));
                let kind = payload_kind(misdeed, residences.len() - 1);
                Begin::Payload(ram.start(), [work.get(), bytes, rounds, kind])
            }
        };
        let numbers = 0..residences.len();
        let devices = Arc::new(GuestDevices::new(residences.len()));
        let made =
            numbers.map(|number| OwnVcpu::new(self.mm(), &root, &residences, &devices, number));
        let mut vcpus = made.map(|made| made.map(Box::new)).collect::<Result<Vec<_>, _>>()?;
        if let Some(first) = vcpus.first_mut() {
            first.begin(self.mm(), &begin);
        }
        Ok(vcpus)
    }
}
