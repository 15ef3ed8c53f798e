//! The monitor on a fake machine: every line has one final line of output, and refused commands change nothing.

mod cpus;
mod policies;
mod source;

use super::{After, Monitor, Sites};
use crate::fault::Point;
use crate::testing::Blank;
use hotmem::testing::{Bench, FakeMachine, Setup, Tiny, range};
use hotmem_hotplug::{Hotplug, Policy};
use source::Plug;

const MIB: u64 = 1 << 20;
const WINDOW: u64 = 64 * MIB;

type Fake = FakeMachine<Tiny>;

struct Fixture {
    bench: &'static Bench<Tiny>,
    hotplug: Hotplug<'static, Plug, Fake, ()>,
    monitor: Monitor<'static, Fake>,
    sites: Sites,
    machine: Blank,
}

impl Fixture {
    /// 16 MiB at boot; 2 MiB plugged and taken into use; 4 MiB and a page plugged and refused.
    fn new() -> Self {
        Self::with_core(None)
    }

    /// As [`new`](Self::new), with boot memory past the first bytes that can go offline.
    fn with_core(kernelcore: Option<u64>) -> Self {
        let setup = Setup {
            ram: vec![(0, 16 * MIB, 0)],
            block: MIB,
            window: (WINDOW, 64 * MIB),
            kernelcore,
        };
        let bench: &'static Bench<Tiny> = Box::leak(Box::new(Bench::new(&setup)));
        let pieces = [range(WINDOW, 2 * MIB), range(WINDOW + 8 * MIB, 4 * MIB + 4096)];
        pieces.iter().for_each(|&piece| bench.plug(piece));
        let source = Plug(pieces.to_vec());
        let mut hotplug = Hotplug::new(source, &bench.mm, (), Policy::default()).unwrap();
        while hotplug.run_one(&mut String::new()) {}
        let [steps, firmware] = [(); 2].map(|()| &*Box::leak(Box::default()));
        let sites = Sites { steps, firmware };
        let monitor = Monitor::new(&bench.mm, sites).unwrap();
        Self { bench, hotplug, monitor, sites, machine: Blank::default() }
    }

    fn type_line(&mut self, line: &str) -> (String, After) {
        let mut out = String::new();
        let after = self.monitor.run(line, &mut self.hotplug, &self.machine, &mut out);
        (out, after)
    }

    /// Types a line that must succeed; returns the output before `ok`.
    #[track_caller]
    fn ok(&mut self, line: &str) -> String {
        let (out, after) = self.type_line(line);
        assert_eq!(after, After::Prompt);
        match out.strip_suffix("ok\n") {
            Some(said) => said.to_owned(),
            None => panic!("{line}: {out}"),
        }
    }

    /// Types a line that must fail; returns the error.
    #[track_caller]
    fn refused(&mut self, line: &str) -> String {
        let before = self.bench.snapshot();
        let (out, after) = self.type_line(line);
        assert_eq!((after, self.bench.snapshot()), (After::Prompt, before), "{line}");
        let last = out.lines().last().and_then(|last| last.strip_prefix("error: "));
        match last {
            Some(why) if !out.contains("ok\n") => why.to_owned(),
            _ => panic!("{line}: {out}"),
        }
    }
}

#[test]
fn a_fault_waits_for_its_operation_and_what_is_no_fault_is_refused_by_name() {
    let mut this = Fixture::new();
    for (line, why) in [
        ("fault", "add, online, offline, remove, convert, firmware or off is missing"),
        (
            "fault alloc 1",
            "\"alloc\" is not add, online, offline, remove, convert, firmware or off",
        ),
        ("fault add", "the number of a step, from 1 is missing"),
        ("fault add 0", "\"0\" is not the number of a step, from 1"),
        ("fault add -1", "\"-1\" is not the number of a step, from 1"),
        ("fault add 1 2", "unexpected argument \"2\""),
        ("fault off 1", "unexpected argument \"1\""),
        ("fault firmware 0", "\"0\" is not the number of a call, from 1"),
    ] {
        assert_eq!(this.refused(line), why);
    }
    // The lab's own steps; those of the kernel are in its tests.
    this.ok("fault offline 1");
    // It is not for this one.
    this.refused("online 64");
    let before = this.bench.snapshot();
    let (out, _) = this.type_line("offline 64");
    assert!(out.contains("fault: step 1 of offline failed: listener\n"), "{out}");
    assert!(out.ends_with("a fault was asked for\n"), "{out}");
    assert_eq!(this.bench.snapshot(), before);
    this.ok("offline 64");
    this.ok("fault online 9");
    assert!(this.ok("online 64").contains("fault: online had 1 steps\n"));
    this.ok("fault offline 1");
    this.ok("fault off");
    assert!(!this.ok("offline 64").contains("fault"));
}

