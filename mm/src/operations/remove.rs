//! Remove: makes a range of offline blocks absent; at its ends, of offline parts of blocks.
//!
//! ```text
//!   check -> sections Leaving, drain readers -> unmap the linear range -> unmap the memmap, backwards,
//!   a head's own page last -> flush -> sections Absent
//! ```
//!
//! Nothing fails after the check and the drain, since nothing is allocated, unless the mapper returns an unexpected
//! error: the range is then mapped again, and stays.

use crate::addr::{PfnRange, PhysAddr, PhysRange, VirtAddr, VirtRange};
use crate::alloc::Allocator;
use crate::alloc::node::NodeId;
use crate::alloc::populate::Populate;
use crate::machine::Machine;
use crate::memmap::altmap::Altmap;
use crate::memmap::block::{BlockId, NotWholeSubsections};
use crate::memmap::readers::Stays;
use crate::memmap::record::Record;
use crate::memmap::section::{Section, SectionState};
use crate::memmap::seen::Seen;
use crate::memmap::share::Share;
use crate::memmap::whole::Whole;
use crate::operations::Operations;
use crate::operations::leaving::Leaving;
use crate::operations::notify::News;
use crate::operations::part::is_offline_part;
use crate::operations::ranges::{nodes_of, release_node};
use crate::paging::{MapError, Mapper, UnmapError};

hotmem_paging::errors! {
    /// The reason why a range was not removed. Nothing was changed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum RemoveError {
        /// Another operation is running.
        Busy => ("{}", crate::turn::BUSY),
        /// The range is not whole, aligned subsections.
        NotWholeSubsections(error: NotWholeSubsections) => "{error}",
        /// A block of the range is not present.
        NoSuchBlock(id: BlockId) => "{id} is not there",
        /// The range has a hole, at this address.
        Hole(at: PhysAddr) => "there is no memory at {at}",
        /// A block of the range holds memory that the machine was started with.
        BootMemory(id: BlockId) =>
            "{id} is memory the machine was started with, it cannot be removed",
        /// A block of the range is online, and not only with other memory.
        NotOffline(id: BlockId) => "{id} is online",
        /// The memmap of a block also describes memory outside the range, or memory of a block that came at once is inside
        /// and outside: it was added in one piece and can only be removed as one.
        SplitsGroup {
            /// The first such block.
            block: BlockId,
            /// The range that must be removed together.
            whole: PfnRange,
        } => "{block} was added with {whole} under one memmap, they can only be removed together",
        /// Two parts of a section were added apart: they are removed one after the other.
        AddedApart {
            /// The block.
            block: BlockId,
            /// The second part.
            second: PfnRange,
        } => "{second} of {block} was added apart from the memory before it, and is removed apart",
        /// Some blocks of the range hold their memmap and others do not: they were added separately and must be removed
        /// separately.
        MixedPlacement(id: BlockId) => "{id} keeps its memmap elsewhere than the blocks before it",
        /// The page tables cannot unmap the range, or a CPU does not acknowledge the flush: then the range is mapped
        /// again, and the tables that led to it are stranded ([`Owner::Stranded`](crate::Owner::Stranded)).
        Unmap(error: UnmapError) => "{error}",
        /// A look-up under way does not end: its CPU stopped in it, or its thread was preempted. This is the number of
        /// that CPU ([`Machine::cpu`]), modulo 16.
        ReadersStay(cpu: usize) => "a reader on CPU {cpu} does not leave",
        /// The block's record has a value that the manager never wrote: its memory was overwritten.
        Broken(id: BlockId) => "the record of {id} is invalid",
        /// An end of the range, or of its memmap, lies inside a leaf, or is not mapped at all: the mapper used a larger
        /// leaf than requested. This is the first address of the range to unmap.
        CutsLeaf(virt: VirtAddr) => "the mapping from {virt} on does not begin and end with a leaf",
    }
}

/// A range that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The range.
    pub range: PhysRange,
    /// Bytes of memory outside the range that this freed.
    pub system_bytes: u64,
}

