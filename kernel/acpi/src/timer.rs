//! The ACPI timer: a counter of known frequency, on machines with fixed hardware (ACPI 6.5, 4.8.3.3). What
//! the time stamp counter does in a second is measured by it where nothing else gives it.

use hotmem_aml::Width;

use super::hardware::{Block, Hardware};

/// Ticks in a second.
const HERTZ: u64 = 3_579_545;
/// How long is measured: a hundredth of a second, which is less than the counter takes to wrap.
const TICKS: u64 = HERTZ / 100;
/// Reads that show the same number before the timer counts as stopped: one takes far less than a tick of it
/// takes a thousand times.
const PATIENCE: u32 = 100_000;
/// Reads in all: a hundredth of a second has a tenth of it on the fastest machine.
const READS: u32 = 1_000_000;

/// The timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PmTimer {
    register: Block,
    /// The counter has 32 bits, not 24.
    wide: bool,
}

impl PmTimer {
    /// The timer in a block of registers, if the block can hold it.
    pub(super) fn new(register: Block, wide: bool) -> Option<Self> {
        (register.len == 4).then_some(Self { register, wide })
    }

    fn read(self, hardware: &mut impl Hardware) -> Option<u64> {
        hardware.read(self.register.space, self.register.address, Width::Dword).ok()
    }

    /// How often the counter `now` ticks in a second; `None` if the timer does not.
    pub fn measure(
        self,
        hardware: &mut impl Hardware,
        mut now: impl FnMut() -> u64,
    ) -> Option<u64> {
        let mask = if self.wide { 0xFFFF_FFFF } else { 0xFF_FFFF };
        let mut last = self.read(hardware)?;
        let before = now();
        let (mut passed, mut same) = (0, 0);
        for _ in 0..READS {
            if passed >= TICKS {
                break;
            }
            let read = self.read(hardware)?;
            let step = read.wrapping_sub(last) & mask;
            same = if step == 0 { same + 1 } else { 0 };
            if same == PATIENCE {
                return None;
            }
            // A counter that goes back is not a timer.
            if step > mask / 2 {
                return None;
            }
            passed += step;
            last = read;
        }
        if passed < TICKS {
            return None;
        }
        let ticks = u128::from(now().wrapping_sub(before));
        let hertz = u64::try_from(ticks * u128::from(HERTZ) / u128::from(passed)).ok()?;
        (hertz != 0).then_some(hertz)
    }
}
