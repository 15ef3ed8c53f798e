//! Device interrupts: routed as firmware says, noted by the handler, served by the main loop.
//!
//! ```text
//!   line --> I/O APIC --> vector --> handler: tell whom it is for, mask a level line
//!                                    main loop: serve, unmask
//! ```
//!
//! The handler does nothing else: it takes no lock that anything else holds with interrupts on.

// UNSAFETY: maps the interrupt controllers' registers.
#![expect(unsafe_code)]

use crate::acpi::{Latch, Line, Madt, Polarity, Trigger};
use crate::memory::{KernelTables, Window};
use alloc::vec::Vec;
use core::fmt;
use hotmem::paging::MapError;
use hotmem::{PhysAddr, PhysRange};
use hotmem_arch::current::apic::{self, IO_APIC_BYTES, IoApic, LOCAL_APIC_BYTES, LocalApic, Route};
use hotmem_arch::current::trap::{FIRST_DEVICE, SPURIOUS, VECTORS};
use hotmem_arch::current::{cpu, pic};
use spin::Mutex;

/// Interrupts that can be connected: one for each device vector.
const COUNT: usize = VECTORS - FIRST_DEVICE as usize;

/// What ACPI's lines set when they interrupt.
pub static ACPI_LINES: Latch = Latch::new();
static CONTROLLERS: Mutex<Option<Controllers>> = Mutex::new(None);

/// Whom an interrupt is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The main loop, which looks by itself once it is awake.
    Wake,
    /// The line of ACPI's with this index.
    Acpi(usize),
}

/// Why an interrupt could not be connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectError {
    /// The controllers' registers could not be mapped.
    Map(MapError),
    /// No I/O APIC has an input for this global system interrupt.
    NoInput(Line),
    /// Every vector is taken.
    NoVector(Line),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Map(error) => error.fmt(f),
            Self::NoInput(line) => write!(f, "no I/O APIC has an input for {line}"),
            Self::NoVector(line) => write!(f, "no vector left for {line}"),
        }
    }
}

impl From<MapError> for ConnectError {
    fn from(error: MapError) -> Self {
        Self::Map(error)
    }
}

struct Controllers {
    local: LocalApic<Window>,
    /// Each I/O APIC and the global system interrupt of its first input.
    io: Vec<(IoApic<Window>, u32)>,
    connected: Vec<(Line, Target)>,
}

impl Controllers {
    /// The I/O APIC and its input that `line` ends in.
    fn input(&self, line: Line) -> Option<(&IoApic<Window>, u32)> {
        self.io.iter().find_map(|(apic, base)| {
            let input = line.gsi.checked_sub(*base)?;
            (input < apic.inputs()).then_some((apic, input))
        })
    }

    fn set_masked(&self, line: Line, masked: bool) {
        if let Some((apic, input)) = self.input(line) {
            apic.set_masked(input, masked);
        }
    }
}

/// Runs `f` on the controllers, with interrupts off: the handler uses them too.
fn with<R>(f: impl FnOnce(&mut Controllers) -> R) -> Option<R> {
    cpu::without_interrupts(|| CONTROLLERS.lock().as_mut().map(f))
}

fn registers(at: PhysAddr, bytes: u64, tables: &KernelTables) -> Result<Window, MapError> {
    let range = PhysRange::new(at, bytes).unwrap_or_default();
    // SAFETY: the MADT says that an APIC is there; what is done to it is what APICs are for.
    unsafe { Window::map(range, tables) }
}

/// Takes over the interrupt controllers the MADT names, with everything masked.
///
/// # Errors
///
/// [`ConnectError::Map`] if their registers cannot be mapped.
pub fn init(madt: &Madt<'_>, tables: &KernelTables) -> Result<(), ConnectError> {
    pic::mask_all();
    let mut io = Vec::new();
    for controller in madt.io_apics() {
        let window = registers(controller.address, IO_APIC_BYTES, tables)?;
        io.push((IoApic::masked(window), controller.gsi_base));
    }
    let window = registers(madt.local_apic(), LOCAL_APIC_BYTES, tables)?;
    let local = LocalApic::enable(window, SPURIOUS);
    let controllers = Controllers { local, io, connected: Vec::new() };
    cpu::without_interrupts(|| *CONTROLLERS.lock() = Some(controllers));
    Ok(())
}

/// Lets `line` interrupt, and `target` know of it.
///
/// # Errors
///
/// [`ConnectError`] if there is no such input, or no vector left.
pub fn connect(line: Line, target: Target) -> Result<(), ConnectError> {
    let no_input = Err(ConnectError::NoInput(line));
    with(|controllers| {
        let (destination, number) = (controllers.local.id(), controllers.connected.len());
        if number >= COUNT {
            return Err(ConnectError::NoVector(line));
        }
        let Some((apic, input)) = controllers.input(line) else { return no_input };
        let vector = FIRST_DEVICE + number as u8;
        let trigger = match line.trigger {
            Trigger::Edge => apic::Trigger::Edge,
            Trigger::Level => apic::Trigger::Level,
        };
        let polarity = match line.polarity {
            Polarity::ActiveHigh => apic::Polarity::High,
            Polarity::ActiveLow => apic::Polarity::Low,
        };
        let route = Route { vector, destination, trigger, polarity };
        apic.route(input, route).map_err(|_| ConnectError::NoInput(line))?;
        controllers.connected.push((line, target));
        Ok(())
    })
    .unwrap_or(no_input)
}

/// Called by the trap handler, with interrupts off.
pub(crate) fn handle(vector: u8) {
    let now = cpu::timestamp();
    let Some(controllers) = &*CONTROLLERS.lock() else { return };
    let number = usize::from(vector.wrapping_sub(FIRST_DEVICE));
    if let Some(&(line, target)) = controllers.connected.get(number) {
        if line.trigger == Trigger::Level {
            controllers.set_masked(line, true);
        }
        if let Target::Acpi(index) = target {
            ACPI_LINES.raise(index, now);
        }
    }
    controllers.local.end_of_interrupt();
}

/// Lets a level-triggered line interrupt again, now that its cause was served.
pub fn unmask(line: Line) {
    let _ = with(|controllers| controllers.set_masked(line, false));
}
