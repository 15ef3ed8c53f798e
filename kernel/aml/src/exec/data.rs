//! Literals: integers, strings, buffers and packages.

use crate::code::{Cursor, starts_name};
use crate::error::ErrorKind;
use crate::object::{LazyName, Obj, Span};
use crate::opcode as op;

use super::{Exec, Res};

impl Exec<'_> {
    /// A constant of any type.
    pub(super) fn literal(&mut self, code: u16, cur: &mut Cursor) -> Res<Obj> {
        match code {
            op::ZERO => Ok(Obj::Int(0)),
            op::ONE => Ok(Obj::Int(1)),
            op::ONES => Ok(Obj::Int(self.cut(u64::MAX))),
            op::BYTE => self.m.code.number(cur, 1).map(Obj::Int),
            op::WORD => self.m.code.number(cur, 2).map(Obj::Int),
            op::DWORD => self.m.code.number(cur, 4).map(Obj::Int),
            op::QWORD => self.m.code.number(cur, 8).map(|value| Obj::Int(self.cut(value))),
            op::STRING => self.string(cur),
            op::BUFFER => self.buffer(cur),
            op::PACKAGE | op::VAR_PACKAGE => self.package(code, cur),
            _ => Err(ErrorKind::Opcode(code)),
        }
    }

    /// Characters up to a zero byte. Firmware also writes such that are not ASCII.
    fn string(&mut self, cur: &mut Cursor) -> Res<Obj> {
        let start = cur.at;
        while self.m.code.byte(cur)? != 0 {}
        self.code_bytes(start, cur.at - 1 - start, 0).map(Obj::Str)
    }

    /// A size and initial bytes; the buffer is as long as the longer of them.
    fn buffer(&mut self, cur: &mut Cursor) -> Res<Obj> {
        let mut body = self.m.code.package(cur)?;
        let size = self.int(&mut body)?;
        let size = u32::try_from(size).map_err(|_| ErrorKind::Full(crate::Pool::Bytes))?;
        self.code_bytes(body.at, body.end.saturating_sub(body.at), size).map(Obj::Buf)
    }

    /// Copies bytes of a table into the arena, with zeros behind them up to `size`.
    fn code_bytes(&mut self, at: u32, len: u32, size: u32) -> Res<Span> {
        let size = size.max(len);
        self.charge(size / 16)?;
        // What a table writes out outside methods is likely to be a name's.
        let span = if self.is_of_table() {
            self.lasting_room(size)?
        } else {
            self.m.bytes.temporary(size as usize, 0)?
        };
        let from = self.m.code.slice(at, len)?;
        let to = self.m.bytes.get_mut(span)?;
        to.get_mut(..from.len()).ok_or(ErrorKind::OutOfBounds)?.copy_from_slice(from);
        Ok(span)
    }

    /// A count and elements; elements that are missing are not initialised, those beyond the
    /// count are ignored.
    fn package(&mut self, code: u16, cur: &mut Cursor) -> Res<Obj> {
        let mut body = self.m.code.package(cur)?;
        let count = match code {
            op::PACKAGE => self.m.code.number(&mut body, 1)?,
            _ => self.int(&mut body)?,
        };
        let count = u32::try_from(count).map_err(|_| ErrorKind::Full(crate::Pool::Cells))?;
        self.charge(count / 16)?;
        let span = self.m.cells.temporary(count as usize, Obj::Nothing)?;
        for n in 0..count {
            if body.at >= body.end {
                break;
            }
            let element = self.element(&mut body)?;
            self.m.cells.set(span.start + n, element)?;
        }
        Ok(Obj::Pkg(span))
    }

    /// One element: a literal, or a name that is looked up when it is used. That of a field is read now, as ACPICA does,
    /// unless a table is being loaded: its names may be defined further down.
    fn element(&mut self, cur: &mut Cursor) -> Res<Obj> {
        if !starts_name(self.m.code.peek(*cur)?) {
            return self.term(cur);
        }
        self.charge(1)?;
        let lazy = LazyName { at: cur.at, scope: self.scope };
        let path = self.m.code.path(cur)?;
        if self.m.frames.is_empty() {
            return Ok(Obj::Name(lazy));
        }
        match self.lookup(self.scope, &path)?.map(|node| (node, self.m.names.obj(node))) {
            Some((node, Some(Obj::Field(_) | Obj::BufferField(_)))) => self.load_node(node),
            _ => Ok(Obj::Name(lazy)),
        }
    }
}