#[test]
fn a_fault_of_firmware_fails_one_call_and_no_step_of_an_operation() {
    let mut this = Fixture::new();
    let firmware = this.sites.firmware;
    this.ok("fault firmware 2");
    this.ok("offline 64");
    let calls = [(); 3].map(|()| firmware.allows(Point::Firmware));
    assert_eq!(calls, [true, false, true]);
    assert_eq!(this.ok("fault off"), "fault: a call of firmware failed\n");
    assert_eq!(this.ok("fault off"), "");
    this.ok("fault firmware 9");
    assert!(firmware.allows(Point::Firmware));
    assert_eq!(this.ok("fault off"), "fault: firmware had 1 calls\n");
}

#[test]
fn every_line_has_exactly_one_closing_line() {
    let mut this = Fixture::new();
    let lines = [
        "help",
        "blocks",
        "blocks --json",
        "shares",
        "stats",
        "zones",
        "firmware",
        "pmem list",
        "pmem add 0 block force",
        "pmem remove 1",
        "page 0",
        "walk 0x1000",
        "mapping 0",
        "mapping 0xffffffffffffffff",
        "verify",
        "alloc 0",
        "alloc 19",
        "free 1",
        "add 0 4096",
        "remove 0 1M",
        "online 64",
        "offline 65",
        "use",
        "snapshot save",
        "snapshot check",
        "verdict",
        "log info",
        "exit 7",
        "nonsense",
        "?",
        "page 0xffffffffffffffff",
        "walk 0xffffffffffffffff",
        "free 0xffffffffffffffff",
        "online 0xffffffffffffffff",
        "add 0xffffffffffffe000 4096",
    ];
    for line in lines {
        let (out, _) = this.type_line(line);
        let closing = out.lines().filter(|line| *line == "ok" || line.starts_with("error: "));
        assert_eq!(closing.count(), 1, "{line}: {out}");
        assert!(out.ends_with('\n'));
    }
    assert_eq!(this.type_line("  "), (String::new(), After::Prompt));
}

#[test]
fn persistent_memory_is_added_with_one_placement() {
    let mut this = Fixture::new();
    for words in ["device block", "block force device", "block block"] {
        let why = this.refused(&format!("pmem add 0 {words}"));
        assert!(why.contains("one placement"), "{words}: {why}");
    }
    let why = this.refused("pmem add 0 force block");
    assert!(!why.contains("one placement"), "{why}");
}

#[test]
fn exit_writes_ok_before_it_leaves() {
    let mut this = Fixture::new();
    assert_eq!(this.type_line("exit 42"), ("ok\n".to_owned(), After::Exit(42)));
    this.refused("exit 101");
}

#[test]
fn json_output_is_one_line_and_agrees_with_the_manager() {
    let mut this = Fixture::new();
    for line in [
        "blocks --json",
        "shares --json",
        "stats --json",
        "zones --json",
        "page 0x4000 --json",
        "mapping 0 --json",
        "firmware --json",
        "pmem list --json",
    ] {
        let said = this.ok(line);
        assert_eq!(said.lines().count(), 1, "{line}: {said}");
        let count = |c| said.matches(c).count();
        assert_eq!((count('{'), count('[')), (count('}'), count(']')), "{said}");
    }
    let blocks = this.ok("blocks --json");
    assert_eq!(blocks.matches("\"block\":").count(), this.bench.mm.blocks().count());
    assert_eq!(blocks.matches("\"zone\":\"movable\"").count(), 2);
    let page = this.ok(&format!("page {:#x} --json", WINDOW / 4096));
    assert!(page.contains("\"state\":\"memmap-head\""), "{page}");
    assert!(this.ok("stats --json").contains("\"heap_used_bytes\":1,\"heap_free_bytes\":2"));
}

