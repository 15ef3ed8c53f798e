//! Interrupt controllers.

// UNSAFETY: declares a function with a safety contract.
#![expect(unsafe_code)]

use crate::area::Launch;
use crate::irq::{Call, Claim, Controller, Line, Message, NoCpu, NoInput, TakeError};
use hotmem_paging::addr::{PhysAddr, PhysRange};

/// The interrupt controllers of a machine.
pub trait Controllers<R, Frame>: Sized {
    /// Lines that can be connected.
    const SLOTS: usize;

    /// Takes over the controllers in `described`, with everything masked; `map` maps their registers.
    ///
    /// # Errors
    ///
    /// [`TakeError`] if a needed controller is not described, or registers cannot be mapped.
    fn take<E>(
        described: impl Iterator<Item = Controller>,
        map: impl FnMut(PhysRange) -> Result<R, E>,
    ) -> Result<Self, TakeError<E>>;

    /// Enables `line`, whose interrupts are reported with `slot` (less than [`SLOTS`](Self::SLOTS)).
    ///
    /// # Errors
    ///
    /// [`NoInput`] if no controller has an input for it.
    fn connect(&mut self, slot: usize, line: Line) -> Result<(), NoInput>;

    /// The message by which a device interrupts this CPU, reported with `slot` (less than [`SLOTS`](Self::SLOTS)); `None` if
    /// the controllers take no messages.
    fn message(&self, slot: usize) -> Option<Message> {
        let _ = slot;
        None
    }

    /// The firmware's id of the CPU that runs this.
    fn own_hardware(&self) -> u64;

    /// Enables interrupts to this CPU, one that did not take the controllers over: at first only those of
    /// [`call`](Self::call).
    ///
    /// # Errors
    ///
    /// [`NoCpu`] if the controllers have no part for it.
    fn join(&self) -> Result<(), NoCpu>;

    /// Interrupts the CPU with the firmware id `hardware`.
    ///
    /// # Errors
    ///
    /// [`NoCpu`] if the controllers cannot address it.
    fn call(&self, hardware: u64, call: Call) -> Result<(), NoCpu>;

    /// Starts the CPU with the firmware id `hardware`, which then continues in `launch`; it begins in the landing
    /// page, if the architecture has [one](super::Cpus::LANDING_LIMIT).
    ///
    /// # Safety
    ///
    /// The launch is for this CPU alone, and no other call of this function is under way. If there is a landing page, it holds what [`Cpus::fill_landing`](super::Cpus::fill_landing) wrote,
    /// executable at that address, until the CPU has left it or was [reset](Self::reset).
    ///
    /// # Errors
    ///
    /// [`NoCpu`] if no such CPU exists, or it cannot be started.
    unsafe fn start(
        &self,
        hardware: u64,
        landing: Option<PhysAddr>,
        launch: &'static Launch,
    ) -> Result<(), NoCpu> {
        let _ = (landing, launch);
        Err(NoCpu(hardware))
    }

    /// Keeps a CPU from coming that was started and has not come yet, if the controllers can do that. Returns
    /// whether the CPU never comes any more.
    fn reset(&self, hardware: u64) -> bool {
        let _ = hardware;
        false
    }

    /// Has the timer of the CPU that runs this interrupt it `hertz` times a second, 1 at least, from now on
    /// ([`Source::Timer`](crate::irq::Source::Timer)). The CPU must have interrupts enabled to take them.
    fn start_timer(&self, hertz: u64);

    /// Stops that timer. An interrupt that the timer has raised already may still come.
    fn stop_timer(&self);

    /// Claims the interrupt that a trap reports; `None` if it went away before it was claimed.
    fn claim(&self, frame: &Frame) -> Option<Claim>;

    /// Ends an interrupt that was served.
    fn finish(&self, claim: Claim);

    /// Masks or unmasks `line`.
    fn set_masked(&self, line: Line, masked: bool);
}
