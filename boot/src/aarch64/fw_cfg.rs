//! QEMU's firmware configuration device: named files for firmware (QEMU, `docs/specs/fw_cfg.rst`).
//!
//! A key selects an item, which is then read from its start. Item 0x19 is the directory:
//!
//! ```text
//!   +0 count u32   +4 entries { size u32, key u16, reserved u16, name [u8; 56] }       (big-endian)
//! ```

use core::fmt;

const DIRECTORY: u16 = 0x19;
/// More files than any QEMU has.
const MAX_FILES: u32 = 1024;

/// Bytes of a file's name.
pub const NAME_BYTES: usize = 56;

/// The device's two registers.
pub trait Device {
    /// Selects the item `key`; reading begins at its start.
    fn select(&mut self, key: u16);

    /// Reads the next bytes of the selected item. Past its end the device reads as 0.
    fn read(&mut self, into: &mut [u8]);
}

/// The name of a file: at most 55 bytes, ended by 0.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name(pub [u8; NAME_BYTES]);

impl Name {
    /// The bytes before the first 0.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|&byte| byte == 0).next().unwrap_or(&[])
    }

    /// Whether a file can be called so.
    pub fn is_valid(&self) -> bool {
        !self.as_bytes().is_empty() && self.as_bytes().len() < NAME_BYTES
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

/// A file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    key: u16,
    /// Its bytes.
    pub size: u32,
}

/// The file called `name`; `None` if it does not exist.
pub fn find(device: &mut impl Device, name: &[u8]) -> Option<File> {
    device.select(DIRECTORY);
    let mut count = [0; 4];
    device.read(&mut count);
    for _ in 0..u32::from_be_bytes(count).min(MAX_FILES) {
        let (mut size, mut key, mut reserved, mut found) =
            ([0; 4], [0; 2], [0; 2], [0; NAME_BYTES]);
        device.read(&mut size);
        device.read(&mut key);
        device.read(&mut reserved);
        device.read(&mut found);
        if Name(found).as_bytes() == name {
            return Some(File { key: u16::from_be_bytes(key), size: u32::from_be_bytes(size) });
        }
    }
    None
}

/// Reads a file from its start, as far as `into` has room; returns what was read.
pub fn read<'b>(device: &mut impl Device, file: File, into: &'b mut [u8]) -> &'b mut [u8] {
    let bytes = into.len().min(file.size as usize);
    let into = into.get_mut(..bytes).unwrap_or_default();
    device.select(file.key);
    device.read(into);
    into
}

#[cfg(test)]
pub(super) mod fake {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    /// A device with these files.
    #[derive(Default)]
    pub(crate) struct Fake {
        files: Vec<Vec<u8>>,
        directory: Vec<u8>,
        selected: Vec<u8>,
        at: usize,
    }

    impl Fake {
        pub(crate) fn new(files: &[(&str, &[u8])]) -> Self {
            let mut fake = Self::default();
            fake.directory.extend((files.len() as u32).to_be_bytes());
            for (index, (name, bytes)) in files.iter().enumerate() {
                fake.directory.extend((bytes.len() as u32).to_be_bytes());
                fake.directory.extend((0x20 + index as u16).to_be_bytes());
                fake.directory.extend([0; 2]);
                let mut padded = [0; NAME_BYTES];
                padded[..name.len()].copy_from_slice(name.as_bytes());
                fake.directory.extend(padded);
                fake.files.push(bytes.to_vec());
            }
            fake
        }
    }

    impl Device for Fake {
        fn select(&mut self, key: u16) {
            self.at = 0;
            self.selected = match key {
                DIRECTORY => self.directory.clone(),
                key => self.files.get(usize::from(key) - 0x20).cloned().unwrap_or_default(),
            };
        }

        fn read(&mut self, into: &mut [u8]) {
            for byte in into {
                *byte = self.selected.get(self.at).copied().unwrap_or(0);
                self.at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::fake::Fake;
    use super::*;

    #[test]
    fn a_file_is_found_by_its_whole_name_and_read_from_its_start() {
        let mut fake = Fake::new(&[("etc/acpi/tables", b"long"), ("etc/acpi", b"abc")]);
        let file = find(&mut fake, b"etc/acpi").unwrap();
        assert_eq!(file.size, 3);
        assert_eq!(read(&mut fake, file, &mut [0; 8]), b"abc");
        assert_eq!(read(&mut fake, file, &mut [0; 2]), b"ab");
        assert_eq!(find(&mut fake, b"etc"), None);
    }
}
