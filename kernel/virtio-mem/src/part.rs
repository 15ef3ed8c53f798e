//! The part of a piece that can go while the rest stays.
//!
//! ```text
//!   piece    [M . . . P . . . . . . P . . .]      P: a page that stays, at an address that the manager names
//!   runs     |-------|             |-----|
//!                     |-----------|  <- the longest, up to what is to go; its end
//! ```
//!
//! The piece is split behind the part and before it ([`Mm::split_at`]): so a page that cannot move keeps its own unit, and
//! the one before it if the memmap of what is behind the part has no place in front of the page.

use hotmem::paging::UnmapError;
use hotmem::{ConvertError, Machine, Mm, Obstacle, PhysAddr, PhysRange, Removability};

/// Splits `piece` so that the part of it that goes becomes one of its own, up to `most` bytes, or a leaf of the linear map if
/// that is more. Returns where: at an end of the part that is not an end of the piece, a multiple of `unit`; `None` if no part
/// can go, or the piece is one leaf.
///
/// # Errors
///
/// Why it is not split; it is as it was then.
pub(crate) fn split<M: Machine>(
    mm: &Mm<M>,
    piece: PhysRange,
    unit: u64,
    most: u64,
) -> Result<Option<PhysAddr>, ConvertError> {
    let mut unit = unit;
    loop {
        let Some(part) = part_to_go(mm, piece, unit, most.max(unit)) else { return Ok(None) };
        if part == piece {
            return Ok(None);
        }
        let at = if part.end() < piece.end() { part.end() } else { part.start() };
        match mm.split_at(at) {
            Err(ConvertError::Unmap(_, UnmapError::CutsLeaf { len, .. })) if len > unit => {
                unit = len;
            }
            done => return done.map(|()| Some(at)),
        }
    }
}

/// The longest part of a piece that can go, up to `most` bytes, and among these the one of which the least is in use.
fn part_to_go<M: Machine>(mm: &Mm<M>, piece: PhysRange, unit: u64, most: u64) -> Option<PhysRange> {
    let mut best: Option<(u64, PhysRange)> = None;
    let mut start = piece.start();
    while start < piece.end() {
        let held = first_held(mm, between(start, piece.end())?);
        let end = held.map_or(piece.end(), |held| end_of_run::<M>(piece, unit, held));
        if end > start
            && let Some(found) = end_to_go(mm, between(start, end)?, unit, most)
            && best.is_none_or(|best| is_better(found, best))
        {
            best = Some(found);
        }
        let Some(held) = held else { break };
        start = behind(held, unit);
    }
    best.map(|(_, part)| part)
}

/// Whether a part that is in use so much is better than another one.
fn is_better((used, part): (u64, PhysRange), (least, best): (u64, PhysRange)) -> bool {
    (part.len(), least) > (best.len(), used)
}

/// The end of `run`, of which no page stays, up to `most` bytes, that has room elsewhere; and how much of it is in use.
fn end_to_go<M: Machine>(
    mm: &Mm<M>,
    run: PhysRange,
    unit: u64,
    most: u64,
) -> Option<(u64, PhysRange)> {
    let mut bytes = run.len().min(most);
    loop {
        // What begins at a unit.
        let over = bytes.wrapping_sub(run.end().get()) % unit;
        let start = before(run.end(), bytes.checked_sub(over)?);
        let part = between(start, run.end()).filter(|part| !part.is_empty())?;
        match mm.explain_part(part) {
            Removability::Now => return Some((0, part)),
            Removability::AfterMoving { pages, .. } => return Some((pages, part)),
            Removability::Blocked(_) => bytes = part.len() / 2,
        }
    }
}

/// The address of the first page of `part` that stays.
fn first_held<M: Machine>(mm: &Mm<M>, part: PhysRange) -> Option<PhysAddr> {
    match mm.explain_part(part) {
        // An extent may begin before the part.
        Removability::Blocked(Obstacle::InUse { pfn, .. }) => {
            Some(M::address(pfn).max(part.start()))
        }
        _ => None,
    }
}

/// Where what can go before a page that stays ends: at the page's unit, or before the unit in front of that if the memmap of
/// all that follows would not end before the page.
fn end_of_run<M: Machine>(piece: PhysRange, unit: u64, held: PhysAddr) -> PhysAddr {
    let end = before(held, held.get() % unit);
    let pages = M::memmap_pages(piece.end().offset_from(end) / M::PAGE_BYTES);
    let fits = pages * M::PAGE_BYTES <= held.offset_from(end);
    if fits { end } else { before(end, unit) }
}

/// The next multiple of `unit` behind `at`.
fn behind(at: PhysAddr, unit: u64) -> PhysAddr {
    PhysAddr::new((at.get() / unit + 1).saturating_mul(unit))
}

/// The address `bytes` before `at`.
fn before(at: PhysAddr, bytes: u64) -> PhysAddr {
    PhysAddr::new(at.get().saturating_sub(bytes))
}

fn between(start: PhysAddr, end: PhysAddr) -> Option<PhysRange> {
    PhysRange::new(start, end.get().checked_sub(start.get())?)
}
