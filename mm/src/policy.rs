//! Policy: what becomes of added memory by itself, and whether it may hold its own memmap.
//!
//! Both can be changed at any time, and count for what is added later.

use crate::Mm;
use crate::addr::PhysRange;
use crate::block::{BlockId, BlockState};
use crate::machine::Machine;
use crate::node::NodeId;
use crate::zone::ZoneKind;
use core::fmt;
use core::str::FromStr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The share of movable memory that [`AutoOnline::AutoMovable`] allows unless told otherwise, in per
/// cent of the memory that is not movable.
pub const AUTO_MOVABLE_RATIO: u32 = 301;

/// How a block comes online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnlineAs {
    /// As its neighbour: see [`Mm::zone_of`].
    Default,
    /// For anything but what must never go.
    Kernel,
    /// For what can be moved.
    Movable,
}

impl OnlineAs {
    /// Every way, with the name that users know it by.
    pub const ALL: [(&'static str, Self); 3] = [
        ("online", Self::Default),
        ("online_kernel", Self::Kernel),
        ("online_movable", Self::Movable),
    ];
}

impl FromStr for OnlineAs {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        let known = Self::ALL.iter().find(|(known, _)| *known == name);
        known.map(|&(_, way)| way).ok_or(UnknownPolicy)
    }
}

/// What happens to memory right after it was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoOnline {
    /// It stays offline.
    Offline,
    /// It comes online this way. Movable is the default: it can be given back at any time.
    Online(OnlineAs),
    /// It comes online movable while no more than `ratio` per cent of what is not movable is; for the
    /// kernel otherwise.
    AutoMovable {
        /// Per cent.
        ratio: u32,
    },
}

impl Default for AutoOnline {
    fn default() -> Self {
        Self::Online(OnlineAs::Movable)
    }
}

/// The name is none of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPolicy;

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a policy is offline, online, online_kernel, online_movable or auto_movable")
    }
}

impl core::error::Error for UnknownPolicy {}

impl FromStr for AutoOnline {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        match name {
            "offline" => Ok(Self::Offline),
            "auto_movable" => Ok(Self::AutoMovable { ratio: AUTO_MOVABLE_RATIO }),
            _ => name.parse().map(Self::Online),
        }
    }
}

impl fmt::Display for AutoOnline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Offline => f.write_str("offline"),
            Self::Online(way) => {
                let known = OnlineAs::ALL.iter().find(|(_, known)| *known == way);
                f.write_str(known.map_or("online", |(name, _)| name))
            }
            Self::AutoMovable { ratio } => write!(f, "auto_movable {ratio}"),
        }
    }
}

/// The settings.
#[derive(Debug)]
pub(crate) struct Knobs {
    /// The policy's number; from [`AUTO`] on, a ratio.
    auto: AtomicU32,
    ratio: AtomicU32,
    self_hosting: AtomicBool,
}

const OFFLINE: u32 = 0;
const AUTO: u32 = 4;

impl Knobs {
    pub(crate) const fn new() -> Self {
        Self {
            auto: AtomicU32::new(1 + OnlineAs::Movable as u32),
            ratio: AtomicU32::new(AUTO_MOVABLE_RATIO),
            self_hosting: AtomicBool::new(true),
        }
    }

    pub(crate) fn self_hosting(&self) -> bool {
        self.self_hosting.load(Ordering::Relaxed)
    }
}

impl<M: Machine> Mm<M> {
    /// What happens to memory right after it was added: the kernel's to ask and to do.
    pub fn auto_online(&self) -> AutoOnline {
        match self.knobs.auto.load(Ordering::Relaxed) {
            OFFLINE => AutoOnline::Offline,
            AUTO => AutoOnline::AutoMovable { ratio: self.knobs.ratio.load(Ordering::Relaxed) },
            way => AutoOnline::Online(
                OnlineAs::ALL.get(way as usize - 1).map_or(OnlineAs::Movable, |&(_, way)| way),
            ),
        }
    }

    /// Changes that, for what is added from now on.
    pub fn set_auto_online(&self, policy: AutoOnline) {
        let number = match policy {
            AutoOnline::Offline => OFFLINE,
            AutoOnline::Online(way) => 1 + way as u32,
            AutoOnline::AutoMovable { ratio } => {
                self.knobs.ratio.store(ratio, Ordering::Relaxed);
                AUTO
            }
        };
        self.knobs.auto.store(number, Ordering::Relaxed);
    }

    /// Whether added memory may hold its own memmap. It may, unless told otherwise.
    pub fn self_hosting(&self) -> bool {
        self.knobs.self_hosting()
    }

    /// Lets memory that is added from now on hold its own memmap, or has it taken from system memory,
    /// whatever placement is asked for: for who wants to expose all of what is added.
    pub fn set_self_hosting(&self, enabled: bool) {
        self.knobs.self_hosting.store(enabled, Ordering::Relaxed);
    }

