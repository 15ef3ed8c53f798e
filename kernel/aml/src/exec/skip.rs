//! Loading around faults.
//!
//! ```text
//! table: | term | term with a fault | term |      the fault costs its own term
//!               ^ start             ^ skip: found by syntax alone, nothing is evaluated
//! ```
//!
//! Real firmware has faults in parts that have nothing to do with memory: scopes of devices that
//! another model has, names that two tables define. Every other interpreter loads around them.
//! Inside methods a fault ends the evaluation: what is left of a method cannot be trusted.

use crate::code::{Cursor, starts_name};
use crate::error::ErrorKind;
use crate::name::NameSeg;
use crate::object::Obj;
use crate::opcode as op;
use crate::report::{Extent, Skipped};

use super::{Exec, Res};

/// Terms without end that tables may have: the next one ends its table.
const PATIENCE: u32 = 64;

/// What follows an opcode.
#[derive(Clone, Copy)]
enum Part {
    /// So many bytes.
    Bytes(u32),
    /// Characters up to a zero byte.
    Text,
    /// A name.
    Path,
    /// So many terms.
    Terms(u32),
    /// A length, and as many bytes.
    Package,
}

use Part::{Bytes, Package, Path, Terms, Text};

/// What follows an opcode (ACPI 6.5, 20.2.5); `None` if it is not one.
const fn parts(code: u16) -> Option<&'static [Part]> {
    Some(match code {
        op::ZERO | op::ONE | op::ONES | op::NOOP | op::BREAK | op::CONTINUE | op::BREAK_POINT => {
            &[]
        }
        op::LOCAL0..=op::ARG6 | op::TIMER | op::REVISION | op::DEBUG => &[],
        op::BYTE => &[Bytes(1)],
        op::WORD => &[Bytes(2)],
        op::DWORD => &[Bytes(4)],
        op::QWORD => &[Bytes(8)],
        op::STRING => &[Text],
        op::SCOPE | op::BUFFER | op::PACKAGE | op::VAR_PACKAGE | op::METHOD => &[Package],
        op::IF | op::ELSE | op::WHILE | op::FIELD..=op::BANK_FIELD => &[Package],
        op::ALIAS => &[Path, Path],
        op::NAME => &[Path, Terms(1)],
        op::EXTERNAL => &[Path, Bytes(2)],
        op::MUTEX => &[Path, Bytes(1)],
        op::EVENT => &[Path],
        op::REGION => &[Path, Bytes(1), Terms(2)],
        op::DATA_REGION => &[Path, Terms(3)],
        op::CREATE_DWORD_FIELD..=op::CREATE_BIT_FIELD | op::CREATE_QWORD_FIELD => &[Terms(2), Path],
        op::CREATE_FIELD => &[Terms(3), Path],
        op::MATCH => &[Terms(1), Bytes(1), Terms(1), Bytes(1), Terms(2)],
        op::ACQUIRE => &[Terms(1), Bytes(2)],
        op::FATAL => &[Bytes(5), Terms(1)],
        op::INCREMENT | op::DECREMENT | op::REF_OF | op::DEREF_OF | op::SIZE_OF => &[Terms(1)],
        op::OBJECT_TYPE | op::LNOT | op::RETURN | op::STALL | op::SLEEP => &[Terms(1)],
        op::SIGNAL | op::RESET | op::RELEASE | op::UNLOAD => &[Terms(1)],
        op::STORE | op::COPY_OBJECT | op::NOT | op::NOTIFY | op::COND_REF_OF => &[Terms(2)],
        op::FIND_SET_LEFT_BIT | op::FIND_SET_RIGHT_BIT | op::LAND | op::LOR => &[Terms(2)],
        op::LEQUAL..=op::LLESS | op::TO_BUFFER..=op::TO_INTEGER => &[Terms(2)],
        op::WAIT | op::FROM_BCD | op::TO_BCD | op::LOAD => &[Terms(2)],
        op::ADD | op::CONCAT | op::SUBTRACT | op::MULTIPLY => &[Terms(3)],
        op::SHIFT_LEFT..=op::XOR | op::CONCAT_RES | op::MOD | op::INDEX => &[Terms(3)],
        op::TO_STRING => &[Terms(3)],
        op::DIVIDE | op::MID => &[Terms(4)],
        op::LOAD_TABLE => &[Terms(6)],
        _ => return None,
    })
}

