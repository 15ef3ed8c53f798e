//! The part of the guest's interrupt controller that each CPU has, a GICv3's (Arm IHI 0069H 12.9 to 12.11). What the
//! distributor has of shared interrupts is in each of them ([`Controller`](super::controller::Controller)).
//!
//! ```text
//!   lines, software --> distributor and redistributor (here) --> list registers --> CPU interface (hardware)
//! ```
//!
//! An interrupt is in a list register from the time when it can be taken until the guest ends it. Each ends with an
//! exit, so a line that is still active becomes pending again, and one that waited for a list register gets it.

use core::ops::Range;

/// The most CPUs of a board.
pub const MOST_CPUS: usize = 8;
/// Interrupts of a CPU.
pub const PRIVATES: usize = 32;
/// Interrupts that CPUs share.
pub const SHARED: usize = 32;
const INTERRUPTS: usize = PRIVATES + SHARED;
/// List registers that are used.
pub const LISTS: usize = 4;

/// Bytes of the distributor's registers.
pub const DISTRIBUTOR_BYTES: u64 = 0x1_0000;
/// Bytes of the redistributor's two frames.
pub const REDISTRIBUTOR_BYTES: u64 = 0x2_0000;
/// The redistributor's second frame, with the registers of private interrupts.
const PRIVATE: u64 = 0x1_0000;

// List registers (ICH_LR<n>_EL2, 12.4.8).
const PENDING: u64 = 1 << 62;
const ACTIVE: u64 = 1 << 63;
const GROUP_1: u64 = 1 << 60;
/// Ending the interrupt is an exit.
const EXIT_AT_END: u64 = 1 << 41;

/// A register of 32 bits for 32 interrupts, of the distributor or of the second frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bits {
    Group,
    SetEnable,
    ClearEnable,
    SetPending,
    ClearPending,
    SetActive,
    ClearActive,
}

/// The controller.
#[derive(Clone, Debug)]
pub struct Gic {
    /// GICD_CTLR: the enable bits of both groups.
    control: u32,
    /// GICR_WAKER: the CPU is asleep.
    asleep: bool,
    group: u64,
    enabled: u64,
    /// Raised by software, or by an edge.
    raised: u64,
    active: u64,
    /// The lines that are active now.
    lines: u64,
    /// The interrupts that come to this CPU.
    own: u64,
    edges: u64,
    priority: [u8; INTERRUPTS],
    /// The list registers.
    pub lists: [u64; LISTS],
}

impl Default for Gic {
    fn default() -> Self {
        Self {
            control: 0,
            asleep: true,
            group: 0,
            enabled: 0,
            raised: 0,
            active: 0,
            lines: 0,
            own: (1 << PRIVATES) - 1,
            // The interrupts that software raises.
            edges: 0xffff,
            priority: [0; INTERRUPTS],
            lists: [0; LISTS],
        }
    }
}

/// The bit of an interrupt; 0 for a number past the last.
const fn bit(id: usize) -> u64 {
    if id < INTERRUPTS { 1 << id } else { 0 }
}

/// The interrupt in a list register.
const fn listed(list: u64) -> usize {
    list as u32 as usize
}

impl Gic {
    /// Sets the level of a line.
    pub fn set_line(&mut self, id: usize, active: bool) {
        self.lines = if active { self.lines | bit(id) } else { self.lines & !bit(id) };
    }

    /// A CPU sends this one the interrupt that `word` names, which it wrote to ICC_SGI1R_EL1.
    pub fn send(&mut self, word: u64) {
        self.raised |= bit((word >> 24 & 0xf) as usize);
    }

    /// Sets which shared interrupts come to this CPU.
    pub const fn set_own(&mut self, shared: u64) {
        self.own = self.own & ((1 << PRIVATES) - 1) | shared;
    }

    /// Raises those of `ids` that come to this CPU; returns whether one does.
    pub const fn raise(&mut self, ids: u64) -> bool {
        self.raised |= ids & self.own;
        ids & self.own != 0
    }

    /// Keeps interrupts that come to no CPU.
    pub const fn keep(&mut self, ids: u64) {
        self.raised |= ids;
    }

    /// Takes out what is raised of shared interrupts.
    pub const fn take_shared(&mut self) -> u64 {
        let shared = self.raised >> PRIVATES << PRIVATES;
        self.raised &= !shared;
        shared
    }

    /// Takes out what is raised and does not come to this CPU.
    pub const fn take_strays(&mut self) -> u64 {
        let strays = self.raised & !self.own;
        self.raised &= self.own;
        strays
    }

    /// The interrupts that are pending, as the guest sees it.
    fn pending(&self) -> u64 {
        let lists = self.lists.iter().filter(|list| **list & PENDING != 0);
        let in_lists = lists.fold(0, |bits, list| bits | bit(listed(*list)));
        self.raised | self.lines & !self.edges | in_lists
    }

