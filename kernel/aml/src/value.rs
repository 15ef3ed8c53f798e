//! Values at the edge of the evaluator: arguments going in, results coming out.

use crate::code::Cursor;
use crate::exec::machine::Machine;
use crate::name::NodeId;
use crate::object::{LazyName, Obj, Ref};

/// An argument of a method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arg<'a> {
    /// An integer; cut to 32 bits where the tables say so.
    Integer(u64),
    /// A buffer; the method gets a copy.
    Buffer(&'a [u8]),
    /// A string; the method gets a copy.
    String(&'a str),
    /// A package of such values.
    Package(&'a [Arg<'a>]),
}

/// What an evaluation gave. Borrowed from the evaluator's arena, so it has to be looked at (or
/// copied) before the next evaluation.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// Nothing: the method did not return a value.
    Nothing,
    /// An integer.
    Integer(u64),
    /// A string.
    String(&'a str),
    /// A string whose bytes are not UTF-8: ACPI's are ASCII, and real firmware's are not always.
    Bytes(&'a [u8]),
    /// A buffer.
    Buffer(&'a [u8]),
    /// A list of values.
    Package(Package<'a>),
    /// A named object that is not data, such as a device.
    Node(NodeId),
}

impl Value<'_> {
    /// The integer, if it is one.
    #[must_use]
    pub const fn integer(&self) -> Option<u64> {
        match self {
            Self::Integer(value) => Some(*value),
            _ => None,
        }
    }
}

impl<'a> Value<'a> {
    /// The bytes, if it is a buffer.
    #[must_use]
    pub const fn buffer(&self) -> Option<&'a [u8]> {
        match self {
            Self::Buffer(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// The elements of a package.
#[derive(Debug, Clone, Copy)]
pub struct Package<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) cells: &'a [Obj],
}

impl<'a> Package<'a> {
    /// The number of elements.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.cells.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// An element; `None` past the end, [`Value::Nothing`] for one that was never set. A name of
    /// a data object gives its value.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Value<'a>> {
        self.cells.get(index).map(|&obj| self.machine.value(obj))
    }
}

impl Machine {
    /// An object as the outside sees it.
    pub(crate) fn value(&self, obj: Obj) -> Value<'_> {
        match obj {
            Obj::Int(value) => Value::Integer(value),
            Obj::Str(span) => self.bytes.get(span).map_or(Value::Nothing, |bytes| {
                core::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::String)
            }),
            Obj::Buf(span) => self.bytes.get(span).map_or(Value::Nothing, Value::Buffer),
            Obj::Pkg(span) => self
                .cells
                .get(span)
                .map_or(Value::Nothing, |cells| Value::Package(Package { machine: self, cells })),
            Obj::Ref(Ref::Node(node)) => Value::Node(node),
            Obj::Name(name) => self.named(name),
            _ => Value::Nothing,
        }
    }

    /// What a name in a package stands for: data is given itself, anything else as its node.
    fn named(&self, name: LazyName) -> Value<'_> {
        let path = self.code.path(&mut Cursor { at: name.at, end: u32::MAX });
        let node = path.and_then(|path| self.lookup(name.scope, &path)).ok().flatten();
        node.map_or(Value::Nothing, |node| match self.names.obj(node) {
            Some(obj @ (Obj::Int(_) | Obj::Str(_) | Obj::Buf(_) | Obj::Pkg(_))) => self.value(obj),
            _ => Value::Node(node),
        })
    }
}
