//! The Generic Interrupt Controller, versions 2 and 3 (Arm IHI 0048B and IHI 0069H).
//!
//! ```text
//!   line --> distributor --(v3: redistributor)--> CPU interface --> IRQ
//! ```
//!
//! The kernel uses shared peripheral interrupts (INTIDs 32 to 1019), one interrupt that CPUs send each other, and
//! the interrupt of the timer, all at one priority and in the group of non-secure software. The encoding of the
//! registers is pure code and tested on any host; the caller passes a window that reads and writes them.

use crate::irq::{Registers, Trigger};

// The distributor (IHI 0048B table 4-1, IHI 0069H table 12-25).
const CTLR: usize = 0x000;
const TYPER: usize = 0x004;
const GROUP: usize = 0x080;
const SET_ENABLE: usize = 0x100;
const CLEAR_ENABLE: usize = 0x180;
const PRIORITY: usize = 0x400;
const TARGET: usize = 0x800;
const CONFIG: usize = 0xc00;
const SOFTWARE: usize = 0xf00;
const ROUTE: usize = 0x6000;

/// Forwarding of the only group that version 2 shows to non-secure software.
const ENABLE_V2: u32 = 1 << 0;
/// Forwarding of group 1, and routing by affinity (ARE).
const ENABLE_V3: u32 = 1 << 1 | 1 << 4;
/// A write has not reached every redistributor yet (RWP).
const PENDING_WRITE: u32 = 1 << 31;
/// The priority of all interrupts: the middle of the range that non-secure software has.
const MIDDLE: u32 = 0xa0a0_a0a0;
/// The priority of the timer of guests, which is the least urgent: while a guest has not served it, only it is masked.
pub const GUESTS_TIMER_PRIORITY: u8 = 0xc0;
/// The private interrupts of guests: their timer, and changes of their list registers (Arm BSA, table 4).
const GUESTS_TIMER: u32 = 27;
const GUESTS_CHANGES: u32 = 25;
/// The interrupt that one CPU sends to another.
pub const CALL: u32 = 1;
/// First shared peripheral interrupt.
const FIRST_SHARED: u32 = 32;
/// One past the last.
const END_OF_SHARED: u32 = 1020;
/// Polls before the controller counts as not responding.
const MAX_POLLS: u32 = 1 << 20;

/// Bytes of a distributor's window.
pub const DISTRIBUTOR_BYTES: u64 = 0x1_0000;
/// Bytes of a version 2 distributor's window.
pub const DISTRIBUTOR_V2_BYTES: u64 = 0x1000;
/// Bytes of a version 2 CPU interface's window: the first of its two pages, since the second need not be adjacent.
pub const CPU_INTERFACE_BYTES: u64 = 0x1000;
/// Bytes of a redistributor's two frames, and of the two that virtual LPIs add (IHI 0069H, 12.10).
const REDISTRIBUTOR_BYTES: u64 = 0x2_0000;

/// The GIC architecture that a controller follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The CPU interface is in memory; an interrupt is sent to CPUs by number.
    V2,
    /// The CPU interface is in system registers; an interrupt is routed by affinity.
    V3,
}

/// Receives the interrupt lines and forwards them to CPUs.
#[derive(Debug)]
pub struct Distributor<R> {
    registers: R,
    version: Version,
    /// The CPU that gets every interrupt: its affinity with version 3, a bit with version 2.
    cpu: u64,
}

impl<R: Registers> Distributor<R> {
    /// Takes over the distributor with everything disabled; interrupts will go to the CPU with this `mpidr`
    /// (MPIDR_EL1).
    pub fn take(registers: R, version: Version, mpidr: u64) -> Self {
        // Aff3 and Aff2..Aff0 (IHI 0069H, GICD_IROUTER).
        let affinity = mpidr & 0xff_00ff_ffff;
        // The banked targets of the first interrupts read as this CPU's bit (IHI 0048B 4.3.12).
        let own = u64::from(registers.read(TARGET) & 0xff).max(1);
        let cpu = if version == Version::V3 { affinity } else { own };
        let distributor = Self { registers, version, cpu };
        distributor.write(CTLR, 0);
        let words = distributor.interrupts().div_ceil(32) as usize;
        for word in 1..words {
            distributor.write(CLEAR_ENABLE + 4 * word, u32::MAX);
            if version == Version::V3 {
                distributor.write(GROUP + 4 * word, u32::MAX);
            }
        }
        distributor.write(CTLR, if version == Version::V3 { ENABLE_V3 } else { ENABLE_V2 });
        distributor
    }

