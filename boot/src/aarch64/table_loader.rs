//! The ACPI tables as QEMU hands them to firmware: files, and a script that places and links them.
//!
//! The script `etc/table-loader` is a list of commands of 128 bytes, little-endian (QEMU,
//! `hw/acpi/bios-linker-loader.c`):
//!
//! ```text
//!   1 ALLOCATE      file [56], alignment u32, zone u8        put the file into memory
//!   2 ADD_POINTER   in [56], of [56], offset u32, size u8    make an offset in a file an address
//!   3 ADD_CHECKSUM  file [56], result u32, start u32, len u32
//! ```
//!
//! Everything in it is checked against the files' bounds; any other command is an error.

use super::fw_cfg::{self, Device, NAME_BYTES, Name};
use core::fmt;
use hotmem_paging::addr::PhysAddr;

const SCRIPT: &[u8] = b"etc/table-loader";
const RSDP: &[u8] = b"etc/acpi/rsdp";
/// The least bytes of a root pointer (ACPI 6.5, 5.2.5.3: those of revision 0).
const RSDP_BYTES: usize = 20;

const COMMAND_BYTES: usize = 128;
/// Commands of the longest script: QEMU's have 26.
const MAX_COMMANDS: u32 = 256;
/// Files that a script may place.
const MAX_FILES: usize = 8;

/// Why the tables cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScriptError {
    /// There is no such file.
    NoFile(Name),
    /// There is no script.
    NoScript,
    /// The script is not a whole number of commands, or has too many.
    Length(u32),
    /// A command that is not known.
    Command {
        /// Its place in the script.
        index: u32,
        /// Its number.
        command: u32,
    },
    /// A file that was not placed before it is used, or is placed twice, or is one too many.
    Placing(Name),
    /// Something that is not inside of its file.
    Bounds {
        /// The command's place in the script.
        index: u32,
        /// The file.
        file: Name,
    },
    /// The files need more memory than is set aside.
    NoRoom {
        /// Bytes there are.
        room: u64,
    },
    /// No root pointer among the files.
    NoRoot,
    /// The root pointer has only so many bytes.
    Root(usize),
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFile(name) => write!(f, "there is no file {name:?}"),
            Self::NoScript => f.write_str("there is no file \"etc/table-loader\""),
            Self::Length(bytes) => write!(f, "a script of {bytes} bytes"),
            Self::Command { index, command } => {
                write!(f, "command {index} of the script is of unknown kind {command}")
            }
            Self::Placing(name) => write!(f, "{name:?} is placed twice, too late or not at all"),
            Self::Bounds { index, file } => {
                write!(f, "command {index} of the script points outside of {file:?}")
            }
            Self::NoRoom { room } => write!(f, "the ACPI tables need more than {room} bytes"),
            Self::NoRoot => f.write_str("the script places no \"etc/acpi/rsdp\""),
            Self::Root(bytes) => {
                write!(f, "\"etc/acpi/rsdp\" has {bytes} bytes, and a root pointer {RSDP_BYTES}")
            }
        }
    }
}

/// The memory that files are placed in.
#[derive(Debug)]
pub struct Arena<'a> {
    /// Its bytes.
    pub bytes: &'a mut [u8],
    /// The physical address of the first.
    pub at: PhysAddr,
}

/// Where the script left things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The root pointer.
    pub rsdp: PhysAddr,
    /// Bytes of the arena that are in use.
    pub used: u64,
}

#[derive(Clone, Copy)]
struct Placed {
    name: Name,
    /// Its place in the arena.
    start: usize,
    bytes: usize,
}

struct Loader<'a> {
    arena: Arena<'a>,
    used: usize,
    files: [Option<Placed>; MAX_FILES],
}

/// Places the files of `device` in `arena` and links them.
///
/// # Errors
///
/// [`ScriptError`]
pub fn load(device: &mut impl Device, arena: Arena<'_>) -> Result<Loaded, ScriptError> {
    let script = fw_cfg::find(device, SCRIPT).ok_or(ScriptError::NoScript)?;
    let count = script.size / COMMAND_BYTES as u32;
    if !script.size.is_multiple_of(COMMAND_BYTES as u32) || count > MAX_COMMANDS {
        return Err(ScriptError::Length(script.size));
    }
    // The script is kept at the end of the arena: reading files in between loses the place in it.
    let room = arena.bytes.len() as u64;
    let kept = arena.bytes.len().checked_sub(script.size as usize);
    let kept = kept.ok_or(ScriptError::NoRoom { room })?;
    let (bytes, commands) = arena.bytes.split_at_mut(kept);
    let commands = fw_cfg::read(device, script, commands);

    let mut loader =
        Loader { arena: Arena { bytes, at: arena.at }, used: 0, files: [None; MAX_FILES] };
    for (index, command) in commands.chunks_exact(COMMAND_BYTES).enumerate() {
        loader.run(device, index as u32, command)?;
    }
    let rsdp = loader.files.iter().flatten().find(|file| file.name.as_bytes() == RSDP);
    let rsdp = rsdp.ok_or(ScriptError::NoRoot)?;
    if rsdp.bytes < RSDP_BYTES {
        return Err(ScriptError::Root(rsdp.bytes));
    }
    Ok(Loaded { rsdp: loader.address(rsdp), used: loader.used as u64 })
}

