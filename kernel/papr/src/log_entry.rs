//! A log of `check-exception` (LoPAR 10.3.2.2.2, and 10.3.2.2.14 for its hotplug section).

use super::pieces::Piece;

/// Bytes of the fixed part, and of the extended log's header behind it.
const FIXED: usize = 8;
const HEADER: usize = 16;
/// The hotplug section is "HP", that of environment and power warnings "EP" (LoPAR 10.3.2.2.8).
const HOTPLUG: u16 = 0x4850;
const POWER: u16 = 0x4550;
const MEMORY: u8 = 2;
/// The identifier of what is plugged: its name, one connector, a count of blocks that the kernel may
/// choose, or a count and the first connector.
const BY_NAME: u8 = 1;
const BY_CONNECTOR: u8 = 2;
const BY_COUNT: u8 = 3;
const BY_COUNT_AND_CONNECTOR: u8 = 4;

/// The requested action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Take memory into use.
    Add,
    /// Give memory up.
    Remove,
}

/// A hotplug event of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryEvent {
    /// The requested action.
    pub action: Action,
    /// The memory that it is about.
    pub piece: Piece,
}

hotmem::errors! {
    /// Why the kernel cannot use a log.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum LogError {
        /// It ends too soon.
        Short => "an event log ends too soon",
        /// No section of it is about hotplug.
        NoHotplug => "an event log is not about hotplug",
        /// Its hotplug section is about another resource.
        NotMemory(kind: u8) => "hotplug of resource type {kind}, not memory",
        /// It is about power: an operator wants the machine to shut down, say. What is to be done, by the reference's number.
        Power(action: u8) => "EPOW action {action}",
        /// It says by a name or by a count alone what is plugged, so that the kernel would have to choose. A
        /// hypervisor that agreed to hotplug events names connectors.
        NoConnector {
            /// The requested action.
            action: Action,
            /// Whether there is a name.
            by_name: bool,
        } => { f => {
            let action = match action {
                Action::Add => "add",
                Action::Remove => "remove",
            };
            let how = if *by_name { "a name" } else { "a count" };
            write!(f, "a request to {action} memory by {how}, without a connector, is refused")
        } },
        /// An action or an identifier that is not known.
        Unknown {
            /// The action.
            action: u8,
            /// The kind of identifier.
            identifier: u8,
        } => "hotplug action {action} with an identifier of kind {identifier}",
    }
}

impl MemoryEvent {
    /// Reads a log.
    ///
    /// # Errors
    ///
    /// [`LogError`]
    pub fn read(log: &[u8]) -> Result<Self, LogError> {
        let extended = half_long(log, 4).ok_or(LogError::Short)? as usize;
        let end = FIXED.saturating_add(extended).min(log.len());
        let mut rest = log.get(FIXED + HEADER..end).ok_or(LogError::Short)?;
        while let Some(len) = short(rest, 2).map(usize::from) {
            // A section is at least as long as its own header.
            let section = rest.get(..len).filter(|section| section.len() >= 8);
            let section = section.ok_or(LogError::Short)?;
            match short(section, 0) {
                Some(HOTPLUG) => return Self::hotplug(section),
                Some(POWER) => {
                    // The low half of the first byte behind the header.
                    let action = *section.get(8).ok_or(LogError::Short)? & 0xf;
                    return Err(LogError::Power(action));
                }
                _ => {}
            }
            rest = rest.get(len..).unwrap_or(&[]);
        }
        Err(LogError::NoHotplug)
    }

    fn hotplug(section: &[u8]) -> Result<Self, LogError> {
        let Some(&[resource, action, identifier, _]) = section.get(8..12) else {
            return Err(LogError::Short);
        };
        if resource != MEMORY {
            return Err(LogError::NotMemory(resource));
        }
        let word = |at| half_long(section, at).ok_or(LogError::Short);
        let unknown = LogError::Unknown { action, identifier };
        let action = match action {
            1 => Action::Add,
            2 => Action::Remove,
            _ => return Err(unknown),
        };
        let (connector, count) = match identifier {
            BY_CONNECTOR => (word(12)?, 1),
            BY_COUNT_AND_CONNECTOR => (word(16)?, word(12)?),
            BY_NAME | BY_COUNT => {
                return Err(LogError::NoConnector { action, by_name: identifier == BY_NAME });
            }
            _ => return Err(unknown),
        };
        let piece = Piece { connector, count };
        if count == 0 { Err(unknown) } else { Ok(Self { action, piece }) }
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

fn half_long(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}
