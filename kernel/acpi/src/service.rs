//! From an interrupt to the event methods, which notify.

use hotmem_aml::{self as aml, Arg, ErrorKind, Space, Width};
use hotmem_hotplug::Trigger;

use super::fault::StartError;
use super::handlers::Cause;
use super::hardware::{Block, Byte, Hardware};
use super::source::AcpiSource;

/// The power button's bit in the fixed event registers, `PWRBTN_STS` and `PWRBTN_EN` (ACPI 6.5, 4.8.3.1).
const BUTTON: u64 = 1 << 8;

/// A register: its space and its address.
type Register = (Space, u64);

/// What came of running a method.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// It notified of something that was not pending.
    New,
    /// It notified of nothing, or of what was pending.
    Nothing,
    /// It did not get to its end.
    Failed(ErrorKind),
}

impl<H: Hardware> AcpiSource<H> {
    /// Enables the events, and requests a scan of the devices that are there already. Set the
    /// [`lines`](Self::lines) up before.
    ///
    /// No event method runs here. An event that is pending in a status register interrupts once it is
    /// enabled, and a method that runs without its event may do anything: one that stands for a button
    /// asks for memory that the host did not ask for.
    ///
    /// # Errors
    ///
    /// [`StartError::Register`] if a register of events cannot be reached: its events will not come. All
    /// else is done all the same.
    pub fn arm(&mut self) -> Result<(), StartError> {
        self.set_fixed_events(false);
        self.devices.scan();
        self.handlers.enable(&mut self.hardware).map_err(StartError::Register)
    }

    /// Handles every line that has interrupted.
    pub(super) fn service(&mut self) {
        let raised = self.latch.take();
        for index in 0..self.handlers.lines.len() {
            if raised.has(index) {
                self.devices.begin(self.latch.since(index));
                self.service_line(index);
            }
        }
        self.devices.rescan();
        self.devices.begin(None);
    }

    /// Handles every possible cause of a line's interrupt, and unmasks the line.
    fn service_line(&mut self, index: usize) {
        for at in 0..self.handlers.causes.len() {
            match self.handlers.causes.get(at) {
                Some(&(line, Cause::Registers)) if usize::from(line) == index => {
                    self.service_registers();
                }
                Some(&(line, Cause::Method { method, argument })) if usize::from(line) == index => {
                    self.run(method, argument);
                }
                _ => {}
            }
        }
        if let Some(line) = self.handlers.lines.get(index)
            && line.trigger == Trigger::Level
        {
            self.hardware.unmask(line);
        }
    }

    /// Runs the method of every general-purpose event whose status is set.
    fn service_registers(&mut self) {
        let mut idle = !self.look_at_button();
        for index in 0..self.handlers.gpes.len() {
            let Some(gpe) = self.handlers.gpes.get(index).copied() else { continue };
            let status = gpe.status.read(&mut self.hardware).unwrap_or(0);
            if status & gpe.bit == 0 {
                continue;
            }
            idle = false;
            // Writing a one clears the bit. An edge is cleared before its method, which would
            // otherwise miss what comes while it runs; a level stays until its method has removed
            // the cause (ACPI 6.5, 5.6.4.1).
            if gpe.edge {
                self.clear(gpe.status, gpe.bit);
            }
            self.run(gpe.method, None);
            if !gpe.edge {
                self.clear(gpe.status, gpe.bit);
            }
        }
        if idle {
            self.set_fixed_events(true);
        }
    }

    fn clear(&mut self, status: Byte, bits: u8) {
        if let Err(error) = status.write(&mut self.hardware, bits) {
            log::error!("acpi: event status register: {error}");
        }
    }

    /// Disables and clears timers and all else of the fixed events but the power button: none is handled
    /// here, and any would keep the interrupt active. A press counts if the button is watched already; one
    /// from before, as the one that turned the machine on, is forgotten.
    fn set_fixed_events(&mut self, watched: bool) {
        for (status, enable) in self.fixed_registers() {
            // An event that is cleared before it is disabled may come again at once.
            self.write_fixed(enable, 0);
            if watched {
                // An event that comes between the read and the clearing is not cleared.
                self.write_fixed(status, !BUTTON);
                self.take_press(status);
            } else {
                self.write_fixed(status, u64::MAX);
            }
            self.write_fixed(enable, if self.fadt.power_button { BUTTON } else { 0 });
        }
    }

