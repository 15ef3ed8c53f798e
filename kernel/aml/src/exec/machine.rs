//! What outlives an evaluation: tables, namespace and pools.

use alloc::vec::Vec;

use crate::code::{Code, Path};
use crate::error::{AmlError, ErrorKind, Pool as Kind, Res};
use crate::limits::{Limits, Usage};
use crate::name::{NameSeg, NodeId};
use crate::namespace::Namespace;
use crate::object::{Field, Obj, Region, Sync};
use crate::pool::{Pool, make_room};
use crate::report::LoadReport;

use super::frame::{ARGS, Frame, LOCALS, Marks};

/// Of the methods that are running, below the one that is evaluated, the outermost and the innermost that take no arguments.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lookers {
    pub(super) outermost: Option<NodeId>,
    pub(super) innermost: Option<NodeId>,
}

impl Lookers {
    /// Each of them once.
    pub(crate) const fn each(self) -> [Option<NodeId>; 2] {
        let Self { outermost, innermost } = self;
        match (outermost, innermost) {
            (Some(NodeId(one)), Some(NodeId(other))) if one == other => [outermost, None],
            _ => [outermost, innermost],
        }
    }
}

/// Steps that are left to an evaluation whatever never ended before: more than identifiers and presence of
/// real devices take.
const LEAST_STEPS: u32 = 4096;

/// The state of the evaluator between evaluations.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) limits: Limits,
    pub(crate) code: Code,
    pub(crate) names: Namespace,
    pub(crate) bytes: Pool<u8>,
    pub(crate) cells: Pool<Obj>,
    pub(crate) fields: Table<Field>,
    pub(crate) regions: Table<Region>,
    pub(crate) syncs: Table<Sync>,
    /// The methods that are running, the innermost last. Never grows: `limits.calls`.
    pub(crate) frames: Vec<Frame>,
    /// The methods that looked for what to notify, when something was notified last, or when the evaluation failed.
    pub(crate) lookers: Lookers,
    /// Serial number of the next call.
    serial: u32,
    /// Integers have 64 bits.
    pub(crate) wide: bool,
    pub(crate) peak_steps: u32,
    pub(crate) peak_depth: u16,
    /// What never ends shortens what comes after it.
    pub(crate) hurried: bool,
    /// What did not end while that was so.
    pub(crate) endless: u32,
    /// What loading left out.
    pub(crate) report: LoadReport,
}

/// A list that tables fill while loading and methods may add to, up to a limit, while they run.
#[derive(Debug)]
pub(crate) struct Table<T> {
    items: Vec<T>,
    limit: usize,
    /// Items of the tables, once loaded.
    fixed: Option<usize>,
    kind: Kind,
}

impl<T: Copy> Table<T> {
    const fn new(limit: u32, kind: Kind) -> Self {
        Self { items: Vec::new(), limit: limit as usize, fixed: None, kind }
    }

    /// Ends loading: takes the heap for `more` items, and never more.
    fn seal(&mut self, more: usize) -> Result<(), ErrorKind> {
        self.items.try_reserve_exact(more).map_err(|_| ErrorKind::OutOfHeap)?;
        self.fixed = Some(self.items.len());
        self.limit = self.items.len() + more;
        Ok(())
    }

    /// Adds an item and gives its index.
    pub(crate) fn push(&mut self, item: T) -> Result<u32, ErrorKind> {
        let full = ErrorKind::Full(self.kind);
        let index = u32::try_from(self.items.len()).map_err(|_| full)?;
        if self.items.len() >= self.limit {
            return Err(full);
        }
        make_room(&mut self.items, 1)?;
        self.items.push(item);
        Ok(index)
    }

    /// An item.
    pub(crate) fn get(&self, index: u32) -> Result<T, ErrorKind> {
        self.items.get(index as usize).copied().ok_or(ErrorKind::OutOfBounds)
    }

    /// Changes an item.
    pub(crate) fn set(&mut self, index: u32, item: T) -> Result<(), ErrorKind> {
        *self.items.get_mut(index as usize).ok_or(ErrorKind::OutOfBounds)? = item;
        Ok(())
    }

