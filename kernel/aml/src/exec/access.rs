//! Reading and writing fields.
//!
//! ```text
//! field:   | unit 0          | unit 1          |     unit = access width
//!               [ bits of the field ]
//! ```
//!
//! A register is always accessed in whole units. A write that covers only part of a unit takes
//! the other bits from the register, or makes them all ones or zeros, as the field says.

use crate::error::ErrorKind;
use crate::host::{Space, Width};
use crate::object::{BufferField, Field, FieldBase, FieldFlags, Obj, RegionSpace, Span, Update};

use super::{Exec, Res};

/// Most bytes of a field; what hostile tables claim beyond costs an error, not time.
const LONGEST: u32 = 4096;

/// Where the bits of a field come from when it is written, or go when it is read.
#[derive(Debug, Clone, Copy)]
enum Data {
    /// The value of an integer.
    Small(u64),
    /// Bytes in the arena.
    Large(Span),
}

impl FieldFlags {
    /// The width of one access; `None` if it is a protocol's and not a register's.
    const fn width(self) -> Option<Width> {
        match self.0 & 0x0F {
            0 | 1 => Some(Width::Byte),
            2 => Some(Width::Word),
            3 => Some(Width::Dword),
            4 => Some(Width::Qword),
            _ => None,
        }
    }

    /// Whether an access needs the lock that firmware shares.
    pub(super) const fn locks(self) -> bool {
        self.0 & 0x10 != 0
    }

    /// What to do with neighbouring bits.
    const fn update(self) -> Update {
        match self.0 >> 5 & 3 {
            1 => Update::Ones,
            2 => Update::Zeros,
            _ => Update::Preserve,
        }
    }
}

