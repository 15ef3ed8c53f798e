//! What the kernel supports, reported to firmware before any device is used: firmware may turn off what the
//! kernel does not report. A machine without these methods gets no report.

use hotmem_aml::{Aml, AmlError, Arg, ErrorKind, Host, NodeId, NodeKind};

/// The identifier of the platform-wide capabilities (ACPI 6.5, 6.2.12.2):
/// 0811b06e-4a27-44f9-8d60-3cbbc22e7b48, in the order of bytes that ACPI gives UUIDs.
const PLATFORM: [u8; 16] = [
    0x6E, 0xB0, 0x11, 0x08, 0x27, 0x4A, 0xF9, 0x44, 0x8D, 0x60, 0x3C, 0xBB, 0xC2, 0x2E, 0x7B, 0x48,
];
/// The layout of the capabilities.
const REVISION: u64 = 1;
/// `_OST` is evaluated when devices come and go.
const HOTPLUG_OST: u32 = 1 << 3;
/// Generic event devices are used.
const EVENT_DEVICES: u32 = 1 << 11;
/// Bits of the first double word that `_OSC` returns: all but the query bit report errors.
const COMPLAINTS: u32 = 0x1E;

/// The interrupt model of `\_PIC`: I/O APICs (ACPI 6.5, 5.8.1).
const IO_APICS: u64 = 1;

/// Says what the kernel supports: `\_SB._OSC`. That comes before `_INI`, which may depend on it.
///
/// There are two double words, and firmware of some makers fails unless there is a third, as for a host
/// bridge.
pub(super) fn capabilities(aml: &mut Aml, host: &mut dyn Host) {
    let Some(method) = aml.find("\\_SB._OSC") else { return };
    let [a, b, c, d] = (HOTPLUG_OST | EVENT_DEVICES).to_le_bytes();
    let buffer = [0, 0, 0, 0, a, b, c, d, 0, 0, 0, 0];
    let two = claim(aml, host, method, buffer.get(..8).unwrap_or(&buffer));
    let claimed = match two {
        Err(AmlError { kind: ErrorKind::OutOfBounds, .. }) => claim(aml, host, method, &buffer),
        other => other,
    };
    match claimed {
        Ok(status) if status & COMPLAINTS != 0 => {
            log::debug!("acpi: \\_SB._OSC says {status:#x} to what the kernel supports");
        }
        Ok(_) => {}
        Err(error) => log_failure("\\_SB._OSC", &error),
    }
}

/// Calls `_OSC` with double words. Returns the first one as `_OSC` left it.
fn claim(
    aml: &mut Aml,
    host: &mut dyn Host,
    method: NodeId,
    buffer: &[u8],
) -> Result<u32, AmlError> {
    let count = Arg::Integer(buffer.len() as u64 / 4);
    let args = [Arg::Buffer(&PLATFORM), Arg::Integer(REVISION), count, Arg::Buffer(buffer)];
    let value = aml.evaluate(host, method, &args)?;
    let status = value.buffer().and_then(|bytes| bytes.first_chunk());
    Ok(status.map_or(0, |bytes| u32::from_le_bytes(*bytes)))
}

/// Says that interrupts come by I/O APICs: `\_PIC`.
pub(super) fn io_apics(aml: &mut Aml, host: &mut dyn Host) {
    let method = aml.find("\\_PIC").filter(|&node| matches!(aml.kind(node), NodeKind::Method(_)));
    let Some(method) = method else { return };
    if let Err(error) = aml.evaluate(host, method, &[Arg::Integer(IO_APICS)]).map(drop) {
        log_failure("\\_PIC", &error);
    }
}

/// Logs that a method failed: hotplug may still work.
fn log_failure(method: &str, error: &AmlError) {
    log::warn!("acpi: {method}: {error}");
}
