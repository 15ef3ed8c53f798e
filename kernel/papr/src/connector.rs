//! The connector of a logical memory block, and the services by which its state changes (LoPAR 13.5).
//!
//! ```text
//!   unusable, isolated --allocate--> usable --unisolate--> --configure--> configured
//!                      <--unusable--        <--isolate---------------------/
//! ```

// UNSAFETY: calls the services, which write to memory.
#![expect(unsafe_code)]

use super::board::Tokens;

/// Firmware did not take the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRtas;

/// The status for an indicator that does not exist; also for a connector with nothing behind it
/// (LoPAR 13.5.3.4).
const NO_SUCH_INDICATOR: i32 = -3;
/// The status for isolating a block whose removal the hypervisor did not request (QEMU's
/// `drc_isolate_logical`), and for every hardware error.
const NOT_WANTED: i32 = -1;
const SET_INDICATOR: &str = "set-indicator";
/// Indicators (LoPAR, table 42).
const ISOLATION_STATE: u32 = 9001;
const ALLOCATION_STATE: u32 = 9003;
const ISOLATE: u32 = 0;
const UNISOLATE: u32 = 1;
const UNUSABLE: u32 = 0;
const USABLE: u32 = 1;
/// What `ibm,configure-connector` returns (LoPAR 13.5.3.5): done, or what its work area holds.
const CONFIGURED: u32 = 0;
const NEXT_PROPERTY: u32 = 3;
const LAST_STEP: u32 = 5;
/// Bytes of its work area.
const WORK_AREA: usize = 4096;
/// Calls of a service that is always busy.
const PATIENCE: u32 = 1 << 20;
/// Steps before it is given up: a node of memory takes four.
const STEPS: usize = 64;
/// Words of an associativity list that are kept: the length, and five levels of nesting are usual.
const LIST: usize = 16;

/// An associativity list: its length first, then the domains that the resource is in, the largest first
/// (LoPAR C.6.3). On the stack, so that events need no heap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Associativity {
    words: [u32; LIST],
    len: usize,
}

impl Associativity {
    /// The words of a property; what does not fit is cut off.
    fn read(bytes: &[u8]) -> Self {
        let mut list = Self::default();
        for (slot, &word) in list.words.iter_mut().zip(bytes.as_chunks().0) {
            *slot = u32::from_be_bytes(word);
            list.len += 1;
        }
        list
    }

    /// The words that are there.
    pub(super) fn as_slice(&self) -> &[u32] {
        self.words.get(..self.len).unwrap_or_default()
    }
}

/// Run-time services, and memory to exchange larger things by.
pub trait Services {
    /// Calls the service `token`, and fills in its results, of which the first is a status.
    ///
    /// # Safety
    ///
    /// With these arguments the service writes to no memory but the [buffer](Self::buffer), and takes no memory away
    /// that is in use.
    ///
    /// # Errors
    ///
    /// [`NoRtas`] if the call was not taken.
    unsafe fn call(&mut self, token: u32, args: &[u32], rets: &mut [u32]) -> Result<(), NoRtas>;

    /// The memory at [`buffer_address`](Self::buffer_address), 4 KiB at least.
    fn buffer(&mut self) -> &mut [u8];

    /// The physical address of the buffer.
    fn buffer_address(&self) -> u32;
}

hotmem::errors! {
    /// Why a connector did not change its state.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum ConnectorError {
        /// Firmware does not have the service.
        NoService(service: &'static str) => "firmware has no {service}",
        /// The service failed.
        Failed {
            /// Which.
            service: &'static str,
            /// Its status.
            status: i32,
            /// For which connector.
            connector: u32,
        } => "{service} failed for connector {connector:#x} (status {status})",
        /// The hypervisor does not request the block of this connector: its request was cancelled meanwhile.
        NotWanted(connector: u32) =>
            "the hypervisor does not want connector {connector:#x} back any more (status {NOT_WANTED})",
    }
}

impl ConnectorError {
    /// A block that the hypervisor wants cannot be isolated.
    pub(super) fn not_isolated(connector: u32) -> Self {
        Self::Failed { service: SET_INDICATOR, status: NOT_WANTED, connector }
    }

    /// Whether there is nothing behind the connector, or nothing that may be taken.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Failed { service: SET_INDICATOR, status: NO_SUCH_INDICATOR, .. })
    }
}

/// Calls a service whose only result is its status, and returns that. A service that is busy is called
/// again, a bounded number of times.
pub(super) fn status(
    services: &mut impl Services,
    service: &'static str,
    token: Option<u32>,
    args: &[u32],
) -> Result<u32, ConnectorError> {
    let token = token.ok_or(ConnectorError::NoService(service))?;
    let mut rets = [u32::MAX];
    for _ in 0..PATIENCE {
        // SAFETY: the callers, all in this crate, name services of the device tree. Two of them write to memory,
        // `check-exception` and `ibm,configure-connector`: they get the address of the buffer, and the first its length.
        // A connector is isolated when the driver has given its memory up.
        let done = unsafe { services.call(token, args, &mut rets) };
        done.map_err(|NoRtas| ConnectorError::NoService(service))?;
        if !is_busy(rets[0]) {
            break;
        }
    }
    Ok(rets[0])
}