    /// The zone for memory that was just added on `node`, by the policy; `None` to leave it offline.
    ///
    /// Asked once for a range that comes and goes together, so that its blocks do not part.
    pub fn auto_zone(&self, range: PhysRange, node: NodeId) -> Option<ZoneKind> {
        match self.auto_online() {
            AutoOnline::Offline => None,
            AutoOnline::Online(way) => Some(self.zone_of(range, node, way)),
            AutoOnline::AutoMovable { ratio } => {
                let pages = M::pfns(range).pages();
                let fits = self.movable_share_allows(pages, ratio);
                let way = if fits { OnlineAs::Movable } else { OnlineAs::Default };
                Some(self.zone_of(range, node, way))
            }
        }
    }

    /// The zone for offline memory on `node` that is brought online this way.
    ///
    /// By default that of the nearest online block next to it on the same node, below it if there is
    /// one, so that zones stay in one piece; without one, [`ZoneKind::Normal`].
    pub fn zone_of(&self, range: PhysRange, node: NodeId, way: OnlineAs) -> ZoneKind {
        match way {
            OnlineAs::Kernel => ZoneKind::Normal,
            OnlineAs::Movable => ZoneKind::Movable,
            OnlineAs::Default => {
                let first = self.block_at(range.start()).get();
                let end = self.block_at(range.end()).get();
                let below = first.checked_sub(1).and_then(|raw| self.neighbour(raw, node));
                below.or_else(|| self.neighbour(end, node)).unwrap_or(ZoneKind::Normal)
            }
        }
    }

    /// The zone of an online block on `node`. System memory's is not for anything that comes later.
    fn neighbour(&self, raw: u64, node: NodeId) -> Option<ZoneKind> {
        let block = self.block(BlockId::new(raw)).filter(|block| block.node == node)?;
        match block.state {
            BlockState::Online(ZoneKind::System) | BlockState::Offline => None,
            BlockState::Online(kind) => Some(kind),
        }
    }

    /// Whether `pages` more movable ones are within the ratio.
    fn movable_share_allows(&self, pages: u64, ratio: u32) -> bool {
        let mut movable = pages;
        let mut other = 0;
        for zone in self.zones() {
            match zone.kind {
                ZoneKind::Movable => movable += zone.counts.present,
                ZoneKind::System | ZoneKind::Normal => other += zone.counts.present,
            }
        }
        u128::from(movable) * 100 <= u128::from(other) * u128::from(ratio)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::testing::{Bench, Setup, Tiny, range};
    use std::string::ToString;
    use std::vec;

    const MIB: u64 = 1 << 20;

    fn bench() -> Bench<Tiny> {
        let ram = vec![(0, 16 * MIB, 0)];
        Bench::new(&Setup { ram, block: MIB, window: (64 * MIB, 64 * MIB), kernelcore: None })
    }

    #[test]
    fn every_policy_is_kept_as_it_was_set_and_reads_as_it_is_written() {
        let bench = bench();
        assert_eq!(bench.mm.auto_online(), AutoOnline::default());
        for name in ["offline", "online", "online_kernel", "online_movable", "auto_movable"] {
            let policy: AutoOnline = name.parse().unwrap();
            bench.mm.set_auto_online(policy);
            assert_eq!(bench.mm.auto_online(), policy);
            assert!(policy.to_string().starts_with(name));
        }
        let policy = AutoOnline::AutoMovable { ratio: 77 };
        bench.mm.set_auto_online(policy);
        assert_eq!(bench.mm.auto_online(), policy);
        assert_eq!("movable".parse::<AutoOnline>(), Err(UnknownPolicy));
    }

    #[test]
    fn memory_comes_online_where_its_neighbour_is() {
        let bench = bench();
        let dimm = range(64 * MIB, 4 * MIB);
        bench.plug(dimm);
        bench.add(dimm, crate::Placement::PerBlock);
        let zone = |at, len| bench.mm.zone_of(range(at, len), NodeId::ZERO, OnlineAs::Default);
        assert_eq!(zone(64 * MIB, 4 * MIB), ZoneKind::Normal);
        bench.mm.online(BlockId::new(65), ZoneKind::Movable).unwrap();
        assert_eq!(zone(66 * MIB, MIB), ZoneKind::Movable);
        assert_eq!(zone(64 * MIB, MIB), ZoneKind::Movable);
        assert_eq!(zone(67 * MIB, MIB), ZoneKind::Normal);
        let elsewhere = NodeId::new(1).unwrap();
        let other = bench.mm.zone_of(range(66 * MIB, MIB), elsewhere, OnlineAs::Default);
        assert_eq!(other, ZoneKind::Normal);
    }

    #[test]
    fn auto_movable_stops_at_its_ratio() {
        let bench = bench();
        bench.mm.set_auto_online(AutoOnline::AutoMovable { ratio: 50 });
        let zone = |len| bench.mm.auto_zone(range(64 * MIB, len), NodeId::ZERO);
        assert_eq!(zone(8 * MIB), Some(ZoneKind::Movable));
        assert_eq!(zone(9 * MIB), Some(ZoneKind::Normal));
        bench.mm.set_auto_online(AutoOnline::Offline);
        assert_eq!(zone(MIB), None);
    }
}
