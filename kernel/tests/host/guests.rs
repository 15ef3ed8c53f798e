//! Guests run while their memory moves under them, and nothing that they do harms the kernel.

use std::panic::{AssertUnwindSafe, catch_unwind};

use hotmem::PhysRange;

use crate::alone::alone;
use crate::firmware::Firmware;
use crate::pc::{MIB, Pc, WINDOW, range};

const BLOCK: u64 = 16 * MIB;
const FIRST: PhysRange = range(WINDOW.start().get(), 2 * BLOCK);
const SECOND: PhysRange = range(WINDOW.start().get() + 4 * BLOCK, 2 * BLOCK);

/// Plugs a DIMM and waits until it is online.
#[track_caller]
fn plug(pc: &Pc, slot: usize, dimm: PhysRange) {
    pc.plug(slot, dimm);
    let (add, online) = (pc.step(), pc.step());
    assert!(add.contains(r#""operation":"add""#) && add.contains(r#""error":null"#), "{add}");
    assert!(online.contains(r#""operation":"online""#), "{online}");
}

/// Has the monitor do something that it does not refuse; returns the output.
#[track_caller]
fn run(pc: &Pc, line: &str) -> String {
    let answer = pc.ask(line);
    assert!(answer.ends_with("ok\n"), "{line}: {answer}");
    answer
}

/// A value of the first guest in the list.
#[track_caller]
fn value(list: &str, name: &str) -> String {
    let at = list.find(&format!("\"{name}\":")).unwrap_or_else(|| panic!("{name}: {list}"));
    let rest = list.get(at + name.len() + 3..).unwrap();
    let end = rest.find([',', '}']).unwrap();
    rest.get(..end).unwrap().trim_matches('"').to_owned()
}

#[track_caller]
fn number(list: &str, name: &str) -> u64 {
    value(list, name).parse().unwrap()
}

/// Lists guests until the first one is so far.
#[track_caller]
fn wait(pc: &Pc, is_so: impl Fn(&str) -> bool) -> String {
    for _ in 0..100_000 {
        let list = run(pc, "vm list --json");
        if is_so(&list) {
            return list;
        }
    }
    panic!("the guest does not get there: {}", pc.ask("vm"));
}

/// A machine with a DIMM on which guest `a` of 256 KiB runs, and a second DIMM.
fn with_guest(rounds: u64) -> Pc {
    let (pc, _) = Pc::ready("policy=online_movable");
    plug(&pc, 0, FIRST);
    run(&pc, "vm create a 256K");
    let list = run(&pc, "vm list --json");
    let block = FIRST.start().get() / BLOCK;
    assert!(
        list.contains(&format!("\"blocks\":[{{\"block\":{block},\"bytes\":262144}}]")),
        "{list}"
    );
    plug(&pc, 1, SECOND);
    run(&pc, &format!("vm run a {rounds}"));
    pc
}

#[test]
fn a_guest_computes_while_its_memory_is_pulled_and_its_result_is_that_of_an_undisturbed_run() {
    alone(|| {
        let pc = with_guest(9);
        wait(&pc, |list| number(list, "rounds") >= 2);
        pc.unplug(0);
        let (offline, _, remove) = (pc.step(), pc.step(), pc.step());
        assert!(offline.contains(r#""error":null"#), "{offline}");
        assert!(remove.contains(r#""error":null"#), "{remove}");
        pc.machine.unplug(FIRST);
        let pulled = wait(&pc, |list| value(list, "state") == "done");
        assert_eq!(number(&pulled, "rounds"), 9);
        assert_eq!(number(&pulled, "wrong_words"), 0, "{pulled}");
        assert_eq!(number(&pulled, "pages_moved"), 64);
        assert!(number(&pulled, "tables_moved") > 0 && number(&pulled, "longest_pause") > 0);
        pc.verify();

        run(&pc, "vm kill a");
        run(&pc, "vm create a 256K");
        run(&pc, "vm run a 9");
        let undisturbed = wait(&pc, |list| value(list, "state") == "done");
        assert_eq!(number(&undisturbed, "pages_moved"), 0);
        assert_eq!(value(&undisturbed, "checksum"), value(&pulled, "checksum"));
    });
}

#[test]
fn a_guest_computes_while_its_extents_of_two_mebibytes_are_copied_and_moved() {
    alone(|| {
        let (pc, _) = Pc::ready("policy=online_movable");
        plug(&pc, 0, FIRST);
        for (extent, bytes) in [("3M", "0x300000"), ("0", "0x0"), ("4G", "0x100000000")] {
            let refused = pc.ask(&format!("vm create a 4M --extent {extent}"));
            let reason = format!("an extent of {bytes} bytes is not a power of two from 0x1000 to");
            assert!(refused.contains(&reason), "{refused}");
        }
        run(&pc, "vm create a 4M --extent 2M");
        plug(&pc, 1, SECOND);
        let refused = pc.ask("vm run a 0 --bytes 4M");
        assert!(refused.contains("the payload works on 0x1000 to"), "{refused}");
        run(&pc, "vm run a 0 --bytes 20K");
        wait(&pc, |list| number(list, "rounds") >= 1);
        pc.unplug(0);
        let (offline, _, remove) = (pc.step(), pc.step(), pc.step());
        assert!(offline.contains(r#""error":null"#), "{offline}");
        assert!(remove.contains(r#""error":null"#), "{remove}");
        pc.machine.unplug(FIRST);
        let gone = number(&run(&pc, "vm list --json"), "rounds");
        let list = wait(&pc, |list| number(list, "rounds") >= gone + 2);
        assert_eq!(number(&list, "wrong_words"), 0, "{list}");
        let moved = ["pages_moved", "extents_ahead", "extents_hurried"];
        assert_eq!(moved.map(|name| number(&list, name)), [1024, 2, 0], "{list}");
        pc.verify();
        run(&pc, "vm kill a");
        pc.verify();
    });
}

#[test]
fn a_payload_works_on_a_part_of_its_memory_only_in_the_run_for_which_that_was_asked() {
    alone(|| {
        let (pc, _) = Pc::ready("policy=online_movable");
        plug(&pc, 0, FIRST);
        run(&pc, "vm create a 256K");
        for (bytes, reason) in [
            ("0", "the payload works on 0x1000 to"),
            ("1", "a multiple of 0x1000"),
            ("256K", "the payload works on 0x1000 to"),
            ("18446744073709551615", "the payload works on 0x1000 to"),
            ("99999999T", "a number of bytes"),
        ] {
            let refused = pc.ask(&format!("vm run a 2 --bytes {bytes}"));
            assert!(refused.contains(reason), "{bytes}: {refused}");
        }
        let done = |command: &str| {
            run(&pc, command);
            let list = wait(&pc, |list| value(list, "state") == "done");
            value(&list, "checksum").to_owned()
        };
        let all = done("vm run a 2");
        assert_ne!(done("vm run a 2 --bytes 20K"), all);
        assert_eq!(done("vm run a 2"), all);
        run(&pc, "vm kill a");
        pc.verify();
    });
}

#[test]
fn a_flush_of_a_guests_translations_that_is_missing_shows_when_the_memory_is_unplugged() {
    alone(|| {
        let pc = with_guest(0);
        wait(&pc, |list| number(list, "rounds") >= 1);
        pc.machine.skip_guest_flushes();
        pc.unplug(0);
        let (_, _, remove) = (pc.step(), pc.step(), pc.step());
        assert!(remove.contains(r#""error":null"#), "{remove}");
        // It may have stopped: its code was cleared where it still finds it.
        pc.ask("vm pause a");
        assert!(catch_unwind(AssertUnwindSafe(|| pc.machine.unplug(FIRST))).is_err());
    });
}

#[test]
fn a_guest_that_is_killed_in_the_middle_of_an_eject_leaves_nothing() {
    alone(|| {
        let (pc, _) = Pc::ready("policy=online_movable budget=1");
        run(&pc, "snapshot save");
        plug(&pc, 0, FIRST);
        plug(&pc, 1, SECOND);
        run(&pc, "vm create a 4M");
        run(&pc, "vm run a");
        pc.unplug(0);
        // Each typed byte waits for a step of the eject: the guest is killed in the middle of its moves, which come
        // after the count of room.
        pc.machine.type_in(&"\n".repeat(1350));
        pc.machine.type_in("vm list --json\nvm kill a\n");
        let list = pc.machine.wait_for("ok\n");
        pc.machine.wait_for("ok\n");
        let moved = number(&list, "pages_moved");
        assert!((1..380).contains(&moved), "{list}");
        for (slot, dimm) in [(0, FIRST), (1, SECOND)] {
            if slot == 1 {
                pc.verify();
                pc.unplug(slot);
            }
            let (offline, _, remove) = (pc.step(), pc.step(), pc.step());
            assert!(offline.contains(r#""error":null"#), "{offline}");
            assert!(remove.contains(r#""error":null"#), "{remove}");
            pc.machine.unplug(dimm);
        }
        let same = pc.ask("snapshot check");
        assert!(same.ends_with(" facts are the same\nok\n"), "{same}");
    });
}

#[test]
fn a_pull_with_nowhere_to_go_is_refused_before_a_page_moves() {
    alone(|| {
        let (pc, _) = Pc::ready("policy=online_movable");
        plug(&pc, 0, FIRST);
        run(&pc, "vm create a 24M");
        // The rest of the machine is full.
        let mut orders = (0..=9).rev().collect::<Vec<u32>>();
        while let Some(order) = orders.first().copied() {
            if pc.ask(&format!("alloc {order}")).contains("error") {
                orders.remove(0);
            }
        }
        run(&pc, "vm run a");
        wait(&pc, |list| number(list, "exits") > 3);
        pc.unplug(0);
        let refused = pc.step();
        // Busy (0x82), with nothing taken offline.
        assert!(refused.contains(r#""operation":"remove""#), "{refused}");
        assert!(refused.contains(r#""ost":130,"error":"too few free extents"#), "{refused}");
        let list = run(&pc, "vm list --json");
        assert_eq!(number(&list, "pages_moved"), 0, "{list}");
        assert_eq!(value(&list, "state"), "running");
        pc.verify();

        plug(&pc, 1, SECOND);
        pc.unplug(0);
        let (offline, _, remove) = (pc.step(), pc.step(), pc.step());
        assert!(offline.contains(r#""error":null"#), "{offline}");
        assert!(remove.contains(r#""error":null"#), "{remove}");
        pc.machine.unplug(FIRST);
        pc.verify();
    });
}

#[test]
fn a_guest_that_misbehaves_is_stopped_by_name_and_another_goes_on() {
    alone(|| {
        let (pc, _) = Pc::ready("policy=online_movable");
        plug(&pc, 0, FIRST);
        run(&pc, "vm create good 128K");
        run(&pc, "vm run good");
        run(&pc, "snapshot save");
        for (misdeed, why) in [
            ("store", "it wrote where it has no memory (0x40010000)"),
            ("jump", "it ran code where it has no memory (0x40010000)"),
            ("firmware", "it called secure firmware"),
            ("call", "its call is unknown (0xbad)"),
            ("wait", "it waits for interrupts, which never come"),
        ] {
            run(&pc, "vm create bad 64K");
            run(&pc, &format!("vm run bad 0 {misdeed}"));
            pc.machine.wait_for("guest bad is stopped: ");
            let log = run(&pc, "vm log bad");
            assert!(log.starts_with(why) && log.contains("pc 0x400"), "{misdeed}: {log}");
            let again = pc.ask("vm run bad");
            assert_eq!(again, "error: guest bad is stopped\n");
            run(&pc, "vm kill bad");
            let before = number(&run(&pc, "vm list --json"), "rounds");
            wait(&pc, |list| number(list, "rounds") > before);
            pc.verify();
        }
        let same = pc.ask("snapshot check");
        assert!(same.ends_with(" facts are the same\nok\n"), "{same}");
    });
}

#[test]
fn requests_that_cannot_be_are_refused_by_name() {
    alone(|| {
        let (pc, _) = Pc::ready("policy=online_movable");
        run(&pc, "vm create a 64K");
        for (line, why) in [
            ("vm create a 64K", "guest a exists already"),
            ("vm create b 64G", "the memory of a guest is 0x2000 to 0xfc0000000 bytes"),
            ("vm create b 4K", "the memory of a guest is 0x2000 to"),
            ("vm create b 65K", "a multiple of 0x1000"),
            ("vm create b 2G", "the guest needs 524288 pages, and "),
            ("vm create b 64K --vcpus 0", "a guest has one virtual CPU on this architecture"),
            ("vm create b 64K --vcpus 9", "a guest has one virtual CPU on this architecture"),
            (
                "vm create b 64K --vcpus 2",
                "the guest's 2 virtual CPUs need as many CPUs, and 0 are free",
            ),
            ("vm create ! 64K", "a name has letters, digits, dots, dashes and underscores"),
            (
                "vm create b 1M linux",
                "the kernel was booted without a module (initrdmem=ADDRESS,SIZE)",
            ),
            ("vm run b", "there is no guest b"),
            ("vm pause a", "guest a is ready"),
            (
                "vm run a 1 theft",
                "a misdeed is store, firmware, call, wait, jump, search or emulator",
            ),
        ] {
            let answer = pc.ask(line);
            assert!(answer.starts_with("error: ") && answer.contains(why), "{line}: {answer}");
        }
        (0..7).for_each(|number| _ = run(&pc, &format!("vm create n{number} 64K")));
        assert_eq!(pc.ask("vm create n8 64K"), "error: there are 8 guests already\n");
        pc.verify();
    });
}

#[test]
fn a_machine_that_runs_no_guests_says_what_it_lacks() {
    alone(|| {
        let pc = Pc::new(&Firmware::default());
        pc.machine.lack_for_guests("a second stage");
        pc.start();
        let answer = pc.ask("vm create a 64K");
        assert_eq!(answer, "error: this machine runs no guests: it does not have a second stage\n");
        pc.verify();
    });
}

#[test]
fn a_guest_is_paused_and_goes_on_where_it_was() {
    alone(|| {
        let pc = with_guest(6);
        wait(&pc, |list| number(list, "rounds") >= 2);
        run(&pc, "vm pause a");
        let paused = number(&run(&pc, "vm list --json"), "rounds");
        assert_eq!(number(&run(&pc, "vm list --json"), "rounds"), paused);
        assert_eq!(
            pc.ask("vm run a 0 store"),
            "error: guest a goes on: a misdeed is for its beginning\n"
        );
        let before = format!("error: guest a has done {paused} rounds already\n");
        assert_eq!(pc.ask("vm run a 1"), before);
        run(&pc, "vm run a");
        let done = wait(&pc, |list| value(list, "state") == "done");
        assert_eq!((number(&done, "rounds"), number(&done, "wrong_words")), (6, 0));
    });
}

#[test]
fn a_guest_that_searches_its_memory_finds_nothing_of_the_one_before_it() {
    alone(|| {
        let (pc, _) = Pc::ready("policy=online_movable scrub=guests");
        plug(&pc, 0, FIRST);
        let done = |rounds: u64| {
            let list = wait(&pc, |list| value(list, "state") == "done");
            assert_eq!(number(&list, "rounds"), rounds, "{list}");
            number(&list, "wrong_words")
        };
        run(&pc, "vm create a 256K");
        run(&pc, "vm run a 1");
        assert_eq!(done(1), 0);
        // It finds what it wrote itself: all words but one page of code, and the first eight.
        run(&pc, "vm run a 1 search");
        assert_eq!(done(1), (256 - 4) * 1024 / 8 - 8);
        run(&pc, "vm kill a");
        run(&pc, "vm create b 256K");
        run(&pc, "vm run b 1 search");
        assert_eq!(done(1), 0);
        pc.verify();
    });
}
