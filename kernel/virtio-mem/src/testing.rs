//! A model of the device of virtio 1.2, 5.15, with its queue in the memory of the fake machine; and ways to lie. For tests.

// UNSAFETY: reads and writes memory by its address, as a device does.
#![expect(unsafe_code)]

use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::vec::Vec;

use hotmem::testing::{Bench, Tiny, range};
use hotmem::{PhysAddr, PhysMem as _, PhysRange};

use super::request::Kind;
use super::transport::{Board, Rings, Transport};

/// How the device is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// It is as it should be.
    None,
    /// Its status is never 0.
    NeverResets,
    /// It offers no interface of version 1.0.
    Legacy,
    /// It does not accept its own features.
    DeniesFeatures,
    /// It has to be reset.
    NeedsReset,
    /// Its queue has so many entries.
    Room(u16),
    /// It cannot be notified.
    NoNotify,
    /// Its configuration changes at each look.
    Unsettled,
    /// Its generation is another one at each look, and its configuration the same.
    Restless,
    /// A word of its configuration has this value.
    Config(usize, u64),
    /// It never responds to requests of this kind.
    Silent(Kind),
    /// It reports a response to requests of this kind, and wrote none.
    Mute(Kind),
    /// It responds with this index, descriptor, length, type and state.
    Ring {
        /// To requests of which kind.
        kind: Kind,
        /// The index of its ring.
        index: u16,
        /// The descriptor.
        id: u32,
        /// Bytes that it claims to have written.
        len: u32,
        /// The type of the response.
        is: u16,
        /// The state in it.
        state: u16,
    },
    /// It acknowledges what it does not do.
    AcksOnly(Kind),
    /// It says that nothing is plugged.
    SaysUnplugged,
    /// The host requests another size each time that the device refuses a request.
    Wavers,
}

/// The device.
pub struct Model<'b> {
    bench: &'b Bench<Tiny>,
    /// All of its addresses.
    pub region: PhysRange,
    /// Bytes of its blocks.
    pub block: u64,
    /// The node of its memory.
    pub node: u64,
    /// The features that it offers.
    pub offered: u64,
    /// Those that the driver accepted.
    pub accepted: u64,
    /// Bytes of the region where blocks can be plugged.
    pub usable: u64,
    /// Bytes that are to be plugged.
    pub requested: u64,
    /// The blocks that are plugged, by their addresses.
    pub plugged: BTreeSet<u64>,
    /// Its status.
    pub status: u8,
    /// Changes with its configuration.
    pub generation: u8,
    rings: Option<Rings>,
    /// Requests that it has looked at.
    seen: u16,
    /// The requests so far, as they lay in memory.
    pub requests: Vec<[u64; 3]>,
    /// How it is not as it should be.
    pub lie: Lie,
    /// The type of the response to requests of a kind, and how often.
    pub refuses: Option<(Kind, u16, u32)>,
    /// The size that the host requests while a request is refused.
    pub meanwhile: Option<u64>,
    /// Whether it interrupts.
    pub interrupts: bool,
    /// It plugs addresses without memory behind them.
    pub hollow: bool,
}

/// The registers of a device, and the device.
#[derive(Clone)]
pub struct Fake<'b>(pub Rc<RefCell<Model<'b>>>);

impl core::fmt::Debug for Model<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Model").field("region", &self.region).finish_non_exhaustive()
    }
}

impl core::fmt::Debug for Fake<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Fake")
    }
}

impl<'b> Fake<'b> {
    /// A device with blocks of `block` bytes, all of whose region is usable, and nothing plugged.
    pub fn new(bench: &'b Bench<Tiny>, region: PhysRange, block: u64) -> Self {
        Self(Rc::new(RefCell::new(Model {
            bench,
            region,
            block,
            node: 0,
            offered: 1 << 32 | 3,
            accepted: 0,
            usable: region.len(),
            requested: 0,
            plugged: BTreeSet::new(),
            status: 0,
            generation: 0,
            rings: None,
            seen: 0,
            requests: Vec::new(),
            lie: Lie::None,
            refuses: None,
            meanwhile: None,
            interrupts: true,
            hollow: false,
        })))
    }

    /// The host requests a size.
    pub fn request(&self, bytes: u64) {
        let mut model = self.0.borrow_mut();
        model.requested = bytes;
        model.generation = model.generation.wrapping_add(1);
    }

