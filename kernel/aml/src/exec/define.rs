//! Terms that define names.

use crate::code::{Cursor, HEADER};
use crate::error::ErrorKind;
use crate::name::{NameSeg, NodeId};
use crate::object::{BufferField, Method, Obj, Region, RegionSpace, Sync};
use crate::opcode as op;

use super::{Exec, Flow, Res};

/// Whether a term with this opcode is written out: a string, a buffer or a package.
const fn is_literal(code: u16) -> bool {
    matches!(code, op::STRING | op::BUFFER | op::PACKAGE | op::VAR_PACKAGE)
}

impl Exec<'_> {
    /// Runs a defining term.
    pub(super) fn define(&mut self, code: u16, cur: &mut Cursor) -> Res<()> {
        match code {
            op::SCOPE => self.scope(cur),
            op::DEVICE => self.container(cur, Obj::Device, 0),
            // Processor id, address and length of its register block (ACPI 5.1, 20.2.5.2).
            op::PROCESSOR => self.container(cur, Obj::Processor, 6),
            // System level and resource order.
            op::POWER_RESOURCE => self.container(cur, Obj::PowerResource, 3),
            op::THERMAL_ZONE => self.container(cur, Obj::ThermalZone, 0),
            op::NAME => self.named_value(cur),
            op::METHOD => self.method(cur),
            op::ALIAS => self.alias(cur),
            op::EXTERNAL => self.external(cur),
            op::MUTEX => self.mutex(cur),
            op::EVENT => {
                let place = self.declaration(cur)?;
                let event = self.m.syncs.push(Sync::default())?;
                self.add(place, Obj::Event(event)).map(drop)
            }
            op::REGION => self.region(cur),
            op::DATA_REGION => self.data_region(cur),
            op::FIELD => self.field(cur),
            op::INDEX_FIELD => self.index_field(cur),
            op::BANK_FIELD => self.bank_field(cur),
            _ => Err(ErrorKind::Opcode(code)),
        }
    }

    /// Takes the path of a new name: the scope it belongs in, which must exist, and the name.
    pub(super) fn declaration(&mut self, cur: &mut Cursor) -> Res<(NodeId, NameSeg)> {
        let mut path = self.m.code.path(cur)?;
        self.charge(path.count + path.up)?;
        path.count = path.count.checked_sub(1).ok_or(ErrorKind::BadName)?;
        let name = self.m.code.segment_of(&path, path.count)?;
        let parent = self.m.descend(self.scope, &path)?.ok_or(ErrorKind::NotFound(name))?;
        Ok((parent, name))
    }

    /// Adds a name: until the method ends, or for good outside methods.
    pub(super) fn add(&mut self, (parent, name): (NodeId, NameSeg), obj: Obj) -> Res<NodeId> {
        let temporary = !self.m.frames.is_empty();
        self.m.names.add(parent, name, obj, temporary)
    }

    /// Runs a body with another scope.
    fn inside(&mut self, scope: NodeId, body: Cursor) -> Res<()> {
        let outer = core::mem::replace(&mut self.scope, scope);
        let flow = self.block(body)?;
        if !matches!(flow, Flow::Next) {
            self.ended = self.m.frames.is_empty();
            self.cut_off();
            return Err(ErrorKind::StrayFlow);
        }
        self.scope = outer;
        Ok(())
    }

    /// `Scope`: more names for one that exists.
    fn scope(&mut self, cur: &mut Cursor) -> Res<()> {
        let mut body = self.m.code.package(cur)?;
        let scope = self.name(&mut body)?;
        self.inside(scope, body)
    }

    /// A device or its like, with `skip` bytes of its own before its body.
    fn container(&mut self, cur: &mut Cursor, obj: Obj, skip: u32) -> Res<()> {
        let mut body = self.m.code.package(cur)?;
        let place = self.declaration(&mut body)?;
        self.m.code.number(&mut body, skip)?;
        let scope = self.add(place, obj)?;
        let outer = self.defining.replace(scope);
        self.inside(scope, body)?;
        self.defining = outer;
        Ok(())
    }

    /// `Name`.
    fn named_value(&mut self, cur: &mut Cursor) -> Res<()> {
        let place = self.declaration(cur)?;
        let literal = is_literal(self.m.code.peek_opcode(*cur)?);
        let value = self.term(cur)?;
        // What a table writes out belongs to the name alone. A copy would take as much again, for good.
        let own = literal && self.is_of_table();
        let value = if own { value } else { self.copy(value, self.m.frames.is_empty())? };
        self.add(place, value).map(drop)
    }

    /// `Method`: its body is only read when it is called.
    fn method(&mut self, cur: &mut Cursor) -> Res<()> {
        let mut body = self.m.code.package(cur)?;
        let place = self.declaration(&mut body)?;
        let args = self.m.code.byte(&mut body)? & 7;
        let method = Method { start: body.at, end: body.end, args };
        self.add(place, Obj::Method(method)).map(drop)
    }

    /// `Alias`: its target must exist, so that a circle cannot be made.
    fn alias(&mut self, cur: &mut Cursor) -> Res<()> {
        let target = self.name(cur)?;
        let place = self.declaration(cur)?;
        self.add(place, Obj::Alias(target)).map(drop)
    }

    /// `External`: a hint for disassemblers; the object is in another table.
    fn external(&mut self, cur: &mut Cursor) -> Res<()> {
        self.m.code.path(cur)?;
        self.m.code.number(cur, 2).map(drop)
    }

    /// `Mutex`.
    fn mutex(&mut self, cur: &mut Cursor) -> Res<()> {
        let place = self.declaration(cur)?;
        let level = self.m.code.byte(cur)? & 0x0F;
        let mutex = self.m.syncs.push(Sync { level, ..Sync::default() })?;
        self.add(place, Obj::Mutex(mutex)).map(drop)
    }

    /// `OperationRegion`.
    fn region(&mut self, cur: &mut Cursor) -> Res<()> {
        let place = self.declaration(cur)?;
        let space = self.m.code.byte(cur)?;
        let base = self.int(cur)?;
        let len = self.int(cur)?;
        self.add_region(place, RegionSpace::Machine(space), base, len)
    }

    /// `DataTableRegion`: the bytes of one of the loaded tables.
    fn data_region(&mut self, cur: &mut Cursor) -> Res<()> {
        let place = self.declaration(cur)?;
        let mut wanted = [None; 3];
        for id in &mut wanted {
            let Obj::Str(span) = self.term(cur)? else {
                return Err(ErrorKind::WrongType("a string"));
            };
            *id = Some(span);
        }
        let [signature, oem, oem_table] = wanted
            .map(|span| span.and_then(|span| self.m.bytes.get(span).ok()).unwrap_or_default());
        // Signature, OEM and OEM table identifiers in the header (ACPI 6.5, table 5.4); an
        // empty identifier fits every table.
        let fits = |header: &[u8]| {
            [(0, 4, signature), (10, 6, oem), (16, 8, oem_table)].iter().all(|&(at, len, id)| {
                let there = header.get(at..at + len).unwrap_or_default();
                id.is_empty()
                    || (id.len() <= len
                        && there.get(..id.len()) == Some(id)
                        && there.iter().skip(id.len()).all(|&byte| byte == 0 || byte == b' '))
            })
        };
        let header = |start| self.m.code.slice(start, HEADER as u32).unwrap_or_default();
        let found = self.m.code.tables().iter().find(|table| fits(header(table.start)));
        let table = *found.ok_or(ErrorKind::BadValue("no such table is loaded"))?;
        let len = table.end - table.start;
        self.add_region(place, RegionSpace::Tables, u64::from(table.start), u64::from(len))
    }

    /// Adds a region and its name.
    fn add_region(
        &mut self,
        place: (NodeId, NameSeg),
        space: RegionSpace,
        base: u64,
        len: u64,
    ) -> Res<()> {
        let node = self.add(place, Obj::Nothing)?;
        let region = self.m.regions.push(Region { space, base, len, node, pci: None })?;
        self.m.names.set_obj(node, Obj::Region(region));
        Ok(())
    }

    /// `CreateDWordField` and its like: a name for bits of a buffer.
    pub(super) fn create_field(&mut self, code: u16, cur: &mut Cursor) -> Res<()> {
        let source = self.term(cur)?;
        let Obj::Buf(span) = source else {
            return Err(ErrorKind::WrongType("a buffer"));
        };
        let index = self.int(cur)?;
        let (unit, bits) = match code {
            op::CREATE_BIT_FIELD => (1, 1),
            op::CREATE_BYTE_FIELD => (8, 8),
            op::CREATE_WORD_FIELD => (8, 16),
            op::CREATE_DWORD_FIELD => (8, 32),
            op::CREATE_QWORD_FIELD => (8, 64),
            _ => (1, self.int(cur)?),
        };
        let place = self.declaration(cur)?;
        let bit = index.checked_mul(unit).ok_or(ErrorKind::OutOfBounds)?;
        let end = bit.checked_add(bits).ok_or(ErrorKind::OutOfBounds)?;
        if bits == 0 || end > u64::from(span.len) * 8 {
            return Err(ErrorKind::OutOfBounds);
        }
        let narrow = |value| u32::try_from(value).map_err(|_| ErrorKind::OutOfBounds);
        let first = narrow(u64::from(span.start) * 8 + bit)?;
        let field = BufferField { first, bits: narrow(bits)?, raw: code == op::CREATE_FIELD };
        self.add(place, Obj::BufferField(field)).map(drop)
    }
}
