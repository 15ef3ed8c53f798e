//! Registers that are plain memory, as `acpiexec` simulates them.

use std::collections::HashMap;

use hotmem_aml::{Aml, AmlError, Arg, Host, HostError, Io, NodeId, Space, Value, Width};

use crate::{Evaluated, Notice};

/// A machine whose registers give back what was written to them.
#[derive(Debug, Default)]
pub struct FlatMemory {
    /// What was notified.
    pub notices: Vec<Notice>,
    fill: u8,
    /// The bytes that were written, by the debug form of their space and address.
    bytes: HashMap<(Space, u64), u8>,
}

impl FlatMemory {
    /// Registers that read as `fill` until they are written.
    #[must_use]
    pub fn new(fill: u8) -> Self {
        Self { fill, ..Self::default() }
    }

    /// The notifications: the last segment of the device's name and the value, sorted.
    #[must_use]
    pub fn notices(&self, aml: &Aml) -> Vec<(String, u64)> {
        let name = |node| aml.name(node).map(|name| name.to_string()).unwrap_or_default();
        let mut list: Vec<_> =
            self.notices.iter().map(|notice| (name(notice.node), notice.value)).collect();
        list.sort();
        list
    }

    /// Writes a register as little-endian bytes.
    pub fn set(&mut self, space: Space, address: u64, width: Width, value: u64) {
        for (n, byte) in (0..u64::from(width.bytes())).zip(value.to_le_bytes()) {
            self.bytes.insert((space, address.wrapping_add(n)), byte);
        }
    }
}

impl Io for FlatMemory {
    fn read(&mut self, space: Space, address: u64, width: Width) -> Result<u64, HostError> {
        let byte = |n: u64| {
            let key = (space, address.wrapping_add(n));
            u64::from(self.bytes.get(&key).copied().unwrap_or(self.fill))
        };
        Ok((0..u64::from(width.bytes())).rev().fold(0, |sum, n| sum << 8 | byte(n)))
    }

    fn write(
        &mut self,
        space: Space,
        address: u64,
        width: Width,
        value: u64,
    ) -> Result<(), HostError> {
        self.set(space, address, width, value);
        Ok(())
    }

    fn stall(&mut self, _microseconds: u64) {}

    fn sleep(&mut self, _milliseconds: u64) {}

    fn timer(&mut self) -> u64 {
        0
    }
}

impl Host for FlatMemory {
    fn io(&mut self) -> &mut dyn Io {
        self
    }

    fn notify(&mut self, node: NodeId, value: u64) {
        self.notices.push(Notice { node, value });
    }
}

/// Evaluates a path and gives the result in the form that [`super::AcpiExec`] gives its own.
/// The error is given too, to be shown when the two differ.
pub fn ask(
    aml: &mut Aml,
    host: &mut dyn Host,
    path: &str,
    args: &[Arg<'_>],
) -> (Evaluated, Option<AmlError>) {
    let Some(node) = aml.find(path) else { return (Evaluated::Failed, None) };
    match aml.evaluate(host, node, args) {
        Ok(value) => (evaluated(value), None),
        Err(error) => (Evaluated::Failed, Some(error)),
    }
}

/// Converts a value to the form of acpiexec's results.
fn evaluated(value: Value<'_>) -> Evaluated {
    match value {
        Value::Nothing => Evaluated::Nothing,
        Value::Integer(value) => Evaluated::Integer(value),
        Value::String(text) => Evaluated::String(text.to_owned()),
        Value::Bytes(bytes) => Evaluated::String(String::from_utf8_lossy(bytes).into_owned()),
        Value::Buffer(bytes) => Evaluated::Buffer(bytes.to_owned()),
        Value::Package(list) => {
            Evaluated::Package((0..list.len()).filter_map(|n| list.get(n)).map(evaluated).collect())
        }
        Value::Node(_) => Evaluated::Reference,
    }
}
