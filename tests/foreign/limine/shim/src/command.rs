//! The command line.

use core::ffi::CStr;

/// The offsets that are chosen from: multiples of a GiB in the upper half, below the kernel and a memmap.
const FIRST: u64 = 0xffff_8000_0000_0000;
const CHOICE: u64 = 120 << 10;

/// What it says.
pub struct Command {
    file: &'static [u8],
    seed: u64,
}

impl Command {
    /// Reads the command line of the start info at `at`.
    ///
    /// # Safety
    ///
    /// QEMU passed it, and the first GiB is mapped to itself.
    pub unsafe fn read(at: u32) -> Self {
        /// Where the start info has the address of the command line.
        const LINE: usize = 24;
        // SAFETY: by the contract.
        let line = unsafe { *((at as usize + LINE) as *const u64) };
        // SAFETY: as above.
        let line = unsafe { CStr::from_ptr(line as *const _) }.to_str().expect("a command line");
        let value = |name: &str| {
            let mut words = line.split(' ');
            words.find_map(|word| word.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"))
        };
        let (start, bytes) = value("initrdmem=").split_once(',').expect("a place and a size");
        // SAFETY: QEMU has put the file there.
        let file =
            unsafe { core::slice::from_raw_parts(hex(start) as *const u8, hex(bytes) as usize) };
        Self { file, seed: value("hhdm=").parse().expect("a number") }
    }

    /// The kernel's ELF.
    pub fn file(&self) -> &'static [u8] {
        self.file
    }

    /// Where physical memory is to be mapped.
    pub fn offset(&self) -> u64 {
        let mixed = (self.seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        FIRST + ((mixed % CHOICE) << 30)
    }
}

fn hex(word: &str) -> u64 {
    let digits = word.strip_prefix("0x").expect("a hexadecimal number");
    u64::from_str_radix(digits, 16).expect("a hexadecimal number")
}
