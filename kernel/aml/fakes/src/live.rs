//! A machine of QEMU that runs, whose registers byte code reads and writes.

use hotmem_aml::{Host, HostError, Io, NodeId, Space, Width};

use crate::Notice;
use crate::qtest::Qtest;

/// The machine. It ends when this is dropped.
#[derive(Debug)]
pub struct Live {
    /// What was notified.
    pub notices: Vec<Notice>,
    qemu: Qtest,
}

impl Live {
    pub(super) const fn new(qemu: Qtest) -> Self {
        Self { notices: Vec::new(), qemu }
    }
}

/// The command that reads or writes a register: `out` and a letter for the width, for example.
fn command(space: Space, [port, memory]: [&str; 2], width: Width) -> Result<String, HostError> {
    let letter = match width {
        Width::Byte => 'b',
        Width::Word => 'w',
        Width::Dword => 'l',
        Width::Qword => 'q',
    };
    match space {
        Space::SystemIo if width != Width::Qword => Ok(format!("{port}{letter}")),
        Space::SystemMemory => Ok(format!("{memory}{letter}")),
        _ => Err(HostError::Unsupported),
    }
}

impl Io for Live {
    fn read(&mut self, space: Space, address: u64, width: Width) -> Result<u64, HostError> {
        let command = command(space, ["in", "read"], width)?;
        self.qemu.load(&command, address).map_err(|_| HostError::Unsupported)
    }

    fn write(
        &mut self,
        space: Space,
        address: u64,
        width: Width,
        value: u64,
    ) -> Result<(), HostError> {
        let command = command(space, ["out", "write"], width)?;
        self.qemu.store(&command, address, value).map_err(|_| HostError::Unsupported)
    }

    fn stall(&mut self, _microseconds: u64) {}

    fn sleep(&mut self, _milliseconds: u64) {}

    fn timer(&mut self) -> u64 {
        0
    }
}

impl Host for Live {
    fn io(&mut self) -> &mut dyn Io {
        self
    }

    fn notify(&mut self, node: NodeId, value: u64) {
        self.notices.push(Notice { node, value });
    }
}