    /// Bytes that are plugged.
    pub fn plugged(&self) -> u64 {
        let model = self.0.borrow();
        model.plugged.len() as u64 * model.block
    }
}

impl Model<'_> {
    /// The machine has memory in the blocks that are plugged already.
    pub fn bench_plug(&self) {
        self.plugged.iter().for_each(|&at| self.bench.plug(range(at, self.block)));
    }

    fn plug_block(&self, block: PhysRange) {
        let machine = self.bench.mm.machine();
        if self.hollow { machine.plug_hollow(block) } else { machine.plug(block) }
    }

    fn word(&self, at: u64) -> &AtomicU64 {
        let pointer = self.bench.mm.machine().pointer(PhysAddr::new(at)).cast::<AtomicU64>();
        // SAFETY: the driver's page is RAM of the fake machine, which is there as long as the bench, and it is accessed as
        // atomic words only.
        unsafe { pointer.as_ref() }
    }

    fn load(&self, at: u64) -> u64 {
        self.word(at).load(Ordering::SeqCst)
    }

    fn store(&self, at: u64, value: u64) {
        self.word(at).store(value, Ordering::SeqCst);
    }

    /// Looks at the queue, and responds.
    fn serve(&mut self) {
        let Some(rings) = self.rings else { return };
        let [descriptors, available, used] =
            [rings.descriptors, rings.available, rings.used].map(PhysAddr::get);
        let index = (self.load(available) >> 16) as u16;
        while self.seen != index {
            let head = self.load(available) >> (32 + 16 * u32::from(self.seen % 2)) & 0xffff;
            assert_eq!(head, 0);
            // The request is read by the device, the response written by it.
            assert_eq!(self.load(descriptors + 8), 24 | 1 << 32 | 1 << 48);
            assert_eq!(self.load(descriptors + 24), 10 | 2 << 32);
            let [request, response] = [self.load(descriptors), self.load(descriptors + 16)];
            let words = [0, 8, 16].map(|at| self.load(request + at));
            self.requests.push(words);
            let slot = self.seen % 2;
            self.seen = self.seen.wrapping_add(1);
            let (is, state) = self.carry_out(words);
            let mut written = (is, state, 0, 10, self.seen);
            match self.lie {
                Lie::Silent(kind) if kind as u64 == words[0] => return,
                Lie::Ring { kind, index, id, len, is, state } if kind as u64 == words[0] => {
                    written = (is, state, id, len, index);
                }
                _ => {}
            }
            let (is, state, id, len, index) = written;
            if !matches!(self.lie, Lie::Mute(kind) if kind as u64 == words[0]) {
                self.store(response, u64::from(is));
                self.store(response + 8, u64::from(state));
            }
            let flags = self.load(used) & 0xffff;
            if slot == 0 {
                self.store(used + 8, self.load(used + 8) & !0xffff_ffff | u64::from(len));
                self.store(used, flags | u64::from(index) << 16 | u64::from(id) << 32);
            } else {
                self.store(used + 16, u64::from(len));
                self.store(used + 8, self.load(used + 8) & 0xffff_ffff | u64::from(id) << 32);
                let first = self.load(used) & !0xffff_ffff;
                self.store(used, first | flags | u64::from(index) << 16);
            }
        }
    }

    /// Does what is requested; returns type and state of the response.
    fn carry_out(&mut self, [kind, start, blocks]: [u64; 3]) -> (u16, u16) {
        if let Some((refused, is, times)) = self.refuses
            && refused as u64 == kind
            && times != 0
        {
            self.refuses = Some((refused, is, times - 1));
            self.requested = self.meanwhile.take().unwrap_or(self.requested);
            if self.lie == Lie::Wavers {
                self.requested ^= 1 << 20;
            }
            return (is, 0);
        }
        let acks_only = matches!(self.lie, Lie::AcksOnly(only) if only as u64 == kind);
        let usable = range(self.region.start().get(), self.usable);
        let asked: Vec<u64> = (0..blocks).map(|n| start + n * self.block).collect();
        let inside = |&at: &u64| usable.covers(range(at, self.block)) && at % self.block == 0;
        if kind == 2 {
            for at in core::mem::take(&mut self.plugged) {
                self.bench.unplug(range(at, self.block));
            }
            return (0, 0);
        }
        if asked.is_empty() || !asked.iter().all(inside) {
            return (3, 0);
        }
        let there = asked.iter().filter(|at| self.plugged.contains(at)).count();
        match kind {
            0 if there != 0 => (3, 0),
            0 if (self.plugged.len() + asked.len()) as u64 * self.block > self.requested => (1, 0),
            0 => {
                if !acks_only {
                    asked.iter().for_each(|&at| self.plug_block(range(at, self.block)));
                    self.plugged.extend(asked);
                }
                (0, 0)
            }
            1 if there != asked.len() => (3, 0),
            1 => {
                if !acks_only {
                    // It panics if an address still translates there.
                    asked.iter().for_each(|&at| self.bench.unplug(range(at, self.block)));
                    self.plugged.retain(|at| !asked.contains(at));
                }
                (0, 0)
            }
            3 if there == asked.len() => (0, 0),
            3 if there == 0 => (0, 1),
            3 => (0, 2),
            _ => (3, 0),
        }
    }

    fn config(&mut self, word: usize) -> u64 {
        if let Lie::Config(which, value) = self.lie
            && which == word
        {
            return value;
        }
        let plugged = self.plugged.len() as u64 * self.block;
        match word {
            0 => self.block,
            1 => self.node,
            2 => self.region.start().get(),
            3 => self.region.len(),
            4 => self.usable,
            5 if self.lie == Lie::SaysUnplugged => 0,
            5 => plugged,
            6 => self.requested,
            _ => u64::MAX,
        }
    }
}

