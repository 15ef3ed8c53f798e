//! The interface to a machine.

use anyhow::Result;

use crate::event::{BOOT_BLOCKS, Place, REGION_BLOCKS, REGIONS, SLOT_BLOCKS, SLOTS, WINDOW_BLOCKS};

/// What the monitor writes to a command.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// All lines but the last.
    pub lines: Vec<String>,
    /// Why the command was refused, if it was.
    pub error: Option<String>,
}

/// What became of a request for a DIMM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is gone.
    Gone,
    /// The kernel keeps it.
    Kept,
}

/// Where memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of a memory block.
    pub block: u64,
    /// Bytes of a page.
    pub page: u64,
    /// The number of the operator's first block.
    pub window: u64,
    /// The numbers of the first blocks of slots.
    pub slots: [u64; SLOTS],
    /// The numbers of the first blocks of persistent memory's regions, if the machine has it.
    pub regions: Option<[u64; REGIONS]>,
    /// The numbers of boot memory's blocks that can go offline.
    pub boot: [u64; BOOT_BLOCKS as usize],
}

impl Layout {
    /// The number of a block.
    pub fn number(&self, place: Place) -> u64 {
        let at = |list: &[u64], index: usize| list.get(index).copied().unwrap_or(u64::MAX);
        match place {
            Place::Window(block) => self.window + block,
            Place::Slot(slot, block) => at(&self.slots, slot).saturating_add(block),
            Place::Region(region, block) => {
                at(self.regions.as_slice().as_flattened(), region).saturating_add(block)
            }
            Place::Boot(block) => at(&self.boot, usize::try_from(block).unwrap_or(usize::MAX)),
        }
    }

    /// The first blocks of all devices, and how many each has at most: of slots, and of regions behind them.
    pub(crate) fn devices(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let regions = self.regions.as_slice().as_flattened().iter();
        let slots = self.slots.iter().map(|&first| (first, SLOT_BLOCKS));
        slots.chain(regions.map(|&first| (first, REGION_BLOCKS)))
    }

    /// The device that has this block.
    pub(crate) fn device_of(&self, number: u64) -> Option<usize> {
        self.devices().position(|(first, blocks)| (first..first + blocks).contains(&number))
    }

    /// Whether this is one of the operator's blocks.
    pub fn in_window(&self, number: u64) -> bool {
        (self.window..self.window + WINDOW_BLOCKS).contains(&number)
    }
}

/// Whether a command leaves everything as it was if a step of it fails. A conversion may be done in part, and persistent memory
/// may be added and stay offline.
pub fn undoes(line: &str) -> bool {
    ["add ", "remove ", "online ", "offline "].iter().any(|word| line.starts_with(word))
}

/// A machine with a monitor and slots for DIMMs.
pub trait Driver {
    /// Where its memory is.
    fn layout(&self) -> Layout;

    /// Types a line at the monitor.
    ///
    /// # Errors
    ///
    /// When no reply comes.
    fn command(&mut self, line: &str) -> Result<Reply>;

    /// Puts a DIMM of so many blocks into a slot that is empty. Does not wait for the kernel.
    ///
    /// # Errors
    ///
    /// When the machine does not take it.
    fn plug(&mut self, slot: usize, blocks: u64) -> Result<()>;

    /// Asks the kernel for the DIMM of a slot, `times` times before the kernel can look. Does not wait for it.
    ///
    /// # Errors
    ///
    /// When the machine does not ask.
    fn ask_back(&mut self, slot: usize, times: u32) -> Result<()>;

    /// Waits for the end of that request, and takes the DIMM out if it goes.
    ///
    /// # Errors
    ///
    /// When no end comes; or a reply to firmware is not true.
    fn end(&mut self, slot: usize) -> Result<End>;

    /// Resets the machine, and waits until the kernel has taken each DIMM of a slot, online for movable pages, but those
    /// that were `asked` for: these go. The operator's memory is as it was before the first event.
    ///
    /// # Errors
    ///
    /// When the machine does not get there.
    fn reset(&mut self, asked: [bool; SLOTS]) -> Result<()>;

    /// Whether the kernel runs guests.
    fn runs_guests(&self) -> bool;

    /// Whether the kernel may keep a DIMM that nothing holds, and has to be asked again: its hypervisor takes the
    /// adding of memory for a refusal to give it up.
    fn may_ask_again(&self) -> bool;

    /// Lets the kernel do so much of its work, if it does not run by itself.
    fn turn(&mut self, turns: u64);

    /// Has a step of the command `line`, which comes next, fail: which one, `nth` says, from 1. Returns whether the
    /// machine can do that.
    ///
    /// # Errors
    ///
    /// When the machine refuses.
    fn fault(&mut self, line: &str, nth: u64) -> Result<bool>;

    /// Nothing fails any more.
    fn no_fault(&mut self);

    /// Checks what the monitor does not show. Called after each event.
    ///
    /// # Errors
    ///
    /// What does not hold.
    fn check(&mut self) -> Result<()>;
}
