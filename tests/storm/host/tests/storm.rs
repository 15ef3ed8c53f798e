//! The program that plays storms on the fake machine.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::path::{Path, PathBuf};
use std::process::Command;

use hotmem_storm::{Event, Stats, read};

/// What it wrote, and whether it succeeded.
fn run(words: &[&str], keep: &Path) -> (String, bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hotmem-storm-host"));
    let output = command.args(words).arg("--keep").arg(keep).output().unwrap();
    let text = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (text.concat(), output.status.success())
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn a_storm_agrees_with_the_model_and_every_event_has_each_outcome() {
    let (text, passed) = run(&["--seed", "1", "--events", "3000"], &folder("short"));
    assert!(passed, "{text}");
    let stats = text.lines().find(|line| line.contains("add done")).unwrap();
    let stats: Stats = stats.parse().unwrap();
    // A storm in which this never happens shows nothing about it.
    for event in ["add", "remove", "convert", "online", "offline", "take", "veto", "compact"] {
        assert!(stats.of(event, "done") > 0, "no {event} was done: {stats}");
    }
    for event in ["add", "remove", "convert", "online", "offline", "take", "drop", "cancel"] {
        assert!(stats.of(event, "refused") > 0, "no {event} was refused: {stats}");
    }
    for event in ["plug", "unplug", "twice"] {
        let both = [stats.of(event, "now"), stats.of(event, "waited for")];
        assert!(both.iter().all(|&count| count > 0), "{event}: {both:?}");
    }
    for event in ["alloc", "free", "grow", "pin", "unpin", "poison", "policy", "vmemmap", "cancel"]
    {
        assert!(stats.of(event, "done") > 0, "no {event}: {stats}");
    }
    assert!(stats.of("reset", "done") > 0, "{stats}");
    for what in ["dimm", "region"] {
        assert!(stats.of(what, "gone") > 0 && stats.of(what, "kept") > 0, "{what}: {stats}");
    }
    for event in ["pmem-add", "pmem-remove"] {
        assert!(stats.of(event, "done") > 0 && stats.of(event, "refused") > 0, "{event}: {stats}");
    }
}

#[test]
fn a_storm_that_fails_shrinks_to_a_few_events_which_fail_alike_when_they_are_replayed() {
    let keep = folder("planted");
    let (text, passed) = run(&["--seed", "1", "--events", "2000", "--plant"], &keep);
    assert!(!passed && text.contains("invariant"), "{text}");
    let command = "repeat: cargo xtask storm --arch host --plant --replay ";
    let path = text.split_once(command).unwrap().1.lines().next().unwrap();
    let log = read(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(log.len() <= 10, "{text}");
    // The fault that was planted takes these; what was added is removed at the end in any case.
    assert!(log.iter().any(|event| matches!(event, Event::Add(..))), "{text}");
    assert!(log.iter().any(|event| matches!(event, Event::Convert(_))), "{text}");

    let (again, passed) = run(&["--replay", path, "--plant"], &folder("again"));
    let error = |text: &str| text.lines().find(|line| line.starts_with("error")).map(str::to_owned);
    assert!(!passed && error(&text).is_some() && error(&again) == error(&text), "{again}\n{text}");
    let (sound, passed) = run(&["--replay", path], &folder("sound"));
    assert!(passed, "without the fault: {sound}");
}

#[test]
fn a_page_that_is_marked_bad_while_its_dimm_comes_may_keep_the_block_offline() {
    let path = folder("early.log");
    let log = "plug 0 1 now\nturn 1000\npoison s0.0 5\nsettle\noffline s0.0\nonline s0.0 movable\n";
    std::fs::write(&path, log).unwrap();
    let (text, passed) = run(&["--replay", &path.to_string_lossy()], &folder("early"));
    assert!(passed, "{text}");
}

#[test]
fn a_bad_page_of_a_memmap_keeps_the_block_that_it_describes_offline_and_no_third_one() {
    // Page 12 of 16 describes the last of four blocks.
    let log =
        "add 4+4 device\npoison w4 12\nonline w5 movable\nonline w4 movable\nonline w7 movable\n";
    let path = folder("memmap.log");
    std::fs::write(&path, log).unwrap();
    let (text, passed) = run(&["--replay", &path.to_string_lossy()], &folder("memmap"));
    assert!(passed && text.contains("1 online done, 2 online refused"), "{text}");
}

#[test]
fn a_machine_that_is_reset_has_its_dimms_but_those_that_were_asked_for_and_no_guests() {
    let path = folder("reset.log");
    let log = "guest 0\nadd 0+2 device\nonline w0 normal\nalloc 1 3\ngrow 2 0\npin 2\nplug 0 2 wait\nplug 1 1 now\n\
               unplug 0 now\npoison s1.0 4\nveto offline\nreset\nunplug 1 wait\nplug 0 1 wait\nkill 0\n";
    std::fs::write(&path, log).unwrap();
    let (text, passed) = run(&["--replay", &path.to_string_lossy()], &folder("reset"));
    // The DIMM of slot 0 went in the reset; at the end the one that came after it goes.
    assert!(passed && text.contains("1 reset done") && text.contains("2 dimm gone"), "{text}");
    assert!(!text.contains("guest") && !text.contains("kill"), "{text}");
}

#[test]
fn a_full_disk_ends_a_storm_with_what_it_could_not_write() {
    // The log goes to a device on which nothing has room.
    let folder = folder("full");
    let log = "d=$TMPDIR/hotmem-storm-$$; mkdir -p $d; ln -s /dev/full $d/log; exec \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", log, "sh", env!("CARGO_BIN_EXE_hotmem-storm-host"), "--events", "50"]);
    std::fs::create_dir_all(&folder).unwrap();
    let output = command.arg("--keep").arg(&folder).env("TMPDIR", &folder).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.starts_with("error: host-1: cannot write ") && text.contains("No space"),
        "{text}"
    );
    assert!(!text.contains("tries") && !output.status.success(), "{text}");
}

#[test]
fn persistent_memory_is_data_for_the_next_kernel_and_is_used_by_force_only() {
    let path = folder("pmem.log");
    let log = "pmem-add 0 device gently\npmem-add 0 block force\npmem-add 1 boot force\nremove 0+1\noffline p0.1\n\
               pmem-remove 0 wait\npmem-remove 0 now\npmem-add 0 block gently\nreset\npmem-add 0 device gently\n\
               pmem-add 1 block gently\npmem-add 0 device force\nveto online\npmem-remove 1 now\nsettle\n\
               pmem-add 1 device gently\npmem-remove 1 wait\n";
    std::fs::write(&path, log).unwrap();
    let (text, passed) = run(&["--replay", &path.to_string_lossy()], &folder("pmem"));
    assert!(passed && text.contains("4 pmem-add done, 4 pmem-add refused"), "{text}");
    assert!(text.contains("4 region gone"), "{text}");
}

#[test]
fn a_log_that_cannot_be_read_is_refused_with_its_line() {
    let path = folder("bad.log");
    std::fs::write(&path, "settle\nfly away\n").unwrap();
    let (text, passed) = run(&["--replay", &path.to_string_lossy()], &folder("bad"));
    assert!(!passed && text.contains("line 2") && text.contains("fly"), "{text}");
}
