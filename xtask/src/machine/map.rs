//! A map of memory: each block, and what its pages are in use for, as the kernel's monitor says.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::Machine;

/// A memory block. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mapped {
    /// Its number.
    pub(crate) block: u64,
    pub(crate) start: u64,
    pub(crate) size: u64,
    /// `online`, `offline`.
    pub(crate) state: String,
    /// The zone it is in while it is online.
    pub(crate) zone: Option<String>,
    pub(crate) node: u64,
    /// Was it there at boot?
    pub(crate) boot: bool,
    /// Page descriptors that lie in it.
    pub(crate) memmap_bytes: u64,
    pub(crate) free_bytes: u64,
    /// In use, by what prevents its removal.
    #[serde(default)]
    pub(crate) movable_bytes: u64,
    #[serde(default)]
    pub(crate) pinned_bytes: u64,
    #[serde(default)]
    pub(crate) unmovable_bytes: u64,
}

/// What is in use of a block, as `shares --json` lists it.
#[derive(Debug, Deserialize)]
struct Shares {
    block: u64,
    free_bytes: u64,
    movable_bytes: u64,
    pinned_bytes: u64,
    unmovable_bytes: u64,
}

/// All memory at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Map {
    /// The moment, in words.
    pub(crate) when: String,
    pub(crate) blocks: Vec<Mapped>,
}

impl Machine {
    /// Memory as it is now.
    ///
    /// # Errors
    /// When the kernel does not list it.
    pub(crate) fn map(&mut self, when: String) -> Result<Map> {
        let (blocks, shares) = (self.read("blocks --json")?, self.read("shares --json")?);
        Ok(Map { when, blocks: joined(blocks, shares) })
    }
}

/// `blocks` with their `shares`; one that has none is all free.
fn joined(mut blocks: Vec<Mapped>, shares: Vec<Shares>) -> Vec<Mapped> {
    let shares: BTreeMap<_, _> = shares.into_iter().map(|one| (one.block, one)).collect();
    for block in &mut blocks {
        if let Some(shares) = shares.get(&block.block) {
            block.free_bytes = shares.free_bytes;
            block.movable_bytes = shares.movable_bytes;
            block.pinned_bytes = shares.pinned_bytes;
            block.unmovable_bytes = shares.unmovable_bytes;
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_gets_the_shares_with_its_number() {
        let block = |number: u64| {
            serde_json::from_value(serde_json::json!({
                "block": number, "start": number << 27, "size": 1 << 27, "state": "online",
                "zone": "movable", "node": 0, "boot": false, "memmap_bytes": 0,
                "free_bytes": 1 << 27
            }))
        };
        let blocks = [block(32), block(33)].into_iter().collect::<Result<_, _>>().unwrap();
        let shares = serde_json::from_str(
            r#"[{"block":33,"free_bytes":4096,"movable_bytes":8192,"pinned_bytes":1,"unmovable_bytes":2}]"#,
        );
        let joined = joined(blocks, shares.unwrap());
        assert_eq!((joined[0].free_bytes, joined[0].movable_bytes), (1 << 27, 0));
        let one = &joined[1];
        assert_eq!((one.free_bytes, one.movable_bytes), (4096, 8192));
        assert_eq!((one.pinned_bytes, one.unmovable_bytes), (1, 2));
    }
}
