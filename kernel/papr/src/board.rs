//! What the device tree says of memory, interrupts and services.

use super::distances::Distances;
use alloc::vec::Vec;
use core::ffi::CStr;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};
use hotmem::{NodeId, PhysAddr, PhysRange};

/// Flags of a logical memory block (LoPAR C.6.6.2): the kernel has it; it has no connector; it is not
/// for this partition.
const ASSIGNED: u32 = 0x08;
const NO_CONNECTOR: u32 = 0x20;
const RESERVED: u32 = 0x80;
/// Bytes of a logical memory block on a machine that has no room for any.
const USUAL_BLOCK: u64 = 256 << 20;
/// Bytes of a set of blocks in `ibm,dynamic-memory-v2`: count, address, connector, associativity, flags.
const SET_BYTES: usize = 24;

hotmem::errors! {
    /// Why the device tree cannot be used.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum TreeError {
        /// A property is missing, or too short.
        Missing(what: &'static str) => "the device tree has no {what}",
    }
}

/// The numbers of the services that are used; `None` for one that firmware does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    /// `power-off`
    pub power_off: Option<u32>,
    /// `ibm,os-term`
    pub os_term: Option<u32>,
    /// `check-exception`
    pub check_exception: Option<u32>,
    /// `set-indicator`
    pub set_indicator: Option<u32>,
    /// `ibm,configure-connector`
    pub configure_connector: Option<u32>,
    /// `ibm,set-xive`
    pub set_xive: Option<u32>,
    /// `ibm,int-on`
    pub int_on: Option<u32>,
    /// `start-cpu`
    pub start_cpu: Option<u32>,
}

/// Logical memory blocks with consecutive addresses and connectors, all in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockSet {
    /// How many.
    pub count: u32,
    /// Address of the first.
    pub start: PhysAddr,
    /// Connector of the first; the others' follow.
    pub connector: u32,
    /// Their row in the table of associativities.
    associativity: u32,
    flags: u32,
}

/// A virtual terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Its unit address, by which hypercalls know it.
    pub unit: u32,
    /// Its interrupt source.
    pub source: Option<u32>,
}

/// A CPU: one thread of a core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Its server number.
    pub server: u32,
    /// The node that it is on.
    pub node: NodeId,
}

/// What the device tree says.
#[derive(Clone, Debug)]
pub struct Board {
    /// The services' numbers.
    pub tokens: Tokens,
    /// Boot memory and the node it is on.
    pub ram: Vec<(PhysRange, NodeId)>,
    /// Bytes of a logical memory block.
    pub block_bytes: u64,
    /// Blocks that can be plugged and unplugged.
    pub sets: Vec<BlockSet>,
    /// Interrupt source of hotplug events.
    pub event_source: Option<u32>,
    /// Interrupt source of power events.
    pub power_source: Option<u32>,
    /// The console.
    pub console: Option<Terminal>,
    /// The CPUs.
    pub cpus: Vec<Cpu>,
    /// The distances of nodes.
    pub distances: Distances,
    /// Ticks of the timebase in a second.
    pub timebase_hertz: Option<u64>,
    /// Which entry of an associativity list is the node.
    node_index: usize,
    /// The table of associativities: entries of a row, and the rows.
    row: usize,
    rows: Vec<u32>,
}

impl Board {
    /// Reads a tree whose structure was checked. Its names may be longer than the standard's 31 characters, so
    /// that [`Fdt::new`] refuses it: the caller has a check of its own.
    ///
    /// # Errors
    ///
    /// [`TreeError`] if its description of hotpluggable memory is broken. The tree of a machine without room for
    /// more memory has no such description, which is not an error.
    pub fn read(tree: &Fdt<'_>) -> Result<Self, TreeError> {
        let rtas = tree.find_node("/rtas").ok_or(TreeError::Missing("node /rtas"))?;
        let dynamic = tree.find_node("/ibm,dynamic-reconfiguration-memory");
        let block_bytes = dynamic.as_ref().map_or(Ok(USUAL_BLOCK), block_bytes)?;
        let points = words(&rtas, "ibm,associativity-reference-points");
        // The table has a header of two words: rows, and entries of a row.
        let lookup = |node| words(node, "ibm,associativity-lookup-arrays");
        let mut lookup = dynamic.iter().flat_map(lookup).skip(1);
        let row = lookup.next().unwrap_or(0) as usize;

        let mut board = Self {
            tokens: tokens(&rtas),
            ram: Vec::new(),
            block_bytes,
            sets: dynamic.as_ref().map_or(Ok(Vec::new()), sets)?,
            event_source: interrupt(tree, "/event-sources/hot-plug-events"),
            power_source: interrupt(tree, "/event-sources/epow-events"),
            console: console(tree),
            cpus: Vec::new(),
            distances: Distances::new(&points),
            timebase_hertz: timebase(tree),
            node_index: points.first().map_or(4, |&index| index as usize),
            row,
            rows: lookup.collect(),
        };
        board.ram = board.boot_memory(tree);
        board.cpus = board.cpus(tree);
        board.note_rows();
        Ok(board)
    }

