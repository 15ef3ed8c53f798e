//! Hands what is typed to guests.

use crate::Shared;
use crate::id::{VcpuId, VmId};
use crate::platform::Platform;
use crate::program::Loaded;
use crate::switch::OwnVcpu;
use crate::vms::{VmError, Vms};
use core::sync::atomic::Ordering;

impl<M: Shared, P: Platform> Vms<M, P> {
    /// Types a line at the serial port of a guest, which gets it while it runs.
    ///
    /// # Errors
    ///
    /// [`VmError::NoPort`], [`VmError::Typed`]; nothing was typed.
    pub fn type_line(&self, id: VmId, line: &[u8]) -> Result<(), VmError> {
        let slot = self.slot(id).ok_or(VmError::Full)?;
        let (name, is_payload) = {
            let life = slot.life.lock();
            (life.name.ok_or(VmError::Full)?, life.program == Loaded::Payload)
        };
        if is_payload {
            return Err(VmError::NoPort(name));
        }
        if !slot.console.lock().type_line(line) {
            return Err(VmError::Typed(name));
        }
        slot.has_typed.store(true, Ordering::Release);
        // It may sleep.
        self.vcpus(id).into_iter().take(1).for_each(|(_, cpu)| P::kick(cpu));
        Ok(())
    }

    /// Whether typed bytes wait for a guest.
    pub fn has_typed(&self, id: VmId) -> bool {
        self.slot(id).is_some_and(|slot| slot.has_typed.load(Ordering::Acquire))
    }

    /// Hands typed bytes to the first CPU of a guest, as far as it has room.
    pub(crate) fn hand_typed(&self, at: VcpuId, vcpu: &mut OwnVcpu<M, P>) {
        let Some(slot) = self.slot(at.vm).filter(|_| at.number == 0 && self.has_typed(at.vm))
        else {
            return;
        };
        let mut console = slot.console.lock();
        let more = console.hand_typed(|byte| vcpu.receive(byte));
        slot.has_typed.store(more, Ordering::Release);
    }
}
