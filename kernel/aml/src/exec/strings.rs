//! Operators on strings, buffers and packages as wholes.

use crate::code::Cursor;
use crate::error::ErrorKind;
use crate::object::{Obj, Span};
use crate::opcode as op;

use super::convert::Style;
use super::{Exec, Res};

/// The end tag of a resource list, whose checksum 0 means "not checked" (ACPI 6.5, 6.4.2.9).
const END_TAG: [u8; 2] = [0x79, 0];

impl Exec<'_> {
    /// Runs the operator and stores its result where the term says.
    pub(super) fn text(&mut self, code: u16, cur: &mut Cursor) -> Res<Obj> {
        let left = self.term(cur)?;
        let result = match code {
            op::CONCAT => {
                let right = self.term(cur)?;
                self.concat(left, right)?
            }
            op::CONCAT_RES => {
                let right = self.term(cur)?;
                self.concat_resources(left, right)?
            }
            op::MID => {
                let (index, length) = (self.int(cur)?, self.int(cur)?);
                self.mid(left, index, length)?
            }
            op::TO_STRING => {
                let length = self.int(cur)?;
                self.string_of(left, length)?
            }
            op::TO_INTEGER => Obj::Int(self.to_int_explicit(left)?),
            op::TO_BUFFER => Obj::Buf(self.buffer_of(left)?),
            op::TO_DECIMAL_STRING => Obj::Str(self.text_of(left, Style::Decimal)?),
            op::TO_HEX_STRING => Obj::Str(self.text_of(left, Style::Hex)?),
            _ => return Err(ErrorKind::Opcode(code)),
        };
        let target = self.target(cur)?;
        self.store(result, target)?;
        Ok(result)
    }

    /// `Concatenate`: the type of the first decides. Two integers make a buffer.
    fn concat(&mut self, left: Obj, right: Obj) -> Res<Obj> {
        match left {
            Obj::Int(_) => {
                let right = Obj::Int(self.to_int(right)?);
                let (left, right) = (self.buffer_of(left)?, self.buffer_of(right)?);
                self.join(left, right).map(Obj::Buf)
            }
            Obj::Str(left) => {
                let right = self.text_of(right, Style::Implicit)?;
                self.join(left, right).map(Obj::Str)
            }
            Obj::Buf(left) => {
                let right = self.buffer_of(right)?;
                self.join(left, right).map(Obj::Buf)
            }
            _ => Err(ErrorKind::WrongType("an integer, string or buffer")),
        }
    }

    /// The bytes of both, one behind the other.
    fn join(&mut self, left: Span, right: Span) -> Res<Span> {
        let len = left.len.checked_add(right.len).ok_or(ErrorKind::OutOfBounds)?;
        self.charge(len / 16)?;
        let whole = self.m.bytes.temporary(len as usize, 0)?;
        self.m.bytes.copy(left, Span { len: left.len, ..whole })?;
        self.m.bytes.copy(right, Span { start: whole.start + left.len, len: right.len })?;
        Ok(whole)
    }

    /// `ConcatenateResTemplate`: both lists without their end tags, and one end tag.
    fn concat_resources(&mut self, left: Obj, right: Obj) -> Res<Obj> {
        let (Obj::Buf(left), Obj::Buf(right)) = (left, right) else {
            return Err(ErrorKind::WrongType("a buffer"));
        };
        let (left, right) = (self.without_end(left)?, self.without_end(right)?);
        let lists = self.join(left, right)?;
        let end = self.put(&END_TAG)?;
        self.join(lists, end).map(Obj::Buf)
    }

    /// A resource list up to its end tag.
    fn without_end(&self, list: Span) -> Res<Span> {
        let bytes = self.m.bytes.get(list)?;
        if bytes.is_empty() {
            // Real firmware begins with nothing when it puts a list together, as other systems allow.
            return Ok(list);
        }
        let mut resources = crate::resource::resources(bytes);
        if resources.any(|resource| resource.is_err()) {
            return Err(ErrorKind::BadValue("resource list without an end"));
        }
        let len = (resources.offset() as u32).saturating_sub(END_TAG.len() as u32);
        Ok(Span { len: len.min(list.len), ..list })
    }

    /// `Mid`: a part of a string or buffer, cut off at its end.
    fn mid(&mut self, source: Obj, index: u64, length: u64) -> Res<Obj> {
        let source = match source {
            Obj::Int(_) => Obj::Str(self.text_of(source, Style::Implicit)?),
            other => other,
        };
        let (Obj::Str(span) | Obj::Buf(span)) = source else {
            return Err(ErrorKind::WrongType("a string or buffer"));
        };
        let skip = u32::try_from(index).unwrap_or(u32::MAX).min(span.len);
        let len = u32::try_from(length).unwrap_or(u32::MAX).min(span.len - skip);
        let part = self.duplicate(Span { start: span.start + skip, len })?;
        Ok(if matches!(source, Obj::Str(_)) { Obj::Str(part) } else { Obj::Buf(part) })
    }

    /// `ToString`: the bytes of a buffer up to a zero, at most `length`.
    fn string_of(&mut self, source: Obj, length: u64) -> Res<Obj> {
        let span = self.buffer_of(source)?;
        let bytes = self.m.bytes.get(span)?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        let end = end.min(usize::try_from(length).unwrap_or(usize::MAX));
        self.duplicate(Span { len: end as u32, ..span }).map(Obj::Str)
    }

    /// `Match`: the index of the first element that both comparisons hold for, or all ones.
    pub(super) fn find_match(&mut self, cur: &mut Cursor) -> Res<Obj> {
        let Obj::Pkg(cells) = self.term(cur)? else {
            return Err(ErrorKind::WrongType("a package"));
        };
        let (first, one) = (self.m.code.byte(cur)?, self.term(cur)?);
        let (second, two) = (self.m.code.byte(cur)?, self.term(cur)?);
        let start = self.int(cur)?;
        for n in u32::try_from(start).unwrap_or(u32::MAX)..cells.len {
            self.charge(1)?;
            let element = self.m.cells.item(cells.start + n)?;
            let element = self.resolved(element)?;
            if self.fits(element, first, one)? && self.fits(element, second, two)? {
                return Ok(Obj::Int(u64::from(n)));
            }
        }
        Ok(Obj::Int(self.cut(u64::MAX)))
    }

    /// One comparison of `Match` (ACPI 6.5, 20.2.5.4). An element of another kind never fits.
    fn fits(&mut self, element: Obj, how: u8, wanted: Obj) -> Res<bool> {
        if how == 0 {
            return Ok(true);
        }
        if !matches!(element, Obj::Int(_) | Obj::Str(_) | Obj::Buf(_)) {
            return Ok(false);
        }
        // The element takes the type of what is looked for.
        let order = self.compare(wanted, element)?.reverse();
        match how {
            1 => Ok(order.is_eq()),
            2 => Ok(order.is_le()),
            3 => Ok(order.is_lt()),
            4 => Ok(order.is_ge()),
            5 => Ok(order.is_gt()),
            _ => Err(ErrorKind::BadValue("no such comparison")),
        }
    }
}