    /// Looks whether the fixed power button was pressed.
    fn look_at_button(&mut self) -> bool {
        let mut pressed = false;
        for (status, _) in self.fixed_registers() {
            pressed |= self.take_press(status);
        }
        pressed
    }

    /// Takes a press of the fixed power button from a status register.
    fn take_press(&mut self, status: Register) -> bool {
        let (space, address) = status;
        let now = self.hardware.read(space, address, Width::Word).unwrap_or(0);
        let pressed = self.fadt.power_button && now & BUTTON != 0;
        if pressed {
            self.write_fixed(status, BUTTON);
            self.devices.press();
        }
        pressed
    }

    /// The status and the enable register of each block of fixed events. They are words, and some machines
    /// do not know them by bytes.
    fn fixed_registers(&self) -> impl Iterator<Item = (Register, Register)> + use<H> {
        self.fadt.pm1_event.into_iter().flatten().map(|Block { space, address, len }| {
            ((space, address), (space, address.wrapping_add(u64::from(len / 2))))
        })
    }

    fn write_fixed(&mut self, (space, address): Register, value: u64) {
        if let Err(error) = self.hardware.write(space, address, Width::Word, value & 0xFFFF) {
            log::error!("acpi: fixed event register: {error}");
        }
    }

    /// Runs an event method until it notifies of nothing new: a method may notify one device, or send one
    /// value to a device, at a time, and there is only one interrupt for several events.
    ///
    /// `_EVT` of an event device reads from the device what happened, which may clear it (QEMU's does), so
    /// that it does nothing when it runs again. The methods that it called to scan the devices are run instead.
    ///
    /// A method runs once more if it failed by what may have passed, since it did not get to all that happened. After
    /// any failure each device is looked at, too, which finds all but requests to eject.
    fn run(&mut self, method: aml::NodeId, argument: Option<u32>) {
        // Each device can be announced and ejected. Each run brings something new, but the last one and one that failed.
        let most = 2 * (self.devices.len() + self.devices.parents.len()) + 4;
        let (mut lookers, mut has_failed) = ([None; 2], false);
        for _ in 0..most {
            let mut told = self.told_by(method, argument);
            let now = self.aml.lookers();
            if told != Told::Nothing && argument.is_some() && now != [None; 2] {
                lookers = now;
            }
            for looker in lookers.into_iter().flatten() {
                if told == Told::Nothing {
                    told = self.told_by(looker, None);
                }
            }
            match told {
                Told::New => {}
                Told::Nothing => return,
                Told::Failed(error) => {
                    self.devices.scan();
                    if has_failed || !may_pass(error) {
                        return;
                    }
                    has_failed = true;
                }
            }
        }
        log::warn!("acpi: {} notifies of something new each time it runs", self.aml.path(method));
    }

    /// Runs a method, and logs how it failed.
    fn told_by(&mut self, method: aml::NodeId, argument: Option<u32>) -> Told {
        let before = self.devices.noted();
        let number = [Arg::Integer(argument.unwrap_or(0).into())];
        let args = number.get(..usize::from(argument.is_some())).unwrap_or_default();
        let (aml, mut host) = self.interpreter();
        match aml.evaluate(&mut host, method, args).err() {
            Some(error) => {
                log::error!("acpi: {}: {error}", self.aml.path(method));
                Told::Failed(error.kind)
            }
            None if self.devices.noted() != before => Told::New,
            None => Told::Nothing,
        }
    }
}

/// Whether a method that failed like this may succeed a moment later: hardware was not ready.
const fn may_pass(error: ErrorKind) -> bool {
    matches!(error, ErrorKind::Host(_) | ErrorKind::TooLong | ErrorKind::TooSleepy(_))
}
