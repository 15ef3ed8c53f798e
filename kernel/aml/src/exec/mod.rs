//! Evaluating terms.
//!
//! ```text
//! run / load -> block -> statement -> term -> operator, definition, name or call -> block ...
//! ```
//!
//! The recursion follows the nesting of the tables and is cut off at `Limits::depth`. Every
//! term and every round of a loop costs a step, large copies more, up to `Limits::steps`.
//! Inside, errors are plain [`ErrorKind`]s; the innermost term that failed is remembered in
//! `fault` and becomes the error's place at the edge.

mod access;
mod arith;
mod call;
mod convert;
mod data;
mod define;
mod fields;
mod frame;
mod lock;
pub(crate) mod machine;
mod pci;
mod refs;
mod skip;
mod store;
mod strings;
mod system;
#[cfg(test)]
mod tests;

use crate::code::{Cursor, starts_name};
use crate::error::{AmlError, ErrorKind, Res};
use crate::host::Host;
use crate::name::NodeId;
use crate::object::{Obj, Span};
use crate::opcode as op;
use crate::report::Extent;
use crate::value::Arg;

use machine::Lookers;
pub(crate) use machine::Machine;

/// One evaluation.
pub(crate) struct Exec<'m> {
    m: &'m mut Machine,
    host: &'m mut dyn Host,
    /// Where names are looked up from and defined.
    scope: NodeId,
    depth: u16,
    /// Steps that it may take, and that it took.
    most: u32,
    steps: u32,
    /// Microseconds slept and stalled.
    slept: u64,
    /// The sync level of the mutex acquired last.
    level: u8,
    /// Offset of the innermost term that failed.
    fault: Option<u32>,
    /// Something a callee created may be reachable from its caller, so that nothing can be
    /// given back before the evaluation ends.
    escaped: bool,
    /// Terms of tables are loaded; outside methods, faults cost single terms.
    loading: bool,
    /// A `Return` outside methods has ended the table.
    ended: bool,
    /// Loops that are running.
    loops: u16,
    /// The device or its like whose body is loaded.
    defining: Option<NodeId>,
    lookers: Lookers,
}

/// How a statement went on.
#[derive(Debug, Clone, Copy)]
enum Flow {
    Next,
    Break,
    Continue,
    Return(Obj),
}

impl<'m> Exec<'m> {
    /// Starts an evaluation: nothing of an earlier one is left.
    pub(crate) fn new(m: &'m mut Machine, host: &'m mut dyn Host) -> Self {
        m.clean();
        m.lookers = Lookers::default();
        m.bytes.reset_all();
        m.cells.reset_all();
        let (scope, most) = (NodeId::ROOT, m.most_steps());
        Self {
            m,
            host,
            most,
            scope,
            depth: 0,
            steps: 0,
            slept: 0,
            level: 0,
            fault: None,
            escaped: false,
            loading: false,
            ended: false,
            loops: 0,
            defining: None,
            lookers: Lookers::default(),
        }
    }

    /// Runs the body of a table. Faults are counted in the machine's report.
    ///
    /// # Errors
    /// The kernel heap has no room.
    pub(crate) fn load(mut self, body: Cursor) -> Result<(), AmlError> {
        self.loading = true;
        let result = match self.block(body) {
            Ok(Flow::Next) => Ok(()),
            Ok(_) => Err(ErrorKind::StrayFlow),
            Err(kind) => Err(kind),
        };
        if let Err(kind) = result
            && kind != ErrorKind::OutOfHeap
        {
            let at = self.fault.unwrap_or(body.at);
            self.note(Cursor { at, end: body.end }, Extent::Table, kind);
            return self.finish(Ok(()));
        }
        self.finish(result)
    }

