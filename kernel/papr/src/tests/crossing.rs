//! Requests that cross: a device that is requested while it is being taken, and logs of devices that are gone.

// UNSAFETY: implements a function with a safety contract.
#![expect(unsafe_code)]

use super::hypervisor::{CHECK_EXCEPTION, CONFIGURE, SET_INDICATOR};
use super::spapr::{Host, Spapr, State};
use super::tree::{FIRST, board, tree};
use crate::connector::{NoRtas, Services};
use crate::source::PaprSource;
use hotmem_hotplug::Latch;
use hotmem_hotplug::{DeviceId, HotplugSource, Outcome, Refusal, Request};
use std::cell::RefCell;
use std::rc::Rc;

struct Side {
    machine: Rc<RefCell<Spapr>>,
    buffer: Vec<u8>,
}

impl Services for Side {
    unsafe fn call(&mut self, token: u32, args: &[u32], rets: &mut [u32]) -> Result<(), NoRtas> {
        let mut machine = self.machine.borrow_mut();
        machine.called();
        rets[0] = match token {
            CHECK_EXCEPTION => match machine.logs.pop_front() {
                Some(log) => {
                    self.buffer[..log.len()].copy_from_slice(&log);
                    0
                }
                None => 1,
            },
            SET_INDICATOR => machine.set(args),
            CONFIGURE => machine.configure(u32::from_be_bytes(*self.buffer.first_chunk().unwrap())),
            _ => return Err(NoRtas),
        };
        Ok(())
    }

    fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    fn buffer_address(&self) -> u32 {
        0x1000
    }
}

/// A kernel that gives memory up when it is asked to, or refuses.
struct Kernel {
    source: PaprSource<Side>,
    machine: Rc<RefCell<Spapr>>,
    refuses: bool,
    /// The device that is in use.
    device: Option<DeviceId>,
}

impl Kernel {
    fn new(refuses: bool) -> Self {
        let machine = Rc::new(RefCell::new(Spapr::default()));
        let services = Side { machine: machine.clone(), buffer: vec![0; 4096] };
        let latch = Box::leak(Box::new(Latch::new()));
        let mut source = PaprSource::new(board(&tree(0)), services, latch);
        source.arm(true);
        Self { source, machine, refuses, device: None }
    }

    fn act(&self, host: Host) {
        self.machine.borrow_mut().act(host);
    }

    /// Serves logs until all are served.
    fn serve(&mut self) {
        loop {
            let Some(event) = self.source.next_event() else {
                let machine = self.machine.borrow();
                if !self.source.has_work() && machine.logs.is_empty() && machine.host.is_empty() {
                    return;
                }
                continue;
            };
            match event.request {
                Request::Insert { .. } => self.device = Some(event.device),
                Request::Eject if self.refuses => {
                    let refused = Outcome::EjectRefused(Refusal::InUse);
                    self.source.reply(event.device, refused).unwrap();
                }
                Request::Eject => match self.source.eject(event.device) {
                    Ok(()) => self.device = None,
                    Err(error) => assert!(self.source.is_withdrawn(&error), "{error}"),
                },
                Request::Unreadable(_) | Request::Gone | Request::Divided { .. } => {}
            }
        }
    }

    /// Ends every scenario: the DIMM can be unplugged, and another one can be plugged and unplugged.
    fn finish(mut self, what: &str) {
        self.refuses = false;
        self.serve();
        for _ in 0..2 {
            self.act(Host::Del);
            self.serve();
        }
        let machine = self.machine.borrow();
        assert_eq!(machine.dimm, None, "{what}: the DIMM did not go");
        assert!(!machine.pending, "{what}: an unplug has no end");
        assert!(machine.drcs.values().all(|drc| drc.state == State::Unusable), "{what}");
        let deleted = machine.deleted;
        drop(machine);
        for blocks in [3, 2] {
            self.act(Host::Add(blocks));
            self.serve();
            assert!(self.device.is_some(), "{what}: the next DIMM is not used");
            self.act(Host::Del);
            self.serve();
        }
        assert_eq!(self.machine.borrow().deleted, deleted + 2, "{what}");
    }
}