impl Transport for Fake<'_> {
    fn status(&self) -> u8 {
        let mut model = self.0.borrow_mut();
        if model.lie == Lie::Restless {
            model.generation = model.generation.wrapping_add(1);
        }
        match model.lie {
            Lie::NeverResets => model.status | 1,
            Lie::NeedsReset if model.status & 4 != 0 => model.status | 64,
            Lie::DeniesFeatures => model.status & !8,
            _ => model.status,
        }
    }

    fn set_status(&self, status: u8) {
        let mut model = self.0.borrow_mut();
        model.status = status;
        if status == 0 {
            (model.rings, model.seen, model.accepted) = (None, 0, 0);
        }
    }

    fn offered(&self) -> u64 {
        let model = self.0.borrow();
        if model.lie == Lie::Legacy { model.offered & 0xffff_ffff } else { model.offered }
    }

    fn accept(&self, features: u64) {
        self.0.borrow_mut().accepted = features;
    }

    fn generation(&self) -> u8 {
        let mut model = self.0.borrow_mut();
        if model.lie == Lie::Unsettled {
            model.generation = model.generation.wrapping_add(1);
        }
        model.generation
    }

    fn config(&self, offset: u32) -> u32 {
        let word = self.0.borrow_mut().config(offset as usize / 8);
        (if offset.is_multiple_of(8) { word } else { word >> 32 }) as u32
    }

    fn queue_room(&self, index: u16) -> u16 {
        match self.0.borrow().lie {
            _ if index != 0 => 0,
            Lie::Room(room) => room,
            _ => 128,
        }
    }

    fn set_queue(&mut self, index: u16, size: u16, rings: Rings) -> bool {
        assert_eq!((index, size), (0, 2));
        let mut model = self.0.borrow_mut();
        model.rings = Some(rings);
        model.lie != Lie::NoNotify
    }

    fn notify(&self, index: u16) {
        assert_eq!(index, 0);
        let mut model = self.0.borrow_mut();
        assert_eq!(model.status & 4, 4, "a request before the driver is ready");
        model.serve();
    }

    fn interrupts(&self) -> bool {
        self.0.borrow().interrupts
    }
}

/// A clock that goes on by one whenever it is looked at.
#[derive(Clone, Debug)]
pub struct Ticks {
    /// The time.
    pub now: Rc<Cell<u64>>,
    /// What a second is.
    pub per_second: u64,
    /// How often lines were unmasked.
    pub unmasked: Rc<Cell<u32>>,
}

impl Default for Ticks {
    fn default() -> Self {
        Self { now: Rc::default(), per_second: 1000, unmasked: Rc::default() }
    }
}

impl Board for Ticks {
    fn ticks(&self) -> u64 {
        self.now.set(self.now.get() + 1);
        self.now.get()
    }

    fn per_second(&self) -> u64 {
        self.per_second
    }

    fn unmask(&self) {
        self.unmasked.set(self.unmasked.get() + 1);
    }
}