    /// One past the highest interrupt that the distributor has.
    fn interrupts(&self) -> u32 {
        (32 * ((self.registers.read(TYPER) & 0x1f) + 1)).min(END_OF_SHARED)
    }

    /// Whether `id` is a shared peripheral interrupt of this distributor.
    pub fn has(&self, id: u32) -> bool {
        (FIRST_SHARED..self.interrupts()).contains(&id)
    }

    /// Version 2: the bit of the CPU that runs this, read from its banked targets (IHI 0048B 4.3.12).
    pub fn own_bit(&self) -> u8 {
        self.registers.read(TARGET) as u8
    }

    /// Version 2: enables calls to the CPU that runs this, in its banked registers.
    pub fn take_calls(&self) {
        self.write(PRIORITY, MIDDLE);
        self.write(SET_ENABLE, 1 << CALL);
    }

    /// Version 2: enables or disables the private interrupt `id` of the CPU that runs this.
    pub fn set_private(&self, id: u32, enabled: bool) {
        self.write(PRIORITY + 4 * (id as usize / 4), MIDDLE);
        self.write(if enabled { SET_ENABLE } else { CLEAR_ENABLE }, 1 << (id % FIRST_SHARED));
    }

    /// Version 2: calls the CPUs with these bits (GICD_SGIR: a list of targets, IHI 0048B 4.3.15).
    pub fn call(&self, bits: u8) {
        self.write(SOFTWARE, u32::from(bits) << 16 | CALL);
    }

    /// Routes interrupt `id`, one that the distributor [has](Self::has), to the CPU, and enables it.
    pub fn connect(&self, id: u32, trigger: Trigger) {
        let n = id as usize;
        let shift = 2 * (id % 16) + 1;
        let config = self.registers.read(CONFIG + 4 * (n / 16)) & !(1 << shift);
        let edge = u32::from(trigger == Trigger::Edge) << shift;
        self.write(CONFIG + 4 * (n / 16), config | edge);
        self.write(PRIORITY + 4 * (n / 4), MIDDLE);
        match self.version {
            Version::V2 => {
                let shift = 8 * (id % 4);
                let targets = self.registers.read(TARGET + 4 * (n / 4)) & !(0xff << shift);
                self.write(TARGET + 4 * (n / 4), targets | (self.cpu as u32) << shift);
            }
            Version::V3 => {
                self.write(ROUTE + 8 * n, self.cpu as u32);
                self.write(ROUTE + 8 * n + 4, (self.cpu >> 32) as u32);
            }
        }
        self.set_enabled(id, true);
    }

    /// Enables or disables interrupt `id`; does nothing if the distributor does not have it.
    pub fn set_enabled(&self, id: u32, enabled: bool) {
        if self.has(id) {
            let register = if enabled { SET_ENABLE } else { CLEAR_ENABLE };
            self.write(register + 4 * (id as usize / 32), 1 << (id % 32));
        }
    }

    /// Writes a register, and waits until a version 3 distributor has passed the change on.
    fn write(&self, offset: usize, value: u32) {
        self.registers.write(offset, value);
        if self.version == Version::V3 {
            let _ = (0..MAX_POLLS).find(|_| self.registers.read(CTLR) & PENDING_WRITE == 0);
        }
    }
}

// The CPU interface of version 2 (IHI 0048B table 4-2).
const INTERFACE_CTLR: usize = 0x00;
const INTERFACE_MASK: usize = 0x04;
const ACKNOWLEDGE: usize = 0x0c;
const END: usize = 0x10;

/// A version 2 CPU interface.
#[derive(Debug)]
pub struct CpuInterface<R>(R);

impl<R: Registers> CpuInterface<R> {
    /// Takes over the interface, and lets interrupts of every priority through to the CPU that runs this.
    pub fn take(registers: R) -> Self {
        let interface = Self(registers);
        interface.enable();
        interface
    }

    /// Lets interrupts of every priority through to the CPU that runs this: each CPU has its own interface at the
    /// same address.
    pub fn enable(&self) {
        self.0.write(INTERFACE_MASK, 0xff);
        self.0.write(INTERFACE_CTLR, 1);
    }

    /// Takes the most urgent interrupt; returns what [`finish`](Self::finish) expects.
    pub fn acknowledge(&self) -> u32 {
        self.0.read(ACKNOWLEDGE)
    }

