//! The FACS: the lock that firmware shares with the system (ACPI 6.5, 5.2.10).
//!
//! ```text
//! word: bit 0 pending: the other side waits     take:    owned; pending if it was owned already
//!       bit 1 owned                            release: 0; GBL_RLS if the other side waits
//! ```

use hotmem::PhysAddr;

use super::fadt::Fadt;
use super::hardware::{Block, Byte, Hardware};
use super::root::Tables;
use super::table;
use hotmem::paging::ReadPhys;

/// Where the word is, and how long a table is that has one.
const WORD: u64 = 16;
const LEAST: u64 = 24;

const PENDING: u32 = 1 << 0;
const OWNED: u32 = 1 << 1;

/// `GBL_RLS` in the low byte of the fixed control register: notifies firmware that the lock is free.
const RELEASED: u8 = 1 << 2;

/// Looks at a word that changes under the kernel's hands.
const TRIES: u32 = 64;

/// The lock of a machine that has one.
#[derive(Clone, Copy, Debug)]
pub(super) struct GlobalLock {
    word: PhysAddr,
    controls: [Option<Block>; 2],
}

impl GlobalLock {
    /// The lock of the FACS; `None` if the machine lacks a usable one.
    pub(super) fn find<P: ReadPhys>(tables: &Tables<'_, P>, fadt: &Fadt) -> Option<Self> {
        let at = fadt.facs.filter(|_| !fadt.hardware_reduced)?;
        let bytes = table::slice(tables.memory(), at, LEAST).ok();
        let bytes = bytes.filter(|bytes| bytes.starts_with(b"FACS"));
        let long = |bytes: &&[u8]| table::le(bytes, 4, 4).is_some_and(|length| length >= LEAST);
        if bytes.filter(long).is_none() || !at.get().is_multiple_of(4) {
            log::warn!("acpi: no FACS is at {at}: the lock is not shared with firmware");
            return None;
        }
        Some(Self { word: PhysAddr::new(at.get() + WORD), controls: fadt.pm1_control })
    }

    /// Takes the lock; false if firmware has it, which then sees that the kernel waits. A word that cannot
    /// be reached locks nothing.
    pub(super) fn take(&self, hardware: &mut impl Hardware) -> bool {
        let next = |old| old & !PENDING | OWNED | if old & OWNED != 0 { PENDING } else { 0 };
        self.change(hardware, next).is_none_or(|old| old & OWNED == 0)
    }

    /// Releases the lock, and notifies firmware if it waits.
    pub(super) fn release(&self, hardware: &mut impl Hardware) {
        let old = self.change(hardware, |old| old & !(PENDING | OWNED));
        if old.is_none_or(|old| old & PENDING == 0) {
            return;
        }
        for block in self.controls.into_iter().flatten() {
            let control = Byte::of(block, 0);
            let result =
                control.read(hardware).and_then(|now| control.write(hardware, now | RELEASED));
            if let Err(error) = result {
                log::error!("acpi: fixed control register: {error}");
            }
        }
    }

    /// Changes the word. Returns its old value, or `None` if it cannot be reached.
    fn change(&self, hardware: &mut impl Hardware, next: impl Fn(u32) -> u32) -> Option<u32> {
        let mut old = 0;
        for _ in 0..TRIES {
            match hardware.compare_exchange(self.word, old, next(old)) {
                Ok(seen) if seen == old => return Some(old),
                Ok(seen) => old = seen,
                Err(_) => return None,
            }
        }
        None
    }
}