    /// The interrupts that could be taken, if the CPU's interface lets them.
    fn ready(&self) -> u64 {
        let forwarded = if self.control & 0b10 != 0 { u64::MAX } else { 0 };
        (self.raised | self.lines & !self.edges) & self.own & self.enabled & self.group & forwarded
    }

    /// Whether an interrupt waits for the CPU.
    pub fn has_pending(&self) -> bool {
        let list = self.lists.iter().any(|list| list & (PENDING | ACTIVE) == PENDING);
        list || self.ready() & !self.active != 0
    }

    /// Whether `id` would be taken, were it pending.
    pub fn is_enabled(&self, id: usize) -> bool {
        self.enabled & self.group & bit(id) != 0
    }

    /// Whether `id` is in a list register: it becomes pending again only after the guest ended it.
    pub fn is_listed(&self, id: usize) -> bool {
        self.lists.iter().any(|list| list & (PENDING | ACTIVE) != 0 && listed(*list) == id)
    }

    /// Takes over what the guest did with the list registers, which hold `lists` now.
    pub fn leave(&mut self, lists: [u64; LISTS]) {
        for (before, now) in self.lists.iter().zip(lists) {
            if before & PENDING != 0 && now & PENDING == 0 {
                self.raised &= !bit(listed(*before)) | self.edges;
            }
        }
        self.lists = lists;
        let active = lists.iter().filter(|list| **list & ACTIVE != 0);
        self.active = active.fold(0, |bits, list| bits | bit(listed(*list)));
    }

    /// Brings the list registers up to date before the guest runs.
    pub fn enter(&mut self) {
        for list in &mut self.lists {
            let (state, mask) = (*list & (PENDING | ACTIVE), bit(listed(*list)));
            let wanted =
                (self.lines | self.raised | self.edges) & self.own & self.enabled & mask != 0;
            if state == PENDING && !wanted {
                self.raised |= self.edges & mask;
            }
            if state == 0 || state == PENDING && !wanted {
                *list = 0;
            }
        }
        let in_lists = self.lists.iter().filter(|list| **list != 0);
        let mut waiting = self.ready() & !in_lists.fold(0, |bits, list| bits | bit(listed(*list)));
        for index in 0..LISTS {
            let Some(list) = self.lists.get_mut(index).filter(|list| **list == 0) else { continue };
            let most_urgent = (0..INTERRUPTS).filter(|id| waiting & bit(*id) != 0);
            let Some(id) =
                most_urgent.min_by_key(|id| self.priority.get(*id).copied().unwrap_or(u8::MAX))
            else {
                return;
            };
            let priority = self.priority.get(id).copied().unwrap_or(u8::MAX);
            *list = PENDING | GROUP_1 | u64::from(priority) << 48 | EXIT_AT_END | id as u64;
            waiting &= !bit(id);
            // A level that software raised stays until the guest takes the interrupt.
            self.raised &= !(bit(id) & self.edges);
        }
    }

    /// Reads `bytes` bytes at `offset` of the distributor.
    pub fn read_distributor(&self, offset: u64, bytes: u64) -> u64 {
        match offset {
            // ARE, one security state (DS).
            0x0000 => u64::from(self.control) | 1 << 4 | 1 << 6,
            // Two words of interrupts, 10 bits of INTID, no range selectors (No1N).
            0x0004 => 1 | 9 << 19 | 1 << 25,
            0x0008 => 0x43b,
            // GICD_PIDR2: version 3.
            0xffe8 => 0x30,
            _ => self.read_shared(offset, bytes),
        }
    }

    /// Writes to the distributor.
    pub fn write_distributor(&mut self, offset: u64, bytes: u64, value: u64) {
        match offset {
            0x0000 => self.control = value as u32 & 0b11,
            _ => self.write_shared(offset, bytes, value),
        }
    }

    /// Reads `bytes` bytes at `offset` of the redistributor of CPU `cpu`, which may be the last one.
    pub fn read_redistributor(&self, cpu: u64, is_last: bool, offset: u64, bytes: u64) -> u64 {
        match offset {
            0x0004 => 0x43b,
            // GICR_TYPER: the number of the CPU, and in the upper half its affinity.
            0x0008 => u64::from(is_last) << 4 | cpu << 8 | cpu << 32,
            0x000c => cpu,
            0x0014 => u64::from(self.asleep) * 0b110,
            0xffe8 | 0x1_ffe8 => 0x30,
            _ if offset >= PRIVATE => self.read_private(offset - PRIVATE, bytes),
            _ => 0,
        }
    }

    /// Writes to the redistributor.
    pub fn write_redistributor(&mut self, offset: u64, bytes: u64, value: u64) {
        match offset {
            0x0014 => self.asleep = value & 0b10 != 0,
            _ if offset >= PRIVATE => self.write_private(offset - PRIVATE, bytes, value),
            _ => {}
        }
    }

    /// The registers of shared interrupts: with affinity routing the first 32 are the redistributor's.
    fn read_shared(&self, offset: u64, bytes: u64) -> u64 {
        self.read_registers(offset, bytes, 32..INTERRUPTS)
    }

