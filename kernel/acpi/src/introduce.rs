//! What the kernel tells firmware of itself before it uses anything: firmware may do without what nobody
//! says that they understand. A machine that does not ask is told nothing.

use hotmem_aml::{Aml, AmlError, Arg, Host, NodeKind};

/// The identifier of the platform-wide capabilities (ACPI 6.5, 6.2.12.2):
/// 0811b06e-4a27-44f9-8d60-3cbbc22e7b48, in the order of bytes that ACPI gives UUIDs.
const PLATFORM: [u8; 16] = [
    0x6E, 0xB0, 0x11, 0x08, 0x27, 0x4A, 0xF9, 0x44, 0x8D, 0x60, 0x3C, 0xBB, 0xC2, 0x2E, 0x7B, 0x48,
];
/// The layout of the capabilities, and how many double words there are.
const REVISION: u64 = 1;
const COUNT: u64 = 2;
/// `_OST` is evaluated when devices come and go.
const HOTPLUG_OST: u32 = 1 << 3;
/// Generic event devices are used.
const EVENT_DEVICES: u32 = 1 << 11;
/// Bits of the first double word that come back: all but the query bit are complaints.
const COMPLAINTS: u32 = 0x1E;

/// The interrupt model of `\_PIC`: I/O APICs (ACPI 6.5, 5.8.1).
const IO_APICS: u64 = 1;

/// Says what the kernel supports: `\_SB._OSC`. That comes before `_INI`, which may depend on it.
pub(super) fn capabilities(aml: &mut Aml, host: &mut dyn Host) {
    let Some(method) = aml.find("\\_SB._OSC") else { return };
    let mut buffer = [0; 8];
    if let Some(supported) = buffer.get_mut(4..) {
        supported.copy_from_slice(&(HOTPLUG_OST | EVENT_DEVICES).to_le_bytes());
    }
    let args =
        [Arg::Buffer(&PLATFORM), Arg::Integer(REVISION), Arg::Integer(COUNT), Arg::Buffer(&buffer)];
    match aml.evaluate(host, method, &args) {
        Ok(value) => {
            let status = value.buffer().and_then(|bytes| bytes.first_chunk());
            let status = status.map_or(0, |bytes| u32::from_le_bytes(*bytes));
            if status & COMPLAINTS != 0 {
                log::debug!("acpi: \\_SB._OSC says {status:#x} to what the kernel supports");
            }
        }
        Err(error) => tell("\\_SB._OSC", &error),
    }
}

/// Says that interrupts come by I/O APICs: `\_PIC`.
pub(super) fn io_apics(aml: &mut Aml, host: &mut dyn Host) {
    let method = aml.find("\\_PIC").filter(|&node| matches!(aml.kind(node), NodeKind::Method(_)));
    let Some(method) = method else { return };
    if let Err(error) = aml.evaluate(host, method, &[Arg::Integer(IO_APICS)]).map(drop) {
        tell("\\_PIC", &error);
    }
}

/// Says that firmware could not be told: it may still work.
fn tell(method: &str, error: &AmlError) {
    log::warn!("acpi: {method}: {error}");
}
