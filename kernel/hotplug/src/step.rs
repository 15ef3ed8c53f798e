//! The machine-readable line that every operation leaves: `hotmem: step {...}`.
//!
//! Sizes and addresses are numbers in bytes. `groups`, `blocks` and their figures are read back from
//! the memory manager when the line is written; nothing is computed from the
//! request.

use core::fmt;

use hotmem::{Block, Machine, Mm, NodeId, PfnRange, PhysRange, Placement};

use super::json::{JsonString, OrNull, json_list};

/// Why an operation failed.
#[derive(Clone, Copy)]
pub struct Failure<'a>(pub &'a dyn fmt::Display);

impl fmt::Display for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Failure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What an operation did.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The memory; `None` if the firmware could not say.
    pub range: Option<PhysRange>,
    /// The operation.
    pub operation: Operation,
    /// Instructions of the operation alone, over all blocks.
    pub instructions: Option<u64>,
    /// Why it failed; `None` if it did not.
    pub error: Option<Failure<'a>>,
}

/// An operation, with what only it reports.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// Memory was added.
    Add {
        /// Its node: that of blocks it came to, if these had other memory before; `None` if the firmware could not say.
        node: Option<NodeId>,
        /// Where its memmap was asked to be.
        placement: Placement,
        /// Bytes taken from memory outside the range.
        system_bytes: i64,
        /// The reply to the firmware.
        replied: Replied,
    },
    /// Blocks were brought online.
    Online,
    /// All memory that was added and is online was used.
    Use {
        /// Bytes that were written and read back.
        touched_bytes: u64,
        /// Instructions of a pass (every page allocated, then freed), and of the same again.
        passes: [Option<u64>; 2],
    },
    /// Blocks were taken offline.
    Offline,
    /// Memory of a device was cleared before it goes.
    Scrub {
        /// Bytes that were cleared: those that may have held data.
        bytes: u64,
        /// Blocks with bad memory, which are not cleared.
        skipped: u64,
    },
    /// Memory was removed.
    Remove {
        /// Bytes taken from memory outside the range: negative, if any were given back.
        system_bytes: i64,
        /// The reply to the firmware.
        replied: Replied,
    },
}

/// The reply to the firmware at the end of a request; by default, of a request that was the operator's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replied {
    /// The status code that was reported.
    pub ost: Option<u32>,
    /// Instructions from the interrupt to the reply, without those that wrote to the console.
    pub instructions: Option<u64>,
}

/// The line of a step: `hotmem: step {...}`, without a line end.
pub struct StepLine<'a, M: Machine> {
    /// What an operation did.
    pub step: &'a Step<'a>,
    /// Where the results are read from.
    pub mm: &'a Mm<M>,
}

impl<M: Machine> fmt::Debug for StepLine<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<M: Machine> fmt::Display for StepLine<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Step { range, operation, error, .. } = *self.step;
        match operation {
            Operation::Add { node, placement, system_bytes, replied } => {
                self.open("add", f)?;
                let node = OrNull(node.map(NodeId::get));
                write!(f, ",\"node\":{node},\"placement\":\"{placement}\",\"groups\":")?;
                groups(range.filter(|_| error.is_none()), self.mm, f)?;
                write!(f, ",\"system_bytes\":{system_bytes}")?;
                self.instructions(f)?;
                replied.write(f)?;
            }
            Operation::Online => self.blocks("online", f)?,
            Operation::Offline => self.blocks("offline", f)?,
            Operation::Use { touched_bytes, passes } => {
                let [first, second] = passes.map(OrNull);
                write!(
                    f,
                    "hotmem: step {{\"operation\":\"use\",\"touched_bytes\":{touched_bytes}"
                )?;
                write!(f, ",\"first_pass_instructions\":{first}")?;
                write!(f, ",\"second_pass_instructions\":{second}")?;
            }
            Operation::Scrub { bytes, skipped } => {
                self.open("scrub", f)?;
                write!(f, ",\"scrubbed_bytes\":{bytes},\"skipped_blocks\":{skipped}")?;
                self.instructions(f)?;
            }
            Operation::Remove { system_bytes, replied } => {
                self.open("remove", f)?;
                write!(f, ",\"system_bytes\":{system_bytes}")?;
                self.instructions(f)?;
                replied.write(f)?;
            }
        }
        write!(f, ",\"error\":{}}}", OrNull(error.map(JsonString)))
    }
}

impl<M: Machine> StepLine<'_, M> {
    /// Begins the line of an operation on memory.
    fn open(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = self.step.range;
        let (start, size) = (range.map(|range| range.start().get()), range.map(PhysRange::len));
        write!(f, "hotmem: step {{\"operation\":\"{name}\"")?;
        write!(f, ",\"start\":{},\"size\":{}", OrNull(start), OrNull(size))
    }

    fn instructions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ",\"instructions\":{}", OrNull(self.step.instructions))
    }

    /// All of an operation on blocks.
    fn blocks(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.open(name, f)?;
        f.write_str(",\"blocks\":")?;
        let range = self.step.range;
        let ids = range.into_iter().flat_map(|range| self.mm.blocks_in(range));
        json_list(f, ids.filter_map(|id| self.mm.block(id)), |block, out| {
            write!(
                out,
                "{{\"block\":{},\"state\":\"{}\",\"managed_bytes\":{}}}",
                block.id.get(),
                block.state,
                managed_in(&block, range.map(M::pfns), self.mm).saturating_mul(M::PAGE_BYTES),
            )
        })?;
        self.instructions(f)
    }
}

impl Replied {
    fn write(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ost, instructions } = self;
        write!(f, ",\"event_instructions\":{},\"ost\":{}", OrNull(instructions), OrNull(ost))
    }
}

/// The memmaps that lie in `range`: those of its blocks' shares, each once.
fn groups<M: Machine>(
    range: Option<PhysRange>,
    mm: &Mm<M>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let mut last = None;
    let blocks = range.into_iter().flat_map(|range| mm.blocks_in(range));
    let groups = blocks.flat_map(|id| mm.block_shares(id)).filter_map(|share| share.group);
    let inside = |at| range.is_some_and(|range| M::pfns(range).contains(at));
    let groups = groups.filter(|group| inside(group.pfns.start));
    let groups = groups.filter(|group| last.replace(group.pfns.start) != Some(group.pfns.start));
    json_list(f, groups, |group, out| {
        write!(
            out,
            "{{\"memmap_start\":{},\"memmap_pages\":{},\"sections\":{}}}",
            group.pfns.start.get().saturating_mul(M::PAGE_BYTES),
            group.pfns.pages(),
            group.sections,
        )
    })
}

/// Pages of a block that the allocator manages, without those of other devices than that of `range`.
fn managed_in<M: Machine>(block: &Block, range: Option<PfnRange>, mm: &Mm<M>) -> u64 {
    let is_other = |pfns| range.is_some_and(|range| !range.covers(pfns));
    let others = mm.block_shares(block.id).filter(|share| is_other(share.pfns));
    let others: u64 = others.map(|share| share.pfns.pages() - share.memmap().pages()).sum();
    block.counts.managed.saturating_sub(others)
}
