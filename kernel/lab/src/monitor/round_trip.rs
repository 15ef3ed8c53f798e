//! Every command is read back as it was written, with its numbers; no input makes the parser panic.

use super::command::{Command, CpusCommand, HotplugCommand, PmemCommand, Shown};
use super::fault::{Fault, FaultCommand, Kind};
use super::life::{CacheCommand, Life, PoolCommand, Watch};
use super::line::{Edit, LineEditor};
use super::listeners::Objection;
use super::machinery::Crash;
use super::parse::parse;
use super::table::TABLE;
use super::usage::Sample;
use super::vm::{VmCommand, VmLine, VmName, VmProgram};
use hotmem::Marks;
use hotmem::testing::Random;
use hotmem::{
    AutoOnline, BlockId, MhpFlags, NodeId, OnlineAs, Order, Pfn, PhysAddr, PhysRange, Placement,
    TakeList, VirtAddr, ZoneKind,
};
use hotmem_hotplug::Growth;
use log::LevelFilter;
use std::collections::BTreeSet;

/// The line for a command.
fn line(command: &Command) -> String {
    match command {
        Command::Show(shown, json) => format!("{}{}", shown_line(shown), flag(json)),
        Command::Walk(address) => format!("walk {:#x}", address.get()),
        Command::Peek(address, 0) => format!("peek {}", address.get()),
        Command::Peek(address, cpu) => format!("peek {} {cpu}", address.get()),
        Command::Verify => "verify".into(),
        Command::Alloc(order, 0) => format!("alloc {}", order.get()),
        Command::Alloc(order, cpu) => format!("alloc {} {cpu}", order.get()),
        Command::Free(pfn) => format!("free {}", pfn.get()),
        Command::Hotplug(command) => hotplug_line(command),
        Command::Life(life) => life_line(life),
        Command::Pool(pool) => pool_line(pool),
        Command::Cache(cache) => cache_line(cache),
        Command::Vm(vm) => vm_line(vm),
        Command::Bench { json } => format!("bench{}", flag(json)),
        Command::Use(Sample::All) => "use all".into(),
        Command::Use(Sample::Seeded(seed)) => format!("use {seed}"),
        Command::Fault(FaultCommand::Off) => "fault off".into(),
        Command::Fault(FaultCommand::Firmware(nth)) => format!("fault firmware {nth}"),
        Command::Fault(FaultCommand::Step(Fault { kind, nth })) => {
            format!("fault {} {nth}", kind.name())
        }
        Command::SnapshotSave => "snapshot save".into(),
        Command::SnapshotCheck => "snapshot check".into(),
        Command::Verdict => "verdict".into(),
        Command::Log(level) => format!("log {level}"),
        Command::Crash(Crash::Write, cpu) => format!("crash {cpu}"),
        Command::Crash(Crash::Stack, cpu) => format!("crash stack {cpu}"),
        Command::Crash(Crash::Deaf, cpu) => format!("crash deaf {cpu}"),
        Command::Cpus(cpus) => cpus_line(cpus),
        Command::Exit(code) => format!("exit {code}"),
    }
}

fn cpus_line(cpus: &CpusCommand) -> String {
    match cpus {
        CpusCommand::Show { json } => format!("cpus{}", flag(json)),
        CpusCommand::Churn { masked } => {
            if *masked {
                "cpus churn masked".into()
            } else {
                "cpus churn".into()
            }
        }
        CpusCommand::Hold(pages) => format!("cpus hold {pages}"),
        CpusCommand::Rest => "cpus rest".into(),
        CpusCommand::Tick(Some(hertz)) => format!("cpus tick {hertz}"),
        CpusCommand::Tick(None) => "cpus tick off".into(),
        CpusCommand::Start(hardware) => format!("cpus start {hardware:#x}"),
    }
}

fn flag(json: &bool) -> &'static str {
    if *json { " --json" } else { "" }
}

/// What is shown, as its user types it.
fn shown_line(shown: &Shown) -> String {
    match shown {
        Shown::Help => "help".into(),
        Shown::Blocks => "blocks".into(),
        Shown::Shares => "shares".into(),
        Shown::Stats => "stats".into(),
        Shown::Zones => "zones".into(),
        Shown::Holds => "holds".into(),
        Shown::Page(pfn) => format!("page {:#x}", pfn.get()),
        Shown::Mapping(pfn) => format!("mapping {}", pfn.get()),
    }
}