impl Exec<'_> {
    /// Reads a field: an integer if it fits one, else a buffer (ACPI 6.5, 19.6.47).
    pub(super) fn read_field(&mut self, index: u32) -> Res<Obj> {
        let field = self.m.fields.get(index)?;
        let mut data = self.room_for(field.bits, false)?;
        self.lock_for(field.flags)?;
        self.each_unit(&field, |exec, unit| {
            let value = exec.read_unit(&field, unit.at)?;
            exec.put_bits(&mut data, unit.bit, unit.bits, value >> unit.shift)
        })?;
        self.unlock_for(field.flags)?;
        Ok(match data {
            Data::Small(value) => Obj::Int(value),
            Data::Large(span) => Obj::Buf(span),
        })
    }

    /// Writes a field; a value that is shorter is filled up with zeros.
    pub(super) fn write_field(&mut self, index: u32, value: Obj) -> Res<()> {
        let field = self.m.fields.get(index)?;
        let data = self.source(value)?;
        self.lock_for(field.flags)?;
        self.each_unit(&field, |exec, unit| {
            let mask = ones(unit.bits) << unit.shift;
            let new = exec.get_bits(data, unit.bit, unit.bits) << unit.shift;
            let whole = unit.bits == unit.width.bits();
            let rest = match field.flags.update() {
                _ if whole => 0,
                Update::Preserve => exec.read_unit(&field, unit.at)?,
                Update::Ones => unit.width.mask(),
                Update::Zeros => 0,
            };
            exec.write_unit(&field, unit.at, rest & !mask | new)
        })?;
        self.unlock_for(field.flags)
    }

    /// Calls `access` for every unit that holds bits of the field.
    fn each_unit(
        &mut self,
        field: &Field,
        mut access: impl FnMut(&mut Self, Unit) -> Res<()>,
    ) -> Res<()> {
        let unsupported = ErrorKind::Host(crate::HostError::Unsupported);
        let width = field.flags.width().ok_or(unsupported)?;
        self.enter()?;
        let end = field.bit.checked_add(field.bits).ok_or(ErrorKind::OutOfBounds)?;
        let mut bit = field.bit;
        while bit < end {
            self.charge(1)?;
            let shift = bit % width.bits();
            let bits = (width.bits() - shift).min(end - bit);
            let at = u64::from(bit / width.bits() * width.bytes());
            access(self, Unit { width, at, shift, bits, bit: bit - field.bit })?;
            bit += bits;
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads one unit of a field.
    fn read_unit(&mut self, field: &Field, at: u64) -> Res<u64> {
        let width = field.flags.width().unwrap_or(Width::Byte);
        match field.base {
            FieldBase::Region(region) => self.read_region(region, at, width),
            FieldBase::Bank { region, bank, value } => {
                self.write_field(bank, Obj::Int(value))?;
                self.read_region(region, at, width)
            }
            FieldBase::Index { index, data } => {
                self.write_field(index, Obj::Int(at))?;
                let value = self.read_field(data)?;
                self.to_int(value)
            }
        }
    }

    /// Writes one unit of a field.
    fn write_unit(&mut self, field: &Field, at: u64, value: u64) -> Res<()> {
        let width = field.flags.width().unwrap_or(Width::Byte);
        match field.base {
            FieldBase::Region(region) => self.write_region(region, at, width, value),
            FieldBase::Bank { region, bank, value: select } => {
                self.write_field(bank, Obj::Int(select))?;
                self.write_region(region, at, width, value)
            }
            FieldBase::Index { index, data } => {
                self.write_field(index, Obj::Int(at))?;
                self.write_field(data, Obj::Int(value))
            }
        }
    }

    /// The space and address of a register of a region, which must lie inside it. No space of the machine
    /// has the bytes of tables.
    fn register(&mut self, index: u32, at: u64, width: Width) -> Res<(Option<Space>, u64)> {
        let region = self.m.regions.get(index)?;
        let end = at.checked_add(u64::from(width.bytes()));
        if end.is_none_or(|end| end > region.len) {
            return Err(ErrorKind::OutOfBounds);
        }
        let address = region.base.checked_add(at).ok_or(ErrorKind::OutOfBounds)?;
        let space = match region.space {
            RegionSpace::Tables => None,
            RegionSpace::Machine(0) => Some(Space::SystemMemory),
            RegionSpace::Machine(1) => Some(Space::SystemIo),
            RegionSpace::Machine(2) => Some(Space::PciConfig(self.pci_address(index)?)),
            RegionSpace::Machine(other) => Some(Space::Other(other)),
        };
        Ok((space, address))
    }

    /// Reads a register.
    fn read_region(&mut self, index: u32, at: u64, width: Width) -> Res<u64> {
        let (space, address) = self.register(index, at, width)?;
        let value = match space {
            Some(space) => self.host.io().read(space, address, width).map_err(ErrorKind::Host)?,
            None => {
                let at = u32::try_from(address).map_err(|_| ErrorKind::OutOfBounds)?;
                let bytes = self.m.code.slice(at, width.bytes())?;
                bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
            }
        };
        Ok(value & width.mask())
    }

    /// Writes a register.
    fn write_region(&mut self, index: u32, at: u64, width: Width, value: u64) -> Res<()> {
        let (space, address) = self.register(index, at, width)?;
        let space = space.ok_or(ErrorKind::BadValue("tables are not written"))?;
        let value = value & width.mask();
        self.host.io().write(space, address, width, value).map_err(ErrorKind::Host)
    }

    /// Reads bits of a buffer.
    pub(super) fn read_buffer_field(&mut self, field: BufferField) -> Res<Obj> {
        let mut data = self.room_for(field.bits, field.raw)?;
        for done in (0..field.bits).step_by(8) {
            let bits = (field.bits - done).min(8);
            let value = self.buffer_bits(field, done, bits)?;
            self.put_bits(&mut data, done, bits, value)?;
        }
        Ok(match data {
            Data::Small(value) => Obj::Int(value),
            Data::Large(span) => Obj::Buf(span),
        })
    }

    /// Up to eight bits of a buffer field.
    fn buffer_bits(&self, field: BufferField, done: u32, bits: u32) -> Res<u64> {
        let bit = field.first.checked_add(done).ok_or(ErrorKind::OutOfBounds)?;
        let at = bit / 8;
        let mut value = u64::from(self.m.bytes.item(at)?);
        if bit % 8 + bits > 8 {
            value |= u64::from(self.m.bytes.item(at + 1)?) << 8;
        }
        Ok(value >> (bit % 8) & ones(bits))
    }

    /// Writes bits of a buffer.
    pub(super) fn write_buffer_field(&mut self, field: BufferField, value: Obj) -> Res<()> {
        let data = self.source(value)?;
        self.charge(field.bits / 64)?;
        let mut done = 0;
        while done < field.bits {
            let bit = field.first.checked_add(done).ok_or(ErrorKind::OutOfBounds)?;
            let at = bit / 8;
            let shift = bit % 8;
            let bits = (8 - shift).min(field.bits - done);
            let mask = ones(bits) << shift;
            let old = u64::from(self.m.bytes.item(at)?);
            let new = self.get_bits(data, done, bits) << shift;
            self.m.bytes.set(at, (old & !mask | new) as u8)?;
            done += bits;
        }
        Ok(())
    }

    /// Where the bits of a field that is read go.
    fn room_for(&mut self, bits: u32, raw: bool) -> Res<Data> {
        if !raw && bits <= self.int_bytes() * 8 {
            return Ok(Data::Small(0));
        }
        let len = bits.div_ceil(8);
        if len > LONGEST {
            return Err(ErrorKind::OutOfBounds);
        }
        self.charge(len / 16)?;
        self.m.bytes.temporary(len as usize, 0).map(Data::Large)
    }

    /// Where the bits of a field that is written come from.
    fn source(&self, value: Obj) -> Res<Data> {
        match value {
            Obj::Int(value) => Ok(Data::Small(self.cut(value))),
            Obj::Str(span) | Obj::Buf(span) => Ok(Data::Large(span)),
            _ => Err(ErrorKind::WrongType("an integer, string or buffer")),
        }
    }

    /// Puts up to 64 bits at bit `at`.
    fn put_bits(&mut self, data: &mut Data, at: u32, bits: u32, value: u64) -> Res<()> {
        let value = value & ones(bits);
        match data {
            Data::Small(sum) => *sum |= value.checked_shl(at).unwrap_or(0),
            Data::Large(span) => {
                // Shifted by up to seven bits, 64 bits touch nine bytes.
                let wide = u128::from(value) << (at % 8);
                for (n, byte) in (at / 8..).zip(wide.to_le_bytes()) {
                    if byte != 0 && n < span.len {
                        let old = self.m.bytes.item(span.start + n)?;
                        self.m.bytes.set(span.start + n, old | byte)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Gets up to 64 bits from bit `at` on; beyond the data there are zeros.
    fn get_bits(&self, data: Data, at: u32, bits: u32) -> u64 {
        let value = match data {
            Data::Small(value) => value.checked_shr(at).unwrap_or(0),
            Data::Large(span) => {
                let mut wide = 0u128;
                for n in 0..9 {
                    let at = at / 8 + n;
                    let byte =
                        if at < span.len { self.m.bytes.item(span.start + at) } else { Ok(0) };
                    wide |= u128::from(byte.unwrap_or(0)) << (8 * n);
                }
                (wide >> (at % 8)) as u64
            }
        };
        value & ones(bits)
    }
}

/// One access of a field.
#[derive(Debug, Clone, Copy)]
struct Unit {
    width: Width,
    /// Bytes from the start of the region.
    at: u64,
    /// The field's lowest bit in the unit, and how many there are.
    shift: u32,
    bits: u32,
    /// Which bit of the field that is.
    bit: u32,
}

/// `bits` (at most 64) ones.
const fn ones(bits: u32) -> u64 {
    match bits {
        0 => 0,
        1..64 => u64::MAX >> (64 - bits),
        _ => u64::MAX,
    }
}