#[test]
fn the_operator_adds_uses_and_removes_memory_that_no_device_owns() {
    let mut this = Fixture::new();
    this.ok("snapshot save");
    let start = WINDOW + 8 * MIB;
    for placement in ["", "device", "block", "boot"] {
        let said = this.ok(&format!("add {start:#x} 4M {placement}"));
        assert!(said.starts_with("hotmem: step {\"operation\":\"add\""), "{said}");
        this.refused("snapshot check");
        let first = start / MIB;
        for block in first..first + 4 {
            this.ok(&format!("online {block}"));
        }
        let used = this.ok("use all");
        assert!(
            used.contains("\"operation\":\"use\"") && used.contains("\"error\":null"),
            "{used}"
        );
        for block in first..first + 4 {
            this.ok(&format!("offline {block}"));
        }
        this.ok(&format!("remove {start:#x} 4M"));
        this.ok("snapshot check");
        this.ok("verify");
    }
    assert!(this.ok("verdict").starts_with("hotmem: verdict refused: "));
}

#[test]
fn memory_of_a_firmware_device_is_refused_to_the_operator() {
    let mut this = Fixture::new();
    this.refused(&format!("remove {WINDOW:#x} 2M"));
    this.refused(&format!("add {WINDOW:#x} 2M"));
    this.refused("add 0x20000000 1M");
    this.refused("remove 0 1M");
}

#[test]
fn pages_are_freed_once() {
    let mut this = Fixture::new();
    let said = this.ok("alloc 3");
    let pfn = said.split_whitespace().find(|word| word.starts_with("0x")).unwrap();
    let pfn = pfn.trim_end_matches(',').to_owned();
    this.refused(&format!("free {pfn}1"));
    this.ok(&format!("free {pfn}"));
    this.refused(&format!("free {pfn}"));
}

#[test]
fn the_operator_can_free_only_its_own_allocations() {
    let mut this = Fixture::new();
    let kernels = this.bench.mm.take_pages(hotmem::Order::ZERO).unwrap();
    let nothing_of = |pfn: hotmem::Pfn| format!("{pfn} was not allocated by alloc");
    assert_eq!(this.refused(&format!("free {}", kernels.get())), nothing_of(kernels));
    this.ok("pool grow 1");
    let first = WINDOW / 4096;
    let mut pages = (first..first + 512).map(hotmem::Pfn::new);
    let pooled = pages.find(|&pfn| this.bench.mm.private(pfn).is_ok()).unwrap();
    assert_eq!(this.refused(&format!("free {}", pooled.get())), nothing_of(pooled));
    this.ok("pool check");
}

#[test]
fn use_touches_every_added_page_and_frees_all_of_them() {
    let mut this = Fixture::new();
    let before = this.bench.snapshot();
    let said = this.ok("use");
    let free: u64 = this.bench.mm.blocks().filter(|block| !block.boot).map(|b| b.counts.free).sum();
    assert!(said.contains(&format!("\"touched_bytes\":{},", free * 4096)), "{said}");
    assert_eq!(this.bench.snapshot(), before);

    this.ok(&format!("offline {}", WINDOW / MIB));
    this.ok(&format!("offline {}", WINDOW / MIB + 1));
    assert_eq!(this.refused("use"), "no added memory is online and free");
    assert!(!this.ok("verdict").contains("fail"));
}

#[test]
fn shares_tell_pinned_pages_from_those_that_can_move() {
    let mut this = Fixture::new();
    this.ok("pool grow 4");
    let sum = |said: &str, name: &str| -> u64 {
        let parts = said.split(name).skip(1);
        parts.filter_map(|part| part.split([',', '}']).next()?.parse::<u64>().ok()).sum()
    };
    let before = this.ok("shares --json");
    this.ok("pool pin 2");
    let after = this.ok("shares --json");
    let (movable, pinned) = ("\"movable_bytes\":", "\"pinned_bytes\":");
    assert_eq!((sum(&before, pinned), sum(&after, pinned)), (0, 4096), "{after}");
    assert_eq!(sum(&before, movable), sum(&after, movable) + 4096);
    let text = this.ok("shares");
    assert!(text.contains("4 KiB pinned"), "{text}");
}

#[test]
fn a_snapshot_names_what_changed() {
    let mut this = Fixture::new();
    assert_eq!(this.refused("snapshot check"), "no snapshot was saved");
    this.ok("snapshot save");
    this.ok("snapshot check");
    this.ok("alloc 0");
    let (out, _) = this.type_line("snapshot check");
    assert!(out.starts_with("fact ") && out.contains(" was ") && out.contains(", is "), "{out}");
}

