//! The machine-readable line that every operation leaves: `hotmem: step {...}`.
//!
//! Sizes and addresses are numbers in bytes. `groups`, `blocks` and their figures are read back from
//! the memory manager when the line is written; nothing is computed from the
//! request.

use core::fmt;

use hotmem::{Machine, Mm, NodeId, PhysRange, Placement};

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

/// An add.
#[derive(Clone, Copy, Debug)]
pub struct AddStep<'a> {
    /// The memory; `None` if the firmware could not say.
    pub range: Option<PhysRange>,
    /// Its node; `None` if the firmware could not say.
    pub node: Option<NodeId>,
    /// Where its memmap was asked to be.
    pub placement: Placement,
    /// Bytes taken from memory outside the range.
    pub system_bytes: i64,
    /// Instructions of the operation alone.
    pub instructions: Option<u64>,
    /// Instructions from the interrupt to the reply to the firmware.
    pub event_instructions: Option<u64>,
    /// The status code that was reported to the firmware.
    pub ost: Option<u32>,
    /// Why it failed; `None` if it did not.
    pub error: Option<Failure<'a>>,
}

/// Some blocks going online or offline.
#[derive(Clone, Copy, Debug)]
pub struct BlocksStep<'a> {
    /// The blocks' memory.
    pub range: PhysRange,
    /// Instructions of the operation alone, over all blocks.
    pub instructions: Option<u64>,
    /// Why it failed; `None` if it did not.
    pub error: Option<Failure<'a>>,
}

/// Memory of a device, cleared before it goes.
#[derive(Clone, Copy, Debug)]
pub struct ScrubStep<'a> {
    /// The memory.
    pub range: PhysRange,
    /// Bytes that were cleared: those that may have held data.
    pub bytes: u64,
    /// Blocks with bad memory, which are not cleared.
    pub skipped: u64,
    /// Instructions of the operation alone, over all blocks.
    pub instructions: Option<u64>,
    /// Why it failed; `None` if it did not.
    pub error: Option<Failure<'a>>,
}

/// A use of all memory that was added and is online.
#[derive(Clone, Copy, Debug)]
pub struct UseStep<'a> {
    /// Bytes that were written and read back.
    pub touched_bytes: u64,
    /// Instructions of the first pass: every page allocated, then freed.
    pub first_pass_instructions: Option<u64>,
    /// Instructions of the same again.
    pub second_pass_instructions: Option<u64>,
    /// Why it failed; `None` if it did not.
    pub error: Option<Failure<'a>>,
}

/// A remove.
#[derive(Clone, Copy, Debug)]
pub struct RemoveStep<'a> {
    /// The memory.
    pub range: PhysRange,
    /// Bytes taken from memory outside the range: negative, if any were given back.
    pub system_bytes: i64,
    /// Instructions of the operation alone.
    pub instructions: Option<u64>,
    /// Instructions from the interrupt to the reply to the firmware.
    pub event_instructions: Option<u64>,
    /// The status code that was reported to the firmware.
    pub ost: Option<u32>,
    /// Why it failed; `None` if it did not.
    pub error: Option<Failure<'a>>,
}

