//! Targets, and storing to them.
//!
//! Values are copied when they are stored. What is stored to an object of the tables lasts; it
//! goes into the room the object already has if it fits, else into the pools' growth areas.

use crate::code::{Cursor, starts_name};
use crate::error::ErrorKind;
use crate::name::NodeId;
use crate::object::{Obj, Ref, Span};
use crate::opcode as op;

use super::convert::Style;
use super::frame::LOCALS;
use super::{Exec, Res};

/// Where a result goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    /// Nowhere: no target was given, or it is `Debug`.
    None,
    /// A local or argument of the running method.
    Slot(u8),
    Node(NodeId),
    Ref(Ref),
}

/// Bytes before every lasting string and buffer, which hold its capacity.
const ROOM: usize = 4;

impl Exec<'_> {
    /// Takes a `Target` or `SuperName` (ACPI 6.5, 20.2.2).
    pub(super) fn target(&mut self, cur: &mut Cursor) -> Res<Target> {
        if starts_name(self.m.code.peek(*cur)?) {
            return self.name(cur).map(Target::Node);
        }
        match self.m.code.peek_opcode(*cur)? {
            op::ZERO | op::DEBUG => self.m.code.opcode(cur).map(|_| Target::None),
            code @ (op::LOCAL0..=op::LOCAL7 | op::ARG0..=op::ARG6) => {
                self.m.code.opcode(cur)?;
                Ok(Target::Slot((code - op::LOCAL0) as u8))
            }
            op::DEREF_OF => {
                self.m.code.opcode(cur)?;
                self.reference_term(cur)
            }
            op::INDEX | op::REF_OF => self.reference_term(cur),
            code => Err(ErrorKind::Opcode(code)),
        }
    }

    /// Takes a term that has to give a reference.
    fn reference_term(&mut self, cur: &mut Cursor) -> Res<Target> {
        match self.term(cur)? {
            Obj::Ref(to) => Ok(Target::Ref(to)),
            _ => Err(ErrorKind::WrongType("a reference")),
        }
    }

    /// `Store` and `CopyObject`.
    pub(super) fn assign(&mut self, code: u16, cur: &mut Cursor) -> Res<Obj> {
        let value = self.term(cur)?;
        let target = self.target(cur)?;
        match (code, target) {
            (op::COPY_OBJECT, Target::Node(node)) => self.store_node(node, value, false)?,
            _ => self.store(value, target)?,
        }
        Ok(value)
    }

    /// What a target holds now.
    pub(super) fn load_target(&mut self, target: Target) -> Res<Obj> {
        match target {
            Target::None => Err(ErrorKind::WrongType("a name")),
            Target::Slot(slot) => self.slot(op::LOCAL0 + u16::from(slot)),
            Target::Node(node) => self.load_node(node),
            Target::Ref(to) => self.deref(to),
        }
    }

    /// A local or argument.
    pub(super) fn slot(&self, code: u16) -> Res<Obj> {
        let frame = self.m.frames.last().ok_or(ErrorKind::StrayFlow)?;
        let slot = usize::from(code.wrapping_sub(op::LOCAL0));
        frame.slots.get(slot).copied().ok_or(ErrorKind::OutOfBounds)
    }

    /// Stores a value, converted to what the target is.
    pub(super) fn store(&mut self, value: Obj, target: Target) -> Res<()> {
        if value == Obj::Nothing {
            return Err(ErrorKind::BadValue("not initialised"));
        }
        match target {
            Target::None => Ok(()),
            Target::Slot(slot) => self.store_slot(value, slot),
            Target::Node(node) => self.store_node(node, value, true),
            Target::Ref(to) => self.store_ref(to, value),
        }
    }

    /// Stores to a local or argument. An argument that is a reference passes the value on to
    /// what it refers to (ACPI 6.5, 19.3.5.8.1).
    fn store_slot(&mut self, value: Obj, slot: u8) -> Res<()> {
        if usize::from(slot) >= LOCALS
            && let Obj::Ref(to) = self.slot(op::LOCAL0 + u16::from(slot))?
        {
            return self.store_ref(to, value);
        }
        let value = self.copy(value, false)?;
        let frame = self.m.frames.last_mut().ok_or(ErrorKind::StrayFlow)?;
        *frame.slots.get_mut(usize::from(slot)).ok_or(ErrorKind::OutOfBounds)? = value;
        Ok(())
    }

    /// Stores to what a reference refers to.
    fn store_ref(&mut self, to: Ref, value: Obj) -> Res<()> {
        match to {
            Ref::Node(node) => self.store_node(node, value, true),
            Ref::Byte(at) => {
                let byte = self.to_int(value)? as u8;
                self.m.bytes.set(at, byte)
            }
            Ref::Cell(at) => {
                let temporary = self.m.cells.is_temporary(at);
                let own = self.m.frames.last().is_some_and(|f| at as usize >= f.marks.cells);
                let value = self.copy(value, !temporary)?;
                self.note_escape(value, temporary && !own);
                self.m.cells.set(at, value)
            }
            Ref::Slot { frame, slot } => {
                let value = self.copy(value, false)?;
                let innermost = self.m.frames.last().is_some_and(|f| f.serial == frame);
                self.note_escape(value, !innermost);
                let found = self.m.frames.iter_mut().rev().find(|f| f.serial == frame);
                let slots = &mut found.ok_or(ErrorKind::OutOfBounds)?.slots;
                *slots.get_mut(usize::from(slot)).ok_or(ErrorKind::OutOfBounds)? = value;
                Ok(())
            }
        }
    }

    /// Stores to a named object: fields are written, data changes its value, and its type only
    /// if `convert` is false (`CopyObject`).
    pub(super) fn store_node(&mut self, node: NodeId, value: Obj, convert: bool) -> Res<()> {
        let old = self.m.names.obj(node).ok_or(ErrorKind::OutOfBounds)?;
        let new = match old {
            Obj::Field(field) => return self.write_field(field, value),
            Obj::BufferField(field) => return self.write_buffer_field(field, value),
            Obj::Int(_) if convert => Obj::Int(self.to_int(value)?),
            Obj::Str(room) if convert => {
                let text = self.text_of(value, Style::Implicit)?;
                Obj::Str(self.refill(node, room, text)?)
            }
            Obj::Buf(room) if convert => {
                let data = self.buffer_of(value)?;
                if room.len > 0 {
                    return self.overwrite(room, data);
                }
                Obj::Buf(self.refill(node, room, data)?)
            }
            Obj::Nothing
            | Obj::Int(_)
            | Obj::Str(_)
            | Obj::Buf(_)
            | Obj::Pkg(_)
            | Obj::Ref(_)
            | Obj::Name(_) => self.copy(value, !self.m.names.is_temporary(node))?,
            _ => return Err(ErrorKind::WrongType("a data object")),
        };
        let own = self.m.frames.last().is_some_and(|f| node.0 as usize >= f.marks.nodes);
        self.note_escape(new, self.m.names.is_temporary(node) && !own);
        self.m.names.set_obj(node, new);
        Ok(())
    }

    /// A value that was stored outside the running method keeps its arena alive.
    fn note_escape(&mut self, value: Obj, outside: bool) {
        self.escaped |= outside && !matches!(value, Obj::Int(_));
    }

    /// Copies over a buffer, which keeps its length: cut off or filled up with zeros.
    fn overwrite(&mut self, room: Span, data: Span) -> Res<()> {
        self.charge(room.len / 16)?;
        let len = room.len.min(data.len);
        self.m.bytes.copy(Span { len, ..data }, Span { len, ..room })?;
        let rest = Span { start: room.start + len, len: room.len - len };
        self.m.bytes.get_mut(rest)?.fill(0);
        Ok(())
    }

    /// Gives a named string or empty buffer new contents, in its old room if they fit.
    fn refill(&mut self, node: NodeId, room: Span, data: Span) -> Res<Span> {
        if self.m.names.is_temporary(node) {
            return self.duplicate(data);
        }
        if data.len > self.room(room) {
            return self.lasting(data, data.len.next_power_of_two());
        }
        self.charge(data.len / 16)?;
        let span = Span { start: room.start, len: data.len };
        self.m.bytes.copy(data, span)?;
        Ok(span)
    }

    /// How long a lasting string or buffer may become where it is.
    fn room(&self, span: Span) -> u32 {
        let Some(start) = span.start.checked_sub(ROOM as u32) else {
            return 0;
        };
        let head = Span { start, len: ROOM as u32 };
        let bytes = self.m.bytes.get(head).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    }

    /// A lasting copy with room for `room` bytes.
    fn lasting(&mut self, data: Span, room: u32) -> Res<Span> {
        self.charge(room / 16)?;
        let span = Span { len: data.len, ..self.lasting_room(room)? };
        self.m.bytes.copy(data, span)?;
        Ok(span)
    }

    /// Room for bytes that last, all of them zero.
    pub(super) fn lasting_room(&mut self, room: u32) -> Res<Span> {
        let whole = self.m.bytes.lasting(ROOM + room as usize, 0)?;
        let head = Span { len: ROOM as u32, ..whole };
        self.m.bytes.get_mut(head)?.copy_from_slice(&room.to_le_bytes());
        Ok(Span { start: whole.start + ROOM as u32, len: room })
    }

    /// A copy in the arena.
    pub(super) fn duplicate(&mut self, data: Span) -> Res<Span> {
        self.charge(data.len / 16)?;
        let span = self.m.bytes.temporary(data.len as usize, 0)?;
        self.m.bytes.copy(data, span)?;
        Ok(span)
    }

    /// A copy of an object, packages with all they hold; one that lasts, if asked for.
    pub(super) fn copy(&mut self, obj: Obj, lasting: bool) -> Res<Obj> {
        match obj {
            Obj::Str(data) if lasting => self.lasting(data, data.len).map(Obj::Str),
            Obj::Buf(data) if lasting => self.lasting(data, data.len).map(Obj::Buf),
            Obj::Str(data) => self.duplicate(data).map(Obj::Str),
            Obj::Buf(data) => self.duplicate(data).map(Obj::Buf),
            Obj::Pkg(cells) => self.copy_package(cells, lasting).map(Obj::Pkg),
            Obj::Ref(to) if lasting && self.is_passing(to) => {
                Err(ErrorKind::BadValue("lasting reference to what ends with its method"))
            }
            _ => Ok(obj),
        }
    }

    /// A copy of a package.
    fn copy_package(&mut self, cells: Span, lasting: bool) -> Res<Span> {
        self.enter()?;
        self.charge(cells.len)?;
        let count = cells.len as usize;
        let to = if lasting {
            self.m.cells.lasting(count, Obj::Nothing)?
        } else {
            self.m.cells.temporary(count, Obj::Nothing)?
        };
        for n in 0..cells.len {
            let element = self.m.cells.item(cells.start + n)?;
            let element = self.copy(element, lasting)?;
            self.m.cells.set(to.start + n, element)?;
        }
        self.depth -= 1;
        Ok(to)
    }

    /// Whether what is referred to ends with the evaluation, or before.
    fn is_passing(&self, to: Ref) -> bool {
        match to {
            Ref::Node(node) => self.m.names.is_temporary(node),
            Ref::Cell(at) => self.m.cells.is_temporary(at),
            Ref::Byte(at) => self.m.bytes.is_temporary(at),
            Ref::Slot { .. } => true,
        }
    }
}
