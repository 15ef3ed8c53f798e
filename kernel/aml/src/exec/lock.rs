//! The lock that firmware shares with the system: `\_GL`, and what fields with `Lock` take.
//!
//! Firmware that runs beside the system, in system management mode say, uses the same registers. It holds
//! the lock for short times; waiting counts as sleeping, and is bounded as that is.

use crate::error::ErrorKind;
use crate::object::{FieldFlags, GLOBAL_LOCK};

use super::{Exec, Res};

/// The timeout of an `Acquire` that waits for ever.
const FOR_EVER: u64 = 0xFFFF;
/// Microseconds between two looks at a lock that firmware has.
const PAUSE: u64 = 100;

impl Exec<'_> {
    /// Takes the lock from firmware, within `timeout` milliseconds; false if that is over.
    pub(super) fn wait_for_firmware(&mut self, timeout: u64) -> Res<bool> {
        let mut waited = 0;
        while !self.host.take_global_lock() {
            if timeout != FOR_EVER && waited >= timeout * 1000 {
                return Ok(false);
            }
            self.spend(PAUSE)?;
            self.host.io().stall(PAUSE);
            waited += PAUSE;
        }
        Ok(true)
    }

    /// Takes the lock for an access to a field that requires it.
    pub(super) fn lock_for(&mut self, flags: FieldFlags) -> Res<()> {
        if !flags.locks() {
            return Ok(());
        }
        let mut lock = self.m.syncs.get(GLOBAL_LOCK)?;
        if lock.count == 0 {
            self.wait_for_firmware(FOR_EVER)?;
            lock.before = self.level;
        }
        lock.count = lock.count.checked_add(1).ok_or(ErrorKind::TooDeep)?;
        self.m.syncs.set(GLOBAL_LOCK, lock)
    }

    /// Gives the lock back after such an access.
    pub(super) fn unlock_for(&mut self, flags: FieldFlags) -> Res<()> {
        if !flags.locks() {
            return Ok(());
        }
        let mut lock = self.m.syncs.get(GLOBAL_LOCK)?;
        lock.count = lock.count.saturating_sub(1);
        if lock.count == 0 {
            self.host.release_global_lock();
        }
        self.m.syncs.set(GLOBAL_LOCK, lock)
    }

    /// Lets go of every mutex, also of the one that firmware shares.
    pub(super) fn unlock_all(&mut self) {
        if self.m.syncs.get(GLOBAL_LOCK).is_ok_and(|lock| lock.count != 0) {
            self.host.release_global_lock();
        }
        self.m.release_all();
    }
}
