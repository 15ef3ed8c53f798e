//! What `_CRS` may say of memory.

use std::format;
use std::string::String;

use super::{LINE, OST, Shape, crs, dimm, gib, play, qword, table};

/// The device is taken, once more when it is announced.
const TAKEN: &[(&str, u64)] = &[("OSTV", 0), ("OSTN", 1), ("EJC", 0)];
/// The device is refused, and the reply to its announcement says so.
const REFUSED: &[(&str, u64)] = &[("OSTV", 1), ("OSTN", 1), ("EJC", 0)];
const ONE: &[&str] = &["insert MEM0 [0x100000000-0x13fffffff] on 0"];
const QUARTER: &[&str] = &["insert MEM0 [0x80000000-0x8fffffff] on 0"];
const NO_MEMORY: &[&str] = &["refuse MEM0 _CRS names no memory"];

/// A device that is announced and looked at again: both times the same comes of it.
fn play_one(name: &str, list: &str, found: &[&str], names: &[(&str, u64)]) {
    let asl = table("", &dimm("", list), "Notify (\\_SB.MEM0, 1)");
    play(&[Shape { name, asl, boot: found, events: &[(LINE, found)], names }]);
}

/// A range of a gigabyte with other words than most.
fn with_words(words: &str, translation: u64, tail: &str) -> String {
    format!(
        "QWordMemory ({words}, 0, 0x100000000, 0x13FFFFFFF, {translation:#x}, 0x40000000{tail})"
    )
}

const WORDS: &str = "ResourceConsumer, PosDecode, MinFixed, MaxFixed, Cacheable, ReadWrite";

#[test]
fn memory_is_read_in_every_kind_of_descriptor() {
    let extended =
        format!("ExtendedMemory ({WORDS}, 0, 0x100000000, 0x13FFFFFFF, 0, 0x40000000, 8)");
    play_one("03 extended", &extended, ONE, TAKEN);
    let narrow = format!("DWordMemory ({WORDS}, 0, 0x80000000, 0x8FFFFFFF, 0, 0x10000000)");
    play_one("04 double word", &narrow, QUARTER, TAKEN);
    play_one("29 fixed", "Memory32Fixed (ReadWrite, 0x80000000, 0x10000000)", QUARTER, TAKEN);
}

#[test]
fn what_stands_beside_an_address_does_not_keep_memory_from_being_used() {
    let words = "ResourceProducer, PosDecode, MinFixed, MaxFixed, Prefetchable, ReadWrite";
    let ports = "QWordIO (ResourceConsumer, MinFixed, MaxFixed, PosDecode, EntireRange, \
                 0, 0x100, 0x1FF, 0, 0x100)";
    let list = format!("{} {ports}", with_words(words, 0, ""));
    play_one("05 prefetchable, with ports", &list, ONE, TAKEN);
    // Only a bridge translates.
    play_one("32 translated", &with_words(WORDS, 0x10_0000_0000, ""), ONE, TAKEN);
}

#[test]
fn memory_that_is_not_ram_is_refused() {
    let words = "ResourceConsumer, SubDecode, MinFixed, MaxFixed, NonCacheable, ReadOnly";
    play_one("36 read-only", &with_words(words, 0, ""), NO_MEMORY, REFUSED);
    let tail = ", , , , AddressRangeReserved, TypeStatic";
    play_one("37 reserved", &with_words(WORDS, 0, tail), NO_MEMORY, REFUSED);
}

#[test]
fn ranges_are_taken_together_or_not_at_all() {
    let pair = |second| format!("{} {}", gib(), qword(second, 0x4000_0000));
    let both = ["insert MEM0 [0x100000000-0x13fffffff], [0x200000000-0x23fffffff] on 0"];
    play_one("01 two ranges", &pair(0x2_0000_0000), &both, TAKEN);
    let nine: String =
        (0..9).map(|n| qword(0x1_0000_0000 + n * 0x8000_0000, 0x4000_0000)).collect();
    play_one("02 nine ranges", &nine, &["refuse MEM0 _CRS names too many ranges"], REFUSED);
    let [low, high] = [0x1_0000_0000, 0x1_4000_0000].map(|at| qword(at, 0x8000_0000));
    let both = ["insert MEM0 [0x100000000-0x17fffffff], [0x140000000-0x1bfffffff] on 0"];
    play_one("07 ranges that overlap", &format!("{low} {high}"), &both, REFUSED);
}

#[test]
fn ranges_that_cannot_be_are_refused_by_their_figures() {
    let list = "QWordMemory (ResourceConsumer, PosDecode, MinFixed, MaxNotFixed, Cacheable, ReadWrite, \
                0, 0x100000000, 0x2FFFFFFFF, 0, 0x40000000)";
    let found =
        ["refuse MEM0 _CRS names memory from 0x100000000 to 0x2ffffffff of 0x40000000 bytes"];
    play_one("06 a maximum beside the length", list, &found, REFUSED);
    let found = ["insert MEM0 [0x4000000000000000-0x400000003fffffff] on 0"];
    play_one("08 above what the machine can address", &qword(1 << 62, 1 << 30), &found, REFUSED);
    let found = ["insert MEM0 [0xffffffffc0000000-0xffffffffffffffff] on 0"];
    play_one(
        "09 at the end of the address space",
        &qword(0xFFFF_FFFF_C000_0000, 1 << 30),
        &found,
        REFUSED,
    );
}

#[test]
fn a_device_is_known_by_what_it_is_compatible_with() {
    let hid =
        "Name (_HID, \"ACME0001\") Name (_CID, Package () { \"FOO0001\", EisaId (\"PNP0C80\") })";
    let device = format!("Device (MEM0) {{ {hid} {} {} {OST} }}", crs(&gib()), super::EJ0);
    let asl = table("", &device, "Notify (\\_SB.MEM0, 1)");
    play(&[Shape { name: "26 _CID", asl, boot: ONE, events: &[(LINE, ONE)], names: TAKEN }]);
}
