//! `Field`, `IndexField` and `BankField`: names for the bits of registers.

use crate::code::{Cursor, starts_name};
use crate::error::ErrorKind;
use crate::name::NameSeg;
use crate::object::{Field, FieldBase, FieldFlags, Obj};

use super::{Exec, Res};

// What an element of a field list starts with, unless it is a name (ACPI 6.5, 20.2.5.2).
const RESERVED: u8 = 0;
const ACCESS: u8 = 1;
const CONNECT: u8 = 2;
const EXTENDED_ACCESS: u8 = 3;

impl Exec<'_> {
    /// Fields that lie in a region.
    pub(super) fn field(&mut self, cur: &mut Cursor) -> Res<()> {
        let mut body = self.m.code.package(cur)?;
        let region = self.region_name(&mut body)?;
        self.field_list(body, FieldBase::Region(region))
    }

    /// Fields reached through an index and a data register.
    pub(super) fn index_field(&mut self, cur: &mut Cursor) -> Res<()> {
        let mut body = self.m.code.package(cur)?;
        let index = self.field_name(&mut body)?;
        let data = self.field_name(&mut body)?;
        self.field_list(body, FieldBase::Index { index, data })
    }

    /// Fields that are there while a bank register holds a value.
    pub(super) fn bank_field(&mut self, cur: &mut Cursor) -> Res<()> {
        let mut body = self.m.code.package(cur)?;
        let region = self.region_name(&mut body)?;
        let bank = self.field_name(&mut body)?;
        let value = self.int(&mut body)?;
        self.field_list(body, FieldBase::Bank { region, bank, value })
    }

    /// Takes the name of a region.
    fn region_name(&mut self, cur: &mut Cursor) -> Res<u32> {
        let node = self.name(cur)?;
        match self.m.names.obj(node) {
            Some(Obj::Region(region)) => Ok(region),
            _ => Err(ErrorKind::WrongType("an operation region")),
        }
    }

    /// Takes the name of a field.
    fn field_name(&mut self, cur: &mut Cursor) -> Res<u32> {
        let node = self.name(cur)?;
        match self.m.names.obj(node) {
            Some(Obj::Field(field)) => Ok(field),
            _ => Err(ErrorKind::WrongType("a field")),
        }
    }

    /// Takes the flags and the elements up to the end of the list.
    fn field_list(&mut self, mut list: Cursor, base: FieldBase) -> Res<()> {
        let mut flags = FieldFlags(self.m.code.byte(&mut list)?);
        let mut bit: u32 = 0;
        while list.at < list.end {
            self.charge(1)?;
            let start = list.at;
            let lead = self.m.code.peek(list)?;
            if lead <= EXTENDED_ACCESS {
                list.at += 1;
            }
            match lead {
                RESERVED => bit = self.advance(bit, &mut list)?,
                ACCESS => flags = flags.with_access(self.m.code.number(&mut list, 2)? as u8),
                EXTENDED_ACCESS => {
                    flags = flags.with_access(self.m.code.number(&mut list, 3)? as u8);
                }
                CONNECT => self.connection(&mut list)?,
                _ => {
                    let name = self.m.code.segment(&mut list)?;
                    let end = self.advance(bit, &mut list)?;
                    let field = Field { base, bit, bits: end - bit, flags };
                    self.add_field(start, name, field)?;
                    bit = end;
                }
            }
        }
        Ok(())
    }

    /// Adds a field. In a table, a name that is taken costs this field and not the others of its list.
    fn add_field(&mut self, start: u32, name: NameSeg, field: Field) -> Res<()> {
        let index = self.m.fields.push(field)?;
        match self.add((self.scope, name), Obj::Field(index)) {
            Err(kind @ ErrorKind::Exists(_)) if self.loading && self.m.frames.is_empty() => {
                self.fault = Some(start);
                self.note_field(name, kind);
                Ok(())
            }
            added => added.map(drop),
        }
    }

    /// Takes a width in bits and gives the bit behind it.
    fn advance(&self, bit: u32, list: &mut Cursor) -> Res<u32> {
        bit.checked_add(self.m.code.length(list)?).ok_or(ErrorKind::OutOfBounds)
    }

    /// Takes a connection, which only serial buses and GPIO use.
    fn connection(&mut self, list: &mut Cursor) -> Res<()> {
        if starts_name(self.m.code.peek(*list)?) {
            self.m.code.path(list).map(drop)
        } else {
            self.term(list).map(drop)
        }
    }
}

impl FieldFlags {
    /// The same with the access type of an `AccessField` element.
    const fn with_access(self, access: u8) -> Self {
        Self(self.0 & 0xF0 | access & 0x0F)
    }
}
