//! Interrupt lines, the serial line, and the machine's exit.

use super::std::collections::{BTreeMap, VecDeque};
use super::std::vec::Vec;
use super::traps::Trap;
use crate::contract::Exit;
use crate::irq::{Line, Trigger};

/// Inputs of the one interrupt controller.
pub(super) const INPUTS: u32 = 64;

/// An input of the interrupt controller.
#[derive(Clone, Copy, Debug, Default)]
struct Input {
    /// Its slot, and whether it is level-triggered; `None` until it is connected.
    connected: Option<(usize, Trigger)>,
    masked: bool,
    active: bool,
    /// It became active, and has not been claimed since.
    changed: bool,
}

impl Input {
    fn interrupts(&self) -> bool {
        let asks = match self.connected {
            Some((_, Trigger::Edge)) => self.changed,
            Some((_, Trigger::Level)) => self.active,
            None => false,
        };
        asks && !self.masked
    }
}

/// The state that the test and the CPU share.
#[derive(Debug, Default)]
pub(super) struct Board {
    inputs: BTreeMap<u32, Input>,
    /// Exceptions from outside that the CPU has not taken yet.
    pub(super) exceptions: VecDeque<Trap>,
    /// Whether the timer of the CPU was started.
    pub(super) timer_runs: bool,
    /// The timer interrupts, and has not been claimed since.
    pub(super) timer_rang: bool,
    /// How often the machine has changed.
    pub(super) changes: u64,
    pub(super) typed: VecDeque<u8>,
    pub(super) interrupts_on_receive: bool,
    pub(super) written: Vec<u8>,
    /// Bytes of `written` that a test has seen.
    pub(super) seen: usize,
    pub(super) ended: Option<Exit>,
    /// The CPU's thread has ended.
    pub(super) died: bool,
}

impl Board {
    pub(super) fn set_line(&mut self, gsi: u32, active: bool) {
        let input = self.inputs.entry(gsi).or_default();
        input.changed |= active && !input.active;
        input.active = active;
    }

    /// Makes a line active for a moment.
    pub(super) fn pulse(&mut self, gsi: u32) {
        self.set_line(gsi, true);
        self.set_line(gsi, false);
    }

    pub(super) fn connect(&mut self, slot: usize, line: Line) {
        let input = self.inputs.entry(line.gsi).or_default();
        input.connected = Some((slot, line.trigger));
        input.masked = false;
    }

    pub(super) fn set_masked(&mut self, gsi: u32, masked: bool) {
        self.inputs.entry(gsi).or_default().masked = masked;
    }

    /// Claims the input that interrupts; returns its slot.
    pub(super) fn claim(&mut self, gsi: u32) -> Option<usize> {
        let input = self.inputs.get_mut(&gsi).filter(|input| input.interrupts())?;
        input.changed = false;
        input.connected.map(|(slot, _)| slot)
    }

    /// The next trap that the CPU takes.
    pub(super) fn next_trap(&mut self) -> Option<Trap> {
        let timer = self.timer_rang.then_some(Trap::Timer);
        let line = || self.inputs.iter().find(|(_, input)| input.interrupts());
        self.exceptions.pop_front().or(timer).or_else(|| line().map(|(&gsi, _)| Trap::Line(gsi)))
    }
}
