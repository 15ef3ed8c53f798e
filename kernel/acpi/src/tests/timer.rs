//! The ACPI timer: where the FADT has it, and what is measured by it.

use hotmem::PhysAddr;
use hotmem_aml::{HostError, Io, Space, Width};
use hotmem_hotplug::Line;

use super::firmware::{self, RSDP, fix, put};
use crate::{Fadt, Hardware, Tables};

/// A machine whose timer is `step` further each time it is read.
struct Counter {
    value: u64,
    /// Reads that show the same.
    lazy: u64,
    reads: u64,
    step: u64,
    mask: u64,
}

impl Io for Counter {
    fn read(&mut self, space: Space, address: u64, width: Width) -> Result<u64, HostError> {
        assert_eq!((space, address, width), (Space::SystemIo, 0x608, Width::Dword));
        self.reads += 1;
        if self.reads.is_multiple_of(self.lazy) {
            self.value = self.value.wrapping_add(self.step) & self.mask;
        }
        Ok(self.value)
    }

    fn write(&mut self, _: Space, _: u64, _: Width, _: u64) -> Result<(), HostError> {
        Err(HostError::Forbidden)
    }

    fn stall(&mut self, _: u64) {}

    fn sleep(&mut self, _: u64) {}

    fn timer(&mut self) -> u64 {
        0
    }
}

impl Hardware for Counter {
    fn compare_exchange(&mut self, _: PhysAddr, _: u32, _: u32) -> Result<u32, HostError> {
        Err(HostError::Forbidden)
    }

    fn unmask(&mut self, _: &Line) {}
}

/// The FADT of a machine with a timer of `len` bytes at a port, and these flags.
fn fadt(len: u64, flags: u64) -> Fadt {
    let mut fadt = firmware::fadt(276);
    put(&mut fadt, 76, 4, 0x608);
    put(&mut fadt, 91, 1, len);
    put(&mut fadt, 112, 4, flags);
    fix(&mut fadt, 9);
    let memory = firmware::memory(2, &[fadt]);
    let tables = Tables::new(&memory, RSDP).unwrap();
    Fadt::find(&tables).unwrap()
}

/// What is measured of a counter that ticks `ratio` times as often as the timer.
fn measured(step: u64, mask: u64, wide: bool, ratio: u64) -> Option<u64> {
    let timer = fadt(4, u64::from(wide) << 8).pm_timer.unwrap();
    // It begins close to where it wraps.
    let mut hardware = Counter { value: mask - 10, lazy: 1, reads: 0, step, mask };
    let mut calls = 0;
    timer.measure(&mut hardware, || {
        calls += 1;
        // Before, and after a hundredth of a second, which is a little more than 35,795 ticks.
        if calls == 1 { u64::MAX - 5 } else { (u64::MAX - 5).wrapping_add(35_800 * ratio) }
    })
}

#[test]
fn a_clock_is_measured_whatever_the_width_of_the_timer() {
    for (mask, wide) in [(0xFF_FFFF, false), (0xFFFF_FFFF, true)] {
        assert_eq!(measured(100, mask, wide, 1000), Some(3_579_545_000));
    }
}

#[test]
fn a_timer_that_stands_still_or_goes_back_measures_nothing() {
    assert_eq!(measured(0, 0xFF_FFFF, false, 1000), None);
    assert_eq!(measured(u64::MAX, 0xFF_FFFF, false, 1000), None);
    assert_eq!(measured(100, 0xFF_FFFF, false, 0), None);
}

#[test]
fn a_timer_that_hardly_moves_is_given_up() {
    let timer = fadt(4, 0).pm_timer.unwrap();
    let mut hardware = Counter { value: 0, lazy: 50_000, reads: 0, step: 1, mask: 0xFF_FFFF };
    let mut now = 0;
    let hertz = timer.measure(&mut hardware, || {
        now += 1000;
        now
    });
    assert_eq!(hertz, None);
    assert!(hardware.reads < 2_000_000, "{}", hardware.reads);
}

#[test]
fn a_machine_without_a_timer_has_none() {
    assert_eq!(fadt(0, 0).pm_timer, None);
    assert_eq!(fadt(3, 0).pm_timer, None);
    assert_eq!(fadt(4, 1 << 20).pm_timer, None, "hardware-reduced");
    assert!(fadt(4, 0).pm_timer.is_some());
}