fn hotplug_line(command: &HotplugCommand) -> String {
    match command {
        HotplugCommand::Firmware { json } => format!("firmware{}", flag(json)),
        HotplugCommand::Add(range, flags) => format!("add {}{}", spoken(range), placements(*flags)),
        HotplugCommand::Remove(range) => format!("remove {}", spoken(range)),
        HotplugCommand::Online(block, way) => format!("online {} {way}", block.get()),
        HotplugCommand::Offline(block) => format!("offline {}", block.get()),
        HotplugCommand::Status => "offline status".into(),
        HotplugCommand::Cancel => "offline cancel".into(),
        HotplugCommand::Pmem(PmemCommand::List { json }) => format!("pmem list{}", flag(json)),
        HotplugCommand::Pmem(PmemCommand::Add { number, placement, force }) => {
            let force = if *force { " force" } else { "" };
            format!("pmem add {number} {placement}{force}")
        }
        HotplugCommand::Pmem(PmemCommand::Remove(number)) => format!("pmem remove {number}"),
        HotplugCommand::Growth(None) => "virtio_mem".into(),
        HotplugCommand::Growth(Some(growth)) => format!("virtio_mem {growth}"),
    }
}

fn life_line(life: &Life) -> String {
    let flag = |json: &bool| if *json { " --json" } else { "" };
    match life {
        Life::Policy(None) => "policy".into(),
        Life::Policy(Some(policy)) => format!("policy {policy}"),
        Life::Vmemmap(None) => "vmemmap".into(),
        Life::Vmemmap(Some(true)) => "vmemmap enable".into(),
        Life::Vmemmap(Some(false)) => "vmemmap disable".into(),
        Life::Convert(range) => format!("convert {} block", spoken(range)),
        Life::Explain { range, json } => {
            format!("explain-remove {}{}", spoken(range), flag(json))
        }
        Life::Take(list) => {
            let pieces = list.pieces().iter().map(|piece| {
                format!("{}:{}-{}", piece.node.get(), piece.first.get(), piece.last.get())
            });
            format!("memtrace {}", pieces.collect::<Vec<_>>().join(","))
        }
        Life::Contig(node, bytes) => format!("memtrace contig {} {bytes}", node.get()),
        Life::Taken { json } => format!("memtrace status{}", flag(json)),
        Life::Release => "memtrace release".into(),
        Life::Poison(pfn) => format!("poison {:#x}", pfn.get()),
        Life::PoisonLater(pfn) => format!("poison {:#x} later", pfn.get()),
        Life::Dump { json } => format!("dump{}", flag(json)),
        Life::Compact(node, kind, order) => {
            format!("compact {} {kind} {}", node.get(), order.get())
        }
        Life::Watch(Watch::List) => "notify".into(),
        Life::Watch(Watch::Add(priority, objection)) => {
            let objects = match objection {
                Objection::None => "",
                Objection::Online => " online",
                Objection::Offline => " offline",
            };
            format!("notify add {priority}{objects}")
        }
        Life::Watch(Watch::Remove(number)) => format!("notify remove {number}"),
    }
}

fn vm_line(vm: &VmCommand) -> String {
    match vm {
        VmCommand::List { json: false } => "vm".into(),
        VmCommand::List { json: true } => "vm list --json".into(),
        VmCommand::Create { name, bytes, extent, node, vcpus, program } => {
            let extent = extent.map_or(String::new(), |extent| format!(" --extent {extent}"));
            let node = node.map_or(String::new(), |node| format!(" @{}", node.get()));
            let program = match program {
                VmProgram::Payload => "payload",
                VmProgram::Linux => "linux",
                VmProgram::Own => "self",
            };
            let name = name.as_str();
            format!("vm create {name} {bytes}{extent}{node} --vcpus {vcpus} {program}")
        }
        VmCommand::Type { name, line } => format!("vm type {} {}", name.as_str(), line.as_str()),
        VmCommand::Console { name, from } => format!("vm console {} {from}", name.as_str()),
        VmCommand::Run { name, rounds, bytes, misdeed } => {
            let bytes = bytes.map_or(String::new(), |bytes| format!(" --bytes {bytes}"));
            let misdeed = misdeed.as_ref().map_or("", VmName::as_str);
            format!("vm run {} {rounds}{bytes} {misdeed}", name.as_str())
        }
        VmCommand::Pause(name) => format!("vm pause {}", name.as_str()),
        VmCommand::Kill(name) => format!("vm kill {}", name.as_str()),
        VmCommand::Log(name) => format!("vm log {}", name.as_str()),
        VmCommand::Verify => "vm verify".into(),
    }
}