    /// Ends an interrupt that was served.
    pub fn finish(&self, acknowledged: u32) {
        self.0.write(END, acknowledged);
    }
}

// A redistributor: registers of the first frame, and of the second, which controls its CPU's private interrupts (IHI
// 0069H 12.10, 12.11).
const WAKER: usize = 0x14;
const REDISTRIBUTOR_TYPER: usize = 0x08;
const PRIVATE_GROUP: usize = 0x1_0080;
const PRIVATE_SET_ENABLE: usize = 0x1_0100;
const PRIVATE_CLEAR_ENABLE: usize = 0x1_0180;
const PRIVATE_PRIORITY: usize = 0x1_0400;
const PROCESSOR_SLEEP: u32 = 1 << 1;
const CHILDREN_ASLEEP: u32 = 1 << 2;
const LAST: u32 = 1 << 4;
const VIRTUAL_LPIS: u32 = 1 << 1;

/// A row of version 3 redistributors, one for each CPU.
#[derive(Debug)]
pub struct Redistributors<R> {
    registers: R,
    bytes: u64,
}

impl<R: Registers> Redistributors<R> {
    /// The row in these `bytes` of registers; changes nothing.
    pub fn new(registers: R, bytes: u64) -> Self {
        Self { registers, bytes }
    }

    /// The redistributor of the CPU with this `mpidr` (MPIDR_EL1): walks the row up to the redistributor marked as
    /// the last one, or to the row's end.
    pub fn of(&self, mpidr: u64) -> Option<Redistributor<'_, R>> {
        let mut at = 0;
        while self.bytes.saturating_sub(at) >= REDISTRIBUTOR_BYTES {
            let one = Redistributor { registers: &self.registers, at: at as usize };
            if one.belongs_to(mpidr) {
                return Some(one);
            }
            let kind = one.read(REDISTRIBUTOR_TYPER);
            if kind & LAST != 0 {
                break;
            }
            at += REDISTRIBUTOR_BYTES << u32::from(kind & VIRTUAL_LPIS != 0);
        }
        None
    }
}

/// A version 3 redistributor.
#[derive(Debug)]
pub struct Redistributor<'r, R> {
    registers: &'r R,
    at: usize,
}

impl<R: Registers> Redistributor<'_, R> {
    fn belongs_to(&self, mpidr: u64) -> bool {
        // GICR_TYPER 63:32: Aff3..Aff0.
        let affinity = (mpidr & 0x00ff_ffff) | mpidr >> 8 & 0xff00_0000;
        u64::from(self.read(REDISTRIBUTOR_TYPER + 4)) == affinity
    }

    /// Wakes the redistributor, with its CPU's private interrupts disabled except calls; returns whether it woke.
    pub fn wake(&self) -> bool {
        self.write(WAKER, self.read(WAKER) & !PROCESSOR_SLEEP);
        let awake = (0..MAX_POLLS).any(|_| self.read(WAKER) & CHILDREN_ASLEEP == 0);
        self.write(PRIVATE_CLEAR_ENABLE, u32::MAX);
        self.write(PRIVATE_GROUP, u32::MAX);
        self.write(PRIVATE_PRIORITY, MIDDLE);
        self.write(PRIVATE_SET_ENABLE, 1 << CALL);
        awake
    }

    /// Enables or disables the private interrupt `id` of its CPU.
    pub fn set_private(&self, id: u32, enabled: bool) {
        let register = if enabled { PRIVATE_SET_ENABLE } else { PRIVATE_CLEAR_ENABLE };
        let word = id / 4;
        let guests = u32::from(GUESTS_TIMER_PRIORITY) << (8 * (GUESTS_TIMER % 4));
        let kept = !(0xff << (8 * (GUESTS_TIMER % 4)));
        let has_guests = word == GUESTS_TIMER / 4;
        let priorities = if has_guests { MIDDLE & kept | guests } else { MIDDLE };
        self.write(PRIVATE_PRIORITY + 4 * word as usize, priorities);
        self.write(register, 1 << (id % FIRST_SHARED));
    }

    /// Enables the private interrupts that bring its CPU back from a guest.
    pub fn expect_guests(&self) {
        self.set_private(GUESTS_TIMER, true);
        self.set_private(GUESTS_CHANGES, true);
    }

    fn read(&self, offset: usize) -> u32 {
        self.registers.read(self.at + offset)
    }

    fn write(&self, offset: usize, value: u32) {
        self.registers.write(self.at + offset, value);
    }
}

