//! What an ejected DIMM still holds: its memory is a file of this host, which is read when the DIMM is gone.

use std::fs::File;
use std::io::Read;

use anyhow::{Result, ensure};

use super::{Add, DESCRIPTOR};
use crate::size::MIB;

/// Bytes of a DIMM that are not what it was filled with, but for the descriptors of its memmaps' heads and records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Remains {
    /// How many.
    pub(crate) bytes: u64,
    /// Pages that hold one.
    pub(crate) pages: u64,
    /// The offset of the first.
    pub(crate) first: Option<u64>,
}

impl Remains {
    /// Reads the file behind a DIMM that was added as `add` says, and was filled with `byte`.
    ///
    /// # Errors
    /// When the file cannot be read, or has another size than the DIMM.
    pub(crate) fn of(mut file: File, byte: u8, page: u64, add: &Add) -> Result<Self> {
        let kept = |at: u64| {
            add.groups.iter().any(|group| {
                let start = group.memmap_start.wrapping_sub(add.start());
                (start..start.saturating_add(DESCRIPTOR * (1 + group.sections))).contains(&at)
            })
        };
        let (mut remains, mut at, mut last) = (Self::default(), 0, None);
        let mut chunk = vec![0; usize::try_from(MIB)?];
        loop {
            let len = file.read(&mut chunk)?;
            let Some(read) = chunk.get(..len).filter(|read| !read.is_empty()) else { break };
            // Most chunks hold nothing else.
            if read.iter().any(|&found| found != byte) {
                let wrong = (at..).zip(read).filter(|&(at, &found)| found != byte && !kept(at));
                for (at, _) in wrong {
                    remains.bytes += 1;
                    remains.pages += u64::from(last.replace(at / page) != Some(at / page));
                    remains.first = remains.first.or(Some(at));
                }
            }
            at += len as u64;
        }
        ensure!(at == add.size(), "the file has {at} bytes, and the DIMM {}", add.size());
        Ok(remains)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Step;
    use crate::scratch::Scratch;
    use std::fs;

    #[test]
    fn bytes_and_pages_are_counted_but_not_what_a_memmap_keeps() {
        let line = r#"hotmem: step {"operation":"add","start":1048576,"size":2097152,"node":0,"placement":"block","groups":[{"memmap_start":1048576,"memmap_pages":4,"sections":1}],"system_bytes":0,"instructions":null,"event_instructions":null,"ost":0,"error":null}"#;
        let Some(Ok(Step::Add(add))) = Step::parse(line) else { panic!("no add") };
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().join("dimm");
        let mut content = vec![7; 2 << 20];
        let of = |content: &[u8]| {
            fs::write(&path, content).unwrap();
            Remains::of(File::open(&path).unwrap(), 7, 4096, &add)
        };
        content[..2 * 64].fill(1);
        assert_eq!(of(&content).unwrap(), Remains::default());
        for at in [128, 4095, 4096, 2 << 20 >> 1] {
            content[at] = 0;
        }
        assert_eq!(of(&content).unwrap(), Remains { bytes: 4, pages: 3, first: Some(128) });
        content.pop();
        assert!(of(&content).is_err());
    }
}