impl<M: Machine> Operations<M> {
    /// See [`Mm::remove`](crate::Mm::remove).
    pub(crate) fn remove(&self, range: PhysRange) -> Result<Removed, RemoveError> {
        let operation = self.allocator.operation().ok_or(RemoveError::Busy)?;
        let memmap = operation.seen();
        let Removable { pfns, hosted, online } = check_removable(memmap, range)?;
        if let Some(id) = online {
            return Err(RemoveError::NotOffline(id));
        }
        let before = self.allocator.frames.system_pages();

        let mut leaving = Leaving::of(&self.allocator, memmap, pfns);
        let hidden = leaving.hide().and_then(|()| memmap.drain_readers());
        hidden.map_err(|Stays(cpu)| {
            leaving.show();
            RemoveError::ReadersStay(cpu)
        })?;

        let unmapped = unmap_range(&self.allocator, memmap, range, pfns, hosted);
        let gone = unmapped.map_err(|(error, mapped)| {
            match mapped {
                Ok(()) => leaving.show(),
                Err(error) => {
                    leaving.stay_hidden();
                    log::error!("{range} stays hidden, since it cannot be mapped again: {error}");
                }
            }
            RemoveError::Unmap(error)
        })?;
        leaving.forget();
        nodes_of::<M>(pfns).rev().for_each(|section| release_node(&self.allocator, section));
        let pages = before - self.allocator.frames.system_pages();
        operation.settle();
        self.announce([News::Removed(range)].into_iter().chain(nodes_in(gone).map(News::NodeWent)));
        Ok(Removed { range, system_bytes: pages * M::PAGE_BYTES })
    }
}

/// Unmaps a range without readers, and its memmap; on failure both are mapped as before, or the second error says why
/// not. Returns a bit for each node that has no memory left.
///
/// The linear map goes first, since it can be mapped again while the descriptors still exist.
fn unmap_range<M: Machine>(
    allocator: &Allocator<M>,
    memmap: Whole<'_, M>,
    range: PhysRange,
    pfns: PfnRange,
    hosted: bool,
) -> Result<u128, (UnmapError, Result<(), MapError>)> {
    let backing = (!hosted).then(|| Populate::of(allocator, memmap).link_backing(pfns));
    let mut gather = allocator.gather(memmap);
    let stays = memmap.machine().linear_map_is_complete();
    let linear =
        if stays { Ok(()) } else { memmap.unmap(memmap.windows().linear_virt(range), &mut gather) };
    let gone = if linear.is_ok() { allocator.forget_blocks(*memmap, range) } else { 0 };
    let unmapped =
        linear.and_then(|()| memmap.unmap(memmap.windows().memmap_virt(pfns), &mut gather));
    let Err(error) = gather.conclude(unmapped) else {
        backing
            .into_iter()
            .for_each(|backing| Populate::of(allocator, memmap).free_backing(backing));
        return Ok(gone);
    };
    let populate = Populate::of(allocator, memmap);
    let gone = matches!(error, UnmapError::NotFlushed(_));
    let mut mapped = match backing {
        Some(backing) if gone => populate.map_backing(pfns, backing),
        Some(backing) => {
            populate.unlink_backing(backing);
            Ok(())
        }
        None if gone => {
            Altmap::of_words(*memmap, pfns).try_for_each(|altmap| populate.map_altmap(altmap))
        }
        None => Ok(()),
    };
    if linear.is_ok() && !stays {
        let mapping = memmap.windows().linear_mapping(range);
        mapped = mapped.and_then(|()| allocator.map(memmap, &mapping));
    }
    if mapped.is_ok() && linear.is_ok() {
        allocator.remember_blocks(*memmap, range);
    }
    Err((error, mapped))
}

/// A range that can be removed once its blocks are offline.
pub(crate) struct Removable {
    pfns: PfnRange,
    /// Whether it holds its memmap.
    hosted: bool,
    /// Its first block that is online.
    online: Option<BlockId>,
}