#[test]
fn contradicting_flags_fall_back_to_system_memory() {
    let mut this = Fixture::new();
    let said = this.ok(&format!("add {:#x} 1M device block", WINDOW + 8 * MIB));
    assert!(said.contains("\"placement\":\"boot\",\"groups\":[]"), "{said}");
}

#[test]
fn a_machine_that_does_not_protect_its_kernel_does_not_pass() {
    let mut this = Fixture::new();
    this.ok("verify");
    this.machine.protects = false;
    assert_eq!(this.refused("verify"), "protected memory can be written at 0x1000");
    assert!(this.ok("verdict").starts_with("hotmem: verdict fail: "));
}

#[test]
fn a_block_comes_online_in_the_zone_that_the_operator_names() {
    let mut this = Fixture::new();
    this.ok("offline 64");
    this.ok("online 64 online_kernel");
    assert!(this.ok("zones").contains("normal"));
    this.ok("offline 64");
    this.ok("online 64");
    assert!(!this.ok("zones").contains("normal"));
    assert!(this.refused("online 64 movable").contains("\"movable\" is not online,"));
}

#[test]
fn explain_predicts_the_outcome_of_a_remove() {
    let mut this = Fixture::new();
    let dimm = "0x4000000 2M";
    assert!(this.ok(&format!("explain-remove {dimm}")).ends_with("removable now\n"));
    let json = this.ok(&format!("explain-remove {dimm} --json"));
    assert!(
        json.starts_with("{\"state\":\"now\",\"extents\":0,\"pages\":0,\"pfn\":null"),
        "{json}"
    );
    let boot = this.ok("explain-remove 0 1M");
    assert!(boot.contains("blocked: block 0 is memory the machine was started with"), "{boot}");
    this.ok("offline 64");
    this.ok("online 64 online_kernel");
    while this.bench.mm.take_pages(hotmem::Order::ZERO).is_ok() {}
    let held = this.ok(&format!("explain-remove {dimm}"));
    assert!(held.contains("of block 64 is held by kernel for"), "{held}");
    let json = this.ok(&format!("explain-remove {dimm} --json"));
    assert!(json.contains("\"owner\":\"kernel\""), "{json}");
    assert!(this.refused("explain-remove 0x4000000").contains("a size is missing"));
}

#[test]
fn memtrace_takes_offline_boot_blocks_and_keeps_them_from_coming_online() {
    let mut this = Fixture::with_core(Some(12 * MIB));
    assert_eq!(this.refused("memtrace 0:13"), "block 13 is online");
    this.ok("offline 13");
    this.ok("offline 14");
    assert_eq!(this.ok("memtrace 0:13-14"), "blocks out of the linear map: 2\n");
    assert_eq!(
        this.ok("memtrace status"),
        "block 13 of node 0, taken by name\nblock 14 of node 0, taken by name\n"
    );
    let json = this.ok("memtrace status --json");
    assert!(json.starts_with("[{\"block\":13,\"node\":0,\"by\":\"name\"},"), "{json}");
    let veto = this.refused("online 13");
    assert_eq!(veto, "block 13 stays offline: memtrace objects: the block is taken");
    assert_eq!(this.refused("memtrace 0:13"), "block 13 is taken already");
    assert_eq!(this.refused("memtrace 0:64"), "block 64 was added, it is its device's");
    assert!(this.refused("memtrace 0:1-").contains("\"0:1-\" is not of the form"));
    this.ok("memtrace contig 0 1M");
    assert!(this.ok("memtrace status").contains("taken by size"));
    assert_eq!(this.ok("memtrace release"), "blocks back in the linear map: 3\n");
    assert_eq!(this.ok("memtrace status --json"), "[]\n");
    this.ok("online 13");
    assert!(this.refused("memtrace contig 0 1000").contains("are not whole memory blocks"));
    assert!(this.refused("memtrace contig 200 1M").contains("\"200\" is not a node"));
}

