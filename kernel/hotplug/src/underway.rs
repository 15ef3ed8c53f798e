//! What is under way: how far an eject, or the draining of a device that is gone, got.

use hotmem::{
    BlockId, Estimate, Machine, NodeId, OfflineError, OfflineOp, PageCounts, PfnRange, PhysRange,
    ZoneKind,
};

use super::event::{DeviceId, Ranges};

/// A request under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    pub(super) device: DeviceId,
    /// The clock when its interrupt came.
    pub(super) since: Option<u64>,
}

/// A device that is to be taken into use, with its memory and node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plug<'r> {
    pub(super) context: Context,
    pub(super) ranges: &'r Ranges,
    pub(super) node: NodeId,
}

/// How far an eject got.
#[derive(Debug)]
pub(super) struct Ejecting<'m, M: Machine> {
    pub(super) context: Context,
    pub(super) ranges: Ranges,
    /// How far the counting of room for its memory got; nothing once there is enough.
    pub(super) room: Option<Estimate>,
    /// The range whose blocks go now.
    pub(super) part: usize,
    /// Its next block, and the number that has in the device.
    pub(super) next: u64,
    pub(super) index: u64,
    /// Which blocks of the range have their turn.
    pub(super) turn: Turn,
    /// The range has a block for a later turn.
    pub(super) later: bool,
    /// The block that is going, and the zone it goes from.
    pub(super) going: Option<(OfflineOp<'m, M>, ZoneKind)>,
    /// Instructions that the blocks of this range took.
    pub(super) instructions: Option<u64>,
    /// Behind the last range: the range that is cleared now.
    pub(super) scrubbing: Scrubbing,
    /// An insert was looked for since the last step.
    pub(super) looked: bool,
}

impl<M: Machine> Ejecting<'_, M> {
    pub(super) fn new(context: Context, ranges: Ranges) -> Self {
        Self {
            context,
            ranges,
            room: Some(Estimate::default()),
            part: 0,
            next: 0,
            index: 0,
            turn: Turn::Empty,
            later: false,
            going: None,
            instructions: None,
            scrubbing: Scrubbing::default(),
            looked: false,
        }
    }
}

/// Blocks go in the order of what is in use in them: so little is moved into a block that goes later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Those without a used page.
    Empty,
    /// Those that are at most half used.
    Half,
    /// All others.
    Rest,
}

impl Turn {
    /// Whether a block with these pages has its turn.
    pub(super) const fn takes(self, pages: PageCounts) -> bool {
        let used = pages.managed.saturating_sub(pages.free);
        match self {
            Self::Empty => used == 0,
            Self::Half => used <= pages.managed / 2,
            Self::Rest => true,
        }
    }

    /// The turn after it.
    pub(super) const fn next(self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Half),
            Self::Half => Some(Self::Rest),
            Self::Rest => None,
        }
    }
}

/// How far the clearing of a range got.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scrubbing {
    /// The range, by its place in the device.
    pub(super) part: usize,
    /// Its next block.
    pub(super) next: u64,
    pub(super) figures: Figures,
}

/// What the clearing of a range took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    pub(super) pages: u64,
    /// Blocks that have bad memory.
    pub(super) skipped: u64,
    pub(super) instructions: Option<u64>,
}

/// How far the kernel got with the memory of a device that is gone.
#[derive(Debug)]
pub(super) struct Draining<'m, M: Machine> {
    pub(super) context: Context,
    /// The device that is in the slot now, if that was announced: it is taken afterwards.
    pub(super) next: Option<(Ranges, NodeId)>,
    /// Ranges that stay, and come first in the table.
    pub(super) kept: usize,
    /// Whether some have been removed.
    pub(super) removed: bool,
    /// Firmware expects no reply.
    pub(super) quiet: bool,
    /// The range under way.
    pub(super) range: Option<Draught>,
    /// What is done to its block.
    pub(super) now: Option<Now<'m, M>>,
}

/// A range whose blocks go offline.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draught {
    pub(super) range: PhysRange,
    /// The next block.
    pub(super) block: u64,
    /// Blocks that stay, and why the first of them does.
    pub(super) stays: u64,
    pub(super) error: Option<OfflineError>,
}

/// What is done to a block.
#[derive(Debug)]
pub(super) enum Now<'m, M: Machine> {
    /// It goes offline, from this zone.
    Offlining(OfflineOp<'m, M>, ZoneKind),
    /// It stays: its pages are taken out of use, those that can be.
    Sealing { id: BlockId, pages: PfnRange, in_use: u64 },
}

impl<M: Machine> Draining<'_, M> {
    /// A device that is gone, with nothing done yet; `next` is in its slot now.
    pub(super) const fn new(context: Context, next: Option<(Ranges, NodeId)>) -> Self {
        let (kept, removed, quiet) = (0, false, false);
        Self { context, next, kept, removed, quiet, range: None, now: None }
    }

    /// The device that is gone.
    pub(super) const fn device(&self) -> DeviceId {
        self.context.device
    }
}