    fn read_private(&self, offset: u64, bytes: u64) -> u64 {
        self.read_registers(offset, bytes, 0..32)
    }

    fn write_shared(&mut self, offset: u64, bytes: u64, value: u64) {
        self.write_registers(offset, bytes, value, 32..INTERRUPTS);
    }

    fn write_private(&mut self, offset: u64, bytes: u64, value: u64) {
        self.write_registers(offset, bytes, value, 0..32);
    }

    fn read_registers(&self, offset: u64, bytes: u64, ids: Range<usize>) -> u64 {
        if let Some((bits, shift)) = bits_at(offset, &ids) {
            let word = match bits {
                Bits::Group => self.group,
                Bits::SetEnable | Bits::ClearEnable => self.enabled,
                Bits::SetPending | Bits::ClearPending => self.pending(),
                Bits::SetActive | Bits::ClearActive => self.active,
            };
            return word >> shift & 0xffff_ffff;
        }
        match offset {
            0x400..0x800 => {
                let priorities = self.priority.iter().enumerate().skip((offset - 0x400) as usize);
                let own = priorities.take(bytes as usize).filter(|(id, _)| ids.contains(id));
                own.zip(0..).fold(0, |word, ((_, byte), at)| word | u64::from(*byte) << (8 * at))
            }
            0xc00..0xd00 => {
                let first = (offset - 0xc00) as usize / 4 * 16;
                let edges =
                    (first..first + 16).filter(|id| ids.contains(id) && self.edges & bit(*id) != 0);
                edges.fold(0, |word, id| word | 0b10 << (2 * (id - first)))
            }
            // What is left is not implemented, and reads as zero.
            _ => 0,
        }
    }

    fn write_registers(&mut self, offset: u64, bytes: u64, value: u64, ids: Range<usize>) {
        if let Some((bits, shift)) = bits_at(offset, &ids) {
            let mask = (value & 0xffff_ffff) << shift;
            match bits {
                Bits::Group => self.group = self.group & !(0xffff_ffff << shift) | mask,
                Bits::SetEnable => self.enabled |= mask,
                Bits::ClearEnable => self.enabled &= !mask,
                Bits::SetPending => self.raised |= mask,
                Bits::ClearPending => self.clear(mask, PENDING),
                Bits::SetActive => {}
                Bits::ClearActive => self.clear(mask, ACTIVE),
            }
            return;
        }
        match offset {
            0x400..0x800 => {
                let bytes = value.to_le_bytes().into_iter().take(bytes as usize);
                for (id, byte) in ((offset - 0x400) as usize..).zip(bytes) {
                    if let Some(priority) = self.priority.get_mut(id).filter(|_| ids.contains(&id))
                    {
                        *priority = byte;
                    }
                }
            }
            // The kind of an interrupt that software raises cannot be changed.
            0xc04..0xd00 => {
                let first = (offset - 0xc00) as usize / 4 * 16;
                for id in (first..first + 16).filter(|id| ids.contains(id)) {
                    let edge = value >> (2 * (id - first) + 1) & 1 != 0;
                    self.edges = if edge { self.edges | bit(id) } else { self.edges & !bit(id) };
                }
            }
            _ => {}
        }
    }

    /// Clears a state of the interrupts in `mask`, also in list registers.
    fn clear(&mut self, mask: u64, state: u64) {
        if state == PENDING {
            self.raised &= !mask;
        } else {
            self.active &= !mask;
        }
        for list in self.lists.iter_mut().filter(|list| mask & bit(listed(**list)) != 0) {
            *list &= !state;
            *list = if *list & (PENDING | ACTIVE) == 0 { 0 } else { *list };
        }
    }
}

/// The register of one bit for each interrupt at `offset`, and the first of its interrupts, if that is one of `ids`.
fn bits_at(offset: u64, ids: &Range<usize>) -> Option<(Bits, usize)> {
    let bits = match offset & !0x7f {
        0x080 => Bits::Group,
        0x100 => Bits::SetEnable,
        0x180 => Bits::ClearEnable,
        0x200 => Bits::SetPending,
        0x280 => Bits::ClearPending,
        0x300 => Bits::SetActive,
        0x380 => Bits::ClearActive,
        _ => return None,
    };
    let first = (offset & 0x7c) as usize * 8;
    ids.contains(&first).then_some((bits, first))
}

/// The CPUs of `count` that get what CPU `from` sends by writing `word` to ICC_SGI1R_EL1 (12.2.19): a bit for each. The
/// affinity of a CPU is its number, in the lowest field.
pub fn receivers(word: u64, from: usize, count: usize) -> u64 {
    let all = (1 << count.min(63)) - 1;
    if word & 1 << 40 != 0 {
        return all & !bit(from);
    }
    let first_row = word >> 16 & 0xff | word >> 32 & 0xff | word >> 44 & 0xf | word >> 48 & 0xff;
    if first_row == 0 { word & 0xffff & all } else { 0 }
}

#[cfg(test)]
mod tests;
