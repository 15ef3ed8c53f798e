//! The main loop: firmware's events first, then what was typed, then sleep.

use crate::clock::InstructionClock;
use crate::console::{self, Screen};
use crate::memory::KernelMachine;
use crate::monitor::{After, Breach, Crash, Edit, LineEditor, Machinery, Monitor};
use crate::{firmware, heap, interrupts, protection};
use core::fmt;
use hotmem::{Mm, VirtAddr};
use hotmem_arch::current::cpu::{self, Exit};
use hotmem_arch::current::probe::probe_read;
use hotmem_hotplug::{Clock, Hotplug, Line, Trigger};

/// What stands in front of a command.
const PROMPT: &str = "hotmem> ";

/// Hotplug on this machine.
pub(crate) type KernelHotplug =
    Hotplug<firmware::Source, &'static Mm<KernelMachine>, InstructionClock>;

/// What the main loop serves.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) hotplug: KernelHotplug,
    pub(crate) monitor: Monitor<'static, KernelMachine>,
    pub(crate) clock: InstructionClock,
    /// The line of the console's port; `None` if it cannot interrupt.
    pub(crate) console_line: Option<Line>,
}

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

impl Server {
    /// Serves for ever.
    pub(crate) fn run(mut self) -> ! {
        let mut editor = LineEditor::new();
        loop {
            // One event, then a look at the console: neither can starve the other.
            let event = self.hotplug.run_one(&mut Screen);
            let typed = console::receive();
            if let Some(byte) = typed {
                self.take(byte, &mut editor);
            }
            if !event && typed.is_none() {
                console::prompt(PROMPT, editor.text());
                self.sleep();
            }
        }
    }

    fn take(&mut self, byte: u8, editor: &mut LineEditor) {
        match editor.push(byte) {
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
                    Ok(line) => self.monitor.run(line, &mut self.hotplug, &self.clock, &mut Screen),
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

    /// Waits for an interrupt, unless there is something to do already.
    fn sleep(&self) {
        let Some(line) = self.console_line else {
            // Without interrupts there is nothing that would wake the CPU: keep looking.
            core::hint::spin_loop();
            return;
        };
        if line.trigger == Trigger::Level {
            interrupts::unmask(line);
        }
        cpu::disable_interrupts();
        if self.hotplug.has_work() || console::has_input() {
            cpu::enable_interrupts();
        } else {
            cpu::enable_interrupts_and_wait();
        }
    }
}
