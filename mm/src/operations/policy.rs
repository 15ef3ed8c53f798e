//! Policy: what becomes of added memory by itself, and whether it may hold its own memmap.
//!
//! Both can be changed at any time, and count for what is added later.

use crate::Mm;
use crate::addr::PhysRange;
use crate::alloc::node::NodeId;
use crate::alloc::zone::ZoneKind;
use crate::machine::Machine;
use crate::memmap::block::{BlockId, BlockState};
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

impl fmt::Display for OnlineAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Self::ALL.iter().find(|(_, known)| known == self);
        f.write_str(known.map_or("online", |(name, _)| name))
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

    /// Reads what [`Display`](fmt::Display) writes. The ratio may be left out, and may follow a colon
    /// instead of a space, where a space would end the word.
    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        let (name, ratio) = match text.split_once([' ', ':']) {
            Some((name, ratio)) => (name, Some(ratio)),
            None => (text, None),
        };
        match (name, ratio) {
            ("offline", None) => Ok(Self::Offline),
            ("auto_movable", None) => Ok(Self::AutoMovable { ratio: AUTO_MOVABLE_RATIO }),
            ("auto_movable", Some(ratio)) => {
                let digits = ratio.bytes().all(|byte| byte.is_ascii_digit());
                let ratio = ratio.parse().ok().filter(|_| digits).ok_or(UnknownPolicy)?;
                Ok(Self::AutoMovable { ratio })
            }
            (name, None) => name.parse().map(Self::Online),
            (_, Some(_)) => Err(UnknownPolicy),
        }
    }
}

impl fmt::Display for AutoOnline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Offline => f.write_str("offline"),
            Self::Online(way) => way.fmt(f),
            Self::AutoMovable { ratio } => write!(f, "auto_movable {ratio}"),
        }
    }
}

/// The settings.
#[derive(Debug)]
pub(crate) struct Knobs {
    /// The policy's number, as it differs from [`MOVABLE`]: what nobody has set is zero.
    auto: AtomicU32,
    /// As it differs from [`AUTO_MOVABLE_RATIO`].
    ratio: AtomicU32,
    hosts_elsewhere: AtomicBool,
}

const OFFLINE: u32 = 0;
const AUTO: u32 = 4;
const MOVABLE: u32 = 1 + OnlineAs::Movable as u32;

impl Knobs {
    pub(crate) const fn new() -> Self {
        Self {
            auto: AtomicU32::new(0),
            ratio: AtomicU32::new(0),
            hosts_elsewhere: AtomicBool::new(false),
        }
    }

    pub(crate) fn self_hosting(&self) -> bool {
        !self.hosts_elsewhere.load(Ordering::Relaxed)
    }
}