    /// The ranges that memory can be plugged into.
    pub fn window(&self) -> impl Iterator<Item = PhysRange> + '_ {
        let free = self.sets.iter().filter(|set| set.flags & (NO_CONNECTOR | RESERVED) == 0);
        free.filter_map(|set| {
            PhysRange::new(set.start, u64::from(set.count).checked_mul(self.block_bytes)?)
        })
    }

    /// The sets that were plugged before the kernel was started.
    pub(super) fn assigned(&self) -> impl Iterator<Item = &BlockSet> {
        let wanted = ASSIGNED | NO_CONNECTOR | RESERVED;
        self.sets.iter().filter(move |set| set.flags & wanted == ASSIGNED)
    }

    /// The memory behind `count` connectors from `connector` on, if the tree describes all of them, one
    /// behind the other.
    pub(super) fn memory(&self, connector: u32, count: u32) -> Option<PhysRange> {
        let (start, _) = self.block(connector)?;
        let (mut at, mut left, mut end) = (connector, count, start);
        while left > 0 {
            let (address, run) = self.block(at)?;
            let run = run.min(left);
            if address != end {
                return None;
            }
            end = end.checked_add(u64::from(run).checked_mul(self.block_bytes)?)?;
            (at, left) = (at.checked_add(run)?, left - run);
        }
        PhysRange::new(start, end.offset_from(start)).filter(|range| !range.is_empty())
    }

    /// The memory behind a connector, and how many connectors of its set there are from it on, one at
    /// least.
    fn block(&self, connector: u32) -> Option<(PhysAddr, u32)> {
        self.sets.iter().find_map(|set| {
            let index = connector.checked_sub(set.connector)?;
            let run = set.count.checked_sub(index).filter(|&run| run != 0)?;
            let at = set.start.checked_add(u64::from(index).checked_mul(self.block_bytes)?)?;
            (set.flags & (NO_CONNECTOR | RESERVED) == 0).then_some((at, run))
        })
    }

    /// The node that an associativity list, its length first, names.
    pub(super) fn node(&self, list: &[u32]) -> Option<NodeId> {
        NodeId::new(*list.get(self.node_index)?)
    }

    /// The node of a set, by the table.
    pub(super) fn node_of(&self, set: &BlockSet) -> NodeId {
        let first = (set.associativity as usize).checked_mul(self.row);
        // A row has no length in front.
        let index = first.and_then(|first| first.checked_add(self.node_index.checked_sub(1)?));
        let raw = index.and_then(|index| self.rows.get(index));
        raw.and_then(|&raw| NodeId::new(raw)).unwrap_or_default()
    }

    /// The `memory@` nodes.
    fn boot_memory(&mut self, tree: &Fdt<'_>) -> Vec<(PhysRange, NodeId)> {
        let nodes = tree.root().children();
        let memory = nodes.filter(|node| is(node, "device_type", b"memory\0"));
        memory
            .filter_map(|node| {
                let reg = words(&node, "reg");
                let pair =
                    |at: usize| Some(u64::from(*reg.get(at)?) << 32 | u64::from(*reg.get(at + 1)?));
                let range = PhysRange::new(PhysAddr::new(pair(0)?), pair(2)?)?;
                Some((range, self.noted_node(&node)))
            })
            .collect()
    }

    /// All threads (LoPAR C.6.3, `ibm,ppc-interrupt-server#s`), up to a number that no machine has.
    fn cpus(&mut self, tree: &Fdt<'_>) -> Vec<Cpu> {
        const MOST: usize = 4096;
        let cores = tree.find_node("/cpus").into_iter().flat_map(|cpus| cpus.children());
        let cores = cores.filter(|node| is(node, "device_type", b"cpu\0"));
        let threads = cores.flat_map(|core| {
            let node = self.noted_node(&core);
            let servers = words(&core, "ibm,ppc-interrupt-server#s");
            servers.into_iter().map(move |server| Cpu { server, node })
        });
        threads.take(MOST).collect()
    }

    /// The node that the associativity of `described` names, whose domains are noted.
    fn noted_node(&mut self, described: &FdtNode<'_>) -> NodeId {
        let list = words(described, "ibm,associativity");
        let Some(node) = self.node(&list) else { return NodeId::ZERO };
        self.distances.note(node, |point| list.get(point).copied());
        node
    }

    /// Notes the domains of nodes that have neither memory nor CPUs yet.
    fn note_rows(&mut self) {
        // A row has no length in front.
        let index = |point: usize| point.checked_sub(1);
        for row in self.rows.chunks_exact(self.row.max(1)) {
            let domain = |point| row.get(index(point)?).copied();
            if let Some(node) = domain(self.node_index).and_then(NodeId::new) {
                self.distances.note(node, domain);
            }
        }
    }
}

