//! Opening a flattened device tree whose names are longer than the standard's 31 characters.
//!
//! POWER firmware has such names (`ibm,dynamic-reconfiguration-memory`), and the parser refuses them as
//! invalid. So the structure is checked here, with every name that is text at all, and the parser then
//! reads it without a check of its own.

use core::ffi::CStr;
use dtoolkit::fdt::Fdt;

/// A device tree's first four bytes, and the version that is read (Devicetree Specification 0.4, 5.2).
const MAGIC: u32 = 0xd00d_feed;
const VERSION: u32 = 17;
const HEADER_BYTES: usize = 40;
/// Tokens of the structure block (5.4.1).
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;
/// Levels of nodes: no machine has so many, and the parser may recurse.
const DEEPEST: usize = 32;

/// The tree in `bytes`, from end to end, if that is one.
pub fn open(bytes: &[u8]) -> Option<Fdt<'_>> {
    check(bytes).map(|()| Fdt::new_unchecked(bytes))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_be_bytes)
}

/// The text that begins at `at` and ends with a NUL.
fn text(bytes: &[u8], at: usize) -> Option<&str> {
    CStr::from_bytes_until_nul(bytes.get(at..)?).ok()?.to_str().ok()
}

fn check(bytes: &[u8]) -> Option<()> {
    let header = |index: usize| word(bytes, 4 * index).map(|word| word as usize);
    let (structure, strings, reserved) = (header(2)?, header(3)?, header(4)?);
    let (strings_len, structure_len) = (header(8)?, header(9)?);
    let last_version = word(bytes, 24)?;
    let structure_end = structure.checked_add(structure_len)?;
    let strings_end = strings.checked_add(strings_len)?;
    let whole = word(bytes, 0) == Some(MAGIC)
        && header(1) == Some(bytes.len())
        && last_version <= VERSION
        && word(bytes, 20)? >= VERSION
        && HEADER_BYTES <= reserved
        && reserved <= structure
        && structure_end <= strings
        && strings_end <= bytes.len()
        && reserved.is_multiple_of(8)
        && structure.is_multiple_of(4);
    if !whole {
        return None;
    }
    reservations_end(bytes.get(reserved..structure)?)?;
    nodes(bytes.get(..structure_end)?, structure, bytes.get(strings..strings_end)?)
}

/// The reservations are ended by zeroes.
fn reservations_end(bytes: &[u8]) -> Option<()> {
    bytes.as_chunks::<16>().0.contains(&[0; 16]).then_some(())
}

/// One root, whose nodes and properties are whole, with properties before children; then the end.
fn nodes(bytes: &[u8], start: usize, strings: &[u8]) -> Option<()> {
    let (mut at, mut depth, mut properties) = (start, 0, false);
    loop {
        let token = word(bytes, at)?;
        at += 4;
        match token {
            BEGIN_NODE => {
                let name = text(bytes, at)?;
                let is_root = at == start + 4;
                if is_root != name.is_empty() || is_root != (depth == 0) || depth == DEEPEST {
                    return None;
                }
                at = (at + name.len() + 1).next_multiple_of(4);
                (depth, properties) = (depth + 1, true);
            }
            END_NODE => (depth, properties) = (usize::checked_sub(depth, 1)?, false),
            PROPERTY if properties => {
                let (len, name) = (word(bytes, at)? as usize, word(bytes, at + 4)? as usize);
                text(strings, name)?;
                let value = at + 8;
                bytes.get(value..)?.get(..len)?;
                at = (value + len).next_multiple_of(4);
            }
            NOP => {}
            END if depth == 0 && at > start + 4 => return Some(()),
            _ => return None,
        }
        // Nothing but the end follows the root.
        if depth == 0 && token != NOP && word(bytes, at)? != END {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tests::{Builder, virt};
    use dtoolkit::{Node, Property};

    const LONG: &str = "ibm,dynamic-reconfiguration-memory";

    #[test]
    fn a_tree_with_long_names_is_opened_and_read() {
        let mut tree = Builder::default();
        tree.begin("").begin(LONG).property("ibm,associativity-lookup-arrays", &[1, 2, 3]).end();
        let bytes = tree.end().finish();
        let node = open(&bytes).unwrap().find_node("/ibm,dynamic-reconfiguration-memory").unwrap();
        let property = node.property("ibm,associativity-lookup-arrays").unwrap();
        assert_eq!(property.value(), [1, 2, 3]);
    }

    #[test]
    fn a_tree_without_an_end_or_with_two_roots_is_refused() {
        let mut tree = Builder::default();
        assert!(open(&tree.begin("").finish()).is_none());
        let mut tree = Builder::default();
        assert!(open(&tree.begin("").end().begin("").end().finish()).is_none());
        assert!(open(&[0; 64]).is_none());
        assert!(open(&[]).is_none());
    }

    #[test]
    fn no_flipped_byte_makes_the_parser_panic() {
        let clean = virt().finish();
        assert!(open(&clean).is_some());
        for at in 0..clean.len() {
            for value in [0, 1, 2, 3, 4, 9, 0x7f, 0xff] {
                let mut bytes = clean.clone();
                bytes[at] = value;
                let Some(tree) = open(&bytes) else { continue };
                for node in tree.root().children() {
                    let _ = (node.property("reg").map(|reg| reg.value().len()), node.name());
                }
                let _ = tree.find_node("/memory/none");
            }
        }
    }
}