/// What ASL calls a term.
const fn spelling(code: u16) -> &'static str {
    match code {
        op::SCOPE => "Scope",
        op::DEVICE => "Device",
        op::PROCESSOR => "Processor",
        op::POWER_RESOURCE => "PowerResource",
        op::THERMAL_ZONE => "ThermalZone",
        op::NAME => "Name",
        op::METHOD => "Method",
        op::ALIAS => "Alias",
        op::EXTERNAL => "External",
        op::MUTEX => "Mutex",
        op::EVENT => "Event",
        op::REGION => "OperationRegion",
        op::DATA_REGION => "DataTableRegion",
        op::FIELD => "Field",
        op::INDEX_FIELD => "IndexField",
        op::BANK_FIELD => "BankField",
        op::CREATE_DWORD_FIELD..=op::CREATE_BIT_FIELD
        | op::CREATE_QWORD_FIELD
        | op::CREATE_FIELD => "CreateField",
        op::IF => "If",
        op::WHILE => "While",
        op::RETURN => "Return",
        op::BREAK => "Break",
        op::CONTINUE => "Continue",
        _ => "a statement",
    }
}

/// Whether a term with this opcode does something or defines something, and so is never an argument.
const fn is_statement(code: u16) -> bool {
    matches!(
        code,
        op::SCOPE
            | op::NAME
            | op::METHOD
            | op::ALIAS
            | op::EXTERNAL
            | op::MUTEX
            | op::EVENT
            | op::REGION
            ..=op::DATA_REGION
                | op::IF
                | op::WHILE
                | op::RETURN
                | op::NOOP
                | op::STORE
                | op::NOTIFY
    )
}

