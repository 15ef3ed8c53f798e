//! The kernel's ELF.

use crate::memory::Memory;
use x86_64::structures::paging::PageTableFlags as Flags;

/// Types and flags of program headers.
const LOAD: u64 = 1;
const EXECUTE: u64 = 1;
const WRITE: u64 = 2;

/// A loaded kernel.
pub struct Kernel {
    /// Where it is, and where it is mapped.
    pub phys: u64,
    pub virt: u64,
    /// How large it is.
    pub bytes: u64,
    /// Where it begins to run.
    pub entry: u64,
}

impl Kernel {
    /// Its image, in words.
    pub fn words(&self) -> &'static mut [u64] {
        // SAFETY: `load` has taken the memory, and the kernel does not run yet; callers use one slice at a time.
        unsafe { core::slice::from_raw_parts_mut(self.phys as *mut u64, self.bytes as usize / 8) }
    }
}

/// A program header: kind, flags, place in the file, address, bytes in the file and in memory.
struct Header {
    flags: u64,
    file: usize,
    virt: u64,
    filled: usize,
    bytes: u64,
}

/// Loads an ELF64 program in the upper half, in one piece, and maps it.
pub fn load(file: &[u8], memory: &mut Memory) -> Kernel {
    assert!(file.starts_with(b"\x7fELF\x02\x01"), "the kernel is an ELF64 program");
    let number = |at: usize, bytes: usize| {
        file[at..at + bytes].iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
    };
    let (table, size, count) = (number(32, 8) as usize, number(54, 2) as usize, number(56, 2));
    let headers = || {
        let all = (0..count as usize).map(move |index| table + index * size);
        all.filter(|&at| number(at, 4) == LOAD && number(at + 40, 8) > 0).map(|at| Header {
            flags: number(at + 4, 4),
            file: number(at + 8, 8) as usize,
            virt: number(at + 16, 8),
            filled: number(at + 32, 8) as usize,
            bytes: number(at + 40, 8),
        })
    };
    let virt = headers().map(|header| header.virt).min().expect("something to load");
    assert!(virt >= 0xffff_ffff_8000_0000 && virt % 4096 == 0, "the kernel is in the last 2 GiB");
    let end = headers().map(|header| header.virt + header.bytes).max().unwrap_or(virt);
    let bytes = (end - virt).next_multiple_of(4096);
    let phys = memory.take(bytes);
    for header in headers() {
        let at = phys + (header.virt - virt);
        let content = &file[header.file..][..header.filled];
        // SAFETY: the memory was taken for it.
        unsafe { core::slice::from_raw_parts_mut(at as *mut u8, content.len()) }
            .copy_from_slice(content);
        let start = header.virt & !4095;
        let mut flags = Flags::NO_EXECUTE;
        flags.set(Flags::NO_EXECUTE, header.flags & EXECUTE == 0);
        flags.set(Flags::WRITABLE, header.flags & WRITE != 0);
        let whole = (header.virt + header.bytes - start).next_multiple_of(4096);
        memory.map(start, phys + (start - virt), whole, flags);
    }
    Kernel { phys, virt, bytes, entry: number(24, 8) }
}
