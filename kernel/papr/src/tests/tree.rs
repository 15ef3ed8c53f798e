//! A device tree as QEMU writes one, and what is read of it.

use super::hypervisor::{CHECK_EXCEPTION, CONFIGURE, INT_ON, SET_INDICATOR, SET_XIVE};
use crate::board::{Board, Cpu, Terminal};
use hotmem::{NodeId, PhysAddr, PhysRange};
use hotmem_boot::tree::open;

pub(super) const FIRST: u32 = 0x8000_0004;
const LMB: u64 = 256 << 20;

/// A flattened tree (Devicetree Specification 0.4, chapter 5).
#[derive(Default)]
pub(super) struct Tree {
    structure: Vec<u8>,
    strings: Vec<u8>,
}

impl Tree {
    pub(super) fn word(&mut self, word: u32) {
        self.structure.extend(word.to_be_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.structure.extend(text.bytes().chain([0]));
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
    }

    pub(super) fn begin(&mut self, name: &str) -> &mut Self {
        self.word(1);
        self.text(name);
        self
    }

    pub(super) fn end(&mut self) -> &mut Self {
        self.word(2);
        self
    }

    pub(super) fn bytes(&mut self, name: &str, value: &[u8]) -> &mut Self {
        let at = self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        for word in [3, value.len() as u32, at] {
            self.word(word);
        }
        self.structure.extend(value);
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn cells(&mut self, name: &str, cells: &[u32]) -> &mut Self {
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.bytes(name, &bytes)
    }

    pub(super) fn finish(&mut self) -> Vec<u8> {
        self.word(9);
        let (structure, strings) = (self.structure.len() as u32, self.strings.len() as u32);
        let total = 56 + structure + strings;
        let header =
            [0xd00d_feed, total, 56, 56 + structure, 40, 17, 16, 0, strings, structure, 0, 0, 0, 0];
        let mut bytes: Vec<u8> = header.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.extend(&self.structure);
        bytes.extend(&self.strings);
        bytes
    }
}

/// Two terminals: name, unit address, interrupt source.
pub(super) const VTY: (&str, u32, u32) = ("vty@71000000", 0x7100_0000, 0x1101);
pub(super) const OTHER_VTY: (&str, u32, u32) = ("vty@71000001", 0x7100_0001, 0x1103);

const STDOUT: &[u8] = b"/vdevice/vty@71000000\0";

/// 512 MiB at boot, room for eight blocks from 1 GiB on, of which the first `plugged` are there already.
pub(super) fn tree(plugged: u32) -> Vec<u8> {
    tree_of(plugged, 8)
}

/// The same, with room for so many blocks.
pub(super) fn tree_of(plugged: u32, blocks: u32) -> Vec<u8> {
    let there = [plugged, 0, 0x4000_0000, FIRST, 1, 0x08];
    let start = 0x4000_0000 + plugged * LMB as u32;
    let free = [blocks - plugged, 0, start, FIRST + plugged, u32::MAX, 0];
    let boot = [2, 0, 0, 0, 0, 0xa0];
    if plugged > 0 {
        describe(&[boot, there, free], STDOUT)
    } else {
        describe(&[boot, free], STDOUT)
    }
}

/// What is read of a tree whose structure is sound.
pub(super) fn board(tree: &[u8]) -> Board {
    Board::read(&open(tree).unwrap()).unwrap()
}

/// A machine with these sets of blocks, and this path of the console. Without sets it is one that was
/// given no room for more memory.
fn describe(sets: &[[u32; 6]], stdout: &[u8]) -> Vec<u8> {
    let mut tree = Tree::default();
    tree.begin("").begin("chosen").bytes("stdout-path", stdout).end().begin("rtas");
    tree.cells("power-off", &[0x2003]).cells("check-exception", &[CHECK_EXCEPTION]);
    tree.cells("set-indicator", &[SET_INDICATOR]).cells("ibm,configure-connector", &[CONFIGURE]);
    tree.cells("ibm,set-xive", &[SET_XIVE]).cells("ibm,int-on", &[INT_ON]);
    tree.cells("ibm,associativity-reference-points", &[4, 3, 2, 1]).end();
    tree.begin("memory@0").bytes("device_type", b"memory\0");
    tree.cells("reg", &[0, 0, 0, 0x2000_0000]).cells("ibm,associativity", &[4, 0, 0, 0, 0]).end();
    tree.begin("event-sources").begin("hot-plug-events").cells("interrupts", &[0x1001, 0]);
    tree.end().begin("epow-events").cells("interrupts", &[0x1000, 0]).end().end();
    tree.begin("cpus").begin("PowerPC,POWER9@0").bytes("device_type", b"cpu\0");
    tree.cells("timebase-frequency", &[512_000_000]);
    tree.cells("ibm,ppc-interrupt-server#s", &[8, 9]).end().end();
    tree.begin("vdevice");
    for (name, unit, source) in [("l-lan@71000002", 0x7100_0002, 0x1102), VTY, OTHER_VTY] {
        tree.begin(name).cells("reg", &[unit]).cells("interrupts", &[source, 0]).end();
    }
    tree.end();
    if sets.is_empty() {
        return tree.end().finish();
    }
    tree.begin("ibm,dynamic-reconfiguration-memory").cells("ibm,lmb-size", &[0, LMB as u32]);
    tree.cells("ibm,associativity-lookup-arrays", &[2, 4, 0, 0, 0, 0, 0, 0, 0, 1]);
    let cells: Vec<u32> = [sets.len() as u32].into_iter().chain(sets.concat()).collect();
    tree.cells("ibm,dynamic-memory-v2", &cells).end().end().finish()
}

pub(super) fn lmbs(first: u64, count: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(0x4000_0000 + first * LMB), count * LMB).unwrap()
}

#[test]
fn the_tree_says_where_memory_is_and_may_come() {
    let board = board(&tree(0));
    let boot = PhysRange::new(PhysAddr::new(0), 0x2000_0000).unwrap();
    assert_eq!(board.ram, [(boot, NodeId::default())]);
    assert_eq!(board.window().collect::<Vec<_>>(), [lmbs(0, 8)]);
    assert_eq!((board.event_source, board.timebase_hertz), (Some(0x1001), Some(512_000_000)));
    assert_eq!(board.cpus, [8, 9].map(|server| Cpu { server, node: NodeId::ZERO }));
    assert_eq!(board.power_source, Some(0x1000));
    let first = Terminal { unit: 0x7100_0000, source: Some(0x1101) };
    assert_eq!(board.console, Some(first));
    assert_eq!((board.tokens.power_off, board.tokens.os_term), (Some(0x2003), None));
}

#[test]
fn the_terminal_that_is_chosen_is_the_console() {
    let console = |path: &[u8]| board(&describe(&[], path)).console.unwrap();
    assert_eq!(console(b"/vdevice/vty@71000001\0").unit, 0x7100_0001);
    // A path that is not text, or does not name a terminal, is ignored.
    for path in [&b"/vdevice/l-lan@71000002\0"[..], b"/nothing\0", b"\xff\0", b""] {
        assert_eq!(console(path).unit, 0x7100_0000);
    }
}

#[test]
fn a_machine_without_room_for_more_memory_has_what_it_was_started_with() {
    let board = board(&describe(&[], STDOUT));
    assert_eq!(board.ram.len(), 1);
    assert_eq!((board.window().count(), board.assigned().count()), (0, 0));
    assert_eq!(board.memory(FIRST, 1), None);
}

#[test]
fn memory_is_behind_connectors_only_if_every_one_is_described_where_it_should_be() {
    let set = |count, start: u32, connector, flags| [count, 0, start, connector, 0, flags];
    let [gib, lmb] = [0x4000_0000, LMB as u32];
    let sets = [set(2, gib, FIRST, 8), set(1, gib + 2 * lmb, FIRST + 2, 0)];
    let whole = board(&describe(&sets, STDOUT));
    assert_eq!(whole.memory(FIRST, 3), Some(lmbs(0, 3)));
    assert_eq!(whole.memory(FIRST + 1, 2), Some(lmbs(1, 2)));
    for (connector, count) in [(FIRST, 0), (FIRST, 4), (FIRST - 1, 1), (FIRST, u32::MAX)] {
        assert_eq!(whole.memory(connector, count), None, "{connector:#x}+{count}");
    }
    // The one in the middle is elsewhere, or not for this partition.
    let ends = [set(1, gib, FIRST, 8), set(1, gib + 2 * lmb, FIRST + 2, 8)];
    for middle in [set(1, gib + 5 * lmb, FIRST + 1, 8), set(1, gib + lmb, FIRST + 1, 0x80)] {
        let board = board(&describe(&[ends[0], middle, ends[1]], STDOUT));
        assert_eq!(board.memory(FIRST, 3), None);
    }
}

#[test]
fn a_tree_with_any_byte_changed_is_read_or_refused_without_a_panic() {
    let clean = tree(2);
    for at in 0..clean.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = clean.clone();
            bytes[at] = value;
            let tree = open(&bytes);
            if let Some(Ok(board)) = tree.as_ref().map(Board::read) {
                let _ = board.window().count() + board.assigned().count();
                let _ = (board.memory(FIRST, 3), board.memory(FIRST, u32::MAX));
                let nodes: Vec<_> = board.assigned().map(|set| board.node_of(set)).collect();
                assert_eq!(nodes.len(), board.assigned().count());
            }
        }
    }
}
