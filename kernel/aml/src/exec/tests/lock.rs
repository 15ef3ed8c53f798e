//! The lock that firmware shares with the system.

use std::vec::Vec;

use super::{load, method};
use crate::{Aml, ErrorKind, Host, HostError, Io, NodeId, Space, Width};

/// What happened, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Did {
    Take,
    Give,
    Wait,
    Write,
}

use Did::{Give, Take, Wait, Write};

/// A machine whose firmware holds the lock for so many looks.
#[derive(Default)]
struct Shared {
    held: u32,
    did: Vec<Did>,
}

impl Io for Shared {
    fn read(&mut self, _: Space, _: u64, _: Width) -> Result<u64, HostError> {
        Err(HostError::Forbidden)
    }

    fn write(&mut self, _: Space, _: u64, _: Width, _: u64) -> Result<(), HostError> {
        self.did.push(Write);
        Ok(())
    }

    fn stall(&mut self, _: u64) {
        self.did.push(Wait);
    }

    fn sleep(&mut self, _: u64) {}

    fn timer(&mut self) -> u64 {
        0
    }
}

impl Host for Shared {
    fn io(&mut self) -> &mut dyn Io {
        self
    }

    fn notify(&mut self, _: NodeId, _: u64) {}

    fn take_global_lock(&mut self) -> bool {
        let free = self.held == 0;
        self.held = self.held.saturating_sub(1);
        if free {
            self.did.push(Take);
        }
        free
    }

    fn release_global_lock(&mut self) {
        self.did.push(Give);
    }
}

/// Methods that take the lock.
fn aml() -> Aml {
    load(&[
        // Registers that firmware uses, too: Field (REGS, ByteAcc, Lock, Preserve) { BOTH, 8 }
        b"\x5B\x80REGS\x01\x0A\x70\x0A\x04\x5B\x81\x0BREGS\x11BOTH\x08",
        // Acquire (\_GL, 0xFFFF), twice; BOTH = 1; Release (\_GL), twice
        &method(
            b"TWO_",
            0,
            &[
                b"\x5B\x23\\_GL_\xFF\xFF\x5B\x23\\_GL_\xFF\xFF\x70\x01BOTH",
                b"\x5B\x27\\_GL_\x5B\x27\\_GL_",
            ],
        ),
        &method(b"FLD_", 0, &[b"\x70\x01BOTH"]),
        // Return (BOTH), which cannot be read
        &method(b"DIES", 0, &[b"\xA4BOTH"]),
        // Acquire (\_GL, 0xFFFF), and no release
        &method(b"KEEP", 0, &[b"\x5B\x23\\_GL_\xFF\xFF"]),
        // Return (Acquire (\_GL, 1))
        &method(b"SHRT", 0, &[b"\xA4\x5B\x23\\_GL_\x01\x00"]),
    ])
    .expect("loads")
}

/// Evaluates a method while firmware holds the lock for so many looks.
fn run(name: &str, held: u32) -> (Result<Option<u64>, ErrorKind>, Vec<Did>) {
    let (mut aml, mut host) = (aml(), Shared { held, did: Vec::new() });
    let node = aml.find(name).expect("the method");
    let value = aml.evaluate(&mut host, node, &[]).map(|value| value.integer());
    (value.map_err(|error| error.kind), host.did)
}

#[test]
fn the_lock_is_taken_once_and_given_back_once() {
    assert_eq!(run("TWO", 0), (Ok(None), [Take, Write, Give].to_vec()));
    assert_eq!(run("FLD", 0), (Ok(None), [Take, Write, Give].to_vec()));
}

#[test]
fn firmware_that_has_the_lock_is_waited_for() {
    assert_eq!(run("FLD", 3), (Ok(None), [Wait, Wait, Wait, Take, Write, Give].to_vec()));
}

#[test]
fn what_ends_without_giving_the_lock_back_has_given_it_back() {
    assert_eq!(run("KEEP", 0), (Ok(None), [Take, Give].to_vec()));
    let (value, did) = run("DIES", 0);
    assert_eq!((value, did), (Err(ErrorKind::Host(HostError::Forbidden)), [Take, Give].to_vec()));
}

#[test]
fn waiting_for_firmware_ends() {
    // One millisecond is ten polls; then `Acquire` returns that it timed out.
    assert_eq!(run("SHRT", u32::MAX), (Ok(Some(u64::MAX)), [Wait; 10].to_vec()));
    let (value, did) = run("KEEP", u32::MAX);
    assert!(matches!(value, Err(ErrorKind::TooSleepy(_))), "{value:?}");
    assert!(did.iter().all(|&did| did == Wait), "never taken, so never given back");
}
