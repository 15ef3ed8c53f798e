//! Arithmetic, comparison and logic (ACPI 6.5, 19.6).

use core::cmp::Ordering;

use crate::code::Cursor;
use crate::error::ErrorKind;
use crate::object::Obj;
use crate::opcode as op;

use super::convert::Style;
use super::{Exec, Res};

impl Exec<'_> {
    /// Operators that give an integer and may store it.
    pub(super) fn arithmetic(&mut self, code: u16, cur: &mut Cursor) -> Res<Obj> {
        match code {
            op::INCREMENT | op::DECREMENT => self.step(code, cur),
            op::DIVIDE => self.divide(cur),
            op::NOT
            | op::FIND_SET_LEFT_BIT
            | op::FIND_SET_RIGHT_BIT
            | op::FROM_BCD
            | op::TO_BCD => {
                let value = self.int(cur)?;
                let result = self.unary(code, value)?;
                self.give(cur, result)
            }
            _ => {
                let left = self.int(cur)?;
                let right = self.int(cur)?;
                let result = self.binary(code, left, right)?;
                self.give(cur, result)
            }
        }
    }

    /// Stores a result where the term says and gives it.
    fn give(&mut self, cur: &mut Cursor, value: u64) -> Res<Obj> {
        let value = Obj::Int(self.cut(value));
        let target = self.target(cur)?;
        self.store(value, target)?;
        Ok(value)
    }

    /// Operators of two integers.
    fn binary(&self, code: u16, left: u64, right: u64) -> Res<u64> {
        let bits = self.int_bytes() * 8;
        // Shifting by more than there are bits leaves none.
        let shift = u32::try_from(right).ok().filter(|&shift| shift < bits);
        Ok(match code {
            op::ADD => left.wrapping_add(right),
            op::SUBTRACT => left.wrapping_sub(right),
            op::MULTIPLY => left.wrapping_mul(right),
            op::MOD => left.checked_rem(right).ok_or(ErrorKind::DivideByZero)?,
            op::SHIFT_LEFT => shift.map_or(0, |shift| left << shift),
            op::SHIFT_RIGHT => shift.map_or(0, |shift| left >> shift),
            op::AND => left & right,
            op::NAND => !(left & right),
            op::OR => left | right,
            op::NOR => !(left | right),
            op::XOR => left ^ right,
            _ => return Err(ErrorKind::Opcode(code)),
        })
    }

    /// Operators of one integer.
    fn unary(&self, code: u16, value: u64) -> Res<u64> {
        Ok(match code {
            op::NOT => !value,
            // Bits count from 1; 0 means that none is set.
            op::FIND_SET_LEFT_BIT => u64::from(64 - value.leading_zeros()),
            op::FIND_SET_RIGHT_BIT if value == 0 => 0,
            op::FIND_SET_RIGHT_BIT => u64::from(value.trailing_zeros()) + 1,
            op::FROM_BCD => self.read_bcd(value)?,
            op::TO_BCD => self.write_bcd(value)?,
            _ => return Err(ErrorKind::Opcode(code)),
        })
    }

    /// Reads the nibbles as decimal digits.
    fn read_bcd(&self, value: u64) -> Res<u64> {
        let mut result = 0u64;
        for n in (0..self.int_bytes() * 2).rev() {
            let digit = value >> (4 * n) & 0xF;
            if digit > 9 {
                return Err(ErrorKind::BadValue("nibble is not a decimal digit"));
            }
            result = result.wrapping_mul(10).wrapping_add(digit);
        }
        Ok(result)
    }

    /// Writes the decimal digits as nibbles.
    fn write_bcd(&self, mut value: u64) -> Res<u64> {
        let mut result = 0;
        for n in 0..self.int_bytes() * 2 {
            result |= (value % 10) << (4 * n);
            value /= 10;
        }
        if value == 0 { Ok(result) } else { Err(ErrorKind::BadValue("number too long for BCD")) }
    }

    /// `Increment` and `Decrement`.
    fn step(&mut self, code: u16, cur: &mut Cursor) -> Res<Obj> {
        let target = self.target(cur)?;
        let old = self.load_target(target)?;
        let old = self.to_int(old)?;
        let new = if code == op::INCREMENT { old.wrapping_add(1) } else { old.wrapping_sub(1) };
        let new = Obj::Int(self.cut(new));
        self.store(new, target)?;
        Ok(new)
    }

    /// `Divide`: stores the remainder, then the quotient, which is also the result.
    fn divide(&mut self, cur: &mut Cursor) -> Res<Obj> {
        let left = self.int(cur)?;
        let right = self.int(cur)?;
        let rest = left.checked_rem(right).ok_or(ErrorKind::DivideByZero)?;
        let quotient = left.checked_div(right).ok_or(ErrorKind::DivideByZero)?;
        self.give(cur, rest)?;
        self.give(cur, quotient)
    }

    /// Operators that give true or false.
    pub(super) fn logic(&mut self, code: u16, cur: &mut Cursor) -> Res<Obj> {
        let truth = match code {
            op::LNOT => self.int(cur)? == 0,
            op::LAND | op::LOR => {
                // Both sides are always evaluated.
                let (left, right) = (self.int(cur)? != 0, self.int(cur)? != 0);
                if code == op::LAND { left && right } else { left || right }
            }
            _ => {
                let left = self.term(cur)?;
                let right = self.term(cur)?;
                let order = self.compare(left, right)?;
                match code {
                    op::LEQUAL => order.is_eq(),
                    op::LGREATER => order.is_gt(),
                    op::LLESS => order.is_lt(),
                    _ => return Err(ErrorKind::Opcode(code)),
                }
            }
        };
        Ok(Obj::Int(if truth { self.cut(u64::MAX) } else { 0 }))
    }

    /// Compares two objects; the second is converted to the type of the first.
    pub(super) fn compare(&mut self, left: Obj, right: Obj) -> Res<Ordering> {
        let (left, right) = match left {
            Obj::Int(left) => return Ok(self.cut(left).cmp(&self.to_int(right)?)),
            Obj::Str(left) => (left, self.text_of(right, Style::Implicit)?),
            Obj::Buf(left) => (left, self.buffer_of(right)?),
            _ => return Err(ErrorKind::WrongType("an integer, string or buffer")),
        };
        self.charge(left.len / 16)?;
        Ok(self.m.bytes.get(left)?.cmp(self.m.bytes.get(right)?))
    }
}