    /// Evaluates a node.
    pub(crate) fn run(mut self, node: NodeId, args: &[Arg<'_>]) -> Result<Obj, AmlError> {
        let result = self.evaluate(node, args);
        self.finish(result)
    }

    /// Evaluates a node, and what a name in its result stands for.
    fn evaluate(&mut self, node: NodeId, args: &[Arg<'_>]) -> Res<Obj> {
        let mut list = [Obj::Nothing; frame::ARGS];
        if args.len() > list.len() {
            return Err(ErrorKind::Arguments(frame::ARGS as u8));
        }
        for (slot, arg) in list.iter_mut().zip(args) {
            *slot = self.argument(*arg)?;
        }
        let node = self.m.names.follow(node);
        let result = match self.m.names.obj(node) {
            Some(Obj::Method(method)) if args.len() == usize::from(method.args) => {
                self.call(node, method, list)?
            }
            Some(Obj::Method(method)) => return Err(ErrorKind::Arguments(method.args)),
            Some(Obj::Osi) => self.osi(list[0])?,
            Some(_) if !args.is_empty() => return Err(ErrorKind::Arguments(0)),
            Some(_) => self.load_node(node)?,
            None => return Err(ErrorKind::OutOfBounds),
        };
        self.resolved(result)
    }

    /// Brings an argument into the arena.
    fn argument(&mut self, arg: Arg<'_>) -> Res<Obj> {
        match arg {
            Arg::Integer(value) => Ok(Obj::Int(self.cut(value))),
            Arg::Buffer(bytes) => Ok(Obj::Buf(self.put(bytes)?)),
            Arg::String(text) => Ok(Obj::Str(self.put(text.as_bytes())?)),
            Arg::Package(elements) => {
                let span = self.m.cells.temporary(elements.len(), Obj::Nothing)?;
                for (at, element) in (span.start..).zip(elements) {
                    let element = self.argument(*element)?;
                    self.m.cells.set(at, element)?;
                }
                Ok(Obj::Pkg(span))
            }
        }
    }

    /// Copies bytes into the arena.
    fn put(&mut self, bytes: &[u8]) -> Res<Span> {
        let span = self.m.bytes.temporary(bytes.len(), 0)?;
        self.m.bytes.get_mut(span)?.copy_from_slice(bytes);
        Ok(span)
    }

    /// Ends the evaluation: names of methods and held mutexes are gone, an error gets its place.
    fn finish<T>(mut self, result: Res<T>) -> Result<T, AmlError> {
        self.unlock_all();
        self.m.clean();
        self.m.peak_steps = self.m.peak_steps.max(self.steps);
        if let Err(kind) = &result {
            // A call that fails does not restore them: they are running.
            self.m.lookers = self.lookers;
            self.m.note_end(*kind);
        }
        let place = self.fault.and_then(|at| self.m.code.place(at));
        result.map_err(|kind| AmlError { kind, place })
    }

    /// Whether terms of tables are loaded, and none of a method is run.
    fn is_of_table(&self) -> bool {
        self.loading && self.m.frames.is_empty()
    }

    /// Counts `count` steps. After one that is refused none is left.
    fn charge(&mut self, count: u32) -> Res<()> {
        let steps = self.steps.saturating_add(count);
        self.steps = steps.min(self.most);
        if steps > self.most { Err(ErrorKind::TooLong) } else { Ok(()) }
    }

    /// Goes one level deeper. An error ends the whole evaluation, or comes back up to [`Self::block`]
    /// while tables are loaded, so only success counts levels down.
    fn enter(&mut self) -> Res<()> {
        if self.depth >= self.m.limits.depth {
            return Err(ErrorKind::TooDeep);
        }
        self.depth += 1;
        self.m.peak_depth = self.m.peak_depth.max(self.depth);
        Ok(())
    }

    /// Runs `cur` to its end, or to what leaves it early.
    fn block(&mut self, mut cur: Cursor) -> Res<Flow> {
        self.enter()?;
        // Faults inside a method come up to the term of the table that called it.
        let of_table = self.is_of_table();
        let (depth, scope, loops, defining) = (self.depth, self.scope, self.loops, self.defining);
        while cur.at < cur.end {
            let start = cur.at;
            match self.statement(&mut cur) {
                Ok(Flow::Next) => {}
                Ok(Flow::Break | Flow::Continue) if of_table && loops == 0 => {
                    let term = Cursor { at: start, end: cur.end };
                    self.fault = Some(start);
                    self.note(term, Extent::Term, ErrorKind::StrayFlow);
                }
                Ok(flow) => {
                    if of_table && matches!(flow, Flow::Return(_)) {
                        self.fault.get_or_insert(start);
                    }
                    self.depth -= 1;
                    return Ok(flow);
                }
                Err(kind) if of_table => {
                    (self.depth, self.scope) = (depth, scope);
                    (self.loops, self.defining) = (loops, defining);
                    self.recover(start, &mut cur, kind)?;
                }
                Err(kind) => return Err(self.blame(start, kind)),
            }
        }
        self.depth -= 1;
        Ok(Flow::Next)
    }

    /// Remembers where an error arose, unless something deeper did already.
    fn blame(&mut self, at: u32, kind: ErrorKind) -> ErrorKind {
        self.fault.get_or_insert(at);
        kind
    }

    /// Runs one statement.
    fn statement(&mut self, cur: &mut Cursor) -> Res<Flow> {
        let code = self.m.code.peek_opcode(*cur)?;
        match code {
            op::IF => self.branch(cur),
            op::WHILE => self.repeat(cur),
            op::RETURN => {
                self.m.code.opcode(cur)?;
                Ok(Flow::Return(self.term(cur)?))
            }
            op::BREAK | op::CONTINUE | op::NOOP | op::BREAK_POINT => {
                self.charge(1)?;
                self.m.code.opcode(cur)?;
                Ok(match code {
                    op::BREAK => Flow::Break,
                    op::CONTINUE => Flow::Continue,
                    _ => Flow::Next,
                })
            }
            _ => self.term(cur).map(|_| Flow::Next),
        }
    }

    /// `If`, and the `Else` behind it.
    fn branch(&mut self, cur: &mut Cursor) -> Res<Flow> {
        self.charge(1)?;
        self.m.code.opcode(cur)?;
        let mut yes = self.m.code.package(cur)?;
        let taken = self.int(&mut yes)? != 0;
        let mut body = taken.then_some(yes);
        if cur.at < cur.end && self.m.code.peek_opcode(*cur) == Ok(op::ELSE) {
            self.m.code.opcode(cur)?;
            let no = self.m.code.package(cur)?;
            body = body.or(Some(no));
        }
        body.map_or(Ok(Flow::Next), |body| self.block(body))
    }

    /// `While`.
    fn repeat(&mut self, cur: &mut Cursor) -> Res<Flow> {
        self.m.code.opcode(cur)?;
        let body = self.m.code.package(cur)?;
        self.loops += 1;
        let flow = loop {
            self.charge(1)?;
            let mut round = body;
            if self.int(&mut round)? == 0 {
                break Flow::Next;
            }
            match self.block(round)? {
                Flow::Next | Flow::Continue => {}
                Flow::Break => break Flow::Next,
                flow @ Flow::Return(_) => break flow,
            }
        };
        self.loops -= 1;
        Ok(flow)
    }

    /// Evaluates one term to a value.
    fn term(&mut self, cur: &mut Cursor) -> Res<Obj> {
        let start = cur.at;
        let result = self.enter().and_then(|()| self.charge(1)).and_then(|()| self.operator(cur));
        match result {
            Ok(obj) => {
                self.depth -= 1;
                Ok(obj)
            }
            Err(kind) => Err(self.blame(start, kind)),
        }
    }

    /// Takes an opcode and hands over to the family it belongs to.
    fn operator(&mut self, cur: &mut Cursor) -> Res<Obj> {
        if starts_name(self.m.code.peek(*cur)?) {
            return self.name_term(cur);
        }
        let code = self.m.code.opcode(cur)?;
        match code {
            op::ZERO | op::ONE | op::ONES | op::BYTE..=op::QWORD | op::BUFFER..=op::VAR_PACKAGE => {
                self.literal(code, cur)
            }
            op::LOCAL0..=op::LOCAL7 | op::ARG0..=op::ARG6 => self.slot(code),
            op::ALIAS
            | op::NAME
            | op::SCOPE
            | op::METHOD
            | op::EXTERNAL
            | op::MUTEX
            | op::EVENT
            | op::REGION..=op::DATA_REGION => self.define(code, cur).map(|()| Obj::Nothing),
            op::CREATE_DWORD_FIELD..=op::CREATE_BIT_FIELD
            | op::CREATE_QWORD_FIELD
            | op::CREATE_FIELD => self.create_field(code, cur).map(|()| Obj::Nothing),
            op::ADD
            | op::SUBTRACT..=op::FIND_SET_RIGHT_BIT
            | op::MOD
            | op::FROM_BCD
            | op::TO_BCD => self.arithmetic(code, cur),
            op::LAND..=op::LLESS => self.logic(code, cur),
            op::STORE | op::COPY_OBJECT => self.assign(code, cur),
            op::REF_OF
            | op::DEREF_OF
            | op::COND_REF_OF
            | op::INDEX
            | op::SIZE_OF
            | op::OBJECT_TYPE => self.reference(code, cur),
            op::CONCAT | op::CONCAT_RES | op::MID | op::TO_BUFFER..=op::TO_STRING => {
                self.text(code, cur)
            }
            op::MATCH => self.find_match(cur),
            _ => self.system(code, cur),
        }
    }

    /// Evaluates a term that has to be an integer, or can be made one.
    fn int(&mut self, cur: &mut Cursor) -> Res<u64> {
        let obj = self.term(cur)?;
        self.to_int(obj)
    }

    /// Cuts an integer to the width of the tables.
    const fn cut(&self, value: u64) -> u64 {
        if self.m.wide { value } else { value & 0xFFFF_FFFF }
    }

    /// Bytes of an integer.
    const fn int_bytes(&self) -> u32 {
        if self.m.wide { 8 } else { 4 }
    }
}
