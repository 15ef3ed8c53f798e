//! Hands what is typed to guests.

use crate::Shared;
use crate::host::TYPED;
use crate::id::{VcpuId, VmId};
use crate::platform::Platform;
use crate::program::Loaded;
use crate::status::State;
use crate::switch::OwnVcpu;
use crate::vms::{VmError, Vms};
use core::sync::atomic::Ordering;
use hotmem_arch::contract::{Devices, Locked};

impl<M: Shared, P: Platform> Vms<M, P> {
    /// Types a line at the serial port of a guest, which gets it while it runs.
    ///
    /// # Errors
    ///
    /// [`VmError::NoPort`], [`VmError::State`] of a guest that has ended, [`VmError::Typed`]; nothing was typed.
    pub fn type_line(&self, id: VmId, line: &[u8]) -> Result<(), VmError> {
        let slot = self.slot(id).ok_or(VmError::Full)?;
        let (name, state, program) = {
            let life = slot.life.lock();
            (life.name.ok_or(VmError::Full)?, life.state, life.program)
        };
        if program == Loaded::Payload {
            return Err(VmError::NoPort(name));
        }
        if matches!(state, State::Done | State::Stopped) {
            return Err(VmError::State(name, state));
        }
        let mut console = slot.console.lock();
        if !console.type_line(line) {
            return Err(VmError::Typed(name));
        }
        // With the lock held: the last byte that is taken clears the bit.
        slot.called.fetch_or(TYPED, Ordering::SeqCst);
        drop(console);
        let number = slot.life.lock().first_on();
        self.wake(VcpuId { vm: id, number });
        Ok(())
    }

    /// Hands typed bytes to the port of a guest, as far as that has room, by any of its virtual CPUs: each may be the one that
    /// reads them. Returns whether the port got any; then this virtual CPU runs.
    pub(crate) fn hand_typed(&self, at: VcpuId, vcpu: &OwnVcpu<M, P>) -> bool {
        let Some(slot) = self.slot(at.vm) else { return false };
        if slot.called.load(Ordering::SeqCst) & TYPED == 0 {
            return false;
        }
        let mut console = slot.console.lock();
        let devices = &vcpu.devices;
        let got_any = console.hand_typed(|byte| devices.with(|devices| devices.receive(byte)));
        if !console.has_typed() {
            slot.called.fetch_and(!TYPED, Ordering::SeqCst);
        }
        drop(console);
        if got_any {
            self.answer(at);
        }
        got_any
    }
}
