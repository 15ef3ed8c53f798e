//! Conversions between integers, strings and buffers (ACPI 6.5, 19.3.5).

use crate::error::ErrorKind;
use crate::object::{Obj, Span};

use super::{Exec, Res};

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Hexadecimal, for implicit conversions.
    Implicit,
    /// `ToHexString`.
    Hex,
    /// `ToDecimalString`.
    Decimal,
}

/// Digits of the longest number and its prefix.
const LONGEST: usize = 20;

impl Exec<'_> {
    /// An integer from an integer, a buffer (little-endian) or a string (hexadecimal).
    pub(super) fn to_int(&self, obj: Obj) -> Res<u64> {
        match obj {
            Obj::Int(value) => Ok(self.cut(value)),
            Obj::Buf(span) => self.buffer_int(span),
            Obj::Str(span) => {
                let bytes = without_space(self.m.bytes.get(span)?);
                let digits = strip_hex(bytes).unwrap_or(bytes);
                Ok(self.cut(parse(digits, 16)))
            }
            _ => Err(ErrorKind::WrongType("an integer")),
        }
    }

    /// `ToInteger`: as above, but a string is decimal unless it starts with `0x`.
    pub(super) fn to_int_explicit(&self, obj: Obj) -> Res<u64> {
        let Obj::Str(span) = obj else {
            return self.to_int(obj);
        };
        let bytes = without_space(self.m.bytes.get(span)?);
        let value = match strip_hex(bytes) {
            Some(digits) => parse(digits, 16),
            None => parse(bytes, 10),
        };
        Ok(self.cut(value))
    }

    /// The first bytes of a buffer, as many as an integer has.
    fn buffer_int(&self, span: Span) -> Res<u64> {
        let bytes = self.m.bytes.get(span)?;
        if bytes.is_empty() {
            return Err(ErrorKind::BadValue("empty buffer as an integer"));
        }
        let bytes = bytes.iter().take(self.int_bytes() as usize);
        Ok(bytes.rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }

    /// A buffer from anything: the bytes of an integer, a string with its final zero, or the
    /// buffer itself.
    pub(super) fn buffer_of(&mut self, obj: Obj) -> Res<Span> {
        match obj {
            Obj::Buf(span) => Ok(span),
            Obj::Int(value) => {
                let bytes = value.to_le_bytes();
                let len = self.int_bytes() as usize;
                self.put(bytes.get(..len).unwrap_or(&bytes))
            }
            Obj::Str(span) if span.len == 0 => Ok(span),
            Obj::Str(span) => {
                let with_end = self.m.bytes.temporary(span.len as usize + 1, 0)?;
                self.m.bytes.copy(span, Span { len: span.len, ..with_end })?;
                Ok(with_end)
            }
            _ => Err(ErrorKind::WrongType("an integer, string or buffer")),
        }
    }

    /// A string from anything.
    pub(super) fn text_of(&mut self, obj: Obj, style: Style) -> Res<Span> {
        match obj {
            Obj::Str(span) => Ok(span),
            Obj::Int(value) => {
                let mut digits = [0; LONGEST];
                let width = self.int_bytes() as usize * 2;
                let text = match style {
                    Style::Decimal => write_number(&mut digits, value, 10, 1),
                    _ => write_number(&mut digits, value, 16, width),
                };
                self.put(text)
            }
            Obj::Buf(span) => self.list(span, style),
            _ => Err(ErrorKind::WrongType("an integer, string or buffer")),
        }
    }

    /// Writes out the bytes of a buffer: with spaces in an implicit conversion, else with commas.
    fn list(&mut self, span: Span, style: Style) -> Res<Span> {
        let separator = if style == Style::Implicit { b' ' } else { b',' };
        let mut text: Option<Span> = None;
        for n in 0..span.len {
            self.charge(1)?;
            let byte = u64::from(self.m.bytes.item(span.start + n)?);
            let mut digits = [0; LONGEST];
            let digits = match style {
                Style::Decimal => write_number(&mut digits, byte, 10, 1),
                _ => prefixed(&mut digits, byte),
            };
            // Temporary spans follow one another, so the pieces make one string.
            let lead = if text.is_some() { self.put(&[separator])?.len } else { 0 };
            let piece = self.put(digits)?;
            let so_far = text.unwrap_or(Span { start: piece.start, len: 0 });
            text = Some(Span { start: so_far.start, len: so_far.len + lead + piece.len });
        }
        text.map_or_else(|| self.put(&[]), Ok)
    }
}

/// What follows white space, as C knows it: with the vertical tab.
fn without_space(bytes: &[u8]) -> &[u8] {
    let first = bytes.iter().position(|byte| !matches!(byte, b' ' | b'\t'..=b'\r'));
    bytes.get(first.unwrap_or(bytes.len())..).unwrap_or_default()
}

/// What follows `0x`.
fn strip_hex(bytes: &[u8]) -> Option<&[u8]> {
    bytes.strip_prefix(b"0x").or_else(|| bytes.strip_prefix(b"0X"))
}

/// The number that the leading digits make; more than 64 bits wrap.
fn parse(bytes: &[u8], radix: u32) -> u64 {
    let digits = bytes.iter().map_while(|&byte| char::from(byte).to_digit(radix));
    digits.fold(0, |sum: u64, digit| {
        sum.wrapping_mul(u64::from(radix)).wrapping_add(u64::from(digit))
    })
}

/// Writes a number with at least `width` digits to the end of `room`.
fn write_number(room: &mut [u8; LONGEST], mut value: u64, radix: u64, width: usize) -> &[u8] {
    let mut count = 0;
    for slot in room.iter_mut().rev() {
        if value == 0 && count >= width {
            break;
        }
        let digit = (value % radix) as u8;
        *slot = if digit < 10 { b'0' + digit } else { b'A' + digit - 10 };
        value /= radix;
        count += 1;
    }
    room.get(LONGEST - count..).unwrap_or_default()
}

/// Writes a byte of a buffer in hexadecimal: `0x` and two digits.
fn prefixed(room: &mut [u8; LONGEST], byte: u64) -> &[u8] {
    write_number(room, byte, 16, 2);
    if let Some(prefix) = room.get_mut(LONGEST - 4..LONGEST - 2) {
        prefix.copy_from_slice(b"0x");
    }
    room.get(LONGEST - 4..).unwrap_or_default()
}