fn pool_line(pool: &PoolCommand) -> String {
    match pool {
        PoolCommand::Status { json: false } => "pool".into(),
        PoolCommand::Status { json: true } => "pool --json".into(),
        PoolCommand::Grow(count, order) => format!("pool grow {count} {}", order.get()),
        PoolCommand::Shrink(count) => format!("pool shrink {count}"),
        PoolCommand::Free(handle) => format!("pool free {handle:#x}"),
        PoolCommand::Check => "pool check".into(),
        PoolCommand::Sum => "pool sum".into(),
        PoolCommand::Pin(handle, true) => format!("pool pin {handle}"),
        PoolCommand::Pin(handle, false) => format!("pool unpin {handle}"),
    }
}

fn cache_line(cache: &CacheCommand) -> String {
    match cache {
        CacheCommand::Status { json: false } => "cache".into(),
        CacheCommand::Status { json: true } => "cache --json".into(),
        CacheCommand::Write { object, offset, byte, count } => {
            format!("cache write {object} {offset} {byte} {count}")
        }
        CacheCommand::Read { object, offset } => format!("cache read {object} {offset:#x}"),
        CacheCommand::Flush => "cache flush".into(),
        CacheCommand::Drop => "cache drop".into(),
        CacheCommand::Check => "cache check".into(),
    }
}

/// A range as it is typed: its size with a unit if one divides it.
fn spoken(range: &PhysRange) -> String {
    let (start, bytes) = (range.start().get(), range.len());
    let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
    let unit = units.iter().find(|&&(shift, _)| bytes.trailing_zeros() >= shift);
    let size =
        unit.map_or(format!("{bytes:#x}"), |(shift, name)| format!("{}{name}", bytes >> shift));
    format!("{start:#x} {size}")
}

fn placements(flags: Option<MhpFlags>) -> &'static str {
    match flags {
        None => "",
        Some(flags) if flags == MhpFlags::all() => " device block",
        Some(flags) if flags == MhpFlags::MEMMAP_DEVICE => " device",
        Some(flags) if flags == MhpFlags::MEMMAP_MEMBLOCK => " block",
        Some(_) => " boot",
    }
}

/// Random parts of commands.
struct Any(Random);

impl Any {
    /// A number of any length, so that both small and the largest numbers occur.
    fn number(&mut self) -> u64 {
        let shift = self.0.below(64);
        self.0.bits() >> shift
    }

    fn flag(&mut self) -> bool {
        self.0.one_in(2)
    }

    fn pfn(&mut self) -> Pfn {
        Pfn::new(self.number())
    }

    fn block(&mut self) -> BlockId {
        BlockId::new(self.number())
    }

    fn order(&mut self) -> Order {
        Order::new(self.0.below(20) as u8).unwrap()
    }

    fn node(&mut self) -> NodeId {
        NodeId::new(self.0.below(128) as u32).unwrap()
    }

    fn range(&mut self) -> PhysRange {
        let unit = *self.0.pick(&[0, 10, 20, 30, 40]);
        let size = ((self.number() >> 1).max(1) >> unit).max(1) << unit;
        let start = self.0.below(u64::MAX - size);
        PhysRange::new(PhysAddr::new(start), size).unwrap()
    }

    fn need(&mut self) -> Growth {
        let low = self.number().max(1);
        Growth::Need(Marks::new(low, low.saturating_add(self.number())).unwrap())
    }

    fn fault(&mut self) -> FaultCommand {
        let nth = self.number().max(1);
        match self.0.below(3) {
            0 => FaultCommand::Off,
            1 => FaultCommand::Firmware(nth),
            _ => FaultCommand::Step(Fault { kind: *self.0.pick(Kind::ALL), nth }),
        }
    }

    fn policy(&mut self) -> AutoOnline {
        match self.0.below(3) {
            0 => AutoOnline::Offline,
            1 => AutoOnline::Online(self.way()),
            _ => AutoOnline::AutoMovable { ratio: self.number() as u32 },
        }
    }

    fn way(&mut self) -> OnlineAs {
        self.0.pick(&OnlineAs::ALL).1
    }

