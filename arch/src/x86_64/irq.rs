//! The interrupt controllers of a PC, together: I/O APICs for the lines, a local APIC for the CPU.

// UNSAFETY: reads and writes the registers of the CPU's own interrupt controller.
#![expect(unsafe_code)]

use super::apic::{
    Access, IO_APIC_BYTES, IoApic, LOCAL_APIC_BYTES, LocalApic, Message, Msrs, Route,
};
use super::frame::{CALL, FIRST_DEVICE, SPURIOUS, TIMER, TrapFrame, VECTORS};
use super::{X86_64, pic};
use crate::area::Launch;
use crate::contract::{self, Clock, Cpu};
use crate::irq::{
    Call, Claim, Controller, Line, Message as DeviceMessage, NoCpu, NoInput, Registers, Source,
    TakeError,
};
use ::x86_64::registers::model_specific::Msr;
use core::arch::asm;
use core::arch::x86_64::__cpuid;
use core::sync::atomic::{AtomicU64, Ordering};
use hotmem_paging::addr::{PhysAddr, PhysRange};

/// Lines that can be connected: one for each device vector.
const SLOTS: usize = VECTORS - FIRST_DEVICE as usize;

/// The address of messages that are interrupts.
const MESSAGES: u64 = 0xfee0_0000;

/// I/O APICs used at most.
const IO_APICS: usize = 8;

/// From a reset to the start, and from one start to the next (SDM vol. 3A, 10.4.4.1).
const RESET_MICROSECONDS: u64 = 10_000;
const START_MICROSECONDS: u64 = 200;

/// How long the timer of a local APIC is compared with the clock, and how often.
const MEASURED_MICROSECONDS: u64 = 1_000;
const MEASUREMENTS: usize = 3;

/// The registers of the CPU that runs this.
#[derive(Debug)]
struct CpuMsrs;

impl Msrs for CpuMsrs {
    fn read(&self, number: u32) -> u64 {
        // SAFETY: the APIC code reads the APIC's own registers only, which a CPU with an x2APIC has.
        unsafe { Msr::new(number).read() }
    }

    fn write(&self, number: u32, value: u64) {
        // SAFETY: as above; the registers change interrupts only.
        unsafe { Msr::new(number).write(value) };
    }

    fn publish(&self) {
        // SAFETY: fences: MFENCE waits for the stores, and no instruction after LFENCE begins before that.
        unsafe { asm!("mfence", "lfence", options(nostack, preserves_flags)) };
    }
}

/// CPUID.1:ECX.x2APIC.
fn has_x2apic() -> bool {
    __cpuid(1).ecx & 1 << 21 != 0
}

fn pause(microseconds: u64) {
    let ticks = microseconds.saturating_mul(X86_64::timestamp_hertz()) / 1_000_000;
    let start = X86_64::timestamp();
    while X86_64::timestamp().wrapping_sub(start) < ticks {
        X86_64::relax();
    }
}

/// All interrupt controllers of the machine.
#[derive(Debug)]
pub struct Controllers<R> {
    local: LocalApic<R, CpuMsrs>,
    /// Each I/O APIC and the global system interrupt of its first input.
    io: [Option<(IoApic<R>, u32)>; IO_APICS],
    /// Ticks of the local APICs' timers in a second; 0 until measured.
    timer_hertz: AtomicU64,
}

impl<R: Registers> contract::Controllers<R, TrapFrame> for Controllers<R> {
    const SLOTS: usize = SLOTS;

    fn take<E>(
        described: impl Iterator<Item = Controller>,
        mut map: impl FnMut(PhysRange) -> Result<R, E>,
    ) -> Result<Self, TakeError<E>> {
        let mut registers = |at: PhysAddr, bytes| {
            let range = PhysRange::new(at, bytes).unwrap_or_default();
            map(range).map_err(|error| TakeError::Map(range, error))
        };
        pic::mask_all();
        let mut io = [const { None }; IO_APICS];
        let mut free = io.iter_mut();
        let mut local = None;
        for controller in described {
            match controller {
                Controller::IoApic { at, first } => {
                    if let Some(slot) = free.next() {
                        *slot = Some((IoApic::masked(registers(at, IO_APIC_BYTES)?), first));
                    }
                }
                Controller::LocalApic { at } => local = Some(at),
                Controller::GicDistributor { .. }
                | Controller::GicCpuInterface { .. }
                | Controller::GicRedistributors { .. }
                | Controller::Presentation => {}
            }
        }
        let local = local.ok_or(TakeError::Missing("local APIC"))?;
        let access = if has_x2apic() {
            Access::Msrs(CpuMsrs)
        } else {
            Access::Window(registers(local, LOCAL_APIC_BYTES)?)
        };
        let local = LocalApic::take(access, SPURIOUS);
        Ok(Self { local, io, timer_hertz: AtomicU64::new(0) })
    }

    fn connect(&mut self, slot: usize, line: Line) -> Result<(), NoInput> {
        let (apic, input) = self.input(line).ok_or(NoInput)?;
        let vector = FIRST_DEVICE + (slot % SLOTS) as u8;
        let Line { trigger, polarity, .. } = line;
        let destination = u8::try_from(self.local.id()).map_err(|_| NoInput)?;
        let route = Route { vector, destination, trigger, polarity };
        apic.route(input, route).map_err(|_| NoInput)
    }

    /// A fixed interrupt of one CPU, at an edge (SDM vol. 3A, 11.11): its number has 8 bits.
    fn message(&self, slot: usize) -> Option<DeviceMessage> {
        let destination = u8::try_from(self.local.id()).ok()?;
        let vector = FIRST_DEVICE + u8::try_from(slot).ok().filter(|_| slot < SLOTS)?;
        let address = MESSAGES | u64::from(destination) << 12;
        Some(DeviceMessage { address, data: vector.into() })
    }