/// What an operation did.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// Memory was added.
    Add(AddStep<'a>),
    /// Blocks were brought online.
    Online(BlocksStep<'a>),
    /// Memory was used.
    Use(UseStep<'a>),
    /// Blocks were taken offline.
    Offline(BlocksStep<'a>),
    /// Memory was cleared.
    Scrub(ScrubStep<'a>),
    /// Memory was removed.
    Remove(RemoveStep<'a>),
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
        f.write_str("hotmem: step ")?;
        let mm = self.mm;
        let error = match self.step {
            Step::Add(step) => add(step, mm, f).map(|()| step.error)?,
            Step::Online(step) => blocks("online", step, mm, f).map(|()| step.error)?,
            Step::Use(step) => passes(step, f).map(|()| step.error)?,
            Step::Offline(step) => blocks("offline", step, mm, f).map(|()| step.error)?,
            Step::Scrub(step) => scrub(step, f).map(|()| step.error)?,
            Step::Remove(step) => remove(step, f).map(|()| step.error)?,
        };
        write!(f, ",\"error\":{}}}", OrNull(error.map(JsonString)))
    }
}

fn add<M: Machine>(step: &AddStep<'_>, mm: &Mm<M>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "{{\"operation\":\"add\",\"start\":{},\"size\":{},\"node\":{},\"placement\":\"{}\",\"groups\":",
        OrNull(step.range.map(|range| range.start().get())),
        OrNull(step.range.map(PhysRange::len)),
        OrNull(step.node.map(NodeId::get)),
        step.placement,
    )?;

    groups(step.range.filter(|_| step.error.is_none()), mm, f)?;
    write!(f, ",\"system_bytes\":{}", step.system_bytes)?;
    figures(step.instructions, step.event_instructions, step.ost, f)
}

/// The memmaps that lie in `range`: those its blocks name, each once.
fn groups<M: Machine>(
    range: Option<PhysRange>,
    mm: &Mm<M>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let mut last = None;
    let blocks = range.into_iter().flat_map(|range| mm.blocks_in(range));
    let heads = blocks.filter_map(|id| mm.block(id)?.group);
    let heads = heads.filter(|&head| last.replace(head) != Some(head));
    json_list(f, heads.filter_map(|head| mm.group(head)), |group, out| {
        write!(
            out,
            "{{\"memmap_start\":{},\"memmap_pages\":{},\"sections\":{}}}",
            group.pfns.start.get().saturating_mul(M::PAGE_BYTES),
            group.pfns.pages(),
            group.sections,
        )
    })
}

fn blocks<M: Machine>(
    operation: &str,
    step: &BlocksStep<'_>,
    mm: &Mm<M>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let (start, size) = (step.range.start().get(), step.range.len());
    write!(f, "{{\"operation\":\"{operation}\",\"start\":{start},\"size\":{size},\"blocks\":")?;
    json_list(f, mm.blocks_in(step.range).filter_map(|id| mm.block(id)), |block, out| {
        write!(
            out,
            "{{\"block\":{},\"state\":\"{}\",\"managed_bytes\":{}}}",
            block.id.get(),
            block.state,
            block.counts.managed.saturating_mul(M::PAGE_BYTES),
        )
    })?;
    write!(f, ",\"instructions\":{}", OrNull(step.instructions))
}

fn passes(step: &UseStep<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "{{\"operation\":\"use\",\"touched_bytes\":{},\"first_pass_instructions\":{},\"second_pass_instructions\":{}",
        step.touched_bytes,
        OrNull(step.first_pass_instructions),
        OrNull(step.second_pass_instructions),
    )
}

fn scrub(step: &ScrubStep<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "{{\"operation\":\"scrub\",\"start\":{},\"size\":{},\"scrubbed_bytes\":{},\"skipped_blocks\":{},\"instructions\":{}",
        step.range.start().get(),
        step.range.len(),
        step.bytes,
        step.skipped,
        OrNull(step.instructions),
    )
}

fn remove(step: &RemoveStep<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (start, size) = (step.range.start().get(), step.range.len());
    write!(
        f,
        "{{\"operation\":\"remove\",\"start\":{start},\"size\":{size},\"system_bytes\":{}",
        step.system_bytes
    )?;
    figures(step.instructions, step.event_instructions, step.ost, f)
}

/// What add and remove end with.
fn figures(
    instructions: Option<u64>,
    event: Option<u64>,
    ost: Option<u32>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    write!(
        f,
        ",\"instructions\":{},\"event_instructions\":{},\"ost\":{}",
        OrNull(instructions),
        OrNull(event),
        OrNull(ost),
    )
}
