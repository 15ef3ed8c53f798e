//! The evaluator as the kernel sees it.

use core::fmt;

use crate::error::{AmlError, ErrorKind};
use crate::exec::{Exec, Machine};
use crate::host::Host;
use crate::limits::{Limits, Usage};
use crate::name::{NameSeg, NodeId};
use crate::object::Obj;
use crate::report::{Extent, LoadReport, Skipped};
use crate::value::{Arg, Value};

/// The namespace of a machine's tables and all that is needed to evaluate it.
#[derive(Debug)]
pub struct Aml {
    pub(crate) machine: Machine,
}

/// What a name stands for, as far as a caller needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// A device.
    Device,
    /// A processor object.
    Processor,
    /// A method, and how many arguments it takes.
    Method(u8),
    /// Data: an integer, string, buffer, package or a field.
    Data,
    /// Anything else: a scope, a mutex, a region and so on.
    Other,
}

/// A handler of a general-purpose event: `\_GPE._Exx` or `\_GPE._Lxx`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpeMethod {
    /// The method.
    pub node: NodeId,
    /// The event's number, `xx` read as hexadecimal.
    pub number: u8,
    /// Edge-triggered (`_Exx`): clear the status before the method runs; else after it.
    pub edge: bool,
}

impl Aml {
    /// Loads tables, the DSDT first and then the SSDTs in the order of the XSDT, and runs what
    /// code they hold outside methods.
    ///
    /// A table is the whole of it, header included; what follows the length in its header is
    /// ignored. Its checksum is not looked at: check it before.
    ///
    /// A term that cannot be loaded is left out with all that is inside it, and a table that is not one
    /// as a whole: see [`Self::load_report`]. A `Return` outside methods ends its table.
    ///
    /// # Errors
    /// The first table is not one, or the heap has no room.
    pub fn load(host: &mut dyn Host, tables: &[&[u8]], limits: Limits) -> Result<Self, AmlError> {
        let mut machine = Machine::new(limits, tables)?;
        for (index, table) in tables.iter().enumerate() {
            match machine.code.add(table) {
                Ok(body) => Exec::new(&mut machine, host).load(body)?,
                Err(kind) if index == 0 || kind == ErrorKind::OutOfHeap => return Err(kind.into()),
                Err(kind) => machine.report.note(Skipped {
                    term: "table",
                    name: None,
                    extent: Extent::Term,
                    error: kind.into(),
                }),
            }
        }
        machine.seal()?;
        Ok(Self { machine })
    }

    /// What loading left out.
    #[must_use]
    pub const fn load_report(&self) -> &LoadReport {
        &self.machine.report
    }

    /// How many tables were loaded.
    #[must_use]
    pub fn table_count(&self) -> usize {
        self.machine.code.tables().len()
    }

    /// Sets whether each evaluation that does not end within [`Limits`] halves the limits of later ones, while
    /// this is set; returns the previous setting. During setup, methods of every device are evaluated: this
    /// bounds the time for all of them, and methods that end soon still return their values.
    pub fn set_hurry(&mut self, hurry: bool) -> bool {
        core::mem::replace(&mut self.machine.hurried, hurry)
    }

    /// Evaluates a node: calls a method, reads a field, or returns the value of a name.
    ///
    /// # Errors
    /// The fault with its place. The evaluator is as usable afterwards as before.
    pub fn evaluate(
        &mut self,
        host: &mut dyn Host,
        node: NodeId,
        args: &[Arg<'_>],
    ) -> Result<Value<'_>, AmlError> {
        let obj = Exec::new(&mut self.machine, host).run(node, args)?;
        Ok(self.machine.value(obj))
    }

    /// The methods in which the last evaluation looked for what to notify: of those without arguments that the evaluated
    /// method had called, and that were running when it notified last, the outermost, and the innermost if that is another.
    /// If the evaluation failed, those that were running then.
    pub const fn lookers(&self) -> [Option<NodeId>; 2] {
        self.machine.lookers.each()
    }