impl Exec<'_> {
    /// Goes on behind a term of a table that failed. An error if loading the table ends with it.
    pub(super) fn recover(&mut self, start: u32, cur: &mut Cursor, kind: ErrorKind) -> Res<()> {
        self.fault.get_or_insert(start);
        let endless = matches!(kind, ErrorKind::TooLong | ErrorKind::TooSleepy(_));
        // A loop of the table ends with what did not end in it.
        let spent = endless && (self.loops != 0 || self.m.endless >= PATIENCE);
        if self.ended || spent || kind == ErrorKind::OutOfHeap {
            self.cut_off();
            return Err(kind);
        }
        if endless {
            self.m.note_end(kind);
            (self.most, self.steps, self.slept) = (self.m.most_steps(), 0, 0);
        }
        self.unwind();
        let from = Cursor { at: start, end: cur.end };
        cur.at = start;
        let extent = match self.skip(cur) {
            Ok(()) => Extent::Term,
            Err(error @ ErrorKind::TooLong) => return Err(error),
            Err(_) => {
                cur.at = cur.end;
                self.cut_off();
                Extent::List
            }
        };
        self.note(from, extent, kind);
        self.hold_place(from);
        Ok(())
    }

    /// Counts a term that is left out.
    pub(super) fn note(&mut self, mut term: Cursor, extent: Extent, kind: ErrorKind) {
        let place = self.fault.take().and_then(|at| self.m.code.place(at));
        let code = self.m.code.opcode(&mut term).unwrap_or_default();
        let error = crate::AmlError { kind, place };
        let name = self.own_name(code, &mut term);
        self.m.report.note(Skipped { term: spelling(code), name, extent, error });
    }

    /// Counts a field that is left out of its list.
    pub(super) fn note_field(&mut self, name: NameSeg, kind: ErrorKind) {
        let place = self.fault.take().and_then(|at| self.m.code.place(at));
        let error = crate::AmlError { kind, place };
        let (name, extent) = (Some(name), Extent::Term);
        self.m.report.note(Skipped { term: "field", name, extent, error });
    }

    /// The name that a term defines or opens.
    fn own_name(&self, code: u16, cur: &mut Cursor) -> Option<NameSeg> {
        match parts(code)? {
            [Package] if !matches!(code, op::IF | op::WHILE | op::BUFFER..=op::VAR_PACKAGE) => {
                self.m.code.package(cur).map(|body| cur.at = body.at).ok()?;
            }
            [Path, ..] if code != op::ALIAS => {}
            [Path, Path] => drop(self.m.code.path(cur).ok()?),
            _ => return None,
        }
        let path = self.m.code.path(cur).ok()?;
        self.m.code.segment_of(&path, path.count.checked_sub(1)?).ok()
    }

    /// Ends the methods that a failed term was running, as the end of an evaluation would.
    fn unwind(&mut self) {
        if let Some(first) = self.m.frames.first().copied() {
            self.m.frames.clear();
            self.m.drop_names(&first.marks);
        }
        self.unlock_all();
        self.level = 0;
    }

    /// Keeps the name of a `Name` whose value failed, without a value: a device whose `_STA` is broken
    /// must not pass for one that has none, which is always there.
    fn hold_place(&mut self, mut term: Cursor) {
        if self.m.code.opcode(&mut term) != Ok(op::NAME) {
            return;
        }
        if let Ok(place) = self.declaration(&mut term) {
            // The name may be there already: then the first definition stays.
            let _ = self.add(place, Obj::Nothing);
        }
    }

    /// Makes the device whose body is cut off a mere scope: methods that it lacks now would pass for
    /// methods that it never had.
    pub(super) fn cut_off(&mut self) {
        if self.loading && self.defining == Some(self.scope) {
            self.m.names.set_obj(self.scope, Obj::Scope);
        }
    }

    /// Moves behind a statement without evaluating it.
    fn skip(&mut self, cur: &mut Cursor) -> Res<()> {
        if !starts_name(self.m.code.peek(*cur)?) {
            let code = self.m.code.peek_opcode(*cur)?;
            self.skip_term(cur, defines(code))?;
            if code == op::IF && self.m.code.peek_opcode(*cur) == Ok(op::ELSE) {
                self.skip_term(cur, false)?;
            }
            return Ok(());
        }
        if self.skip_name(cur)? {
            return Ok(());
        }
        // The arguments of an unknown method: constants can be distinguished from what follows, and what
        // follows has to be certain.
        while cur.at < cur.end && self.at_constant(*cur) {
            self.skip_term(cur, false)?;
        }
        match self.m.code.peek_opcode(*cur) {
            _ if cur.at >= cur.end => Ok(()),
            Ok(code) if is_statement(code) => Ok(()),
            _ => Err(ErrorKind::BadName),
        }
    }

    /// Whether a constant follows, or a local.
    fn at_constant(&self, cur: Cursor) -> bool {
        let code = self.m.code.peek_opcode(cur).unwrap_or(op::NOOP);
        matches!(code, op::ZERO | op::ONE | op::ONES | op::BYTE..=op::QWORD)
            || matches!(code, op::BUFFER..=op::VAR_PACKAGE | op::LOCAL0..=op::ARG6)
    }

    /// Moves behind a term. Where only data is due, an unknown name is data; elsewhere it may be a
    /// method with any number of arguments.
    fn skip_term(&mut self, cur: &mut Cursor, data: bool) -> Res<()> {
        self.charge(1)?;
        if starts_name(self.m.code.peek(*cur)?) {
            return match self.skip_name(cur)? || data {
                true => Ok(()),
                false => Err(ErrorKind::BadName),
            };
        }
        let code = self.m.code.opcode(cur)?;
        self.enter()?;
        for part in parts(code).ok_or(ErrorKind::Opcode(code))? {
            match *part {
                Bytes(count) => drop(self.m.code.number(cur, count.min(8))?),
                Text => while self.m.code.byte(cur)? != 0 {},
                Path => drop(self.m.code.path(cur)?),
                Package => drop(self.m.code.package(cur)?),
                Terms(count) => (0..count).try_for_each(|_| self.skip_term(cur, data))?,
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Moves behind a name and the arguments of the method that it names. False if the name is unknown.
    fn skip_name(&mut self, cur: &mut Cursor) -> Res<bool> {
        let path = self.m.code.path(cur)?;
        let Some(node) = self.lookup(self.scope, &path)? else { return Ok(false) };
        let args = match self.m.names.obj(node) {
            Some(Obj::Method(method)) => method.args,
            Some(Obj::Osi) => 1,
            _ => 0,
        };
        self.enter()?;
        (0..args).try_for_each(|_| self.skip_term(cur, false))?;
        self.depth -= 1;
        Ok(true)
    }
}

/// Whether a term's operands are data and not calls.
const fn defines(code: u16) -> bool {
    matches!(
        code,
        op::NAME | op::REGION | op::DATA_REGION | op::CREATE_DWORD_FIELD
            ..=op::CREATE_BIT_FIELD | op::CREATE_QWORD_FIELD | op::CREATE_FIELD
    )
}