    fn own_hardware(&self) -> u64 {
        self.local.id().into()
    }

    fn join(&self) -> Result<(), NoCpu> {
        self.local.enable(SPURIOUS);
        Ok(())
    }

    fn call(&self, hardware: u64, call: Call) -> Result<(), NoCpu> {
        self.send(
            hardware,
            match call {
                Call::Attend => Message::Vector(CALL),
                Call::Stop => Message::NonMaskable,
            },
        )
    }

    unsafe fn start(
        &self,
        hardware: u64,
        landing: Option<PhysAddr>,
        _launch: &'static Launch,
    ) -> Result<(), NoCpu> {
        let page = landing.and_then(|landing| u8::try_from(landing.get() >> 12).ok());
        let page = page.ok_or(NoCpu(hardware))?;
        self.send(hardware, Message::Reset)?;
        pause(RESET_MICROSECONDS);
        // A CPU that has begun ignores the second start.
        for _ in 0..2 {
            self.send(hardware, Message::Start(page))?;
            pause(START_MICROSECONDS);
        }
        Ok(())
    }

    /// Returns after the reset has reached the CPU, which then waits for a start.
    fn reset(&self, hardware: u64) -> bool {
        let sent = self.send(hardware, Message::Reset).is_ok();
        pause(RESET_MICROSECONDS);
        sent
    }

    fn start_timer(&self, hertz: u64) {
        let count = self.timer_hertz() / hertz.max(1);
        self.local.start_timer(TIMER, u32::try_from(count).unwrap_or(u32::MAX).max(1));
    }

    fn stop_timer(&self) {
        self.local.stop_timer();
    }

    fn claim(&self, frame: &TrapFrame) -> Option<Claim> {
        let vector = frame.vector();
        let source = match vector {
            CALL => Source::Cpu,
            TIMER => Source::Timer,
            _ => Source::slot(vector.checked_sub(FIRST_DEVICE).map(usize::from)),
        };
        Some(Claim { from: source, id: vector.into() })
    }

    fn finish(&self, _claim: Claim) {
        self.local.end_of_interrupt();
    }

    fn set_masked(&self, line: Line, masked: bool) {
        if let Some((apic, input)) = self.input(line) {
            apic.set_masked(input, masked);
        }
    }
}

impl<R: Registers> Controllers<R> {
    fn send(&self, hardware: u64, message: Message) -> Result<(), NoCpu> {
        let to = u32::try_from(hardware).map_err(|_| NoCpu(hardware))?;
        NoCpu::unless(self.local.send(to, message), hardware)
    }

    /// Ticks of the local APICs' timers in a second, measured with the clock.
    fn timer_hertz(&self) -> u64 {
        let known = self.timer_hertz.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let hertz = hertz_of(&self.local, X86_64::timestamp_hertz(), X86_64::timestamp, || {
            pause(MEASURED_MICROSECONDS);
        });
        self.timer_hertz.store(hertz, Ordering::Relaxed);
        hertz
    }

    /// The I/O APIC and its input that `line` ends in.
    fn input(&self, line: Line) -> Option<(&IoApic<R>, u32)> {
        self.io.iter().flatten().find_map(|(apic, first)| {
            let input = line.gsi.checked_sub(*first)?;
            (input < apic.inputs()).then_some((apic, input))
        })
    }
}

/// Ticks of an APIC's timer in a second, in which `clock` has `hertz`; each `pause` is a measurement.
///
/// The clock is read after the timer has begun, and before the timer is: so a delay at either, such as by the host of a
/// virtual machine, makes the timer seem faster, and the least of the results is the best. A timer that seemed slower would
/// be set to interrupt more often than it was asked to.
fn hertz_of<R: Registers, M: Msrs>(
    apic: &LocalApic<R, M>,
    hertz: u64,
    clock: impl Fn() -> u64,
    pause: impl Fn(),
) -> u64 {
    let measured = (0..MEASUREMENTS).map(|_| {
        apic.count();
        let begun = clock();
        pause();
        let ticks = clock().wrapping_sub(begun).max(1);
        u64::from(apic.counted()).saturating_mul(hertz) / ticks
    });
    measured.min().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;

    /// The registers of an APIC whose timer counts each tick of the clock; some accesses are late.
    struct Late {
        now: Cell<u64>,
        begun: Cell<u64>,
        delays: Cell<u64>,
    }

    impl Late {
        fn access(&self) -> u64 {
            let delays = self.delays.get();
            self.delays.set(delays >> 1);
            self.now.set(self.now.get() + (delays & 1) * 100_000);
            self.now.get()
        }
    }

    impl Registers for &Late {
        fn read(&self, _offset: usize) -> u32 {
            u32::MAX - (self.access() - self.begun.get()) as u32
        }

        fn write(&self, _offset: usize, _value: u32) {
            self.begun.set(self.access());
        }
    }

    #[test]
    fn a_timer_that_is_accessed_late_seems_no_slower_and_one_good_measurement_suffices() {
        let measured = |delays| {
            let zero = || Cell::new(0);
            let late = Late { now: zero(), begun: zero(), delays: zero() };
            let apic = LocalApic::<_, CpuMsrs>::take(Access::Window(&late), SPURIOUS);
            late.delays.set(delays);
            let pause = || late.now.set(late.now.get() + 1_000);
            hertz_of(&apic, 1_000_000, || late.now.get(), pause)
        };
        // A measurement makes four accesses, the last of which reads the timer.
        assert_eq!([0, 0b0111, 0b1111_1111, 0xff0].map(measured), [1_000_000; 4]);
        assert_eq!(measured(0xfff), 101_000_000);
    }
}
