//! Label storage areas: what they say is read, and a namespace is excluded only if that is certain.

use std::format;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use super::super::firmware::{Random, put};
use super::writer::{BLOCK, Labels, SLOTS, seal};
use crate::nvdimm::{Area, Contents, LabelError, Part, contents};

const PART: Part = Part { handle: 1, base: 0x1000, length: 0x10_0000 };

/// An area in memory, and how many reads of it there were.
struct Bytes(Vec<u8>, usize);

impl Area for Bytes {
    fn size(&self) -> u32 {
        self.0.len() as u32
    }

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), LabelError> {
        self.1 += 1;
        assert!(bytes.len() <= 256);
        let from = self.0.get(offset as usize..offset as usize + bytes.len());
        bytes.copy_from_slice(from.ok_or(LabelError::Value("test"))?);
        Ok(())
    }
}

fn said(bytes: Vec<u8>) -> Result<Contents, LabelError> {
    contents(&mut Bytes(bytes, 0), &PART)
}

/// The name of the namespace that there is.
fn name(labels: Labels) -> String {
    match said(labels.bytes) {
        Ok(Contents::Namespace(name)) => name.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn an_area_that_is_not_there_or_was_never_used_holds_no_namespace() {
    assert_eq!(said(Vec::new()), Ok(Contents::NoArea));
    for fill in [0, 0xff] {
        assert_eq!(said(vec![fill; 128 << 10]), Ok(Contents::Empty));
        assert_eq!(said(vec![fill; 2 * BLOCK]), Ok(Contents::Empty));
        // What is left of a second index block, wherever it was.
        let mut left = vec![fill; 128 << 10];
        left[3 * BLOCK + 8] = 1;
        assert_eq!(said(left), Err(LabelError::NoIndex));
    }
    assert_eq!(said(Labels::new().bytes), Ok(Contents::NoNamespace));
}

#[test]
fn a_label_about_the_part_is_a_namespace_and_one_about_another_is_not() {
    assert_eq!(name(Labels::new().with(3, "data", 0x1000, 0x2000)), "\"data\"");
    assert_eq!(name(Labels::new().with(0, "", 0x1000, 1)), "without a name, in slot 0");
    // The last byte of the part, and the ones around it.
    let end = PART.base + PART.length;
    assert_eq!(name(Labels::new().with(5, "end", end - 1, 1)), "\"end\"");
    for (base, length) in [(end, 0x1000), (0, 0x1000)] {
        let labels = Labels::new().with(1, "elsewhere", base, length);
        assert_eq!(said(labels.bytes), Ok(Contents::NoNamespace));
    }
    // The label of another part is passed over.
    let both = Labels::new().with(1, "elsewhere", end, 1).with(2, "here", 0x1000, 1);
    assert_eq!(name(both), "\"here\"");
    // A length that wraps goes up to the end.
    assert_eq!(name(Labels::new().with(2, "wraps", 0x2000, u64::MAX)), "\"wraps\"");
    let hostile = Labels::new().with(0, "\u{1b}[2J", 0x1000, 1);
    assert_eq!(name(hostile), "\"\\x1b[2J\"");
}

#[test]
fn the_index_block_with_the_later_number_counts() {
    // Block 1 has the label, block 0 has none.
    let with = |first, second| {
        Labels::new().with(0, "new", 0x1000, 1).change(0, 20, 4, first).change(1, 20, 4, second)
    };
    for (first, second, counts) in
        [(1, 2, true), (2, 3, true), (3, 1, true), (2, 1, false), (3, 2, false), (1, 3, false)]
    {
        let found = said(with(first, second).bytes);
        assert_eq!(matches!(found, Ok(Contents::Namespace(_))), counts, "{first} {second}");
    }
    // Of equal ones the block behind, and of one that does not add up the other.
    assert_eq!(name(with(2, 2)), "\"new\"");
    let mut broken = with(3, 2);
    broken.block(0)[100] ^= 1;
    assert_eq!(name(broken), "\"new\"");
    // The number 0 makes a block invalid.
    assert_eq!(name(with(0, 1)), "\"new\"");
}

#[test]
fn a_list_without_the_other_names_no_namespace_only_if_the_other_was_never_written() {
    let labels = || Labels::new().with(0, "new", 0x1000, 1);
    // The label is in the later list, block 1.
    let mut broken = labels();
    broken.block(1)[100] ^= 1;
    assert_eq!(said(broken.bytes), Err(LabelError::OneIndex));
    assert_eq!(said(labels().change(1, 20, 4, 0).bytes), Err(LabelError::OneIndex));
    // Block 0 points to a place without a second list.
    for other in [0, 8, 4096, u64::MAX] {
        assert_eq!(said(labels().change(0, 40, 8, other).bytes), Err(LabelError::OneIndex));
    }
    for blank in 0..2 {
        for fill in [0, 0xff] {
            let mut labels = Labels::new();
            labels.block(blank).fill(fill);
            assert_eq!(said(labels.bytes), Ok(Contents::NoNamespace));
        }
        let mut labels = Labels::new();
        labels.block(blank)[7] ^= 1;
        assert_eq!(said(labels.bytes), Err(LabelError::OneIndex));
    }
}

#[test]
fn what_does_not_add_up_is_never_taken_for_empty() {
    let broken = |at: usize| {
        let mut labels = Labels::new().with(0, "x", 0x1000, 1);
        labels.block(0)[at] ^= 1;
        labels.block(1)[at] ^= 1;
        said(labels.bytes)
    };
    for at in [0, 19, 20, 24, 33, 40, 48, 56, 60, 64, 72, 200] {
        assert_eq!(broken(at), Err(LabelError::NoIndex), "{at}");
    }
    let mut one = vec![0; 4096];
    one[BLOCK + 7] = 1;
    assert_eq!(said(one), Err(LabelError::NoIndex));
    // Sums that are right around what is wrong.
    let both = |at, size, value| {
        let labels = Labels::new().with(0, "x", 0x1000, 1);
        said(labels.change(0, at, size, value).change(1, at, size, value).bytes)
    };
    for (at, size, value) in [
        (32, 8, 0),
        (32, 8, 257),
        (32, 8, u64::MAX),
        (48, 8, u64::MAX),
        (48, 8, 1 << 32),
        (56, 4, 7),
        (56, 4, u32::MAX.into()),
        (19, 1, 255),
        (24, 8, 8),
    ] {
        assert_eq!(both(at, size, value), Err(LabelError::NoIndex), "{at} {value:#x}");
    }
    assert_eq!(both(60, 2, 2), Err(LabelError::Version(2, 2)));
    assert_eq!(both(62, 2, 3), Err(LabelError::Version(1, 3)));
    assert_eq!(both(62, 2, 1), Err(LabelError::Version(1, 1)));
}

#[test]
fn a_label_in_use_that_makes_no_sense_is_an_error() {
    let change = |at, size, value| {
        let mut labels = Labels::new().with(2, "x", 0x1000, 1);
        put(labels.label(2), at, size, value);
        seal(labels.label(2), 248);
        said(labels.bytes)
    };
    assert_eq!(change(120, 4, 1), Err(LabelError::Label(2)));
    assert_eq!(change(112, 8, 0), Err(LabelError::Label(2)));
    let mut labels = Labels::new().with(2, "x", 0x1000, 1);
    labels.label(2)[30] ^= 1;
    assert_eq!(said(labels.bytes), Err(LabelError::Label(2)));
    // A slot that is free may hold anything.
    let mut labels = Labels::new();
    labels.label(SLOTS - 1).fill(0x5a);
    assert_eq!(said(labels.bytes), Ok(Contents::NoNamespace));
}

#[test]
fn small_labels_of_the_old_version_have_no_checksum() {
    let mut labels = Labels::new();
    for (block, sequence) in [(0, 1), (1, 2)] {
        for (at, size, value) in
            [(19, 1, 0), (62, 2, 1), (56, 4, 12), (20, 4, sequence), (72, 2, 0b1111_1101_1111)]
        {
            labels = labels.change(block, at, size, value);
        }
    }
    let label = &mut labels.bytes[2 * BLOCK + 5 * 128..][..128];
    label[16..19].copy_from_slice(b"old");
    put(label, 104, 8, 0x1000);
    put(label, 112, 8, 0x1000);
    put(label, 120, 4, 5);
    assert_eq!(name(labels), "\"old\"");
}

#[test]
fn a_list_of_many_labels_is_given_up_and_a_long_one_is_read_in_pieces() {
    // 3000 slots, which take an index block of 512 bytes.
    let slots = 3000;
    let mut bytes = vec![0; 1024 + slots * 256];
    let write = |bytes: &mut Vec<u8>, used: &dyn Fn(usize) -> bool| {
        let plain = Labels::new().bytes;
        for (block, offset) in [(0, 0), (1, 512)] {
            bytes[offset..offset + 72].copy_from_slice(&plain[block * BLOCK..block * BLOCK + 72]);
            let index = &mut bytes[offset..offset + 512];
            for (at, size, value) in [
                (24, 8, offset as u64),
                (32, 8, 512),
                (40, 8, 512 - offset as u64),
                (48, 8, 1024),
                (56, 4, slots as u64),
            ] {
                put(index, at, size, value);
            }
            for byte in 0..slots / 8 {
                let free = (0..8).filter(|bit| !used(byte * 8 + bit)).map(|bit| 1u8 << bit);
                index[72 + byte] = free.sum();
            }
            seal(index, 64);
        }
        for slot in (0..slots).filter(|&slot| used(slot)) {
            let label = &mut bytes[1024 + slot * 256..][..256];
            // The last one is about the part.
            put(label, 104, 8, if slot == slots - 1 { 0x1000 } else { 1 << 40 });
            put(label, 112, 8, 1);
            put(label, 120, 4, slot as u64);
            seal(label, 248);
        }
    };
    write(&mut bytes, &|slot| slot == slots - 1);
    let mut area = Bytes(bytes.clone(), 0);
    let found = contents(&mut area, &PART);
    assert!(matches!(found, Ok(Contents::Namespace(_))), "{found:?}");
    assert!(area.1 < 20, "{} reads", area.1);
    write(&mut bytes, &|_| true);
    let mut area = Bytes(bytes, 0);
    assert_eq!(contents(&mut area, &PART), Err(LabelError::TooMany));
    assert!(area.1 < 150, "{} reads", area.1);
}

#[test]
fn no_bytes_break_the_reader() {
    let mut random = Random(3);
    for _ in 0..20_000 {
        let mut labels = Labels::new().with(1, "x", 1 << 40, 1);
        for _ in 0..=random.below(3) {
            let at = random.below(labels.bytes.len());
            labels.bytes[at] = random.below(256) as u8;
        }
        if random.below(2) == 0 {
            (0..2).for_each(|block| seal(labels.block(block), 64));
        }
        labels.bytes.truncate(random.below(9 * BLOCK));
        let mut area = Bytes(labels.bytes, 0);
        let _ = contents(&mut area, &PART);
        assert!(area.1 < 300);
    }
}