fn is(node: &FdtNode<'_>, property: &str, value: &[u8]) -> bool {
    node.property(property).is_some_and(|property| property.value() == value)
}

/// The terminal that is the console: the one that `/chosen` names, or else the first.
fn console(tree: &Fdt<'_>) -> Option<Terminal> {
    let chosen = tree.find_node("/chosen");
    let named = ["stdout-path", "linux,stdout-path"].into_iter().find_map(|name| {
        let property = chosen.as_ref()?.property(name)?;
        let path = CStr::from_bytes_until_nul(property.value()).ok()?;
        terminal(&tree.find_node(path.to_str().ok()?)?)
    });
    named.or_else(|| tree.find_node("/vdevice")?.children().find_map(|node| terminal(&node)))
}

/// The terminal that the node is, by its name (`vty@71000000`).
fn terminal(node: &FdtNode<'_>) -> Option<Terminal> {
    let is_one = AsRef::<str>::as_ref(&node.name()).starts_with("vty@");
    let unit = words(node, "reg").first().copied().filter(|_| is_one)?;
    Some(Terminal { unit, source: words(node, "interrupts").first().copied() })
}

/// What the first CPU says of the timebase.
fn timebase(tree: &Fdt<'_>) -> Option<u64> {
    let mut cpus = tree.find_node("/cpus")?.children();
    let cpu = cpus.find(|node| is(node, "device_type", b"cpu\0"))?;
    let hertz = words(&cpu, "timebase-frequency").first().copied().map(u64::from);
    hertz.filter(|&hertz| hertz != 0)
}

/// The 32-bit cells of a property; none if there is no such property.
fn words(node: &FdtNode<'_>, property: &str) -> Vec<u32> {
    let property = node.property(property);
    let bytes = property.as_ref().map_or(&[][..], |property| property.value());
    bytes.as_chunks().0.iter().map(|&word| u32::from_be_bytes(word)).collect()
}

/// A property of two cells.
fn long(node: &FdtNode<'_>, property: &str) -> Option<u64> {
    match words(node, property)[..] {
        [high, low, ..] => Some(u64::from(high) << 32 | u64::from(low)),
        _ => None,
    }
}

/// The interrupt source of the node at `path`.
fn interrupt(tree: &Fdt<'_>, path: &str) -> Option<u32> {
    words(&tree.find_node(path)?, "interrupts").first().copied()
}

fn tokens(rtas: &FdtNode<'_>) -> Tokens {
    let token = |name| words(rtas, name).first().copied();
    Tokens {
        power_off: token("power-off"),
        os_term: token("ibm,os-term"),
        check_exception: token("check-exception"),
        set_indicator: token("set-indicator"),
        configure_connector: token("ibm,configure-connector"),
        set_xive: token("ibm,set-xive"),
        int_on: token("ibm,int-on"),
        start_cpu: token("start-cpu"),
    }
}

/// Bytes of a logical memory block.
fn block_bytes(dynamic: &FdtNode<'_>) -> Result<u64, TreeError> {
    let size = long(dynamic, "ibm,lmb-size").filter(|size| size.is_power_of_two());
    size.ok_or(TreeError::Missing("ibm,lmb-size"))
}

/// The sets of `ibm,dynamic-memory-v2` (LoPAR C.6.6.2).
fn sets(dynamic: &FdtNode<'_>) -> Result<Vec<BlockSet>, TreeError> {
    let missing = TreeError::Missing("ibm,dynamic-memory-v2");
    let property = dynamic.property("ibm,dynamic-memory-v2").ok_or(missing)?;
    let (count, rest) = property.value().split_first_chunk().ok_or(missing)?;
    let count = u32::from_be_bytes(*count) as usize;
    let (sets, _) = rest.as_chunks::<SET_BYTES>();
    let sets = sets.get(..count).ok_or(missing)?;
    Ok(sets.iter().map(set).collect())
}

fn set(bytes: &[u8; SET_BYTES]) -> BlockSet {
    let [count, high, low, connector, associativity, flags] = core::array::from_fn(|at| {
        bytes.as_chunks().0.get(at).copied().map_or(0, u32::from_be_bytes)
    });
    let start = PhysAddr::new(u64::from(high) << 32 | u64::from(low));
    BlockSet { count, start, connector, associativity, flags }
}