    /// Evaluates a node that has to give an integer.
    ///
    /// # Errors
    /// As [`Self::evaluate`], and [`ErrorKind::WrongType`].
    pub fn integer(
        &mut self,
        host: &mut dyn Host,
        node: NodeId,
        args: &[Arg<'_>],
    ) -> Result<u64, AmlError> {
        let value = self.evaluate(host, node, args)?.integer();
        value.ok_or_else(|| crate::ErrorKind::WrongType("an integer").into())
    }

    /// Evaluates the child `name` of a node, if there is one. `Ok(None)` if not.
    ///
    /// # Errors
    /// As [`Self::integer`].
    pub fn child_integer(
        &mut self,
        host: &mut dyn Host,
        node: NodeId,
        name: &str,
    ) -> Result<Option<u64>, AmlError> {
        match self.child(node, name) {
            Some(child) => self.integer(host, child, &[]).map(Some),
            None => Ok(None),
        }
    }

    /// A device's `_STA`; 0x0F if it has none (ACPI 6.5, 6.3.7).
    ///
    /// # Errors
    /// As [`Self::integer`].
    pub fn status(&mut self, host: &mut dyn Host, device: NodeId) -> Result<u64, AmlError> {
        Ok(self.child_integer(host, device, "_STA")?.unwrap_or(0x0F))
    }

    /// The node at an absolute path such as `\_SB.PCI0` (the backslash may be missing). Names
    /// shorter than four characters are padded. Aliases are followed.
    #[must_use]
    pub fn find(&self, path: &str) -> Option<NodeId> {
        self.machine.find(NodeId::ROOT, path)
    }

    /// The child of that name. For an alias, its target.
    #[must_use]
    pub fn child(&self, node: NodeId, name: &str) -> Option<NodeId> {
        let child = self.machine.names.child(node, NameSeg::from_text(name)?)?;
        Some(self.machine.names.follow(child))
    }

    /// The parent; `None` for the root.
    #[must_use]
    pub fn parent(&self, node: NodeId) -> Option<NodeId> {
        self.machine.names.parent(node)
    }

    /// The first child, then its siblings, in the order of the tables.
    pub fn children(&self, node: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        let first = self.machine.names.first_child(node);
        core::iter::successors(first, |&child| self.machine.names.next_sibling(child))
    }

    /// What a node stands for.
    #[must_use]
    pub fn kind(&self, node: NodeId) -> NodeKind {
        let names = &self.machine.names;
        match names.obj(names.follow(node)) {
            Some(Obj::Device) => NodeKind::Device,
            Some(Obj::Processor) => NodeKind::Processor,
            Some(Obj::Method(method)) => NodeKind::Method(method.args),
            Some(
                Obj::Int(_)
                | Obj::Str(_)
                | Obj::Buf(_)
                | Obj::Pkg(_)
                | Obj::Field(_)
                | Obj::BufferField(_),
            ) => NodeKind::Data,
            _ => NodeKind::Other,
        }
    }

    /// All devices, parents before children, in the order of the tables.
    #[must_use]
    pub fn devices(&self) -> Devices<'_> {
        Devices { aml: self, last: None }
    }

    /// The device after `last` in the order of [`Self::devices`], the first one for `None`:
    /// for loops that evaluate as they go.
    #[must_use]
    pub fn next_device(&self, last: Option<NodeId>) -> Option<NodeId> {
        let mut at = last.unwrap_or(NodeId::ROOT);
        loop {
            at = self.machine.names.next_in_walk(at, true)?;
            if self.machine.names.obj(at) == Some(Obj::Device) {
                return Some(at);
            }
        }
    }

    /// The node after `last` in the order of [`Self::devices`], whatever it stands for; the first one for
    /// `None`.
    #[must_use]
    pub fn next_node(&self, last: Option<NodeId>) -> Option<NodeId> {
        self.machine.names.next_in_walk(last.unwrap_or(NodeId::ROOT), true)
    }

    /// Whether a node is below another one, at any depth.
    #[must_use]
    pub fn is_below(&self, node: NodeId, other: NodeId) -> bool {
        core::iter::successors(self.parent(node), |&at| self.parent(at)).any(|at| at == other)
    }

    /// The event methods `_Exx` and `_Lxx` in `scope`: `\_GPE`, or a block device (ACPI0006).
    pub fn gpe_methods(&self, scope: NodeId) -> impl Iterator<Item = GpeMethod> + '_ {
        self.children(scope).filter_map(|node| {
            let [b'_', letter @ (b'E' | b'L'), high, low] = self.name(node)?.bytes() else {
                return None;
            };
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let number = (digit(high)? * 16 + digit(low)?) as u8;
            matches!(self.kind(node), NodeKind::Method(_)).then_some(GpeMethod {
                node,
                number,
                edge: letter == b'E',
            })
        })
    }

    /// A node's own name; `None` for the root.
    #[must_use]
    pub fn name(&self, node: NodeId) -> Option<NameSeg> {
        self.machine.names.name(node).filter(|_| node != NodeId::ROOT)
    }

    /// A node's path, to be shown.
    #[must_use]
    pub const fn path(&self, node: NodeId) -> NodePath<'_> {
        NodePath { aml: self, node }
    }

    /// Whether integers have 64 bits; 32 if not.
    #[must_use]
    pub const fn is_wide(&self) -> bool {
        self.machine.wide
    }

    /// How much of the pools is used.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.machine.usage()
    }
}

/// The iterator of [`Aml::devices`].
#[derive(Debug, Clone)]
pub struct Devices<'a> {
    aml: &'a Aml,
    last: Option<NodeId>,
}

impl Iterator for Devices<'_> {
    type Item = NodeId;

    fn next(&mut self) -> Option<NodeId> {
        let next = self.aml.next_device(self.last)?;
        self.last = Some(next);
        Some(next)
    }
}

/// Shows a node's absolute path.
#[derive(Debug, Clone, Copy)]
pub struct NodePath<'a> {
    aml: &'a Aml,
    node: NodeId,
}

/// Longest path shown in full, in segments.
const PATH_LEVELS: usize = 16;

impl fmt::Display for NodePath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut segments = [NameSeg::ROOT; PATH_LEVELS];
        let mut count = 0;
        let mut at = self.node;
        while let (Some(name), Some(parent)) = (self.aml.name(at), self.aml.parent(at)) {
            let Some(slot) = segments.get_mut(count) else {
                break;
            };
            *slot = name;
            count += 1;
            at = parent;
        }
        f.write_str(if at == NodeId::ROOT { "\\" } else { "..." })?;
        for (n, name) in segments.iter().take(count).rev().enumerate() {
            write!(f, "{}{name}", if n == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}
