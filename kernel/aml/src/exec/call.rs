//! Names, methods and their frames.

use crate::code::{Cursor, Path};
use crate::error::ErrorKind;
use crate::name::NodeId;
use crate::object::{Method, Obj, Ref, Span};

use super::frame::{ARGS, Marks};
use super::{Exec, Flow, Lookers, Res};

impl Exec<'_> {
    /// A name where a value is due: calls it, or gives what it holds.
    pub(super) fn name_term(&mut self, cur: &mut Cursor) -> Res<Obj> {
        let node = self.name(cur)?;
        match self.m.names.obj(node) {
            Some(Obj::Method(method)) => {
                let mut args = [Obj::Nothing; ARGS];
                for slot in args.iter_mut().take(usize::from(method.args)) {
                    *slot = self.term(cur)?;
                }
                self.call(node, method, args)
            }
            Some(Obj::Osi) => {
                let wanted = self.term(cur)?;
                self.osi(wanted)
            }
            _ => self.load_node(node),
        }
    }

    /// Takes a name that has to exist; aliases are followed.
    pub(super) fn name(&mut self, cur: &mut Cursor) -> Res<NodeId> {
        let path = self.m.code.path(cur)?;
        match self.lookup(self.scope, &path)? {
            Some(node) => Ok(node),
            None => Err(self.missing(&path)),
        }
    }

    /// The node a path leads to, each level on the way paid for; aliases are followed.
    pub(super) fn lookup(&mut self, scope: NodeId, path: &Path) -> Res<Option<NodeId>> {
        if !path.is_searched() {
            self.charge(path.count + path.up)?;
            let found = self.m.descend(scope, path)?;
            return Ok(found.map(|node| self.m.names.follow(node)));
        }
        let mut at = Some(scope);
        while let Some(here) = at {
            self.charge(1)?;
            if let Some(found) = self.m.names.child(here, path.first) {
                return Ok(Some(self.m.names.follow(found)));
            }
            at = self.m.names.parent(here);
        }
        Ok(None)
    }

    /// The error for a path to an object that does not exist.
    fn missing(&self, path: &Path) -> ErrorKind {
        match self.m.code.segment_of(path, path.count.saturating_sub(1)) {
            Ok(name) if path.count > 0 => ErrorKind::NotFound(name),
            _ => ErrorKind::BadName,
        }
    }

    /// What a name in a package stands for; other objects are themselves.
    pub(super) fn resolved(&mut self, obj: Obj) -> Res<Obj> {
        let Obj::Name(lazy) = obj else { return Ok(obj) };
        let path = self.m.code.path(&mut Cursor { at: lazy.at, end: u32::MAX })?;
        let node = self.lookup(lazy.scope, &path)?.ok_or_else(|| self.missing(&path))?;
        self.m.names.obj(node).map_or(Err(ErrorKind::OutOfBounds), |obj| match obj {
            Obj::Int(_) | Obj::Str(_) | Obj::Buf(_) | Obj::Pkg(_) => Ok(obj),
            _ => Ok(Obj::Ref(Ref::Node(node))),
        })
    }

    /// The value of a node.
    pub(super) fn load_node(&mut self, node: NodeId) -> Res<Obj> {
        match self.m.names.obj(node).ok_or(ErrorKind::OutOfBounds)? {
            Obj::Field(field) => self.read_field(field),
            Obj::BufferField(field) => self.read_buffer_field(field),
            Obj::Method(method) if method.args == 0 => {
                self.call(node, method, [Obj::Nothing; ARGS])
            }
            Obj::Method(method) => Err(ErrorKind::Arguments(method.args)),
            Obj::Osi => Err(ErrorKind::Arguments(1)),
            obj @ (Obj::Nothing
            | Obj::Int(_)
            | Obj::Str(_)
            | Obj::Buf(_)
            | Obj::Pkg(_)
            | Obj::Ref(_)) => Ok(obj),
            obj @ Obj::Name(_) => self.resolved(obj),
            _ => Ok(Obj::Ref(Ref::Node(node))),
        }
    }

    /// Runs a method in a frame of its own, and gives back all it took but its result.
    pub(super) fn call(&mut self, node: NodeId, method: Method, args: [Obj; ARGS]) -> Res<Obj> {
        if self.m.frames.len() >= usize::from(self.m.limits.calls) {
            return Err(ErrorKind::TooDeep);
        }
        let lookers = self.lookers;
        if method.args == 0 && !self.m.frames.is_empty() {
            self.lookers =
                Lookers { outermost: lookers.outermost.or(Some(node)), innermost: Some(node) };
        }
        let marks = self.m.marks();
        self.m.push_frame(args, marks);
        let scope = core::mem::replace(&mut self.scope, node);

        let result = match self.block(Cursor { at: method.start, end: method.end })? {
            Flow::Return(obj) => obj,
            Flow::Next => Obj::Nothing,
            Flow::Break | Flow::Continue => return Err(ErrorKind::StrayFlow),
        };

        if matches!(result, Obj::Pkg(_)) {
            self.settle(&marks)?;
        }
        (self.scope, self.lookers) = (scope, lookers);
        self.m.frames.pop();
        self.m.drop_names(&marks);
        self.give_back(result, &marks)
    }

    /// Has elements of packages that a method made hold what names stand for that end with it.
    fn settle(&mut self, marks: &Marks) -> Res<()> {
        for at in marks.cells..self.m.cells.mark() {
            self.charge(1)?;
            let at = at as u32;
            let Obj::Name(lazy) = self.m.cells.item(at)? else { continue };
            let path = self.m.code.path(&mut Cursor { at: lazy.at, end: u32::MAX })?;
            let node = self.lookup(lazy.scope, &path)?;
            let Some(node) = node.filter(|&node| self.m.names.is_temporary(node)) else { continue };
            if let Some(obj @ (Obj::Int(_) | Obj::Str(_) | Obj::Buf(_) | Obj::Pkg(_))) =
                self.m.names.obj(node)
            {
                self.m.cells.set(at, obj)?;
            }
        }
        Ok(())
    }

    /// Resets the arena to where the method began, with its result moved down to there.
    fn give_back(&mut self, result: Obj, marks: &Marks) -> Res<Obj> {
        let keep = match result {
            Obj::Nothing | Obj::Int(_) => Some(result),
            Obj::Ref(Ref::Node(node)) if !self.m.names.is_temporary(node) => Some(result),
            Obj::Ref(Ref::Node(_) | Ref::Slot { .. }) => {
                return Err(ErrorKind::BadValue("reference to what ended with its method"));
            }
            Obj::Str(span) | Obj::Buf(span) if !self.escaped => {
                let moved = self.m.bytes.compact(span, marks.bytes)?;
                self.m.cells.reset(marks.cells);
                return Ok(same_kind(result, moved));
            }
            _ => None,
        };
        if keep.is_some() && !self.escaped {
            self.m.bytes.reset(marks.bytes);
            self.m.cells.reset(marks.cells);
        }
        // A package, or a reference into one, keeps all its callee's memory alive.
        Ok(keep.unwrap_or(result))
    }

    /// Evaluates `_OSI`.
    pub(super) fn osi(&mut self, wanted: Obj) -> Res<Obj> {
        let Obj::Str(span) = wanted else {
            return Err(ErrorKind::WrongType("a string"));
        };
        let bytes = self.m.bytes.get(span)?;
        let known = core::str::from_utf8(bytes).is_ok_and(|text| self.host.osi(text));
        Ok(Obj::Int(if known { self.cut(u64::MAX) } else { 0 }))
    }
}

/// An object like `obj` whose bytes are elsewhere.
const fn same_kind(obj: Obj, span: Span) -> Obj {
    match obj {
        Obj::Str(_) => Obj::Str(span),
        _ => Obj::Buf(span),
    }
}
