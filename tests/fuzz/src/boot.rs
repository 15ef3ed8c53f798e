//! What a loader hands over.

use hotmem_boot::aarch64::fw_cfg::{Device, NAME_BYTES};
use hotmem_boot::aarch64::table_loader::{Arena, load};
use hotmem_boot::start_info;
use hotmem_paging::ReadPhys;
use hotmem_paging::addr::{PhysAddr, PhysRange};

use crate::input::Input;

const PAGE: u64 = 4096;

/// Memory from address 0 on.
struct Low<'d>(&'d [u8]);

impl ReadPhys for Low<'_> {
    fn bytes(&self, range: PhysRange) -> Option<&[u8]> {
        let start = usize::try_from(range.start().get()).ok()?;
        self.0.get(start..start.checked_add(usize::try_from(range.len()).ok()?)?)
    }
}

/// A start info at address 0 of memory.
pub(crate) fn start_info(data: &[u8]) {
    match start_info::parse(&Low(data), PhysAddr::new(0)) {
        Ok(info) => {
            let sound = |range: PhysRange| {
                range.start().get() >= PAGE
                    && (range.start().get() | range.len()).is_multiple_of(PAGE)
            };
            assert!(!info.ram.as_slice().is_empty() && info.ram.iter().all(sound), "{info:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A script, then the root pointer and three files, of which two have names of the input.
pub(crate) fn script(data: &[u8]) {
    let mut input = Input(data);
    let names: [&[u8]; 5] =
        [b"etc/table-loader", b"etc/acpi/rsdp", b"etc/acpi/tables", input.piece(), input.piece()];
    let mut device = Selected { files: Vec::new(), directory: Vec::new(), at: (0, 0) };
    for name in names {
        device.add(name, input.piece());
    }
    let arena = &mut [0; 1 << 14];
    let at = PhysAddr::new(0x4000_0000);
    match load(&mut device, Arena { bytes: arena, at }) {
        Ok(loaded) => {
            let inside = at.get()..at.get() + loaded.used;
            assert!(loaded.used <= 1 << 14, "{loaded:?}");
            assert!(inside.is_empty() || inside.contains(&loaded.rsdp.get()), "{loaded:?}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A configuration device.
struct Selected {
    files: Vec<Vec<u8>>,
    directory: Vec<u8>,
    /// The selected item and the next byte of it.
    at: (u16, usize),
}

impl Selected {
    /// Adds a file; a name that is too long is cut.
    fn add(&mut self, name: &[u8], content: &[u8]) {
        let key = 0x20 + self.files.len() as u16;
        self.files.push(content.to_vec());
        self.directory.extend((content.len() as u32).to_be_bytes());
        self.directory.extend([key.to_be_bytes(), [0; 2]].concat());
        let padded = name.iter().copied().chain([0; NAME_BYTES]);
        self.directory.extend(padded.take(NAME_BYTES));
    }
}

impl Device for Selected {
    fn select(&mut self, key: u16) {
        self.at = (key, 0);
    }

    fn read(&mut self, into: &mut [u8]) {
        let count = (self.files.len() as u32).to_be_bytes();
        let (key, at) = self.at;
        for (byte, index) in into.iter_mut().zip(at..) {
            *byte = match key.checked_sub(0x20) {
                None if index < 4 => count[index],
                None => self.directory.get(index - 4).copied().unwrap_or(0),
                Some(file) => self
                    .files
                    .get(usize::from(file))
                    .and_then(|file| file.get(index))
                    .copied()
                    .unwrap_or(0),
            };
        }
        self.at.1 += into.len();
    }
}