    /// Bytes of heap that are held.
    const fn heap(&self) -> usize {
        self.items.capacity() * size_of::<T>()
    }

    /// All items.
    fn iter_mut(&mut self) -> core::slice::IterMut<'_, T> {
        self.items.iter_mut()
    }

    /// The number of items.
    const fn len(&self) -> usize {
        self.items.len()
    }

    /// Drops the items from `len` on.
    fn truncate(&mut self, len: usize) {
        self.items.truncate(len);
    }

    /// Drops what methods added.
    fn clean(&mut self) {
        self.truncate(self.fixed.unwrap_or(usize::MAX));
    }
}

impl Machine {
    /// An empty namespace but for the names every machine has (ACPI 6.5, 5.3.1 and 5.7).
    pub(crate) fn new(limits: Limits, tables: &[&[u8]]) -> Result<Self, AmlError> {
        let mut frames = Vec::new();
        let calls = usize::from(limits.calls);
        frames.try_reserve_exact(calls).map_err(|_| ErrorKind::OutOfHeap)?;
        let mut machine = Self {
            limits,
            frames,
            lookers: Lookers::default(),
            serial: 0,
            code: Code::new(limits.code),
            names: Namespace::new(limits.nodes)?,
            bytes: Pool::new(Kind::Bytes, limits.data),
            cells: Pool::new(Kind::Cells, limits.data),
            fields: Table::new(limits.nodes, Kind::Fields),
            regions: Table::new(limits.nodes, Kind::Regions),
            syncs: Table::new(limits.nodes, Kind::Mutexes),
            // Byte 8 of the DSDT's header is its revision (ACPI 6.5, table 5.22).
            wide: tables.first().and_then(|dsdt| dsdt.get(8)).is_some_and(|&rev| rev >= 2),
            peak_steps: 0,
            peak_depth: 0,
            hurried: true,
            endless: 0,
            report: LoadReport::default(),
        };
        machine.predefine()?;
        Ok(machine)
    }

    /// Adds the predefined names.
    fn predefine(&mut self) -> Result<(), ErrorKind> {
        let os = b"Microsoft Windows NT";
        let span = self.bytes.lasting(os.len(), 0)?;
        self.bytes.get_mut(span)?.copy_from_slice(os);
        // The first of all: its index is `GLOBAL_LOCK`.
        let lock = Obj::Mutex(self.syncs.push(Sync::default())?);
        for (name, obj) in [
            ("_GPE", Obj::Scope),
            ("_PR", Obj::Scope),
            ("_SB", Obj::Device),
            ("_SI", Obj::Scope),
            ("_TZ", Obj::Scope),
            ("_REV", Obj::Int(2)),
            ("_OS", Obj::Str(span)),
            ("_OSI", Obj::Osi),
            ("_GL", lock),
        ] {
            let name = NameSeg::from_text(name).ok_or(ErrorKind::BadName)?;
            self.names.add(NodeId::ROOT, name, obj, false)?;
        }
        Ok(())
    }

    /// Steps that an evaluation may take. In a hurry each that did not end halves them, so that all together
    /// take little more than two, however many there are; what a sound method needs is left.
    pub(crate) fn most_steps(&self) -> u32 {
        let most = self.limits.steps;
        most.checked_shr(self.halvings()).unwrap_or(0).max(most.min(LEAST_STEPS))
    }

    /// Milliseconds that an evaluation may sleep, likewise.
    pub(crate) fn most_sleep(&self) -> u32 {
        let most = self.limits.sleep_ms;
        most.checked_shr(self.halvings()).unwrap_or(0).max(most.min(1))
    }

    const fn halvings(&self) -> u32 {
        if self.hurried { self.endless } else { 0 }
    }

    /// Takes note of an evaluation that failed, if it ran out of time.
    pub(crate) fn note_end(&mut self, kind: ErrorKind) {
        if self.hurried && matches!(kind, ErrorKind::TooLong | ErrorKind::TooSleepy(_)) {
            self.endless = self.endless.saturating_add(1);
        }
    }