impl<M: Machine> Mm<M> {
    /// What happens to memory right after it was added: the kernel's to ask and to do.
    pub fn auto_online(&self) -> AutoOnline {
        match self.knobs.auto.load(Ordering::Relaxed) ^ MOVABLE {
            OFFLINE => AutoOnline::Offline,
            AUTO => {
                let ratio = self.knobs.ratio.load(Ordering::Relaxed) ^ AUTO_MOVABLE_RATIO;
                AutoOnline::AutoMovable { ratio }
            }
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
                self.knobs.ratio.store(ratio ^ AUTO_MOVABLE_RATIO, Ordering::Relaxed);
                AUTO
            }
        };
        self.knobs.auto.store(number ^ MOVABLE, Ordering::Relaxed);
    }

    /// Whether added memory may hold its own memmap. It may, unless told otherwise.
    pub fn self_hosting(&self) -> bool {
        self.knobs.self_hosting()
    }

    /// Lets memory that is added from now on hold its own memmap, or has it taken from system memory,
    /// whatever placement is asked for: for who wants to expose all of what is added.
    pub fn set_self_hosting(&self, enabled: bool) {
        self.knobs.hosts_elsewhere.store(!enabled, Ordering::Relaxed);
    }

    /// The zone for memory that was just added on `node`, by the policy; `None` to leave it offline.
    ///
    /// Asked once for all the ranges that come and go together, so that their blocks do not part and
    /// count against the ratio as a whole.
    pub fn auto_zone(&self, ranges: &[PhysRange], node: NodeId) -> Option<ZoneKind> {
        let way = match self.auto_online() {
            AutoOnline::Offline => return None,
            AutoOnline::Online(way) => way,
            AutoOnline::AutoMovable { ratio } => {
                let pages = ranges.iter().map(|&range| M::pfns(range).pages());
                let pages = pages.fold(0, u64::saturating_add);
                // Past the ratio the kernel's zone, whatever the neighbour's is: that one may be movable.
                match self.movable_share_allows(pages, ratio) {
                    true => OnlineAs::Movable,
                    false => OnlineAs::Kernel,
                }
            }
        };
        Some(self.zone_of(ranges.first().copied().unwrap_or_default(), node, way))
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
        let mut movable = u128::from(pages);
        let mut other = 0_u128;
        for zone in self.zones() {
            match zone.kind {
                ZoneKind::Movable => movable += u128::from(zone.counts.present),
                ZoneKind::System | ZoneKind::Normal => other += u128::from(zone.counts.present),
            }
        }
        movable * 100 <= other * u128::from(ratio)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::memmap::placement::Placement;
    use crate::testing::{Bench, Random, Setup, Tiny, range};
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
    fn every_policy_and_placement_reads_as_it_is_written() {
        let mut random = Random::new(7);
        let ratios = [0, 1, 77, AUTO_MOVABLE_RATIO, u32::MAX].into_iter();
        let ratios = ratios.chain((0..1000).map(|_| random.bits() as u32));
        let policies = ratios.map(|ratio| AutoOnline::AutoMovable { ratio });
        let ways = OnlineAs::ALL.map(|(_, way)| AutoOnline::Online(way));
        for policy in policies.chain(ways).chain([AutoOnline::Offline]) {
            let text = policy.to_string();
            assert_eq!(text.parse(), Ok(policy), "{text}");
            assert_eq!(text.replace(' ', ":").parse(), Ok(policy), "{text}");
        }
        for (_, way) in OnlineAs::ALL {
            assert_eq!(way.to_string().parse(), Ok(way));
        }
        for placement in Placement::ALL {
            assert_eq!(placement.to_string().parse(), Ok(placement));
        }
        for wrong in ["", " ", "offline 3", "online:1", "auto_movable ", "auto_movable +3"] {
            assert_eq!(wrong.parse::<AutoOnline>(), Err(UnknownPolicy), "{wrong:?}");
        }
        for wrong in ["auto_movable 4294967296", "auto_movable -1", "auto_movable  3", "a 3"] {
            assert_eq!(wrong.parse::<AutoOnline>(), Err(UnknownPolicy), "{wrong:?}");
        }
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
        let zone = |len| bench.mm.auto_zone(&[range(64 * MIB, len)], NodeId::ZERO);
        assert_eq!(zone(8 * MIB), Some(ZoneKind::Movable));
        assert_eq!(zone(9 * MIB), Some(ZoneKind::Normal));
        bench.mm.set_auto_online(AutoOnline::Offline);
        assert_eq!(zone(MIB), None);
    }

    #[test]
    fn auto_movable_stops_at_its_ratio_beside_movable_memory() {
        let bench = bench();
        bench.mm.set_auto_online(AutoOnline::AutoMovable { ratio: 50 });
        let zones = (0..6).map(|n| {
            let dimm = range((64 + 8 * n) * MIB, 8 * MIB);
            bench.plug(dimm);
            bench.add(dimm, Placement::PerBlock);
            let zone = bench.mm.auto_zone(&[dimm], NodeId::ZERO).unwrap();
            for id in bench.mm.blocks_in(dimm) {
                bench.mm.online(id, zone).unwrap();
            }
            zone
        });
        // 16 MiB of RAM allow one DIMM; each two that follow for the kernel allow one more.
        use ZoneKind::{Movable, Normal};
        let zones: vec::Vec<_> = zones.collect();
        assert_eq!(zones, [Movable, Normal, Normal, Movable, Normal, Normal]);
    }

    #[test]
    fn the_ranges_of_a_device_are_weighed_together() {
        let bench = bench();
        bench.mm.set_auto_online(AutoOnline::AutoMovable { ratio: 50 });
        let ranges = [range(64 * MIB, 4 * MIB), range(80 * MIB, 4 * MIB), range(96 * MIB, MIB)];
        let zone = |count| bench.mm.auto_zone(&ranges[..count], NodeId::ZERO);
        assert_eq!(zone(2), Some(ZoneKind::Movable));
        assert_eq!(zone(3), Some(ZoneKind::Normal));
        // Sizes that firmware made up do not wrap around.
        let huge = [range(0, u64::MAX), range(0, u64::MAX)];
        assert_eq!(bench.mm.auto_zone(&huge, NodeId::ZERO), Some(ZoneKind::Normal));
    }
}
