//! References: `RefOf`, `DerefOf`, `Index` and what asks about objects instead of values.

use crate::code::{Cursor, starts_name};
use crate::error::ErrorKind;
use crate::name::{NameSeg, NodeId};
use crate::object::{Obj, Ref};
use crate::opcode as op;

use super::frame::LOCALS;
use super::store::Target;
use super::{Exec, Res};

impl Exec<'_> {
    /// Operators on objects themselves.
    pub(super) fn reference(&mut self, code: u16, cur: &mut Cursor) -> Res<Obj> {
        match code {
            op::REF_OF => {
                let target = self.target(cur)?;
                self.ref_to(target).map(Obj::Ref)
            }
            op::COND_REF_OF => self.cond_ref_of(cur),
            op::DEREF_OF => match self.term(cur)? {
                Obj::Ref(to) => self.deref(to),
                Obj::Str(span) => {
                    let node = self.find_text(span)?;
                    self.load_node(node)
                }
                _ => Err(ErrorKind::WrongType("a reference")),
            },
            op::INDEX => self.index(cur),
            op::SIZE_OF => self.size_of(cur),
            _ => self.object_type(cur),
        }
    }

    /// A reference to a target. A slot that holds a reference gives that one.
    fn ref_to(&self, target: Target) -> Res<Ref> {
        match target {
            Target::None => Err(ErrorKind::WrongType("a name")),
            Target::Node(node) => Ok(Ref::Node(node)),
            Target::Ref(to) => Ok(to),
            Target::Slot(slot) => match self.slot(op::LOCAL0 + u16::from(slot))? {
                Obj::Ref(to) if usize::from(slot) >= LOCALS => Ok(to),
                _ => {
                    let frame = self.m.frames.last().ok_or(ErrorKind::StrayFlow)?.serial;
                    Ok(Ref::Slot { frame, slot })
                }
            },
        }
    }

    /// `CondRefOf`: a name that does not exist is not an error here.
    fn cond_ref_of(&mut self, cur: &mut Cursor) -> Res<Obj> {
        let found = if starts_name(self.m.code.peek(*cur)?) {
            let path = self.m.code.path(cur)?;
            self.lookup(self.scope, &path)?.map(Ref::Node)
        } else {
            let target = self.target(cur)?;
            Some(self.ref_to(target)?)
        };
        let target = self.target(cur)?;
        match found {
            Some(to) => {
                self.store(Obj::Ref(to), target)?;
                Ok(Obj::Int(self.cut(u64::MAX)))
            }
            None => Ok(Obj::Int(0)),
        }
    }

    /// The value that a reference refers to.
    pub(super) fn deref(&mut self, to: Ref) -> Res<Obj> {
        match to {
            Ref::Node(node) => self.load_node(node),
            Ref::Byte(at) => self.m.bytes.item(at).map(|byte| Obj::Int(u64::from(byte))),
            Ref::Cell(at) => {
                let obj = self.m.cells.item(at)?;
                self.resolved(obj)
            }
            Ref::Slot { frame, slot } => {
                let found = self.m.frames.iter().rev().find(|f| f.serial == frame);
                let slots = &found.ok_or(ErrorKind::OutOfBounds)?.slots;
                slots.get(usize::from(slot)).copied().ok_or(ErrorKind::OutOfBounds)
            }
        }
    }

    /// The node at a path that is given as a string.
    fn find_text(&mut self, span: crate::object::Span) -> Res<NodeId> {
        self.charge(span.len)?;
        let bytes = self.m.bytes.get(span)?;
        let text = core::str::from_utf8(bytes).map_err(|_| ErrorKind::BadName)?;
        if let Some(name) = NameSeg::from_text(text) {
            let found = self.m.names.search(self.scope, name);
            return found.map(|n| self.m.names.follow(n)).ok_or(ErrorKind::NotFound(name));
        }
        let below = text.trim_start_matches('^');
        let mut from = if text.starts_with('\\') { NodeId::ROOT } else { self.scope };
        for _ in 0..text.len() - below.len() {
            from = self.m.names.parent(from).ok_or(ErrorKind::BadName)?;
        }
        self.m.find(from, below).ok_or(ErrorKind::BadName)
    }

    /// `Index`: a reference to an element of a package, or a byte of a buffer or string.
    fn index(&mut self, cur: &mut Cursor) -> Res<Obj> {
        let source = self.term(cur)?;
        let index = self.int(cur)?;
        let (Obj::Str(span) | Obj::Buf(span) | Obj::Pkg(span)) = source else {
            return Err(ErrorKind::WrongType("a string, buffer or package"));
        };
        let index = u32::try_from(index).ok().filter(|&index| index < span.len);
        let at = index.and_then(|index| span.start.checked_add(index));
        let at = at.ok_or(ErrorKind::OutOfBounds)?;
        let to = if matches!(source, Obj::Pkg(_)) { Ref::Cell(at) } else { Ref::Byte(at) };
        let target = self.target(cur)?;
        self.store(Obj::Ref(to), target)?;
        Ok(Obj::Ref(to))
    }

    /// `SizeOf`: bytes of a buffer, characters of a string, elements of a package. ACPICA also gives the bytes of an
    /// integer, and QEMU's NVDIMMs count on that.
    fn size_of(&mut self, cur: &mut Cursor) -> Res<Obj> {
        match self.object(cur)? {
            Obj::Int(_) => Ok(Obj::Int(u64::from(self.int_bytes()))),
            Obj::Str(span) | Obj::Buf(span) | Obj::Pkg(span) => Ok(Obj::Int(u64::from(span.len))),
            _ => Err(ErrorKind::WrongType("a string, buffer or package")),
        }
    }

    /// What a super name holds, without evaluating methods or reading fields; references are
    /// looked through once.
    fn object(&mut self, cur: &mut Cursor) -> Res<Obj> {
        let target = self.target(cur)?;
        let obj = match target {
            Target::None => Obj::Nothing,
            Target::Node(node) => self.m.names.obj(node).unwrap_or(Obj::Nothing),
            Target::Slot(slot) => self.slot(op::LOCAL0 + u16::from(slot))?,
            Target::Ref(to) => Obj::Ref(to),
        };
        let Obj::Ref(to) = obj else { return Ok(obj) };
        let obj = match to {
            Ref::Node(node) => Obj::Ref(Ref::Node(node)),
            _ => self.deref(to)?,
        };
        match obj {
            Obj::Ref(Ref::Node(node)) => Ok(self.m.names.obj(node).unwrap_or(Obj::Nothing)),
            obj => Ok(obj),
        }
    }

    /// `ObjectType` (ACPI 6.5, table 19.35).
    fn object_type(&mut self, cur: &mut Cursor) -> Res<Obj> {
        let number = match self.object(cur)? {
            Obj::Nothing | Obj::Scope | Obj::Alias(_) | Obj::Name(_) | Obj::Ref(_) => 0,
            Obj::Int(_) => 1,
            Obj::Str(_) => 2,
            Obj::Buf(_) => 3,
            Obj::Pkg(_) => 4,
            Obj::Field(_) => 5,
            Obj::Device => 6,
            Obj::Event(_) => 7,
            Obj::Method(_) | Obj::Osi => 8,
            Obj::Mutex(_) => 9,
            Obj::Region(_) => 10,
            Obj::PowerResource => 11,
            Obj::Processor => 12,
            Obj::ThermalZone => 13,
            Obj::BufferField(_) => 14,
        };
        Ok(Obj::Int(number))
    }

    /// Takes a super name that has to stand for a node; locals and elements may refer to one.
    pub(super) fn node_target(&mut self, cur: &mut Cursor) -> Res<NodeId> {
        let target = self.target(cur)?;
        let obj = match target {
            Target::Node(node) => return Ok(node),
            Target::Ref(Ref::Node(node)) => return Ok(node),
            Target::None => return Err(ErrorKind::WrongType("a named object")),
            other => self.load_target(other)?,
        };
        match obj {
            Obj::Ref(Ref::Node(node)) => Ok(node),
            Obj::Ref(to) => match self.deref(to)? {
                Obj::Ref(Ref::Node(node)) => Ok(node),
                _ => Err(ErrorKind::WrongType("a named object")),
            },
            _ => Err(ErrorKind::WrongType("a named object")),
        }
    }
}
