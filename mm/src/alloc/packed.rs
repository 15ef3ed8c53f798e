//! Tables smaller than a page, packed: frames cut into pieces of one size each.
//!
//! ```text
//!   page of 64 KiB   [header|256 B |256 B |256 B | ...          ]  255 pieces
//!                    [header         |4 KiB          | ...      ]   15 pieces
//! ```
//!
//! Its lock is taken before the reserve's or a zone's, since a frame may be needed; never while one of them is held.
//!
//! The header occupies the first piece: it records which pieces are in use, and the neighbours in the list of frames
//! of that size with room. A frame is allocated when a piece is needed and no frame has room, and freed with its
//! last piece, so the peak number of pieces in use bounds the number of frames.

use crate::addr::PhysAddr;
use crate::geometry::Geometry;
use crate::machine::Machine;

/// Pieces of a frame at most, including the header's.
const SLOTS: u64 = 256;
/// Sizes of pieces: half a page, a quarter, and so on.
const SIZES: usize = SLOTS.ilog2() as usize;
/// The smallest piece holds a header.
const SMALLEST: u64 = size_of::<Header>().next_power_of_two() as u64;

/// The header in the first piece of a frame. Frames are named by their address plus one; 0 is none.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
struct Header {
    next: u64,
    previous: u64,
    used: [u64; (SLOTS / 64) as usize],
}

// UNSAFETY: keeps headers in frames that only this module uses.
#[expect(unsafe_code)]
mod header {
    use crate::addr::PhysAddr;
    use crate::alloc::packed::Header;
    use crate::machine::PhysMem;

    pub(super) fn get(memory: &impl PhysMem, frame: PhysAddr) -> Header {
        // SAFETY: the frame is RAM that was taken for pieces, page-aligned, and only this module uses its first
        // piece; `set` wrote it when the frame was taken.
        unsafe { memory.pointer(frame).cast::<Header>().read() }
    }

    pub(super) fn set(memory: &impl PhysMem, frame: PhysAddr, header: Header) {
        // SAFETY: as in `get`; the lock over all headers is held.
        unsafe { memory.pointer(frame).cast::<Header>().write(header) };
    }
}

/// The size of a piece, among those that a page can be cut into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    index: usize,
    bytes: u64,
    /// Pieces of a frame, including the header's.
    slots: u64,
}

impl Size {
    /// The size for a table of `bytes`, which is less than a page.
    fn of<G: Geometry>(bytes: u64) -> Self {
        let least = SMALLEST.max(G::PAGE_BYTES / SLOTS);
        let bytes = bytes.next_power_of_two().clamp(least, G::PAGE_BYTES / 2);
        let slots = G::PAGE_BYTES / bytes;
        Self { index: slots.ilog2() as usize - 1, bytes, slots }
    }
}

impl Header {
    /// A frame in which only the header is in use.
    fn empty() -> Self {
        Self { used: [1, 0, 0, 0], ..Self::default() }
    }

    fn count(self) -> u64 {
        self.used.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    fn is_full(self, size: Size) -> bool {
        self.count() == size.slots
    }

    fn is_empty(self) -> bool {
        self.count() == 1
    }

    /// Whether the slots in use are slots of a frame, and its own is among them.
    fn is_sound(self, size: Size) -> bool {
        let slots = |word: u64| size.slots.saturating_sub(word * 64);
        let known = |word: u64| u64::MAX.checked_shl(slots(word) as u32).unwrap_or(0);
        let stray = (0..).zip(self.used).any(|(word, used)| used & known(word) != 0);
        self.used[0] & 1 != 0 && !stray
    }

    /// Takes the lowest free slot.
    pub(super) fn take(&mut self) -> u64 {
        let mut slot = 0;
        for word in &mut self.used {
            if *word != u64::MAX {
                slot += u64::from(word.trailing_ones());
                *word |= 1 << (slot % 64);
                break;
            }
            slot += 64;
        }
        slot
    }

    pub(super) fn give_back(&mut self, slot: u64) {
        if let Some(word) = self.used.get_mut((slot / 64) as usize) {
            *word &= !(1 << (slot % 64));
        }
    }
}

fn name(frame: Option<PhysAddr>) -> u64 {
    frame.map_or(0, |frame| frame.get() + 1)
}

fn named(name: u64) -> Option<PhysAddr> {
    name.checked_sub(1).map(PhysAddr::new)
}

/// The frames that are divided into pieces.
#[derive(Debug)]
pub(crate) struct Packed {
    /// For each size, the first frame with room.
    room: [Option<PhysAddr>; SIZES],
    /// Pieces in use.
    pieces: u64,
}

impl Packed {
    pub(crate) const fn new() -> Self {
        Self { room: [None; SIZES], pieces: 0 }
    }

    /// Pieces in use.
    pub(crate) fn pieces(&self) -> u64 {
        self.pieces
    }

    pub(super) fn take<M: Machine>(
        &mut self,
        machine: &M,
        bytes: u64,
        fresh: impl FnOnce() -> Option<PhysAddr>,
    ) -> Option<PhysAddr> {
        let size = Size::of::<M>(bytes);
        let frame = match self.room[size.index] {
            Some(frame) => frame,
            None => {
                let frame = fresh()?;
                header::set(machine, frame, Header::empty());
                self.room[size.index] = Some(frame);
                frame
            }
        };
        let mut header = header::get(machine, frame);
        let slot = header.take();
        header::set(machine, frame, header);
        if header.is_full(size) {
            self.unlink(machine, size, frame);
        }
        self.pieces += 1;
        Some(frame.add(slot * size.bytes))
    }

