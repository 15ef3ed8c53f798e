//! The kernel's ELF file: where its segments belong.

#![cfg_attr(not(target_os = "uefi"), allow(dead_code, reason = "only tests use it on a host"))]

use core::fmt;
use object::LittleEndian as Little;
use object::elf::{FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};

/// A segment that is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment<'a> {
    /// Its physical address.
    pub(crate) at: u64,
    /// Its first bytes; those behind, up to `size`, are 0.
    pub(crate) bytes: &'a [u8],
    /// Bytes in memory.
    pub(crate) size: u64,
}

/// The image.
#[derive(Clone, Copy)]
pub(crate) struct Kernel<'a> {
    file: &'a [u8],
    header: &'a FileHeader64<Little>,
}

/// The file is not an ELF file that can be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadImage;

impl fmt::Display for BadImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the kernel inside is not an ELF file that can be loaded")
    }
}

impl<'a> Kernel<'a> {
    /// Checks the file: every segment lies in it and fits its memory.
    ///
    /// # Errors
    ///
    /// [`BadImage`]
    pub(crate) fn new(file: &'a [u8]) -> Result<Self, BadImage> {
        let header = FileHeader64::<Little>::parse(file).map_err(|_| BadImage)?;
        let headers = header.program_headers(Little, file).map_err(|_| BadImage)?;
        for segment in headers.iter().filter(|header| header.p_type(Little) == PT_LOAD) {
            let bytes = segment.data(Little, file).map_err(|()| BadImage)?;
            let end = segment.p_paddr(Little).checked_add(segment.p_memsz(Little));
            if end.is_none() || bytes.len() as u64 > segment.p_memsz(Little) {
                return Err(BadImage);
            }
        }
        let kernel = Self { file, header };
        if kernel.segments().next().is_some() { Ok(kernel) } else { Err(BadImage) }
    }

    /// The segments.
    pub(crate) fn segments(&self) -> impl Iterator<Item = Segment<'a>> + use<'a> {
        let file = self.file;
        let headers = self.header.program_headers(Little, file).unwrap_or_default();
        let loaded = headers.iter().filter(|header| header.p_type(Little) == PT_LOAD);
        loaded.map(move |header| Segment {
            at: header.p_paddr(Little),
            bytes: header.data(Little, file).unwrap_or_default(),
            size: header.p_memsz(Little),
        })
    }

    /// Where the first segment begins and the last one ends.
    pub(crate) fn span(&self) -> (u64, u64) {
        let bounds = self.segments().map(|segment| (segment.at, segment.at + segment.size));
        bounds.fold((u64::MAX, 0), |(low, high), (start, end)| (low.min(start), high.max(end)))
    }

    /// The physical address of the first instruction.
    pub(crate) fn entry(&self) -> u64 {
        self.header.e_entry(Little)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An ELF file with one segment of 4 bytes in the file and 0x20 in memory, at 0x4020_0000.
    fn file() -> Vec<u8> {
        let mut file = vec![0; 0x7c];
        file[..7].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1]);
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0x10, &[2, 0, 183, 0, 1]);
        put(0x18, &0x4020_0010u64.to_le_bytes());
        put(0x20, &0x40u64.to_le_bytes());
        put(0x34, &[64, 0, 56, 0, 1]);
        put(0x40, &[1, 0, 0, 0, 7]);
        put(0x48, &0x78u64.to_le_bytes());
        put(0x58, &0x4020_0000u64.to_le_bytes());
        put(0x60, &4u64.to_le_bytes());
        put(0x68, &0x20u64.to_le_bytes());
        put(0x78, b"code");
        file
    }

    /// Aligned as the real one is.
    fn aligned(file: &[u8]) -> Vec<u64> {
        let words = file.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        });
        words.collect()
    }

    /// Entry, span and first segment.
    type Found = (u64, (u64, u64), Vec<u8>);

    fn check(file: &[u8]) -> Result<Found, BadImage> {
        let words = aligned(file);
        let bytes: &[u8] = object::pod::bytes_of_slice(&words);
        let kernel = Kernel::new(&bytes[..file.len()])?;
        let code = kernel.segments().next().unwrap().bytes.to_vec();
        Ok((kernel.entry(), kernel.span(), code))
    }

    #[test]
    fn a_segment_goes_where_its_physical_address_says() {
        let found = check(&file()).unwrap();
        assert_eq!(found, (0x4020_0010, (0x4020_0000, 0x4020_0020), b"code".to_vec()));
    }

    #[test]
    fn a_segment_outside_of_the_file_or_larger_than_its_memory_is_refused() {
        let mut long = file();
        long[0x60] = 5;
        assert_eq!(check(&long), Err(BadImage));
        let mut small = file();
        small[0x68] = 3;
        assert_eq!(check(&small), Err(BadImage));
        assert_eq!(check(&file()[..0x60]), Err(BadImage));
    }
}