/// Whether `range` could be removed if its blocks were offline.
pub(crate) fn check_removable<M: Machine>(
    memmap: Whole<'_, M>,
    range: PhysRange,
) -> Result<Removable, RemoveError> {
    let pfns = memmap.whole_units(range).map_err(RemoveError::NotWholeSubsections)?;
    let (mut first, mut online) = (None, None);
    for id in memmap.blocks_in(range) {
        let section = memmap.sections_of_block(id).next().ok_or(RemoveError::NoSuchBlock(id))?;
        let hosted = check_block(*memmap, id, section, pfns)?;
        if *first.get_or_insert(hosted) != hosted {
            return Err(RemoveError::MixedPlacement(id));
        }
        if section.word().state() != SectionState::Present && !is_offline_part(*memmap, id, pfns) {
            online = online.or(Some(id));
        }
    }
    if !memmap.machine().linear_map_is_complete() {
        check_leaves(memmap, memmap.windows().linear_virt(range))?;
    }
    check_leaves(memmap, memmap.windows().memmap_virt(pfns))?;
    Ok(Removable { pfns, hosted: first.unwrap_or_default(), online })
}

/// Whether leaves begin and end where `range` does, so that unmapping it cannot fail.
fn check_leaves<M: Machine>(memmap: Whole<'_, M>, range: VirtRange) -> Result<(), RemoveError> {
    let mapper = memmap.mapper();
    let last = range.end().add(1_u64.wrapping_neg());
    let mapped = [range.start(), last].into_iter().all(|at| mapper.translate(at).is_some());
    let whole = mapped && memmap.cut_leaf(range).is_none();
    if whole { Ok(()) } else { Err(RemoveError::CutsLeaf(range.start())) }
}

/// Whether what a block, of which `section` is the first, has of `pfns` can be removed with them, and whether it holds its
/// memmap.
fn check_block<M: Machine>(
    memmap: Seen<'_, M>,
    id: BlockId,
    section: Section<'_, M>,
    pfns: PfnRange,
) -> Result<bool, RemoveError> {
    if section.word().boot() {
        return Err(RemoveError::BootMemory(id));
    }
    let block = memmap.block_pfns(id);
    let words = section.record().sound_block();
    if words.is_none_or(|word| !word.whole) || !pfns.covers(block) {
        return check_shares(memmap, id, pfns);
    }
    let Some(group) = memmap.group_of(section, block.start) else { return Ok(false) };
    let whole = Altmap::of_memmap::<M>(group.pfns).described;
    if pfns.covers(whole) { Ok(true) } else { Err(RemoveError::SplitsGroup { block: id, whole }) }
}

/// The same for a block that may have other memory, too.
#[cold]
fn check_shares<M: Machine>(
    memmap: Seen<'_, M>,
    id: BlockId,
    pfns: PfnRange,
) -> Result<bool, RemoveError> {
    let record = memmap.block_record_of(id);
    record.and_then(Record::sound_block).ok_or(RemoveError::Broken(id))?;
    let here = memmap.block_pfns(id).intersection(pfns).unwrap_or(pfns);
    let (mut next, mut hosted) = (here.start, None);
    for share in memmap.shares(id).filter(|share| share.pfns.intersection(here).is_some()) {
        check_share::<M>(id, pfns, &share)?;
        if share.pfns.start != next {
            return Err(RemoveError::Hole(M::address(next)));
        }
        next = share.pfns.end;
        if *hosted.get_or_insert(share.group.is_some()) != share.group.is_some() {
            return Err(RemoveError::MixedPlacement(id));
        }
    }
    match hosted {
        Some(hosted) if next == here.end => Ok(hosted),
        _ => Err(RemoveError::Hole(M::address(next))),
    }
}

/// Whether a share of a block can be removed with `pfns`: whole, and not behind another one in its section.
fn check_share<M: Machine>(
    block: BlockId,
    pfns: PfnRange,
    share: &Share,
) -> Result<(), RemoveError> {
    let group = share.group.map(|group| Altmap::of_memmap::<M>(group.pfns).described);
    let whole = group.unwrap_or(share.pfns);
    if !pfns.covers(whole) || !pfns.covers(share.pfns) {
        return Err(RemoveError::SplitsGroup { block, whole });
    }
    let start = share.pfns.start;
    if start == pfns.start || start.get().is_multiple_of(M::RECORD_PAGES) {
        return Ok(());
    }
    Err(RemoveError::AddedApart { block, second: share.pfns })
}

/// The nodes whose bits are set, ascending.
fn nodes_in(mut bits: u128) -> impl Iterator<Item = NodeId> {
    core::iter::from_fn(move || {
        let node = NodeId::new(bits.trailing_zeros())?;
        bits &= bits - 1;
        Some(node)
    })
}