    /// Ends loading: from here on nothing takes heap.
    pub(crate) fn seal(&mut self) -> Result<(), ErrorKind> {
        self.hurried = false;
        let limits = self.limits;
        self.names.seal(limits.names)?;
        self.bytes.seal(limits.growth, limits.bytes, 0)?;
        self.cells.seal(limits.growth / 16, limits.cells, Obj::Nothing)?;
        self.fields.seal(limits.names as usize)?;
        self.regions.seal(limits.names as usize)?;
        self.syncs.seal(limits.names as usize)
    }

    /// Ends whatever was running: no frames, no names of methods, no mutex held.
    pub(crate) fn clean(&mut self) {
        self.frames.clear();
        if self.names.is_sealed() {
            self.names.truncate(0);
        }
        self.fields.clean();
        self.regions.clean();
        self.syncs.clean();
        self.release_all();
    }

    /// Lets go of every mutex. A mutex is held by an evaluation; an event lives on, but nothing else
    /// could signal it.
    pub(crate) fn release_all(&mut self) {
        self.syncs.iter_mut().for_each(|sync| sync.count = 0);
    }

    /// How full the pools are.
    pub(crate) fn marks(&self) -> Marks {
        Marks {
            nodes: self.names.mark(),
            bytes: self.bytes.mark(),
            cells: self.cells.mark(),
            fields: self.fields.len(),
            regions: self.regions.len(),
            syncs: self.syncs.len(),
        }
    }

    /// Begins a call. The caller made sure that the stack of frames has room.
    pub(crate) fn push_frame(&mut self, args: [Obj; ARGS], marks: Marks) {
        let mut slots = [Obj::Nothing; LOCALS + ARGS];
        for (slot, arg) in slots.iter_mut().skip(LOCALS).zip(args) {
            *slot = arg;
        }
        self.serial = self.serial.wrapping_add(1);
        self.frames.push(Frame { serial: self.serial, slots, marks });
    }

    /// Takes out the names that a method created.
    pub(crate) fn drop_names(&mut self, marks: &Marks) {
        self.names.truncate(marks.nodes);
        self.fields.truncate(marks.fields);
        self.regions.truncate(marks.regions);
        self.syncs.truncate(marks.syncs);
    }

    /// The node a path leads to, seen from `scope`; aliases are followed.
    pub(crate) fn lookup(&self, scope: NodeId, path: &Path) -> Res<Option<NodeId>> {
        let found = if path.is_searched() {
            self.names.search(scope, path.first)
        } else {
            self.descend(scope, path)?
        };
        Ok(found.map(|node| self.names.follow(node)))
    }

    /// As [`Self::lookup`], but without searching upwards.
    pub(crate) fn descend(&self, scope: NodeId, path: &Path) -> Res<Option<NodeId>> {
        let mut at = if path.absolute { NodeId::ROOT } else { scope };
        for _ in 0..path.up {
            at = self.names.parent(at).ok_or(ErrorKind::BadName)?;
        }
        for n in 0..path.count {
            match self.names.child(at, self.code.segment_of(path, n)?) {
                Some(child) => at = self.names.follow(child),
                None => return Ok(None),
            }
        }
        Ok(Some(at))
    }

    /// Looks up a dotted path given as text.
    pub(crate) fn find(&self, from: NodeId, path: &str) -> Option<NodeId> {
        let mut at = from;
        for name in path.trim_start_matches('\\').split('.').filter(|name| !name.is_empty()) {
            at = self.names.follow(self.names.child(at, NameSeg::from_text(name)?)?);
        }
        Some(at)
    }

    /// How much of the pools is used.
    pub(crate) fn usage(&self) -> Usage {
        let tables = self.fields.heap() + self.regions.heap() + self.syncs.heap();
        let pools = self.names.heap() + self.bytes.heap() + self.cells.heap();
        let frames = self.frames.capacity() * size_of::<Frame>();
        Usage {
            heap: self.code.heap() + pools + tables + frames + self.report.heap(),
            code: self.code.tables().last().map_or(0, |table| table.end),
            nodes: self.names.fixed() as u32,
            data: self.bytes.defined(),
            peak_bytes: self.bytes.peak(),
            peak_cells: self.cells.peak(),
            peak_names: self.names.peak_names(),
            peak_steps: self.peak_steps,
            peak_depth: self.peak_depth,
        }
    }
}
