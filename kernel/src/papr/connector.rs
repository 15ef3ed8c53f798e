//! The connector of a logical memory block, and the services by which its state changes (LoPAR 13.5).
//!
//! ```text
//!   unusable, isolated --allocate--> usable --unisolate--> --configure--> configured
//!                      <--unusable--        <--isolate---------------------/
//! ```

use super::board::Tokens;
use alloc::vec::Vec;
use core::fmt;
use hotmem_arch::rtas::NoRtas;

/// Indicators (LoPAR, table 42).
const ISOLATION_STATE: u32 = 9001;
const ALLOCATION_STATE: u32 = 9003;
const ISOLATE: u32 = 0;
const UNISOLATE: u32 = 1;
const UNUSABLE: u32 = 0;
const USABLE: u32 = 1;
/// What `ibm,configure-connector` answers (LoPAR 13.5.3.5): done, or what its work area holds.
const CONFIGURED: u32 = 0;
const NEXT_PROPERTY: u32 = 3;
const LAST_STEP: u32 = 5;
/// Bytes of its work area.
const WORK_AREA: usize = 4096;
/// Steps before it is given up: a node of memory takes four.
const STEPS: usize = 64;
/// Entries of an associativity list, at the most.
const LIST: usize = 16;

/// Run-time services, and memory to exchange larger things by.
pub trait Services {
    /// Calls the service `token`, and fills in its results, of which the first is a status.
    ///
    /// # Errors
    ///
    /// [`NoRtas`] if the call was not taken.
    fn call(&mut self, token: u32, args: &[u32], rets: &mut [u32]) -> Result<(), NoRtas>;

    /// The memory at [`buffer_address`](Self::buffer_address), 4 KiB at least.
    fn buffer(&mut self) -> &mut [u8];

    /// The physical address of the buffer.
    fn buffer_address(&self) -> u32;
}

/// Why a connector did not change its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectorError {
    /// Firmware does not have the service.
    NoService(&'static str),
    /// The service failed.
    Failed {
        /// Which.
        service: &'static str,
        /// Its status.
        status: i32,
        /// For which connector.
        connector: u32,
    },
}

impl fmt::Display for ConnectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoService(service) => write!(f, "firmware has no {service}"),
            Self::Failed { service, status, connector } => {
                write!(f, "{service} failed for connector {connector:#x} (status {status})")
            }
        }
    }
}

/// Calls a service whose only result is its status; answers that.
pub(super) fn status(
    services: &mut impl Services,
    service: &'static str,
    token: Option<u32>,
    args: &[u32],
) -> Result<u32, ConnectorError> {
    let mut rets = [u32::MAX];
    let done = services.call(token.ok_or(ConnectorError::NoService(service))?, args, &mut rets);
    done.map_err(|NoRtas| ConnectorError::NoService(service))?;
    Ok(rets[0])
}

fn set(
    services: &mut impl Services,
    tokens: &Tokens,
    indicator: u32,
    connector: u32,
    value: u32,
) -> Result<(), ConnectorError> {
    let service = "set-indicator";
    match status(services, service, tokens.set_indicator, &[indicator, connector, value])? {
        0 => Ok(()),
        other => Err(ConnectorError::Failed { service, status: other.cast_signed(), connector }),
    }
}

/// Takes the block behind `connector`; answers its associativity list. On failure it is as before.
pub(super) fn take(
    services: &mut impl Services,
    tokens: &Tokens,
    connector: u32,
) -> Result<Vec<u32>, ConnectorError> {
    set(services, tokens, ALLOCATION_STATE, connector, USABLE)?;
    let taken = set(services, tokens, ISOLATION_STATE, connector, UNISOLATE)
        .and_then(|()| configure(services, tokens, connector));
    if taken.is_err() {
        // What failed half-way is undone as far as firmware lets; the first error is the one to tell.
        let _ = give(services, tokens, connector);
    }
    taken
}

/// Gives the block behind `connector` to the hypervisor.
pub(super) fn give(
    services: &mut impl Services,
    tokens: &Tokens,
    connector: u32,
) -> Result<(), ConnectorError> {
    set(services, tokens, ISOLATION_STATE, connector, ISOLATE)?;
    set(services, tokens, ALLOCATION_STATE, connector, UNUSABLE)
}

/// Tells the hypervisor that the block behind `connector`, which is configured, stays: it cancels the
/// unplugging of the whole device. To be called before a block of it was isolated.
pub(super) fn keep(
    services: &mut impl Services,
    tokens: &Tokens,
    connector: u32,
) -> Result<(), ConnectorError> {
    set(services, tokens, ISOLATION_STATE, connector, UNISOLATE)
}

/// Has firmware describe the block: node by node, property by property.
fn configure(
    services: &mut impl Services,
    tokens: &Tokens,
    connector: u32,
) -> Result<Vec<u32>, ConnectorError> {
    let service = "ibm,configure-connector";
    let area = services.buffer_address();
    let memory = services.buffer();
    memory.fill(0);
    if let Some(first) = memory.first_chunk_mut() {
        *first = connector.to_be_bytes();
    }
    let mut list = Vec::new();
    for _ in 0..STEPS {
        match status(services, service, tokens.configure_connector, &[area, 0])? {
            CONFIGURED => return Ok(list),
            NEXT_PROPERTY => {
                if let Some(found) = associativity(services.buffer()) {
                    list = found;
                }
            }
            step if step <= LAST_STEP => {}
            other => {
                let status = other.cast_signed();
                return Err(ConnectorError::Failed { service, status, connector });
            }
        }
    }
    Err(ConnectorError::Failed { service, status: 0, connector })
}

/// The property in the work area, if it is an associativity list: words 2, 3 and 4 say where its name
/// is, how long it is, and where it is.
fn associativity(area: &[u8]) -> Option<Vec<u32>> {
    let area = area.get(..WORK_AREA)?;
    let word = |at: usize| area.get(at..)?.first_chunk().copied().map(u32::from_be_bytes);
    let [name, len, data] = [word(8)?, word(12)?, word(16)?].map(|word| word as usize);
    if !area.get(name..)?.starts_with(b"ibm,associativity\0") {
        return None;
    }
    let bytes = area.get(data..)?.get(..len)?;
    Some(bytes.as_chunks().0.iter().take(LIST).map(|&word| u32::from_be_bytes(word)).collect())
}