/// Version 3: the word that calls the CPU with this affinity (ICC_SGI1R_EL1, IHI 0069H 12.2.16).
pub const fn call_word(affinity: u64) -> u64 {
    let [zero, one, two, _, three, ..] = affinity.to_le_bytes();
    let (row, bit) = ((zero >> 4) as u64, 1_u64 << (zero & 0xf));
    (three as u64) << 48
        | row << 44
        | (two as u64) << 32
        | (CALL as u64) << 24
        | (one as u64) << 16
        | bit
}

/// The interrupt that an acknowledgement names, without version 2's source CPU (bits 12..10); `None` if no interrupt
/// was pending (INTIDs 1020 to 1023).
pub fn interrupt(acknowledged: u32, version: Version) -> Option<u32> {
    let id = acknowledged & if version == Version::V2 { 0x3ff } else { 0xff_ffff };
    (!(END_OF_SHARED..1024).contains(&id)).then_some(id)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    /// Registers that keep what is written, except those that set or clear bits.
    #[derive(Default)]
    struct Fake(RefCell<BTreeMap<usize, u32>>);

    impl Fake {
        fn get(&self, offset: usize) -> u32 {
            self.0.borrow().get(&offset).copied().unwrap_or(0)
        }
    }

    impl Registers for &Fake {
        fn read(&self, offset: usize) -> u32 {
            self.get(offset)
        }

        fn write(&self, offset: usize, value: u32) {
            let mut registers = self.0.borrow_mut();
            match offset {
                CLEAR_ENABLE..0x200 => {
                    *registers.entry(offset - 0x80).or_default() &= !value;
                }
                SET_ENABLE..CLEAR_ENABLE | PRIVATE_SET_ENABLE => {
                    *registers.entry(offset).or_default() |= value
                }
                _ => drop(registers.insert(offset, value)),
            }
        }
    }

    fn fake() -> Fake {
        let fake = Fake::default();
        fake.0.borrow_mut().extend([(TYPER, 8), (SET_ENABLE + 4, 0xff), (TARGET, 0x0202_0202)]);
        fake
    }

    #[test]
    fn everything_is_disabled_until_it_is_connected() {
        let fake = fake();
        let distributor = Distributor::take(&fake, Version::V3, 0x8000_0001);
        assert_eq!(fake.get(SET_ENABLE + 4), 0);
        assert_eq!(fake.get(CTLR), 0x12);
        assert_eq!(fake.get(GROUP + 4), u32::MAX);

        // The generic event device of QEMU: SPI 9, edge.
        distributor.connect(41, Trigger::Edge);
        assert_eq!(fake.get(SET_ENABLE + 4), 1 << 9);
        assert_eq!(fake.get(CONFIG + 8), 1 << 19);
        assert_eq!((fake.get(ROUTE + 8 * 41), fake.get(ROUTE + 8 * 41 + 4)), (1, 0));
        distributor.set_enabled(41, false);
        assert_eq!(fake.get(SET_ENABLE + 4), 0);
    }

    #[test]
    fn version_2_sends_to_the_cpu_that_took_the_distributor() {
        let fake = fake();
        fake.0.borrow_mut().insert(CONFIG + 8, 0xaaaa_aaaa);
        let distributor = Distributor::take(&fake, Version::V2, 0);
        assert_eq!(fake.get(CTLR), 1);
        assert_eq!(fake.get(GROUP + 4), 0);
        distributor.connect(33, Trigger::Level);
        assert_eq!(fake.get(TARGET + 32), 0x0000_0200);
        assert_eq!(fake.get(CONFIG + 8), 0xaaaa_aaa2);
        assert_eq!(fake.get(SET_ENABLE + 4), 1 << 1);
    }

    #[test]
    fn only_shared_interrupts_that_the_distributor_has_can_be_used() {
        let fake = fake();
        let distributor = Distributor::take(&fake, Version::V3, 0);
        assert_eq!([31, 32, 287, 288].map(|id| distributor.has(id)), [false, true, true, false]);
        distributor.set_enabled(288, true);
        distributor.set_enabled(27, true);
        assert_eq!((fake.get(SET_ENABLE), fake.get(SET_ENABLE + 36)), (0, 0));
    }

    #[test]
    fn a_call_goes_to_the_one_cpu_that_is_named() {
        assert_eq!(call_word(0), 0x0100_0001);
        assert_eq!(call_word(0x13), 0x1000_0100_0008);
        assert_eq!(call_word(0x05_0003_0201), 0x0005_0003_0102_0002);
        let fake = fake();
        let distributor = Distributor::take(&fake, Version::V2, 0);
        assert_eq!(distributor.own_bit(), 2);
        distributor.take_calls();
        assert_eq!((fake.get(SET_ENABLE), fake.get(PRIORITY)), (2, MIDDLE));
        distributor.call(0x80);
        assert_eq!(fake.get(SOFTWARE), 0x0080_0001);
    }

    #[test]
    fn a_private_interrupt_can_be_enabled_beside_calls_and_disabled_again() {
        let fake = fake();
        let distributor = Distributor::take(&fake, Version::V2, 0);
        distributor.take_calls();
        distributor.set_private(27, true);
        assert_eq!((fake.get(SET_ENABLE), fake.get(PRIORITY + 24)), (1 << 27 | 2, MIDDLE));
        distributor.set_private(27, false);
        assert_eq!(fake.get(SET_ENABLE), 2);
        let fake = Fake::default();
        Redistributors::new(&fake, REDISTRIBUTOR_BYTES).of(0).unwrap().set_private(26, true);
        let set = [PRIVATE_PRIORITY + 24, PRIVATE_SET_ENABLE].map(|at| fake.get(at));
        // The timer of guests is less urgent than the others.
        assert_eq!(set, [0xc0a0_a0a0, 1 << 26]);
        Redistributors::new(&fake, REDISTRIBUTOR_BYTES).of(0).unwrap().expect_guests();
        let set = [PRIVATE_PRIORITY + 24, PRIVATE_SET_ENABLE].map(|at| fake.get(at));
        assert_eq!(set, [0xc0a0_a0a0, 0b111 << 25]);
    }

    #[test]
    fn a_spurious_acknowledgement_names_no_interrupt() {
        assert_eq!(interrupt(1023, Version::V3), None);
        assert_eq!(interrupt(1020, Version::V2), None);
        assert_eq!(interrupt(41, Version::V3), Some(41));
        assert_eq!(interrupt(0x0c29, Version::V2), Some(41));
    }

    #[test]
    fn a_redistributor_belongs_to_the_cpu_with_its_affinity() {
        let fake = Fake::default();
        let registers = [(WAKER, 0b10), (REDISTRIBUTOR_TYPER, 0x10), (0x0c, 0x0300_0201)];
        fake.0.borrow_mut().extend(registers);
        let row = Redistributors::new(&fake, REDISTRIBUTOR_BYTES);
        assert!(row.of(0x201).is_none());
        let redistributor = row.of(0x03_8000_0201).unwrap();
        assert!(redistributor.wake());
        assert_eq!(fake.get(WAKER), 0);
        let calls = [PRIVATE_GROUP, PRIVATE_PRIORITY, PRIVATE_SET_ENABLE].map(|at| fake.get(at));
        assert_eq!(calls, [u32::MAX, MIDDLE, 2]);
        fake.0.borrow_mut().insert(WAKER, 0b110);
        assert!(!redistributor.wake());
    }

    #[test]
    fn the_redistributor_of_a_cpu_is_found_among_any_number_of_others() {
        const CPUS: usize = 100;
        let fake = Fake::default();
        // Every second redistributor has four frames.
        let place = |cpu: usize| cpu / 2 * 0x6_0000 + cpu % 2 * 0x2_0000;
        for cpu in 0..CPUS {
            let kind = if cpu % 2 == 1 { VIRTUAL_LPIS } else { 0 };
            let last = if cpu == CPUS - 1 { LAST } else { 0 };
            let registers =
                [(REDISTRIBUTOR_TYPER, kind | last), (REDISTRIBUTOR_TYPER + 4, cpu as u32)];
            fake.0.borrow_mut().extend(registers.map(|(at, word)| (place(cpu) + at, word)));
        }
        let long = Redistributors::new(&fake, u64::MAX);
        for cpu in [0, 1, 63, 64, 99] {
            assert_eq!(long.of(cpu as u64).map(|one| one.at), Some(place(cpu)));
        }
        assert!(long.of(100).is_none(), "the last one ends the row");
        // The row also ends where its range ends.
        let short = Redistributors::new(&fake, place(64) as u64 + REDISTRIBUTOR_BYTES - 1);
        assert!(short.of(63).is_some() && short.of(64).is_none());
    }
}
