//! The prompt: what is typed at the console goes to the lab's monitor.

use crate::clock::InstructionClock;
use crate::console::{self, Screen};
use crate::memory::KernelMachine;
use crate::serve::KernelHotplug;
use crate::{heap, protection};
use core::fmt;
use hotmem::{Mm, TooManyOwners, VirtAddr};
use hotmem_arch::current::cpu::{self, Exit};
use hotmem_arch::current::probe::probe_read;
use hotmem_hotplug::Clock;
use hotmem_lab::monitor::{After, Breach, Crash, Edit, LineEditor, Machinery, Monitor};

/// What stands in front of a command.
const PROMPT: &str = "hotmem> ";

impl Machinery for InstructionClock {
    fn instructions(&self) -> Option<u64> {
        Clock::instructions(self)
    }

    fn age(&self, stamp: u64) -> u64 {
        let ticks = cpu::timestamp().wrapping_sub(stamp);
        ticks / (cpu::timestamp_hertz() / 1000).max(1)
    }

    fn mode(&self) -> impl fmt::Display {
        cpu::mode()
    }

    fn peek(&self, at: VirtAddr) -> Option<u64> {
        probe_read(at).ok()
    }

    fn heap(&self) -> (u64, u64) {
        let (used, free) = heap::usage();
        (used as u64, free as u64)
    }

    fn try_protection(&self) -> Result<(), Breach> {
        protection::check()
    }

    fn crash(&self, crash: Crash) {
        protection::crash(crash);
    }
}

/// The monitor, and the line that is being typed.
#[derive(Debug)]
pub(crate) struct Prompt {
    monitor: Monitor<'static, KernelMachine>,
    editor: LineEditor,
}

impl Prompt {
    /// An empty line.
    ///
    /// # Errors
    ///
    /// [`TooManyOwners`] if the monitor cannot own movable pages.
    pub(crate) fn new(mm: &'static Mm<KernelMachine>) -> Result<Self, TooManyOwners> {
        Ok(Self { monitor: Monitor::new(mm)?, editor: LineEditor::new() })
    }

    /// Puts the prompt up, with what is typed so far.
    pub(crate) fn show(&self) {
        console::prompt(PROMPT, self.editor.text());
    }

    /// Takes a typed byte; the end of a line runs its command.
    pub(crate) fn take(&mut self, byte: u8, hotplug: &mut KernelHotplug, clock: &InstructionClock) {
        match self.editor.push(byte) {
            Edit::Nothing => {}
            Edit::Added(text) => console::typed(PROMPT, text),
            Edit::Erased(characters) => {
                for _ in 0..characters {
                    console::typed(PROMPT, "\u{8} \u{8}");
                }
            }
            Edit::Line(line) => {
                console::end_of_input(PROMPT);
                let after = match line {
                    Ok(line) => self.monitor.run(line, hotplug, clock, &mut Screen),
                    Err(error) => {
                        console::line(format_args!("error: {error}"));
                        After::Prompt
                    }
                };
                if let After::Exit(code) = after {
                    cpu::exit(Exit::Code(code));
                }
            }
        }
    }
}