    /// Frees a piece. Returns its frame if the frame is empty now. A bad frame is on no list.
    pub(super) fn give_back<M: Machine>(
        &mut self,
        machine: &M,
        at: PhysAddr,
        bytes: u64,
        bad: bool,
    ) -> Option<PhysAddr> {
        let size = Size::of::<M>(bytes);
        let frame = at.align_down(M::PAGE_BYTES);
        let mut header = header::get(machine, frame);
        let was_full = header.is_full(size);
        header.give_back(at.offset_from(frame) / size.bytes);
        header::set(machine, frame, header);
        self.pieces -= 1;
        match (was_full, header.is_empty()) {
            _ if bad => {}
            (true, false) => self.link(machine, size, frame),
            (false, true) => self.unlink(machine, size, frame),
            _ => {}
        }
        header.is_empty().then_some(frame)
    }

    /// Where the lists of frames with room begin.
    pub(super) fn rooms(&self) -> Rooms {
        Rooms(self.room)
    }

    /// Takes a bad frame off its list: no more pieces are allocated in it.
    pub(super) fn forget<M: Machine>(&mut self, machine: &M, (size, frame): (Size, PhysAddr)) {
        self.unlink(machine, size, frame);
    }

    /// Puts a frame that has room again first in its list.
    fn link<M: Machine>(&mut self, machine: &M, size: Size, frame: PhysAddr) {
        let next = self.room[size.index].replace(frame);
        let header = header::get(machine, frame);
        header::set(machine, frame, Header { next: name(next), previous: 0, ..header });
        if let Some(next) = next {
            let header = header::get(machine, next);
            header::set(machine, next, Header { previous: name(Some(frame)), ..header });
        }
    }

    /// Takes a frame that is full, or empty, out of its list.
    fn unlink<M: Machine>(&mut self, machine: &M, size: Size, frame: PhysAddr) {
        let Header { next, previous, .. } = header::get(machine, frame);
        match named(previous) {
            Some(at) => {
                let header = header::get(machine, at);
                header::set(machine, at, Header { next, ..header });
            }
            None => self.room[size.index] = named(next),
        }
        if let Some(at) = named(next) {
            let header = header::get(machine, at);
            header::set(machine, at, Header { previous, ..header });
        }
    }

    /// How a table of `bytes`, in a frame that can be read, stands among the pieces of that; `None` if it is not in use.
    pub(super) fn piece<M: Machine>(&self, machine: &M, at: PhysAddr, bytes: u64) -> Option<Piece> {
        let (frame, size) = (at.align_down(M::PAGE_BYTES), Size::of::<M>(bytes));
        let slot = at.offset_from(frame) / size.bytes;
        let header = header::get(machine, frame);
        let used = |slot: u64| header.used[(slot / 64) as usize] >> (slot % 64) & 1 != 0;
        let first = !(1..slot).any(used);
        let whole = at.is_aligned(size.bytes) && header.is_sound(size);
        (slot > 0 && whole && used(slot)).then(|| Piece {
            first,
            others: header.count() - 2,
            room: !header.is_full(size),
        })
    }
}

/// A piece in use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    /// Whether it is the first of its frame.
    pub(crate) first: bool,
    /// The others in use there.
    pub(crate) others: u64,
    /// Whether the frame has room for more.
    pub(crate) room: bool,
}

/// The first frame with room for each size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rooms([Option<PhysAddr>; SIZES]);

impl Rooms {
    /// Finds `frame`, if it has room.
    ///
    /// For the operation under way: only operations change the lists, so they are searched without the lock.
    pub(super) fn find<M: Machine>(self, machine: &M, frame: PhysAddr) -> Option<(Size, PhysAddr)> {
        let listed = |&at: &PhysAddr| named(header::get(machine, at).next);
        let index = (0..SIZES)
            .find(|&index| core::iter::successors(self.0[index], listed).any(|at| at == frame))?;
        let slots = 2 << index;
        Some((Size { index, bytes: M::PAGE_BYTES / slots, slots }, frame))
    }

    /// Calls `each` with the frames with room of every size, each before its header is read, until it returns `false`.
    /// Returns the first frame that is not one with room, or does not name the frame before it.
    pub(super) fn find_wrong<M: Machine>(
        self,
        machine: &M,
        each: &mut dyn FnMut(PhysAddr) -> bool,
    ) -> Option<PhysAddr> {
        (0..SIZES).find_map(|index| {
            let slots = 2 << index;
            let size = Size { index, bytes: M::PAGE_BYTES / slots, slots };
            let (mut next, mut last) = (self.0[index], None);
            while let Some(frame) = next {
                if !each(frame) {
                    return Some(frame);
                }
                let header = header::get(machine, frame);
                let room = header.is_sound(size) && !header.is_full(size) && !header.is_empty();
                if !room || header.previous != name(last) {
                    return Some(frame);
                }
                (last, next) = (next, named(header.next));
            }
            None
        })
    }
}

/// The highest number of frames that tables of all sizes need.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    pages: u64,
    pieces: [u64; SIZES],
}

impl Budget {
    /// Adds `count` tables of `bytes`.
    pub(crate) fn add<G: Geometry>(&mut self, bytes: u64, count: u64) {
        if bytes >= G::PAGE_BYTES {
            self.pages += count * (bytes / G::PAGE_BYTES);
        } else {
            self.pieces[Size::of::<G>(bytes).index] += count;
        }
    }

    /// The frames that hold them.
    pub(crate) fn frames(&self) -> u64 {
        let slots = |index: usize| 2 << index;
        let packed = self.pieces.iter().enumerate();
        packed.map(|(index, count)| count.div_ceil(slots(index) - 1)).sum::<u64>() + self.pages
    }
}

#[cfg(test)]
mod tests;