    fn list(&mut self) -> TakeList {
        let node = self.node().get();
        let mut next = self.number() >> 8;
        let mut pieces = Vec::new();
        for _ in 0..=self.0.below(31) {
            let last = next + self.0.below(9);
            pieces.push(format!("{node}:{next}-{last}"));
            next = last + 1 + self.0.below(9);
        }
        TakeList::parse(&pieces.join(",")).unwrap()
    }

    /// One command of each kind, with random numbers.
    fn commands(&mut self) -> Vec<Command> {
        let json = self.flag();
        let level = *self.0.pick(&[LevelFilter::Off, LevelFilter::Info, LevelFilter::Trace]);
        let flags = [
            None,
            Some(MhpFlags::empty()),
            Some(MhpFlags::all()),
            Some(MhpFlags::MEMMAP_DEVICE),
            Some(MhpFlags::MEMMAP_MEMBLOCK),
        ];
        let mut all = vec![
            Command::Show(Shown::Help, json),
            Command::Show(Shown::Blocks, json),
            Command::Show(Shown::Shares, json),
            Command::Show(Shown::Stats, json),
            Command::Show(Shown::Zones, json),
            Command::Hotplug(HotplugCommand::Firmware { json }),
            Command::Show(Shown::Page(self.pfn()), json),
            Command::Show(Shown::Mapping(self.pfn()), json),
            Command::Walk(VirtAddr::new(self.number())),
            Command::Peek(VirtAddr::new(self.number()), self.0.below(3) as usize),
            Command::Verify,
            Command::Alloc(self.order(), self.0.below(3) as usize),
            Command::Free(self.pfn()),
            Command::Hotplug(HotplugCommand::Add(self.range(), *self.0.pick(&flags))),
            Command::Hotplug(HotplugCommand::Remove(self.range())),
            Command::Hotplug(HotplugCommand::Online(self.block(), self.way())),
            Command::Hotplug(HotplugCommand::Offline(self.block())),
            Command::Hotplug(HotplugCommand::Status),
            Command::Hotplug(HotplugCommand::Cancel),
            Command::Hotplug(HotplugCommand::Pmem(PmemCommand::List { json })),
            Command::Hotplug(HotplugCommand::Pmem(PmemCommand::Add {
                number: self.0.below(9) as usize,
                placement: *self.0.pick(&[Placement::PerRange, Placement::PerBlock]),
                force: json,
            })),
            Command::Hotplug(HotplugCommand::Pmem(PmemCommand::Remove(self.0.below(9) as usize))),
            Command::Hotplug(HotplugCommand::Growth(None)),
            Command::Hotplug(HotplugCommand::Growth(Some(Growth::Eager))),
            Command::Hotplug(HotplugCommand::Growth(Some(self.need()))),
            Command::Bench { json },
            Command::Show(Shown::Holds, json),
            Command::Use(Sample::All),
            Command::Use(Sample::Seeded(self.number())),
            Command::Fault(self.fault()),
            Command::SnapshotSave,
            Command::SnapshotCheck,
            Command::Verdict,
            Command::Log(level),
            Command::Crash(
                *self.0.pick(&[Crash::Write, Crash::Stack, Crash::Deaf]),
                self.0.below(16) as usize,
            ),
            Command::Cpus(CpusCommand::Show { json }),
            Command::Cpus(CpusCommand::Start(self.number())),
            Command::Cpus(CpusCommand::Churn { masked: json }),
            Command::Cpus(CpusCommand::Hold(self.number())),
            Command::Cpus(CpusCommand::Rest),
            Command::Cpus(CpusCommand::Tick(json.then(|| 1 + self.0.below(10_000)))),
            Command::Exit(self.0.below(101) as u8),
        ];
        all.extend(self.lives(json).map(Command::Life));
        all.extend(self.pools(json).map(Command::Pool));
        all.extend(self.caches(json).map(Command::Cache));
        all.extend(self.guests(json).map(Command::Vm));
        all
    }

