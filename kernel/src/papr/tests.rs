//! The source against a hypervisor that keeps the state of every connector, as QEMU does.

use super::board::{Board, Terminal};
use super::connector::{ConnectorError, Services};
use super::log_entry::{Action, LogError, MemoryEvent};
use super::source::{PaprError, PaprSource};
use crate::acpi::Latch;
use crate::hotplug::{DeviceId, HotplugSource, Outcome, Refusal, Request};
use hotmem::{NodeId, PhysAddr, PhysRange};
use hotmem_arch::rtas::NoRtas;
use hotmem_boot::tree;
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

const CHECK_EXCEPTION: u32 = 0x200e;
const SET_INDICATOR: u32 = 0x201a;
const CONFIGURE: u32 = 0x201e;
const SET_XIVE: u32 = 0x200a;
const INT_ON: u32 = 0x200d;
const FIRST: u32 = 0x8000_0004;
const LMB: u64 = 256 << 20;

/// A flattened tree (Devicetree Specification 0.4, chapter 5).
#[derive(Default)]
struct Tree {
    structure: Vec<u8>,
    strings: Vec<u8>,
}

impl Tree {
    fn word(&mut self, word: u32) {
        self.structure.extend(word.to_be_bytes());
    }

    fn text(&mut self, text: &str) {
        self.structure.extend(text.bytes().chain([0]));
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
    }

    fn begin(&mut self, name: &str) -> &mut Self {
        self.word(1);
        self.text(name);
        self
    }

    fn end(&mut self) -> &mut Self {
        self.word(2);
        self
    }

    fn bytes(&mut self, name: &str, value: &[u8]) -> &mut Self {
        let at = self.strings.len() as u32;
        self.strings.extend(name.bytes().chain([0]));
        for word in [3, value.len() as u32, at] {
            self.word(word);
        }
        self.structure.extend(value);
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
        self
    }

    fn cells(&mut self, name: &str, cells: &[u32]) -> &mut Self {
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.bytes(name, &bytes)
    }

    fn finish(&mut self) -> Vec<u8> {
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
const VTY: (&str, u32, u32) = ("vty@71000000", 0x7100_0000, 0x1101);
const OTHER_VTY: (&str, u32, u32) = ("vty@71000001", 0x7100_0001, 0x1103);

/// 512 MiB at boot, four slots from 1 GiB on, of which the first `plugged` blocks are there already.
fn tree(plugged: u32) -> Vec<u8> {
    tree_with(plugged, b"/vdevice/vty@71000000\0")
}

/// The same, with this path of the console.
fn tree_with(plugged: u32, stdout: &[u8]) -> Vec<u8> {
    let mut tree = Tree::default();
    tree.begin("").begin("chosen").bytes("stdout-path", stdout).end().begin("rtas");
    tree.cells("power-off", &[0x2003]).cells("check-exception", &[CHECK_EXCEPTION]);
    tree.cells("set-indicator", &[SET_INDICATOR]).cells("ibm,configure-connector", &[CONFIGURE]);
    tree.cells("ibm,set-xive", &[SET_XIVE]).cells("ibm,int-on", &[INT_ON]);
    tree.cells("ibm,associativity-reference-points", &[4, 3, 2, 1]).end();
    tree.begin("memory@0").bytes("device_type", b"memory\0");
    tree.cells("reg", &[0, 0, 0, 0x2000_0000]).cells("ibm,associativity", &[4, 0, 0, 0, 0]).end();
    tree.begin("event-sources").begin("hot-plug-events").cells("interrupts", &[0x1001, 0]);
    tree.end().end();
    tree.begin("cpus").begin("PowerPC,POWER9@0").bytes("device_type", b"cpu\0");
    tree.cells("timebase-frequency", &[512_000_000]).end().end();
    tree.begin("vdevice");
    for (name, unit, source) in [("l-lan@71000002", 0x7100_0002, 0x1102), VTY, OTHER_VTY] {
        tree.begin(name).cells("reg", &[unit]).cells("interrupts", &[source, 0]).end();
    }
    tree.end();
    tree.begin("ibm,dynamic-reconfiguration-memory").cells("ibm,lmb-size", &[0, LMB as u32]);
    tree.cells("ibm,associativity-lookup-arrays", &[2, 4, 0, 0, 0, 0, 0, 0, 0, 1]);
    let mut sets = vec![[2, 0, 0, 0, 0, 0xa0]];
    if plugged > 0 {
        sets.push([plugged, 0, 0x4000_0000, FIRST, 1, 0x08]);
    }
    let start = 0x4000_0000 + plugged * LMB as u32;
    sets.push([8 - plugged, 0, start, FIRST + plugged, u32::MAX, 0]);
    let cells: Vec<u32> = [sets.len() as u32].into_iter().chain(sets.concat()).collect();
    tree.cells("ibm,dynamic-memory-v2", &cells).end().end().finish()
}

/// The state of a connector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Connector {
    usable: bool,
    isolated: bool,
    configured: bool,
}

const AWAY: Connector = Connector { usable: false, isolated: true, configured: false };
const HERE: Connector = Connector { usable: true, isolated: false, configured: true };

#[derive(Default)]
struct Hypervisor {
    logs: VecDeque<Vec<u8>>,
    connectors: BTreeMap<u32, Connector>,
    /// Steps of `ibm,configure-connector` since its work area was filled.
    steps: usize,
    buffer: Vec<u8>,
    /// The connector whose configuration fails.
    broken: Option<u32>,
    /// Connectors that were un-isolated while configured: the unplug is cancelled.
    kept: Vec<u32>,
    enabled: Vec<u32>,
}

#[derive(Clone, Default)]
struct Fake(Rc<RefCell<Hypervisor>>);

impl Hypervisor {
    fn connector(&mut self, number: u32) -> &mut Connector {
        self.connectors.entry(number).or_insert(AWAY)
    }

