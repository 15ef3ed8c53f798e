//! The main loop: firmware's events first, then console input, then the guests of this CPU, then sleep.

use crate::clock::InstructionClock;
use crate::console::{self, Screen};
use crate::cpus::{idle, table};
use crate::memory::KernelMachine;
use crate::{firmware, interrupts};
use hotmem::Mm;
use hotmem_arch::current::cpu::{self, Exit};
use hotmem_hotplug::{Hotplug, HotplugSource, Line, Trigger};

/// Hotplug on this machine.
pub(crate) type KernelHotplug = Hotplug<'static, firmware::Source, KernelMachine, InstructionClock>;

/// The inputs of the main loop.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) mm: &'static Mm<KernelMachine>,
    pub(crate) hotplug: KernelHotplug,
    /// Receives console input.
    #[cfg(feature = "lab")]
    pub(crate) prompt: crate::prompt::Prompt,
    #[cfg(feature = "lab")]
    pub(crate) clock: InstructionClock,
    /// The interrupt line of the console's port; `None` if it cannot interrupt.
    pub(crate) console_line: Option<Line>,
}

/// Runs the guests of this CPU for a while. Returns whether there are any.
fn run_guests() -> bool {
    #[cfg(feature = "lab")]
    let ran = crate::guests::slices();
    #[cfg(not(feature = "lab"))]
    let ran = false;
    ran
}

impl Server {
    /// Serves for ever.
    pub(crate) fn run(mut self) -> ! {
        loop {
            // One event, then the console: neither can starve the other.
            let event = self.hotplug.run_one(&mut Screen);
            if self.hotplug.source().wants_power_off() {
                log::info!("the machine is turned off");
                cpu::exit(Exit::Code(0));
            }
            let typed = console::receive();
            #[cfg(feature = "lab")]
            if let Some(byte) = typed {
                self.prompt.take(byte, &mut self.hotplug, &self.clock);
            }
            let idle = !event && typed.is_none();
            if idle {
                #[cfg(feature = "lab")]
                self.prompt.show();
                self.quarantine();
            }
            // Guests run between two steps of an event, too.
            let ran = run_guests();
            // One page at a time, so that new input does not wait.
            if idle && !ran && !self.mm.zero_ahead() {
                self.sleep();
            }
        }
    }

    /// Takes pages out of use that a handler found to be bad. A busy page is tried again later.
    fn quarantine(&self) {
        self.mm.poison_queued(&mut |pfn, result| match result {
            Ok(_) => log::warn!("{pfn} is bad and out of use"),
            Err(error) => log::error!("{pfn} is bad and stays in use: {error}"),
        });
    }

    /// Waits for an interrupt, unless there is work already.
    fn sleep(&self) {
        let Some(line) = self.console_line else {
            // Without interrupts no event would wake the CPU, so it polls.
            cpu::relax();
            return;
        };
        if line.trigger == Trigger::Level {
            interrupts::unmask(line);
        }
        cpu::disable_interrupts();
        if self.hotplug.has_work() || console::has_input() {
            cpu::enable_interrupts();
        } else {
            idle::sleep(table::own());
        }
    }
}
