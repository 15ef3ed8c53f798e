//! Hardware identifiers: `_HID` and `_CID`.

use core::fmt;

use crate::aml::Aml;
use crate::error::AmlError;
use crate::host::Host;
use crate::name::NodeId;
use crate::value::Value;

/// An identifier such as `PNP0C80` or `ACPI0013`, whichever way the table writes it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HardwareId {
    bytes: [u8; Self::LONGEST],
    len: u8,
}

impl HardwareId {
    /// Longest identifier; ACPI's have seven or eight characters (ACPI 6.5, 6.1.5).
    const LONGEST: usize = 16;

    /// Decodes a compressed EISA identifier: three letters of five bits and four hexadecimal
    /// digits, big-endian in a 32-bit integer (ACPI 6.5, 19.3.4).
    #[must_use]
    pub fn from_eisa(id: u32) -> Self {
        let id = id.swap_bytes();
        let letter = |shift: u32| b'@'.wrapping_add((id >> shift & 0x1F) as u8);
        let digit = |shift: u32| match (id >> shift & 0xF) as u8 {
            value @ 0..=9 => b'0' + value,
            value => b'A' + value - 10,
        };
        let mut bytes = [0; Self::LONGEST];
        let text = [letter(26), letter(21), letter(16), digit(12), digit(8), digit(4), digit(0)];
        for (to, from) in bytes.iter_mut().zip(text) {
            *to = from;
        }
        Self { bytes, len: text.len() as u8 }
    }

    /// Takes an identifier written as a string, or `None` if it is too long to be one.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let mut bytes = [0; Self::LONGEST];
        bytes.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
        Some(Self { bytes, len: text.len() as u8 })
    }

    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.len)).unwrap_or_default();
        core::str::from_utf8(bytes).unwrap_or_default()
    }

    /// The identifier that a value stands for.
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Integer(id) => u32::try_from(id).ok().map(Self::from_eisa),
            Value::String(text) => Self::from_text(text),
            _ => None,
        }
    }
}

impl fmt::Display for HardwareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for HardwareId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Aml {
    /// Whether a device's `_HID` or one of its `_CID`s is `id`, such as `PNP0C80`.
    ///
    /// # Errors
    /// As [`Self::evaluate`]: both may be methods.
    pub fn has_id(
        &mut self,
        host: &mut dyn Host,
        device: NodeId,
        id: &str,
    ) -> Result<bool, AmlError> {
        matches(self, host, device, id)
    }

    /// A device's `_HID`. `Ok(None)` if it has none, or its value is not an identifier.
    ///
    /// # Errors
    /// As [`Self::evaluate`].
    pub fn hid(
        &mut self,
        host: &mut dyn Host,
        device: NodeId,
    ) -> Result<Option<HardwareId>, AmlError> {
        hid(self, host, device)
    }
}

/// A device's `_HID`, if it has one.
fn hid(aml: &mut Aml, host: &mut dyn Host, device: NodeId) -> Result<Option<HardwareId>, AmlError> {
    match aml.child(device, "_HID") {
        Some(node) => Ok(HardwareId::from_value(aml.evaluate(host, node, &[])?)),
        None => Ok(None),
    }
}

/// Whether `_HID`, `_CID` or an element of `_CID` is `id`.
fn matches(aml: &mut Aml, host: &mut dyn Host, device: NodeId, id: &str) -> Result<bool, AmlError> {
    for name in ["_HID", "_CID"] {
        let Some(node) = aml.child(device, name) else {
            continue;
        };
        let found = match aml.evaluate(host, node, &[])? {
            Value::Package(list) => {
                (0..list.len()).filter_map(|n| list.get(n)).any(|value| is(value, id))
            }
            value => is(value, id),
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a value is the identifier `id`.
fn is(value: Value<'_>, id: &str) -> bool {
    // Real firmware writes "pnp0c14" and "*PNP0C14", too; the asterisk once marked identifiers as ACPI's.
    HardwareId::from_value(value).is_some_and(|found| {
        let found = found.as_str();
        found.strip_prefix('*').unwrap_or(found).eq_ignore_ascii_case(id)
    })
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::{HardwareId, is};
    use crate::value::Value;

    #[test]
    fn identifiers_are_known_in_the_spellings_that_firmware_uses() {
        for text in ["PNP0C80", "pnp0c80", "*PNP0C80", "*pnp0c80"] {
            assert!(is(Value::String(text), "PNP0C80"), "{text}");
        }
        for text in ["PNP0C8", "**PNP0C80", "PNP0C80*", ""] {
            assert!(!is(Value::String(text), "PNP0C80"), "{text}");
        }
    }

    #[test]
    fn eisa_identifiers_are_decoded() {
        assert_eq!(HardwareId::from_eisa(0x800C_D041).as_str(), "PNP0C80");
        assert_eq!(HardwareId::from_eisa(0x030A_D041).as_str(), "PNP0A03");
    }

    #[test]
    fn a_string_too_long_for_an_identifier_is_not_an_identifier() {
        assert_eq!(HardwareId::from_text("0123456789ABCDEF0"), None);
        assert_eq!(
            HardwareId::from_text("ACPI0013").map(|id| id.to_string()),
            Some("ACPI0013".into())
        );
    }
}