    fn set(&mut self, args: &[u32]) -> u32 {
        let &[indicator, number, value] = args else { return u32::MAX };
        let state = *self.connector(number);
        let next = match (indicator, value) {
            (9003, 1) => Connector { usable: true, ..state },
            (9003, 0) if state.isolated => Connector { usable: false, ..state },
            (9001, 1) if state.usable => {
                if state.configured {
                    self.kept.push(number);
                }
                Connector { isolated: false, ..state }
            }
            (9001, 0) => Connector { isolated: true, configured: false, ..state },
            _ => return (-3_i32).cast_unsigned(),
        };
        *self.connector(number) = next;
        0
    }

    /// A child, three properties, and the end.
    fn configure(&mut self) -> u32 {
        let number = u32::from_be_bytes(*self.buffer.first_chunk().unwrap());
        if self.buffer[8..20].iter().all(|&byte| byte == 0) {
            self.steps = 0;
        }
        if self.broken == Some(number) || self.connector(number).isolated {
            return (-9003_i32).cast_unsigned();
        }
        let list = [4, 0, 0, 0, 1_u32].map(u32::to_be_bytes).concat();
        let properties: [(&[u8], &[u8]); 3] = [
            (b"ibm,associativity\0", &list),
            (b"reg\0", &[8, 0, 0, 0]),
            (b"device_type\0", b"memory\0"),
        ];
        let step = self.steps;
        self.steps += 1;
        match step {
            0 => {
                // A child: the work area is in use from now on.
                self.buffer[11] = 64;
                2
            }
            1..=3 => {
                let (name, value) = properties[step - 1];
                for (at, word) in [(8, 64), (12, value.len() as u32), (16, 128)] {
                    self.buffer[at..at + 4].copy_from_slice(&u32::to_be_bytes(word));
                }
                self.buffer[64..64 + name.len()].copy_from_slice(name);
                self.buffer[128..128 + value.len()].copy_from_slice(value);
                3
            }
            _ => {
                self.connector(number).configured = true;
                0
            }
        }
    }
}

/// A [`Services`] whose buffer is a copy of the hypervisor's, exchanged at each call.
struct Side {
    fake: Fake,
    buffer: Vec<u8>,
}

impl Services for Side {
    fn call(&mut self, token: u32, args: &[u32], rets: &mut [u32]) -> Result<(), NoRtas> {
        let mut hypervisor = self.fake.0.borrow_mut();
        hypervisor.buffer.clone_from(&self.buffer);
        rets[0] = match (token, args) {
            (CHECK_EXCEPTION, &[0x500, 0, 0x1000_0000, 0, 0x1000, 4096]) => {
                match hypervisor.logs.pop_front() {
                    Some(log) => {
                        hypervisor.buffer[..log.len()].copy_from_slice(&log);
                        0
                    }
                    None => 1,
                }
            }
            (SET_INDICATOR, args) => hypervisor.set(args),
            (CONFIGURE, &[0x1000, 0]) => hypervisor.configure(),
            (SET_XIVE, &[_, 0, 5]) => 0,
            (INT_ON, &[source]) => {
                hypervisor.enabled.push(source);
                0
            }
            _ => return Err(NoRtas),
        };
        self.buffer.clone_from(&hypervisor.buffer);
        Ok(())
    }

    fn buffer(&mut self) -> &mut [u8] {
        &mut self.buffer
    }