    fn lives(&mut self, json: bool) -> [Life; 17] {
        let objection = [Objection::None, Objection::Online, Objection::Offline];
        [
            Life::Policy(None),
            Life::Policy(Some(self.policy())),
            Life::Vmemmap(None),
            Life::Vmemmap(Some(json)),
            Life::Convert(self.range()),
            Life::Explain { range: self.range(), json },
            Life::Take(self.list()),
            Life::Contig(self.node(), self.number()),
            Life::Taken { json },
            Life::Release,
            Life::Poison(self.pfn()),
            Life::PoisonLater(self.pfn()),
            Life::Dump { json },
            Life::Compact(self.node(), *self.0.pick(&ZoneKind::ALL), self.order()),
            Life::Watch(Watch::List),
            Life::Watch(Watch::Add(self.0.bits() as i32, *self.0.pick(&objection))),
            Life::Watch(Watch::Remove(self.number() as u32)),
        ]
    }

    fn pools(&mut self, json: bool) -> [PoolCommand; 7] {
        [
            PoolCommand::Status { json },
            PoolCommand::Grow(self.number(), self.order()),
            PoolCommand::Shrink(self.number()),
            PoolCommand::Free(self.number()),
            PoolCommand::Check,
            PoolCommand::Sum,
            PoolCommand::Pin(self.number(), json),
        ]
    }

    fn guests(&mut self, json: bool) -> [VmCommand; 9] {
        let names = ["a", "guest-1", "fifteen-letters"].map(VmName::new);
        let name = self.0.pick(&names).unwrap();
        let node = json.then(|| self.node());
        let program = if json { VmProgram::Linux } else { VmProgram::Payload };
        let [bytes, vcpus, rounds, size] = [(); 4].map(|()| self.number());
        let size = json.then_some(size);
        [
            VmCommand::List { json },
            VmCommand::Create { name, bytes, extent: size, node, vcpus, program },
            VmCommand::Console { name, from: self.number() },
            VmCommand::Type { name, line: VmLine::new("pool grow 3").unwrap() },
            VmCommand::Run { name, rounds, bytes: size, misdeed: json.then_some(name) },
            VmCommand::Pause(name),
            VmCommand::Kill(name),
            VmCommand::Log(name),
            VmCommand::Verify,
        ]
    }

    fn caches(&mut self, json: bool) -> [CacheCommand; 6] {
        let [object, offset, count] = [self.number(), self.number(), self.number()];
        [
            CacheCommand::Status { json },
            CacheCommand::Write { object, offset, byte: self.0.bits() as u8, count },
            CacheCommand::Read { object, offset },
            CacheCommand::Flush,
            CacheCommand::Drop,
            CacheCommand::Check,
        ]
    }
}

#[test]
fn every_command_is_read_back_as_it_was_written() {
    let mut any = Any(Random::new(3));
    let mut names = BTreeSet::new();
    for _ in 0..500 {
        for command in any.commands() {
            let text = line(&command);
            assert_eq!(parse(&text), Ok(Some(command)), "{text}");
            names.insert(text.split(' ').next().unwrap_or_default().to_owned());
        }
    }
    let table: BTreeSet<_> = TABLE.iter().map(|entry| entry.name.to_owned()).collect();
    assert_eq!(names, table, "a command of the table is not tried");
}

#[test]
fn a_line_with_a_fault_is_read_or_refused_without_a_panic() {
    let mut any = Any(Random::new(4));
    let commands = any.commands();
    let lines: Vec<_> = commands.iter().map(line).collect();
    let words: Vec<_> = lines.iter().flat_map(|line| line.split(' ')).collect();
    let odd = ["-", "0x", "18446744073709551616", "1T1", "ä", "\u{0}", "--json", "1:2-", ":,"];
    for _ in 0..50_000 {
        let count = any.0.below(6);
        let word = |any: &mut Any| {
            if any.0.one_in(3) { *any.0.pick(&odd) } else { *any.0.pick(&words) }
        };
        let text = (0..count).map(|_| word(&mut any)).collect::<Vec<_>>().join(" ");
        // A line that is read yields the same command when it is written again; an error has a text.
        match parse(&text) {
            Ok(Some(command)) => assert_eq!(parse(&line(&command)), Ok(Some(command)), "{text}"),
            Ok(None) => assert!(text.trim().is_empty(), "{text}"),
            Err(error) => assert!(!error.to_string().is_empty(), "{text}"),
        }
    }
}

#[test]
fn random_bytes_never_make_the_parser_panic() {
    let mut random = Random::new(5);
    let mut editor = LineEditor::new();
    for _ in 0..200_000 {
        let byte = if random.one_in(20) { b'\n' } else { random.bits() as u8 };
        if let Edit::Line(Ok(text)) = editor.push(byte) {
            let _ = parse(text).map_err(|error| error.to_string());
        }
    }
}