impl Loader<'_> {
    fn run(
        &mut self,
        device: &mut impl Device,
        index: u32,
        command: &[u8],
    ) -> Result<(), ScriptError> {
        match le(command, 0, 4) as u32 {
            1 => self.allocate(device, name(command, 4), le(command, 60, 4)),
            2 => self.add_pointer(index, command),
            3 => self.add_checksum(index, command),
            command => Err(ScriptError::Command { index, command }),
        }
    }

    /// The file called `name`, which was placed.
    fn file(&self, name: Name) -> Result<Placed, ScriptError> {
        let found = self.files.iter().flatten().find(|file| file.name == name);
        found.copied().ok_or(ScriptError::Placing(name))
    }

    fn address(&self, file: &Placed) -> PhysAddr {
        PhysAddr::new(self.arena.at.get() + file.start as u64)
    }

    fn bytes(&mut self, file: &Placed) -> &mut [u8] {
        self.arena.bytes.get_mut(file.start..file.start + file.bytes).unwrap_or_default()
    }

    fn allocate(
        &mut self,
        device: &mut impl Device,
        name: Name,
        align: u64,
    ) -> Result<(), ScriptError> {
        let room = self.arena.bytes.len() as u64;
        let slot = self.files.iter().position(Option::is_none);
        let slot = slot.filter(|_| name.is_valid() && self.file(name).is_err());
        let slot = slot.ok_or(ScriptError::Placing(name))?;
        let file = fw_cfg::find(device, name.as_bytes()).ok_or(ScriptError::NoFile(name))?;

        // The arena's start is aligned to more than any table wants; a file gets at least 64 bytes'.
        let align = align.max(64);
        let start = (self.used as u64).checked_next_multiple_of(align);
        let end = start.and_then(|start| start.checked_add(file.size.into()));
        let (Some(start), Some(end)) = (start, end.filter(|&end| end <= room)) else {
            return Err(ScriptError::NoRoom { room });
        };
        let placed = Placed { name, start: start as usize, bytes: file.size as usize };
        fw_cfg::read(device, file, self.bytes(&placed));
        self.used = end as usize;
        if let Some(slot) = self.files.get_mut(slot) {
            *slot = Some(placed);
        }
        Ok(())
    }

    fn add_pointer(&mut self, index: u32, command: &[u8]) -> Result<(), ScriptError> {
        let (inside, of) = (self.file(name(command, 4))?, self.file(name(command, 60))?);
        let (offset, size) = (le(command, 116, 4) as usize, le(command, 120, 1) as usize);
        let base = self.address(&of).get();
        let field = self.bytes(&inside).get_mut(offset..offset + size);
        let field = field.filter(|_| matches!(size, 1 | 2 | 4 | 8));
        let field = field.ok_or(ScriptError::Bounds { index, file: inside.name })?;

        let target = le(field, 0, size);
        let address = base.checked_add(target).filter(|_| target < of.bytes as u64);
        let address = address.filter(|&address| size == 8 || address >> (8 * size) == 0);
        let address = address.ok_or(ScriptError::Bounds { index, file: of.name })?;
        for (to, from) in field.iter_mut().zip(address.to_le_bytes()) {
            *to = from;
        }
        Ok(())
    }

    fn add_checksum(&mut self, index: u32, command: &[u8]) -> Result<(), ScriptError> {
        let file = self.file(name(command, 4))?;
        let (result, start) = (le(command, 60, 4) as usize, le(command, 64, 4) as usize);
        let outside = ScriptError::Bounds { index, file: file.name };
        let bytes = self.bytes(&file);
        let summed = bytes.get(start..start + le(command, 68, 4) as usize).ok_or(outside)?;
        let sum = summed.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
        let result = bytes.get_mut(result).ok_or(outside)?;
        *result = result.wrapping_sub(sum);
        Ok(())
    }
}

/// The name at `at` of a command, which has it whole.
fn name(command: &[u8], at: usize) -> Name {
    let bytes = command.get(at..).and_then(<[u8]>::first_chunk::<NAME_BYTES>);
    Name(bytes.copied().unwrap_or([0; NAME_BYTES]))
}

/// The little-endian number of `size` (at most 8) bytes at `at`; bytes that are not there are 0.
fn le(bytes: &[u8], at: usize, size: usize) -> u64 {
    let field = bytes.iter().skip(at).take(size).enumerate();
    field.fold(0, |sum, (index, &byte)| sum | u64::from(byte) << (8 * index))
}

#[cfg(test)]
mod tests;
