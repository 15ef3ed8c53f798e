//! What evaluation promises beyond right results: bounds, clean ends and messages. The results
//! themselves are compared with ACPICA's in the suites, on tables that compilers made; the
//! tables here are ones that compilers refuse to make.

mod bounds;
mod fuel;
mod lock;
mod machine;
mod skip;

use std::vec;
use std::vec::Vec;

use crate::{Aml, AmlError, ErrorKind, Host, HostError, Io, Limits, NodeId, Space, Width};

/// A machine that logs what is done to it; every register reads as 1.
#[derive(Debug, Default)]
struct Log {
    writes: Vec<(Space, u64, u64)>,
    reads: Vec<(Space, u64)>,
    notices: Vec<(NodeId, u64)>,
    slept: u64,
}

impl Io for Log {
    fn read(&mut self, space: Space, address: u64, _: Width) -> Result<u64, HostError> {
        self.reads.push((space, address));
        Ok(1)
    }

    fn write(&mut self, space: Space, at: u64, _: Width, value: u64) -> Result<(), HostError> {
        self.writes.push((space, at, value));
        Ok(())
    }

    fn stall(&mut self, microseconds: u64) {
        self.slept += microseconds;
    }

    fn sleep(&mut self, milliseconds: u64) {
        self.slept += milliseconds * 1000;
    }

    fn timer(&mut self) -> u64 {
        0
    }
}

impl Host for Log {
    fn io(&mut self) -> &mut dyn Io {
        self
    }

    fn notify(&mut self, node: NodeId, value: u64) {
        self.notices.push((node, value));
    }
}

/// A term whose contents are a package: opcode, length, contents.
fn package(opcode: &[u8], contents: &[&[u8]]) -> Vec<u8> {
    let contents = contents.concat();
    let length = contents.len() as u32 + 3;
    let lead = 0x80 | (length & 0x0F) as u8;
    [opcode, &[lead, (length >> 4) as u8, (length >> 12) as u8], &contents].concat()
}

/// `Method (name, args) { body }`.
fn method(name: &[u8; 4], args: u8, body: &[&[u8]]) -> Vec<u8> {
    package(&[0x14], &[name, &[args], &body.concat()])
}

/// `Device (name) { body }`.
fn device(name: &[u8; 4], body: &[&[u8]]) -> Vec<u8> {
    package(&[0x5B, 0x82], &[name, &body.concat()])
}

/// A table of revision 2 with these terms.
fn table(terms: &[&[u8]]) -> Vec<u8> {
    let mut table = vec![0; 36];
    table[..4].copy_from_slice(b"DSDT");
    table[8] = 2;
    table.extend(terms.concat());
    let length = (table.len() as u32).to_le_bytes();
    table[4..8].copy_from_slice(&length);
    table
}

/// Loads terms.
fn load(terms: &[&[u8]]) -> Result<Aml, AmlError> {
    Aml::load(&mut Log::default(), &[&table(terms)], Limits::DEFAULT)
}

/// Why the first term that loading left out was left out.
fn fault(terms: &[&[u8]]) -> Option<ErrorKind> {
    let aml = load(terms).expect("the other terms load");
    aml.load_report().skipped().first().map(|skipped| skipped.error.kind)
}

/// Evaluates a path to an integer or an error.
fn integer(aml: &mut Aml, path: &str) -> Result<u64, ErrorKind> {
    let node = aml.find(path).expect("the path exists");
    aml.integer(&mut Log::default(), node, &[]).map_err(|error| error.kind)
}
