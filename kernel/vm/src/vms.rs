//! All guests of a kernel.

use crate::Shared;
use crate::enabled::Enabled;
use crate::frames::TableOwner;
use crate::host::{Host, Slot};
use crate::id::{MAX_VMS, VmId};
use crate::name::Name;
use crate::pages::PageOwner;
use crate::platform::Platform;
use crate::status::{State, VmStatus};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use hotmem::paging::{Guest, MapError, NotFlushed};
use hotmem::{Mm, Mover, OutOfMemory, TooManyOwners};
use hotmem_arch::contract::{NoGuests, NoKernel};

/// The reason why a request about a guest is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmError {
    /// This machine runs no guests.
    NoGuests(NoGuests),
    /// A guest has this name.
    Exists(Name),
    /// No guest has this name.
    Unknown(Name),
    /// All places are taken.
    Full,
    /// A size is outside its bounds, or not a multiple of its unit.
    Size {
        /// The size, with its verb, as the message begins: `the memory of a guest is`.
        what: &'static str,
        /// The least, in bytes.
        least: u64,
        /// The most, in bytes.
        most: u64,
        /// The unit, in bytes.
        unit: u64,
    },
    /// It needs more pages than are free.
    TooLarge {
        /// Pages that it needs.
        pages: u64,
        /// Free pages.
        free: u64,
    },
    /// Memory ran out.
    Memory(OutOfMemory),
    /// Its memory could not be mapped.
    Map(MapError<Guest>),
    /// A CPU may still use translations of it, so its memory stays in use.
    NotFlushed(NotFlushed),
    /// The guest is in a state in which this is not possible.
    State(Name, State),
    /// A CPU does not leave the guest.
    Busy(Name),
    /// A guest has one virtual CPU at least, and at most so many.
    Vcpus(usize),
    /// It needs so many CPUs, and was given so many.
    Cpus {
        /// Its virtual CPUs.
        needs: usize,
        /// The CPUs.
        has: usize,
    },
    /// Rounds and misdeeds are the payload's, and it runs a kernel.
    NoPayload(Name),
    /// Nothing can be typed: it runs the payload, which has no serial port.
    NoPort(Name),
    /// It has not read what was typed before, beside which this has no room.
    Typed(Name),
    /// A guest that goes on commits no misdeed any more.
    Begun(Name),
    /// It has done this many rounds already.
    Rounds(Name, u64),
    /// This CPU is not the one that carries out the operations of the memory manager.
    NotHere(usize),
    /// It cannot run this kernel.
    NoKernel(NoKernel),
    /// The kernel's heap has no room for its console.
    Heap,
}

impl fmt::Display for VmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoGuests(error) => error.fmt(f),
            Self::Exists(name) => write!(f, "guest {name} exists already"),
            Self::Unknown(name) => write!(f, "there is no guest {name}"),
            Self::Full => write!(f, "there are {MAX_VMS} guests already"),
            Self::Size { what, least, most, unit } => {
                write!(f, "{what} {least:#x} to {most:#x} bytes, a multiple of {unit:#x}")
            }
            Self::TooLarge { pages, free } => {
                write!(f, "the guest needs {pages} pages, and {free} are free")
            }
            Self::Memory(error) => error.fmt(f),
            Self::Map(error) => error.fmt(f),
            Self::NotFlushed(cpu) => write!(f, "{cpu}: the guest's memory stays in use"),
            Self::State(name, state) => write!(f, "guest {name} is {state}"),
            Self::Busy(name) => write!(f, "a CPU of guest {name} does not leave it"),
            Self::Vcpus(1) => f.write_str("a guest has one virtual CPU on this architecture"),
            Self::Vcpus(most) => write!(f, "a guest has 1 to {most} virtual CPUs"),
            Self::Cpus { needs, has } => {
                write!(f, "the guest's {needs} virtual CPUs need as many CPUs, and {has} are free")
            }
            Self::NoPayload(name) => {
                write!(f, "guest {name} runs a kernel: rounds and misdeeds are for the payload")
            }
            Self::NoPort(name) => {
                write!(f, "guest {name} runs the payload, which has no serial port")
            }
            Self::Typed(name) => {
                write!(f, "guest {name} has not read what was typed before")
            }
            Self::Begun(name) => {
                write!(f, "guest {name} goes on: a misdeed is for its beginning")
            }
            Self::Rounds(name, done) => {
                write!(f, "guest {name} has done {done} rounds already")
            }
            Self::NotHere(cpu) => write!(f, "CPU {cpu} does not carry out requests about guests"),
            Self::NoKernel(error) => error.fmt(f),
            Self::Heap => f.write_str("the kernel's heap has no room for the guest's console"),
        }
    }
}

