//! What is looked up, and what is copied, costs steps as it is long: no term works longer than its steps say.

use std::vec;
use std::vec::Vec;

use super::{Log, device, load, method, package};

/// Bytes of a long buffer, and of a long string.
const LONG: usize = 0x1000;
const TEXT: usize = 0x400;
/// Elements of a package.
const MANY: usize = 0x20;

/// `Buffer (LONG) {}`.
fn buffer() -> Vec<u8> {
    package(&[0x11], &[b"\x0B\x00\x10"])
}

/// A string of `TEXT` letters.
fn text() -> Vec<u8> {
    [b"\x0D".as_slice(), &[b'a'; TEXT], b"\0"].concat()
}

/// `Package (MANY) {element, ...}`.
fn list(element: &[u8]) -> Vec<u8> {
    package(&[0x12], &[&[MANY as u8], &element.repeat(MANY)])
}

/// `Store (value, to)`.
fn store(value: &[u8], to: &[u8]) -> Vec<u8> {
    [b"\x70", value, to].concat()
}

/// What methods of these tests find.
fn world() -> Vec<u8> {
    // Device (AAAA) { Device (BBBB) { Name (DEEP, 0) Method (CALL) { Return (ROOT) } } }
    let call = method(b"CALL", 0, &[b"\xA4ROOT"]);
    let inner = device(b"BBBB", &[b"\x08DEEP\x00", &call]);
    // PCI0 with a field in the configuration space of a function behind it.
    let leaf = device(
        b"LEAF",
        &[
            b"\x08_ADR\x0C\x00\x00\x01\x00",
            b"\x5B\x80CONF\x02\x0A\x40\x0A\x04\x5B\x81\x0BCONF\x01PIN0\x08",
        ],
    );
    let bridge = device(b"PCI0", &[b"\x08_HID\x0C\x41\xD0\x0A\x03", &leaf]);
    // Registers of one byte, in a field of 64 bytes.
    let wide = b"\x5B\x80REGS\x01\x0B\x00\x01\x0A\x40\x5B\x81\x0CREGS\x01WIDE\x40\x20";
    let fetch = method(b"GIVE", 0, &[b"\xA4", &list(b"ROOT")]);
    let named = |name: &[u8], value: &[u8]| [b"\x08", name, value].concat();
    [
        device(b"AAAA", &[&inner]),
        bridge,
        wide.to_vec(),
        named(b"ROOT", b"\x00"),
        named(b"TEXT", &text()),
        named(b"GROW", b"\x0D\0"),
        named(b"BUFF", &buffer()),
        fetch,
    ]
    .concat()
}

/// Steps of a method with these terms.
fn cost(terms: &[u8]) -> u32 {
    let mut aml = load(&[&world(), &method(b"TEST", 0, &[terms])]).expect("loads");
    assert_eq!(aml.load_report().count(), 0, "{:?}", aml.load_report());
    let loaded = aml.usage().peak_steps;
    let node = aml.find("TEST").expect("the method");
    // More than loading took, so that it is the peak.
    aml.evaluate(&mut Log::default(), node, &[]).expect("runs");
    let steps = aml.usage().peak_steps;
    assert!(steps > loaded, "{steps} steps, and {loaded} of loading");
    steps
}

/// What `terms` cost behind `before`, and behind a loop that costs more than loading.
fn more(before: &[u8], terms: &[u8]) -> u32 {
    let rounds = package(&[0xA2], &[b"\x95\x67\x0B\x00\x10", b"\x75\x67"]);
    let before = [&store(b"\x00", b"\x67"), &rounds, before].concat();
    cost(&[&before, terms].concat()) - cost(&before)
}

#[test]
fn copies_cost_a_step_for_sixteen_bytes_and_one_for_each_element() {
    let long = store(&buffer(), b"\x60");
    let pair = store(&list(b"\x00"), b"\x60");
    let words = store(&text(), b"\x60");
    for (what, before, terms, least) in [
        ("a buffer", vec![], buffer(), LONG / 16),
        ("a package of any size", vec![], package(&[0x13], &[b"\x0B\x00\x08"]), 0x800 / 16),
        ("names in a package", vec![], list(b"ROOT"), 3 * MANY),
        ("a comparison", long.clone(), b"\x93\x60\x60".to_vec(), LONG / 16),
        ("two in one", long.clone(), b"\x73\x60\x60\x00".to_vec(), 2 * LONG / 16),
        ("a copy", long.clone(), store(b"\x60", b"\x61"), LONG / 16),
        ("a copy over another", long.clone(), store(b"\x60", b"BUFF"), LONG / 16),
        ("a string in its place", words.clone(), store(b"\x60", b"TEXT"), TEXT / 16),
        ("a string that needs more room", words, store(b"\x60", b"GROW"), TEXT / 16),
        ("a package", pair.clone(), store(b"\x60", b"\x61"), MANY),
        ("a search in a package", pair, b"\x89\x60\x01\x01\x00\x00\x00".to_vec(), MANY),
        ("a package that a method returns", vec![], b"GIVE".to_vec(), 6 * MANY),
        ("bytes as text", long.clone(), b"\x98\x60\x00".to_vec(), LONG),
        ("a field of registers", vec![], store(b"WIDE", b"\x60"), 64 + 64 / 16),
        (
            "what a field of a buffer holds",
            [long.as_slice(), b"\x5B\x13\x60\x00\x0B\x00\x40PART"].concat(),
            store(b"PART", b"\x61"),
            2 * 0x4000 / 8 / 16,
        ),
        (
            "a field of a buffer",
            // CreateField (Local0, 0, 8 * LONG / 2, PART)
            [long.as_slice(), b"\x5B\x13\x60\x00\x0B\x00\x40PART"].concat(),
            store(b"\x60", b"PART"),
            0x4000 / 64,
        ),
    ] {
        let steps = more(&before, &terms) as usize;
        // The rest is of its terms, whatever their size.
        assert!((least..least + 10).contains(&steps), "{what}: {steps} steps");
    }
}

#[test]
fn look_ups_cost_a_step_for_each_level() {
    let path = |name: &[u8]| [b"\\\x2F\x03".as_slice(), name].concat();
    // A term costs one; then a name of each path, or each scope from the method's up.
    for (what, terms, steps) in [
        ("a name", b"ROOT".to_vec(), 1 + 2),
        ("a path", path(b"AAAABBBBDEEP"), 1 + 3),
        ("a path from here up", b"^ROOT".to_vec(), 1 + 2),
        ("a name that is found far up", path(b"AAAABBBBCALL"), 1 + 3 + 1 + 4),
        ("a name as text", b"\x83\x0D\\AAAA.BBBB.DEEP\0".to_vec(), 2 + 15),
        ("a new name", [b"\x08".to_vec(), path(b"AAAABBBBNEW_"), vec![0]].concat(), 1 + 3 + 1),
        ("a register behind a bridge", path(b"PCI0LEAFPIN0"), 1 + 3 + 2 + 1),
        ("no operation", b"\xA3".to_vec(), 1),
        ("a branch", package(&[0xA0], &[b"\x00"]), 2),
    ] {
        assert_eq!(more(&[], &terms), steps, "{what}");
    }
}
