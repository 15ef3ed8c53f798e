//! NVDIMMs of a machine, and the labels in the file behind one.
//!
//! ```text
//!   file   | persistent memory ......................... | index | index | label 0 | label 1 | ... |
//!          0                                             bytes   +256    +512
//! ```
//!
//! QEMU has the label storage area at the end of what is behind an NVDIMM (docs/nvdimm.txt there).

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::size::{KIB, MIB};

/// Bytes of a label storage area: QEMU takes no less.
pub(crate) const LABELS: u64 = 128 * KIB;

/// Bytes of an index block and of a label of version 1.2 (UEFI 2.10, 13.19.4 and 13.19.5).
const BLOCK: usize = 256;

/// An NVDIMM that is there at power-on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nvdimm {
    /// Bytes of persistent memory.
    pub(crate) bytes: u64,
    /// Bytes of its label storage area; 0 for none.
    pub(crate) labels: u64,
    /// The file behind it, as large as both together; without one, memory of QEMU's.
    pub(crate) file: Option<PathBuf>,
    /// Its NUMA node.
    pub(crate) node: Option<u32>,
}

impl Nvdimm {
    /// One in a new file of zeros in `folder`, with room for labels.
    pub(crate) fn in_file(folder: &Path, name: &str, bytes: u64) -> Result<Self> {
        let path = folder.join(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let file = file.with_context(|| format!("cannot make {}", path.display()))?;
        file.set_len(bytes + LABELS)?;
        Ok(Self { bytes, labels: LABELS, file: Some(path), node: None })
    }

    /// Bytes of memory behind it, as QEMU wants them: it cuts memory of its own to whole huge pages, and a file to whole pages.
    pub(crate) fn memory(&self) -> u64 {
        let labels = self.labels;
        self.bytes + if self.file.is_some() { labels } else { labels.next_multiple_of(2 * MIB) }
    }

    /// Writes a list of labels into the file, with the label of one namespace that has all of the memory.
    pub(crate) fn write_namespace(&self, name: &str) -> Result<()> {
        let path = self.file.as_ref().context("an NVDIMM without a file")?;
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.seek(SeekFrom::Start(self.bytes))?;
        let slots = (self.labels as usize - 2 * BLOCK) / BLOCK;
        for block in 0..2 {
            file.write_all(&index(block, slots))?;
        }
        file.write_all(&label(name, self.bytes))?;
        Ok(())
    }
}

/// An index block: both have the first slot in use, and the second one counts.
fn index(block: usize, slots: usize) -> Vec<u8> {
    let mut bytes = b"NAMESPACE_INDEX\0".to_vec();
    bytes.extend([0, 0, 0, 1]);
    bytes.extend((1 + block as u32).to_le_bytes());
    for place in [block * BLOCK, BLOCK, (1 - block) * BLOCK, 2 * BLOCK] {
        bytes.extend((place as u64).to_le_bytes());
    }
    bytes.extend((slots as u32).to_le_bytes());
    bytes.extend([1, 0, 2, 0]);
    bytes.extend([0; 8]);
    // A set bit is a free slot.
    bytes.extend((0..slots.div_ceil(8)).map(|byte| match byte {
        0 => 0xfe,
        byte => (0..8).filter(|bit| byte * 8 + bit < slots).fold(0, |bits, bit| bits | 1u8 << bit),
    }));
    sealed(bytes, 64)
}

/// The label of a namespace that has the first `bytes` bytes, in the first slot.
fn label(name: &str, bytes: u64) -> Vec<u8> {
    let mut label = vec![0x5a; 16];
    label.extend(name.bytes().chain(std::iter::repeat(0)).take(64));
    // Flags, one label of one, no interleave set, blocks of 512 bytes.
    label.extend([0, 0, 0, 0, 1, 0, 0, 0]);
    label.extend([0; 8]);
    for number in [512, 0, bytes] {
        label.extend(u64::to_le_bytes(number));
    }
    label.resize(BLOCK, 0);
    sealed(label, 248)
}

/// The bytes, filled up with zeros to a block, with their checksum in place.
fn sealed(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes.resize(BLOCK, 0);
    let (mut low, mut high) = (0u32, 0u32);
    for word in bytes.chunks_exact(4) {
        let word = word.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte));
        low = low.wrapping_add(word);
        high = high.wrapping_add(low);
    }
    let sum = u64::from(high) << 32 | u64::from(low);
    bytes.splice(at..at + 8, sum.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;
    use crate::machine::Config;

    #[test]
    fn index_blocks_and_labels_have_their_fields_where_uefi_has_them() {
        let index = index(1, 510);
        assert_eq!(index.len(), BLOCK);
        assert_eq!(index[16..24], [0, 0, 0, 1, 2, 0, 0, 0]);
        assert_eq!(index[24..34], [0, 1, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(index[56..64], [0xfe, 1, 0, 0, 1, 0, 2, 0]);
        assert_eq!((index[72], index[73], index[135], index[136]), (0xfe, 0xff, 0x3f, 0));
        let label = label("data", 0x1000);
        assert_eq!((&label[16..21], label[84]), (b"data\0".as_slice(), 1));
        assert_eq!(label[112..122], [0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(label.len(), BLOCK);
    }

    #[test]
    fn nvdimms_have_room_beside_dimms_and_their_labels_behind_them() {
        let ram = Nvdimm { bytes: 1 << 30, labels: LABELS, file: None, node: None };
        let file = Nvdimm { labels: 0, file: Some("/f,1".into()), node: Some(1), ..ram.clone() };
        let config = Config::of(Arch::X86_64).room_for(&["1G".parse().unwrap()]);
        let config = config.nvdimms(vec![ram, file]);
        assert_eq!((config.slots, config.nodes, config.window), (3, 2, 6 << 30));
        let arguments = config.arguments(Path::new("/k.elf"), Path::new("/tmp/q"));
        let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
        let line = words.join(" ");
        assert!(line.contains("-machine nvdimm=on -object memory-backend-ram,id=nvmem0,size=1075838976B,reserve=off -device nvdimm,id=nvdimm0,memdev=nvmem0,label-size=131072"), "{line}");
        assert!(line.contains("-object memory-backend-file,id=nvmem1,size=1073741824B,reserve=off,share=on,mem-path=/f,,1 -device nvdimm,id=nvdimm1,memdev=nvmem1,node=1"), "{line}");
    }
}