#[test]
fn an_unplug_at_any_call_while_the_memory_is_taken_ends() {
    for at in 0..16 {
        let mut kernel = Kernel::new(false);
        kernel.act(Host::Add(4));
        kernel.machine.borrow_mut().host.push_back((at, Host::Del));
        kernel.serve();
        // It is gone, or the unplug was cancelled while all of it was there.
        let ended = kernel.machine.borrow().deleted + kernel.machine.borrow().cancelled;
        assert_eq!(ended, 1, "before call {at}");
        kernel.finish("an unplug while taking");
    }
}

#[test]
fn requests_in_any_order_at_any_call_never_bring_the_hypervisor_into_its_assertions() {
    let mut seed = 11_u64;
    let mut next = |limit: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % limit
    };
    for round in 0..4000 {
        let mut kernel = Kernel::new(next(3) == 0);
        let mut at = 0;
        for _ in 0..next(12) {
            at += next(12) as usize;
            let host = if next(2) == 0 { Host::Add(next(4) as u32 + 1) } else { Host::Del };
            kernel.machine.borrow_mut().host.push_back((at, host));
        }
        kernel.serve();
        kernel.finish(&format!("round {round}"));
    }
}

#[test]
fn what_an_old_log_announces_may_be_a_smaller_device_by_now() {
    let mut kernel = Kernel::new(false);
    // All of this happened before the kernel read its first log.
    for host in [Host::Add(4), Host::Del, Host::Add(2)] {
        kernel.act(host);
    }
    kernel.serve();
    assert!(kernel.device.is_some(), "the second DIMM is used");
    let states: Vec<_> =
        (FIRST..FIRST + 2).map(|at| kernel.machine.borrow().drcs[&at].state).collect();
    assert_eq!(states, [State::Configured; 2]);
    kernel.finish("a smaller device");
}

#[test]
fn an_old_log_of_a_smaller_device_takes_no_part_of_a_larger_one() {
    // The larger device comes before the first log is read, or at any call while that one is served.
    for at in 0..5 {
        let mut kernel = Kernel::new(true);
        kernel.act(Host::Add(2));
        for host in [Host::Del, Host::Add(4), Host::Del] {
            kernel.machine.borrow_mut().host.push_back((at, host));
        }
        kernel.serve();
        kernel.finish(&format!("a larger device before call {at}"));
    }
}

#[test]
fn a_request_that_taking_the_memory_cancelled_is_void() {
    let mut kernel = Kernel::new(false);
    kernel.act(Host::Add(2));
    // Between making the blocks usable and configuring them.
    kernel.machine.borrow_mut().host.push_back((6, Host::Del));
    kernel.serve();
    assert_eq!((kernel.machine.borrow().cancelled, kernel.device.is_some()), (1, true));
    kernel.finish("a void request");
}

#[test]
fn a_refusal_after_an_old_log_cancels_for_the_whole_larger_device() {
    let mut kernel = Kernel::new(true);
    for host in [Host::Add(2), Host::Del, Host::Add(4)] {
        kernel.act(host);
    }
    kernel.serve();
    kernel.act(Host::Del);
    kernel.serve();
    assert_eq!(kernel.machine.borrow().cancelled, 1);
    kernel.finish("a larger device that was refused");
}

#[test]
fn a_refusal_cancels_and_the_next_request_is_served() {
    let mut kernel = Kernel::new(true);
    kernel.act(Host::Add(3));
    kernel.serve();
    for cancelled in 1..4 {
        kernel.act(Host::Del);
        kernel.serve();
        assert_eq!(kernel.machine.borrow().cancelled, cancelled);
    }
    kernel.finish("after refusals");
}
