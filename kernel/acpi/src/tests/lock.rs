//! The lock that firmware shares with the system.

use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use hotmem::PhysAddr;
use hotmem_aml::Limits;
use hotmem_aml_fakes::compile;
use hotmem_hotplug::Latch;

use super::board::Wire;
use super::firmware::{RSDP, fix, put};
use super::rig::{firmware, moved};
use crate::{AcpiSource, Tables};

const FACS: u64 = 0x3000_0000;

/// Starts a machine whose `_INI` takes the lock, with a FACS of these first bytes and a lock word. Returns
/// what was written to the word and to the control register.
fn start(signature: &[u8; 4], length: u64, word: u32) -> (Vec<u32>, Vec<u64>) {
    let mut memory = firmware(&compile("locked").unwrap(), false);
    let fadt = memory.pieces.iter_mut().find(|(_, bytes)| bytes.starts_with(b"FACP"));
    let fadt = &mut fadt.unwrap().1;
    put(fadt, 36, 4, FACS);
    fix(fadt, 9);
    let mut facs = vec![0; 64];
    facs[..4].copy_from_slice(signature);
    put(&mut facs, 4, 4, length);
    memory.pieces.push((FACS, facs));
    let tables = Tables::new(&memory, RSDP).unwrap();
    let latch: &'static Latch = Box::leak(Box::new(Latch::new()));
    let wire = Wire::new(moved(), 1);
    wire.0.borrow_mut().lock_word = Some((PhysAddr::new(FACS + 16), word));
    AcpiSource::new(&tables, wire.clone(), latch, Limits::DEFAULT).unwrap();
    let board = wire.0.borrow();
    (board.lock_words.clone(), board.controls.clone())
}

#[test]
fn byte_code_takes_the_lock_of_the_facs_and_gives_it_back() {
    assert_eq!(start(b"FACS", 64, 0), (vec![2, 0], vec![]));
}

#[test]
fn firmware_that_waits_is_notified_that_the_lock_is_free() {
    // Bit 0 is left over from an earlier wait if the lock has no owner; the word's other bits are kept.
    assert_eq!(start(b"FACS", 64, 0xF0), (vec![0xF2, 0xF0], vec![]));
    assert_eq!(start(b"FACS", 64, 0xF1), (vec![0xF2, 0xF0], vec![]));
}

#[test]
fn firmware_that_keeps_the_lock_sees_the_waiter_and_does_not_stop_the_machine() {
    let (words, controls) = start(b"FACS", 64, 2);
    assert!(words.len() > 1 && words.iter().all(|&word| word == 3), "{words:?}");
    assert_eq!(controls, []);
}

#[test]
fn a_machine_without_a_facs_has_a_lock_of_its_own() {
    for (signature, length) in [(b"FACS", 20), (b"FACP", 64)] {
        assert_eq!(start(signature, length, 0), (vec![], vec![]));
    }
}
