//! What the hypervisor agreed to (client architecture support): `/chosen/ibm,architecture-vec-5`.
//!
//! The property has the form of what was asked for, option vector 5 (LoPAR B.5.4.1): a byte that says
//! its length, then the bytes, which the reference counts from 1.

use crate::info::HandoffError;
use crate::tree;
use dtoolkit::{Node, Property};

/// A field of the vector.
struct Field {
    byte: usize,
    mask: u8,
    value: u8,
    missing: &'static str,
}

/// What the kernel asked for and cannot do without; that the CPU is used as it has to be comes first.
const NEEDED: &[Field] = &[
    Field {
        byte: 24,
        mask: 0xc0,
        value: 0x40,
        missing: "a radix MMU (pass QEMU -cpu power9 or -cpu power10)",
    },
    Field { byte: 26, mask: 0x40, value: 0x40, missing: "TLB invalidation by the guest (GTSE)" },
    Field { byte: 2, mask: 0x20, value: 0x20, missing: "dynamic memory" },
    Field { byte: 6, mask: 0x04, value: 0x04, missing: "hotplug events" },
    Field { byte: 22, mask: 0x80, value: 0x80, missing: "ibm,dynamic-memory-v2" },
];

/// Checks the hypervisor's reply in the tree in `bytes`.
///
/// # Errors
///
/// [`HandoffError::NotGranted`] names the first thing that the kernel needs and did not get.
pub fn check(bytes: &[u8]) -> Result<(), HandoffError> {
    let tree = tree::open(bytes).ok_or(HandoffError::DeviceTree("a broken structure"))?;
    let reply = tree.find_node("/chosen");
    let reply = reply.and_then(|node| node.property("ibm,architecture-vec-5"));
    let missing = HandoffError::DeviceTree("no reply to the negotiation (ibm,architecture-vec-5)");
    let reply = reply.ok_or(missing)?;
    let granted = |field: &&Field| {
        // What is behind the end is zero.
        let byte = reply.value().get(field.byte).copied().unwrap_or(0);
        byte & field.mask == field.value
    };
    let refused = NEEDED.iter().find(|field| !granted(field));
    refused.map_or(Ok(()), |field| Err(HandoffError::NotGranted(field.missing)))
}

#[cfg(test)]
pub(crate) mod tests {
    extern crate std;

    use super::*;
    use crate::tree::tests::Builder;
    use std::vec::Vec;

    /// What QEMU 7.2 replies to a POWER9 guest.
    const REPLY: [u8; 27] = [
        0x19, 0, 0x20, 0, 0, 0x80, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0,
        0x40, 0, 0x40,
    ];

    fn machine(reply: &[u8]) -> Builder {
        let mut tree = Builder::default();
        tree.begin("").cells("#address-cells", &[2]).cells("#size-cells", &[2]);
        tree.begin("memory@0").property("device_type", b"memory\0");
        tree.cells("reg", &[0, 0, 0, 0x2000_0000]).end();
        tree.begin("chosen").property("ibm,architecture-vec-5", reply);
        tree.end().end();
        tree
    }

    fn tree(reply: &[u8]) -> Vec<u8> {
        machine(reply).finish()
    }

    /// A machine with 512 MiB that grants everything.
    pub(crate) fn pseries() -> Builder {
        machine(&REPLY)
    }

    #[test]
    fn a_full_reply_is_taken() {
        assert_eq!(check(&tree(&REPLY)), Ok(()));
    }

    #[test]
    fn what_was_not_granted_is_named() {
        for (byte, value, name) in [
            (24, 0x00, "radix"),
            (24, 0x80, "radix"),
            (26, 0x00, "GTSE"),
            (6, 0x01, "hotplug events"),
            (2, 0x00, "dynamic memory"),
            (22, 0x00, "ibm,dynamic-memory-v2"),
        ] {
            let mut reply = REPLY;
            reply[byte] = value;
            let refused = check(&tree(&reply)).unwrap_err();
            assert!(std::format!("{refused}").contains(name), "{refused}");
        }
    }

    #[test]
    fn a_reply_that_ends_early_grants_nothing_behind_its_end() {
        for len in 0..REPLY.len() {
            assert!(matches!(check(&tree(&REPLY[..len])), Err(HandoffError::NotGranted(_))));
        }
        let mut none = Builder::default();
        let none = none.begin("").begin("chosen").end().end().finish();
        assert!(matches!(check(&none), Err(HandoffError::DeviceTree(_))));
    }
}