impl core::error::Error for VmError {}

impl From<OutOfMemory> for VmError {
    fn from(error: OutOfMemory) -> Self {
        Self::Memory(error)
    }
}

/// The guests. The first CPU creates, pauses and kills; each virtual CPU runs on one CPU.
#[derive(Debug)]
pub struct Vms<M: Shared, P: Platform> {
    pub(crate) host: &'static Host<M, P>,
    pub(crate) pages: Mover,
    pub(crate) tables: &'static Mover,
    pub(crate) enabled: Enabled,
    /// The CPU that creates and ends guests.
    home: usize,
}

impl<M: Shared, P: Platform> Vms<M, P> {
    /// No guests yet; registers the owners of their memory for ever. The CPU that calls this carries out all operations
    /// of the memory manager, and all requests about guests: their tables change at no other time.
    ///
    /// # Errors
    ///
    /// [`TooManyOwners`].
    pub fn register(mm: &'static Mm<M>) -> Result<Self, TooManyOwners> {
        let host: &'static Host<M, P> = Box::leak(Box::new(Host::new(mm)));
        let pages: &'static PageOwner<M, P> = Box::leak(Box::new(PageOwner(host)));
        let tables: &'static TableOwner<M, P> = Box::leak(Box::new(TableOwner(host)));
        let (pages, tables) = (mm.register(pages)?, mm.register(tables)?);
        let tables: &'static Mover = Box::leak(Box::new(tables));
        *host.tables.lock() = Some(tables);
        let home = mm.machine().cpu();
        Ok(Self { host, pages, tables, enabled: Enabled::default(), home })
    }

    /// Has the memory of guests cleared before it is freed, after a move as after a kill, or not. By default it is.
    pub fn set_scrub(&self, scrub: bool) {
        self.host.set_scrub(scrub);
    }

    /// Refuses a request on another CPU than the one that changes tables.
    pub(crate) fn at_home(&self) -> Result<(), VmError> {
        let cpu = self.mm().machine().cpu();
        if cpu == self.home { Ok(()) } else { Err(VmError::NotHere(cpu)) }
    }

    pub(crate) const fn mm(&self) -> &'static Mm<M> {
        self.host.mm
    }

    pub(crate) fn slot(&self, id: VmId) -> Option<&'static Slot<M, P>> {
        self.host.slots.get(id.index())
    }

    /// The guest with this name.
    ///
    /// # Errors
    ///
    /// [`VmError::Unknown`].
    pub fn find(&self, name: Name) -> Result<VmId, VmError> {
        let has = |id: &VmId| {
            self.slot(*id).is_some_and(|slot| {
                let life = slot.life.lock();
                life.name == Some(name) && life.state != State::Absent
            })
        };
        VmId::all().find(has).ok_or(VmError::Unknown(name))
    }

    /// The state of a guest.
    pub fn state(&self, id: VmId) -> State {
        self.slot(id).map_or(State::Absent, |slot| slot.life.lock().state)
    }

    /// Why a guest was stopped, and its registers then; empty if it was not.
    pub fn log(&self, id: VmId) -> String {
        self.slot(id).map_or_else(String::new, |slot| slot.life.lock().log.clone())
    }

    /// The whole lines that a guest wrote to its serial port from byte `from` on, and their place among all bytes it
    /// wrote. Old ones are forgotten.
    pub fn console(&self, id: VmId, from: u64) -> (Range<u64>, Vec<u8>) {
        self.slot(id).map_or((0..0, Vec::new()), |slot| {
            let console = slot.console.lock();
            let (range, lines) = console.lines(from);
            (range, lines.to_vec())
        })
    }

    /// What is known of each guest.
    pub fn status(&self) -> impl Iterator<Item = VmStatus> + '_ {
        VmId::all().filter_map(|id| self.status_of(id))
    }

    fn status_of(&self, id: VmId) -> Option<VmStatus> {
        let slot = self.slot(id)?;
        let (name, program, state, vcpus, figures) = {
            let life = slot.life.lock();
            let vcpus = life.vcpus.iter().map(|vcpu| vcpu.status).collect();
            (life.name?, life.program.name(), life.state, vcpus, life.figures())
        };
        let written = slot.console.lock().written();
        let (ram, moved, blocks, table_blocks) = slot.space.lock().as_ref().map(|space| {
            let (pages, tables) = (space.pages_held.blocks(), space.tables_held.blocks());
            (space.ram, space.moved, pages.to_vec(), tables.to_vec())
        })?;
        Some(VmStatus {
            name,
            program,
            state,
            vcpus,
            bytes: ram.len(),
            blocks,
            table_blocks,
            figures,
            written,
            moved,
        })
    }
}