    fn buffer_address(&self) -> u32 {
        0x1000
    }
}

/// The log of a hotplug of memory, with sections before it as QEMU has them.
fn log(action: u8, identifier: u8, words: [u32; 2]) -> Vec<u8> {
    let mut log = vec![0x06, 0x34, 0x60, 0xe5, 0, 0, 0, 0x6c, 0x86, 0, 0x8e, 0];
    log.resize(24, 0);
    log.extend([b'P', b'H', 0, 48]);
    log.resize(72, 0);
    log.extend([b'U', b'H', 0, 24]);
    log.resize(96, 0);
    log.extend([b'H', b'P', 0, 20, 1, 0, 0, 0, 2, action, identifier, 0]);
    log.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    log
}

struct Rig {
    source: PaprSource<Side>,
    fake: Fake,
    latch: &'static Latch,
}

impl Rig {
    fn new(plugged: u32) -> Self {
        let fake = Fake::default();
        for number in FIRST..FIRST + plugged {
            *fake.0.borrow_mut().connector(number) = HERE;
        }
        let latch = Box::leak(Box::new(Latch::new()));
        let services = Side { fake: fake.clone(), buffer: vec![0; 4096] };
        let board = Board::read(&tree(plugged)).unwrap();
        let mut rig = Self { source: PaprSource::new(board, services, latch), fake, latch };
        assert_eq!(rig.source.arm(false), usize::from(plugged > 0));
        rig
    }

    fn send(&self, log: Vec<u8>) {
        self.fake.0.borrow_mut().logs.push_back(log);
        self.latch.raise(0, 7);
    }

    fn states(&self, count: u32) -> Vec<Connector> {
        let mut hypervisor = self.fake.0.borrow_mut();
        (FIRST..FIRST + count).map(|number| *hypervisor.connector(number)).collect()
    }

    fn inserted(&mut self) -> (DeviceId, Vec<PhysRange>, NodeId) {
        let event = self.source.next_event().unwrap();
        match event.request {
            Request::Insert { ranges, node } => (event.device, ranges.as_slice().to_vec(), node),
            other => panic!("{other:?}"),
        }
    }
}

fn lmbs(first: u64, count: u64) -> PhysRange {
    PhysRange::new(PhysAddr::new(0x4000_0000 + first * LMB), count * LMB).unwrap()
}

#[test]
fn the_tree_says_where_memory_is_and_may_come() {
    let board = Board::read(&tree(0)).unwrap();
    let boot = PhysRange::new(PhysAddr::new(0), 0x2000_0000).unwrap();
    assert_eq!(board.ram, [(boot, NodeId::default())]);
    assert_eq!(board.window().collect::<Vec<_>>(), [lmbs(0, 8)]);
    assert_eq!((board.event_source, board.timebase_hertz), (Some(0x1001), Some(512_000_000)));
    let first = Terminal { unit: 0x7100_0000, source: Some(0x1101) };
    assert_eq!(board.console, Some(first));
    assert_eq!((board.tokens.power_off, board.tokens.os_term), (Some(0x2003), None));
}

#[test]
fn the_terminal_that_is_chosen_is_the_console() {
    let console = |path: &[u8]| Board::read(&tree_with(0, path)).unwrap().console.unwrap();
    assert_eq!(console(b"/vdevice/vty@71000001\0").unit, 0x7100_0001);
    // What is no terminal, or no text, chooses none.
    for path in [&b"/vdevice/l-lan@71000002\0"[..], b"/nothing\0", b"\xff\0", b""] {
        assert_eq!(console(path).unit, 0x7100_0000);
    }
}

#[test]
fn a_tree_with_any_byte_changed_is_read_or_refused_without_a_panic() {
    let clean = tree(2);
    for at in 0..clean.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut bytes = clean.clone();
            bytes[at] = value;
            if let Ok(board) = Board::read(&bytes) {
                let _ = board.window().count() + board.assigned().count();
            }
            let _ = tree::open(&bytes);
        }
    }
}

#[test]
fn plugged_memory_is_configured_block_by_block_and_then_announced() {
    let mut rig = Rig::new(0);
    rig.send(log(1, 4, [4, FIRST]));
    assert!(rig.source.has_work());
    let (_, ranges, node) = rig.inserted();
    assert_eq!((ranges, node), (vec![lmbs(0, 4)], NodeId::new(1).unwrap()));
    assert_eq!(rig.states(5), [HERE, HERE, HERE, HERE, AWAY]);
    assert!(rig.source.next_event().is_none());
    assert!(!rig.source.has_work());
}

#[test]
fn memory_comes_and_goes_and_comes_again() {
    let mut rig = Rig::new(0);
    for _ in 0..300 {
        rig.send(log(1, 4, [2, FIRST]));
        let (device, ..) = rig.inserted();
        rig.send(log(2, 4, [2, FIRST]));
        let event = rig.source.next_event().unwrap();
        assert!(matches!(event.request, Request::Eject) && event.device == device);
        rig.source.eject(device).unwrap();
        assert_eq!(rig.states(2), [AWAY, AWAY]);
        rig.source.answer(device, Outcome::Ejected).unwrap();
    }
    assert_eq!(rig.fake.0.borrow().kept, [0; 0]);
}