#[test]
fn bad_pages_and_dumps_are_reported() {
    let mut this = Fixture::new();
    let pfn = WINDOW / 4096 + 300;
    assert!(this.ok(&format!("poison {pfn}")).ends_with("out of use\n"));
    assert!(this.refused(&format!("poison {pfn}")).ends_with("is out of use already"));
    this.ok(&format!("poison {} later", pfn + 1));
    let mut reported = Vec::new();
    this.bench.mm.poison_queued(&mut |pfn, result| reported.push((pfn.get(), result.is_ok())));
    assert_eq!(reported, [(pfn + 1, true)]);
    this.refused(&format!("poison {pfn} soon"));
    let dump = this.ok("dump");
    assert!(dump.contains(" memmap ") && dump.contains(" free "), "{dump}");
    let json = this.ok("dump --json");
    assert!(json.starts_with("[{\"pfn\":0,") && json.ends_with("}]\n"), "{json}");
    this.ok("compact 0 movable 5");
    assert!(this.refused("compact 0 movable 19").contains("no block has"));
}

#[test]
fn watchers_can_be_added_and_removed_and_can_object() {
    let mut this = Fixture::new();
    assert_eq!(this.ok("notify add 5"), "watcher 0\n");
    assert_eq!(this.ok("notify add -7 offline"), "watcher 1\n");
    assert!(this.refused("offline 64").contains("watcher objects"));
    let list = this.ok("notify");
    assert!(list.contains("watcher 0: priority 5, objects to nothing, 2 notifications"), "{list}");
    this.ok("notify remove 1");
    this.ok("offline 64");
    assert_eq!(this.refused("notify remove 1"), "no watcher 1");
    assert!(this.refused("notify add x").contains("\"x\" is not a priority"));
}

#[test]
fn a_device_range_is_converted_so_that_its_blocks_can_be_removed_one_by_one() {
    let mut this = Fixture::new();
    let said = this.ok("convert 0x4000000 2M block");
    assert_eq!(said, "blocks with a memmap of their own now: 2\n");
    assert!(this.refused("convert 0x4000000 2M block").contains("can be removed alone already"));
    assert!(this.refused("convert 0x4000000 2M device").contains("\"device\" is not block"));
    assert_eq!(this.refused("convert 0x4000000 2M"), "block is missing");
    this.ok("verify");
    assert_eq!(this.refused("peek 0x1000"), "a load from 0x1000 faults");
    assert_eq!(this.refused("peek 0x1000 7"), "CPU 7 is not up");
}

#[test]
fn the_pool_and_the_cache_are_operated_from_the_monitor() {
    let mut this = Fixture::new();
    this.ok("pool grow 20");
    this.ok("pool grow 2 3");
    assert_eq!(this.ok("pool"), "22 extents of 36 pages, 0 pinned, 0 moved so far\n");
    this.ok("pool pin 3");
    let stays = this.refused("offline 64");
    assert!(
        stays.contains("held by pool, cannot be migrated") || stays.contains("pages are in use"),
        "{stays}"
    );
    let explained = this.ok("explain-remove 0x4000000 2M");
    assert!(explained.contains("is held by pool for"), "{explained}");
    this.ok("pool unpin 3");
    this.ok("offline 64");
    assert_eq!(this.ok("pool check"), "22 extents hold what was written\n");
    let sum = this.ok("pool sum");
    assert!(sum.starts_with("22 extents have the checksum 0x"), "{sum}");
    let json = this.ok("pool --json");
    assert!(json.starts_with("{\"extents\":22,\"pages\":36,\"pinned\":0,\"moved\":"), "{json}");
    assert_eq!(this.ok("pool shrink 100"), "22 extents freed\n");

    this.ok("cache write 0 4090 65 12");
    assert_eq!(this.ok("cache read 0 4101"), "65\n");
    assert_eq!(this.ok("cache"), "0 pages stored, 2 cached, 2 dirty, 0 moved so far\n");
    assert_eq!(this.ok("cache flush"), "2 pages written back\n");
    assert_eq!(this.ok("cache check"), "2 pages hold what was written\n");
    assert_eq!(this.ok("cache drop"), "2 pages dropped\n");
    assert!(this.ok("cache --json").contains("\"cached\":0"));
    assert_eq!(this.refused("cache read 5 0"), "offset 0 is past the end of object 5");
    assert!(this.refused("cache write 0 0 256").contains("\"256\" is not a byte"));
    assert!(this.refused("pool grow x").contains("\"x\" is not a number of extents"));
    assert!(this.refused("pool pin 99").contains("no handle 99"));
}

#[test]
fn the_operators_allocations_do_not_keep_movable_blocks_online() {
    let mut this = Fixture::new();
    this.ok("alloc 0");
    this.ok("offline 64");
    this.ok("offline 65");
}