/// Whether a status asks for the same call once more: busy, or busy for about 10^(status - 9900)
/// milliseconds (LoPAR, table 11).
fn is_busy(status: u32) -> bool {
    matches!(status.cast_signed(), -2 | 9900..=9905)
}

/// The connector of a block, and the services by which its state changes.
pub(super) struct Connector<'s, S> {
    services: &'s mut S,
    tokens: &'s Tokens,
    number: u32,
}

impl<'s, S: Services> Connector<'s, S> {
    pub(super) const fn new(services: &'s mut S, tokens: &'s Tokens, number: u32) -> Self {
        Self { services, tokens, number }
    }

    fn set(&mut self, indicator: u32, value: u32) -> Result<(), ConnectorError> {
        let (service, connector) = (SET_INDICATOR, self.number);
        let args = [indicator, connector, value];
        match status(self.services, service, self.tokens.set_indicator, &args)? {
            0 => Ok(()),
            other => {
                Err(ConnectorError::Failed { service, status: other.cast_signed(), connector })
            }
        }
    }

    /// Makes the block usable: the first step of taking it.
    pub(super) fn allow(&mut self) -> Result<(), ConnectorError> {
        self.set(ALLOCATION_STATE, USABLE)
    }

    /// Takes the block, which is usable; returns its associativity list. A hypervisor that has requested the block
    /// takes this for a refusal, so all blocks of a device have to be usable before.
    pub(super) fn take(&mut self) -> Result<Associativity, ConnectorError> {
        self.set(ISOLATION_STATE, UNISOLATE)?;
        self.configure()
    }

    /// Gives the block to the hypervisor. After an error its state is as before: a block that can neither be given
    /// nor taken again counts as gone.
    pub(super) fn give(&mut self) -> Result<(), ConnectorError> {
        self.isolate().map_err(|error| match error {
            ConnectorError::Failed { status: NOT_WANTED, connector, .. } => {
                ConnectorError::NotWanted(connector)
            }
            other => other,
        })?;
        let Err(error) = self.forbid() else { return Ok(()) };
        match self.take() {
            Ok(_) => Err(error),
            Err(again) => {
                log::error!("a block cannot be used again: {again}, after {error}");
                Ok(())
            }
        }
    }

    /// Isolates the block, which is configured: the first step of giving it.
    pub(super) fn isolate(&mut self) -> Result<(), ConnectorError> {
        self.set(ISOLATION_STATE, ISOLATE)
    }

    /// Makes the block, which is isolated, unusable: the last step of giving it.
    pub(super) fn forbid(&mut self) -> Result<(), ConnectorError> {
        self.set(ALLOCATION_STATE, UNUSABLE)
    }

    /// Reports to the hypervisor that the block, which is configured, stays: the hypervisor cancels the unplug of
    /// the whole device. Only call this while no block of the device is gone: otherwise the hypervisor is left with
    /// half a device, and QEMU exits at the next request for it.
    pub(super) fn keep(&mut self) -> Result<(), ConnectorError> {
        self.set(ISOLATION_STATE, UNISOLATE)
    }

    /// Has firmware describe the block: node by node, property by property.
    pub(super) fn configure(&mut self) -> Result<Associativity, ConnectorError> {
        let (service, connector) = ("ibm,configure-connector", self.number);
        let area = self.services.buffer_address();
        let memory = self.services.buffer();
        memory.fill(0);
        if let Some(first) = memory.first_chunk_mut() {
            *first = connector.to_be_bytes();
        }
        let mut list = Associativity::default();
        for _ in 0..STEPS {
            match status(self.services, service, self.tokens.configure_connector, &[area, 0])? {
                CONFIGURED => return Ok(list),
                NEXT_PROPERTY => {
                    if let Some(found) = associativity(self.services.buffer()) {
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
}

/// The property in the work area, if it is an associativity list: words 2, 3 and 4 say where its name
/// is, how long it is, and where it is.
fn associativity(area: &[u8]) -> Option<Associativity> {
    let area = area.get(..WORK_AREA)?;
    let word = |at: usize| area.get(at..)?.first_chunk().copied().map(u32::from_be_bytes);
    let [name, len, data] = [word(8)?, word(12)?, word(16)?].map(|word| word as usize);
    if !area.get(name..)?.starts_with(b"ibm,associativity\0") {
        return None;
    }
    Some(Associativity::read(area.get(data..)?.get(..len)?))
}