#[test]
fn a_refusal_tells_the_hypervisor_before_any_block_is_isolated() {
    let mut rig = Rig::new(0);
    rig.send(log(1, 4, [3, FIRST]));
    let (device, ..) = rig.inserted();
    rig.source.answer(device, Outcome::EjectRefused(Refusal::InUse)).unwrap();
    assert_eq!(rig.fake.0.borrow().kept, [FIRST]);
    assert_eq!(rig.states(3), [HERE; 3]);
}

#[test]
fn what_was_plugged_before_is_announced_once_as_it_is() {
    let mut rig = Rig::new(2);
    let (device, ranges, node) = rig.inserted();
    assert_eq!((ranges, node), (vec![lmbs(0, 2)], NodeId::new(1).unwrap()));
    assert!(rig.source.next_event().is_none());
    rig.source.eject(device).unwrap();
    assert_eq!(rig.states(2), [AWAY, AWAY]);
}

#[test]
fn one_block_that_cannot_be_configured_gives_the_others_back() {
    let mut rig = Rig::new(0);
    rig.fake.0.borrow_mut().broken = Some(FIRST + 2);
    rig.send(log(1, 4, [4, FIRST]));
    let failed = ConnectorError::Failed {
        service: "ibm,configure-connector",
        status: -9003,
        connector: FIRST + 2,
    };
    match rig.source.next_event().unwrap().request {
        Request::Unreadable(error) => assert_eq!(error, PaprError::Connector(failed)),
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.states(4), [AWAY; 4]);
}

#[test]
fn events_of_unknown_memory_are_refused() {
    let mut rig = Rig::new(0);
    rig.send(log(1, 4, [4, FIRST + 6]));
    let not_described = PaprError::NotDescribed { connector: FIRST + 6, count: 4 };
    match rig.source.next_event().unwrap().request {
        Request::Unreadable(error) => assert_eq!(error, not_described),
        other => panic!("{other:?}"),
    }
    // A part of what was plugged, and what never was.
    rig.send(log(1, 4, [4, FIRST]));
    rig.inserted();
    rig.send(log(2, 2, [FIRST + 1, 0]));
    assert!(rig.source.next_event().is_none());
    assert_eq!(rig.fake.0.borrow().kept, [FIRST + 1]);
    assert!(rig.source.has_work(), "there may be another log");
}

#[test]
fn logs_wait_for_each_other() {
    let mut rig = Rig::new(0);
    rig.send(log(1, 2, [FIRST, 0]));
    rig.send(log(1, 4, [1, FIRST + 1]));
    assert_eq!(rig.inserted().1, [lmbs(0, 1)]);
    assert_eq!(rig.inserted().1, [lmbs(1, 1)]);
    assert!(rig.source.next_event().is_none());
}

#[test]
fn without_interrupts_logs_are_looked_for_all_the_time() {
    let mut rig = Rig::new(0);
    rig.source.arm(true);
    assert!(rig.source.next_event().is_none());
    rig.fake.0.borrow_mut().logs.push_back(log(1, 4, [1, FIRST]));
    assert_eq!(rig.inserted().1, [lmbs(0, 1)]);
}

#[test]
fn a_source_of_interrupts_is_routed_and_enabled() {
    let mut rig = Rig::new(0);
    rig.source.enable(0x1001).unwrap();
    assert_eq!(rig.fake.0.borrow().enabled, [0x1001]);
}

#[test]
fn a_log_is_read_as_the_reference_says() {
    let add = MemoryEvent { action: Action::Add, connector: FIRST, count: 4 };
    assert_eq!(MemoryEvent::read(&log(1, 4, [4, FIRST])), Ok(add));
    let remove = MemoryEvent { action: Action::Remove, connector: FIRST, count: 1 };
    assert_eq!(MemoryEvent::read(&log(2, 2, [FIRST, 0])), Ok(remove));
    let by_name = LogError::Unknown { action: 1, identifier: 1 };
    assert_eq!(MemoryEvent::read(&log(1, 1, [0, 0])), Err(by_name));
    let none = LogError::Unknown { action: 1, identifier: 4 };
    assert_eq!(MemoryEvent::read(&log(1, 4, [0, FIRST])), Err(none));
    let mut processor = log(1, 2, [0, 0]);
    processor[104] = 1;
    assert_eq!(MemoryEvent::read(&processor), Err(LogError::NotMemory(1)));
}

#[test]
fn a_log_that_is_cut_or_changed_is_refused_without_a_panic() {
    let whole = log(1, 4, [4, FIRST]);
    for len in 0..whole.len() {
        assert!(MemoryEvent::read(&whole[..len]).is_err(), "{len}");
    }
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = whole.clone();
            changed[at] = value;
            let _ = MemoryEvent::read(&changed);
        }
    }
}
