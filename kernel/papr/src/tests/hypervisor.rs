//! A hypervisor that keeps the state of every connector, as QEMU does.

// UNSAFETY: implements a function with a safety contract.
#![expect(unsafe_code)]

use crate::connector::{NoRtas, Services};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

pub(super) const CHECK_EXCEPTION: u32 = 0x200e;
pub(super) const SET_INDICATOR: u32 = 0x201a;
pub(super) const CONFIGURE: u32 = 0x201e;
pub(super) const SET_XIVE: u32 = 0x200a;
pub(super) const INT_ON: u32 = 0x200d;

/// The state of a connector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Connector {
    usable: bool,
    isolated: bool,
    configured: bool,
}

pub(super) const AWAY: Connector = Connector { usable: false, isolated: true, configured: false };
pub(super) const HERE: Connector = Connector { usable: true, isolated: false, configured: true };
/// Neither isolated, nor configured: QEMU isolates none of these (`drc_isolate_logical`).
pub(super) const BETWEEN: Connector =
    Connector { usable: true, isolated: false, configured: false };

#[derive(Default)]
pub(super) struct Hypervisor {
    pub(super) logs: VecDeque<Vec<u8>>,
    /// Logs cannot be fetched.
    pub(super) mute: bool,
    pub(super) connectors: BTreeMap<u32, Connector>,
    /// Steps of `ibm,configure-connector` since its work area was filled.
    steps: usize,
    pub(super) buffer: Vec<u8>,
    /// The connector whose configuration fails.
    pub(super) broken: Option<u32>,
    /// The connector that cannot be isolated, and the one that cannot be made unusable, once isolated.
    pub(super) stuck: Option<u32>,
    pub(super) clings: Option<u32>,
    /// No connector can be isolated: the removal request was withdrawn.
    pub(super) withdrawn: bool,
    /// The connector that cannot be un-isolated.
    pub(super) shut: Option<u32>,
    /// How often the next calls of an indicator return that it is busy.
    pub(super) busy: u32,
    /// A log that comes while a block is configured.
    pub(super) meanwhile: Option<Vec<u8>>,
    /// Every change of a connector, in order.
    pub(super) changes: Vec<(u32, u32, u32)>,
    /// Connectors that were un-isolated while configured: the unplug is cancelled.
    pub(super) kept: Vec<u32>,
    pub(super) enabled: Vec<u32>,
    /// The call of a service that fails, once, and calls so far.
    pub(super) fails: Option<u64>,
    pub(super) calls: u64,
}

#[derive(Clone, Default)]
pub(super) struct Fake(pub(super) Rc<RefCell<Hypervisor>>);

impl Hypervisor {
    pub(super) fn connector(&mut self, number: u32) -> &mut Connector {
        self.connectors.entry(number).or_insert(AWAY)
    }

    pub(super) fn set(&mut self, args: &[u32]) -> u32 {
        let &[indicator, number, value] = args else { return u32::MAX };
        if self.busy > 0 {
            self.busy -= 1;
            return 9900;
        }
        let fails = match (indicator, value) {
            (9001, 0) => self.withdrawn || self.stuck == Some(number),
            (9001, 1) => self.shut == Some(number),
            (9003, 0) => self.clings == Some(number),
            _ => false,
        };
        if fails {
            return (-1_i32).cast_unsigned();
        }
        self.changes.push((indicator, number, value));
        let state = *self.connector(number);
        let next = match (indicator, value) {
            (9003, 1) => Connector { usable: true, ..state },
            (9003, 0) if state.isolated => Connector { usable: false, ..state },
            (9001, 1) if state.usable => {
                if state.configured {
                    self.kept.push(number);
                }
                Connector { isolated: false, ..state }
            }
            (9001, 0) if state.configured || state.isolated => {
                Connector { isolated: true, configured: false, ..state }
            }
            _ => return (-3_i32).cast_unsigned(),
        };
        *self.connector(number) = next;
        0
    }

    /// A child, three properties, and the end.
    pub(super) fn configure(&mut self) -> u32 {
        let number = u32::from_be_bytes(*self.buffer.first_chunk().unwrap());
        self.logs.extend(self.meanwhile.take());
        if self.buffer[8..20].iter().all(|&byte| byte == 0) {
            self.steps = 0;
        }
        if self.broken == Some(number) || self.connector(number).isolated {
            return (-9003_i32).cast_unsigned();
        }
        let list = [4, 0, 0, 0, 1_u32].map(u32::to_be_bytes).concat();
        let properties: [(&[u8], &[u8]); 3] = [
            (b"ibm,associativity\0", &list),
            (b"reg\0", &[8, 0, 0, 0]),
            (b"device_type\0", b"memory\0"),
        ];
        let step = self.steps;
        self.steps += 1;
        match step {
            0 => {
                // A child: the work area is in use from now on.
                self.buffer[11] = 64;
                2
            }
            1..=3 => {
                let (name, value) = properties[step - 1];
                for (at, word) in [(8, 64), (12, value.len() as u32), (16, 128)] {
                    self.buffer[at..at + 4].copy_from_slice(&u32::to_be_bytes(word));
                }
                self.buffer[64..64 + name.len()].copy_from_slice(name);
                self.buffer[128..128 + value.len()].copy_from_slice(value);
                3
            }
            _ => {
                self.connector(number).configured = true;
                0
            }
        }
    }
}

/// A [`Services`] whose buffer is a copy of the hypervisor's, exchanged at each call.
pub(super) struct Side {
    pub(super) fake: Fake,
    pub(super) buffer: Vec<u8>,
}

impl Services for Side {
    unsafe fn call(&mut self, token: u32, args: &[u32], rets: &mut [u32]) -> Result<(), NoRtas> {
        let mut hypervisor = self.fake.0.borrow_mut();
        hypervisor.buffer.clone_from(&self.buffer);
        hypervisor.calls += 1;
        if hypervisor.fails == Some(hypervisor.calls) {
            rets[0] = (-1_i32).cast_unsigned();
            return Ok(());
        }
        rets[0] = match (token, args) {
            (CHECK_EXCEPTION, _) if hypervisor.mute => u32::MAX,
            (CHECK_EXCEPTION, &[0x500, 0, 0x5000_0000, 0, 0x1000, 4096]) => {
                match hypervisor.logs.pop_front() {
                    Some(log) => {
                        hypervisor.buffer[..log.len()].copy_from_slice(&log);
                        0
                    }
                    None => 1,
                }
            }
            (SET_INDICATOR, args) => hypervisor.set(args),
            (CONFIGURE, &[0x1000, 0]) => hypervisor.configure(),
            (SET_XIVE, &[_, 0, 5]) => 0,
            (INT_ON, &[source]) => {
                hypervisor.enabled.push(source);
                0
            }
            _ => return Err(NoRtas),
        };
        self.buffer.clone_from(&hypervisor.buffer);
        Ok(())
    }

    fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    fn buffer_address(&self) -> u32 {
        0x1000
    }
}
