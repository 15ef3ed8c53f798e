//! The main loop: firmware's events first, then console input, then the guests of this CPU, then sleep.

#[cfg(feature = "lab")]
use crate::clock::InstructionClock;
use crate::console::{self, Screen};
use crate::cpus::{idle, table};
use crate::firmware::KernelHotplug;
#[cfg(feature = "lab")]
use crate::guests;
use crate::memory::KernelMachine;
use crate::{interrupts, leave, nmi};
use hotmem::Mm;
use hotmem_arch::current::cpu;
use hotmem_hotplug::{HotplugSource, Line, Trigger};

/// The inputs of the main loop.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) mm: &'static Mm<KernelMachine>,
    pub(crate) hotplug: KernelHotplug,
    /// Pages that an eject examines or moves before anything else.
    pub(crate) budget: u64,
    /// Receives console input.
    #[cfg(feature = "lab")]
    pub(crate) prompt: crate::prompt::Prompt,
    #[cfg(feature = "lab")]
    pub(crate) clock: InstructionClock,
    /// The interrupt line of the console's port; `None` if it cannot interrupt.
    pub(crate) console_line: Option<Line>,
}

/// Runs the guests of this CPU for a while, and lets those of others run after a step of an event that moved memory.
/// Returns whether this CPU has guests.
fn run_guests(event: bool) -> bool {
    #[cfg(feature = "lab")]
    let ran = guests::slices();
    #[cfg(not(feature = "lab"))]
    let ran = false;
    #[cfg(feature = "lab")]
    if event && !ran {
        guests::let_others_run();
    }
    let _ = event;
    ran
}

impl Server {
    /// Serves for ever.
    pub(crate) fn run(mut self) -> ! {
        // All else ran with them off. Events must not wait for the first sleep, which typing and zeroing put off.
        cpu::enable_interrupts();
        loop {
            self.set_pace();
            nmi::report();
            // One event, then the console: neither can starve the other.
            let event = self.hotplug.run_one(&mut Screen);
            if self.hotplug.source().wants_power_off() {
                log::info!("the machine is turned off");
                leave::with(0);
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
            let ran = run_guests(event);
            // One page at a time, so that new input does not wait.
            if idle && !ran && !self.mm.zero_ahead() {
                self.sleep();
            }
        }
    }

    /// Has an eject take small steps while guests run.
    fn set_pace(&mut self) {
        #[cfg(feature = "lab")]
        let most = if guests::run() { guests::BUDGET } else { u64::MAX };
        #[cfg(not(feature = "lab"))]
        let most = u64::MAX;
        self.hotplug.set_budget(self.budget.min(most));
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
        #[cfg(feature = "lab")]
        let is_due = guests::is_due();
        #[cfg(not(feature = "lab"))]
        let is_due = false;
        if is_due || self.hotplug.has_work() || console::has_input() {
            cpu::enable_interrupts();
        } else {
            idle::sleep(table::own());
        }
    }
}
