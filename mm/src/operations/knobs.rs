//! The settings of the policy, and their names for users.

use core::fmt;
use core::str::FromStr;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The default share of movable memory that [`AutoOnline::AutoMovable`] allows, in per cent of the memory that is
/// not movable.
pub const AUTO_MOVABLE_RATIO: u32 = 301;

/// The zone in which a block comes online.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnlineAs {
    /// That of its neighbour: see [`Mm::zone_of`](crate::Mm::zone_of).
    Default,
    /// For kernel and movable allocations.
    Kernel,
    /// For movable allocations only.
    Movable,
}

impl OnlineAs {
    /// Every way, with its name for users.
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

/// The state of memory right after it was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoOnline {
    /// It stays offline.
    Offline,
    /// It comes online this way. Movable is the default: such memory can be removed at any time.
    Online(OnlineAs),
    /// It comes online movable while the movable memory is at most `ratio` per cent of the rest; for the kernel
    /// otherwise.
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

hotmem_paging::errors! {
    /// The name is not that of a policy.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct UnknownPolicy => "a policy is offline, online, online_kernel, online_movable or auto_movable";
}

impl FromStr for AutoOnline {
    type Err = UnknownPolicy;

    /// Parses the output of [`Display`](fmt::Display). The ratio is optional, and may follow a colon instead of a
    /// space, if a space would end the word.
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
    /// The policy's number, as difference from [`MOVABLE`]: the default is zero.
    auto: AtomicU32,
    /// As difference from [`AUTO_MOVABLE_RATIO`].
    ratio: AtomicU32,
    hosts_elsewhere: AtomicBool,
    whole_blocks: AtomicBool,
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
            whole_blocks: AtomicBool::new(false),
        }
    }

    /// See [`Mm::auto_online`](crate::Mm::auto_online).
    pub(crate) fn auto_online(&self) -> AutoOnline {
        match self.auto.load(Ordering::Relaxed) ^ MOVABLE {
            OFFLINE => AutoOnline::Offline,
            AUTO => {
                let ratio = self.ratio.load(Ordering::Relaxed) ^ AUTO_MOVABLE_RATIO;
                AutoOnline::AutoMovable { ratio }
            }
            way => AutoOnline::Online(
                OnlineAs::ALL.get(way as usize - 1).map_or(OnlineAs::Movable, |&(_, way)| way),
            ),
        }
    }

    /// See [`Mm::set_auto_online`](crate::Mm::set_auto_online).
    pub(crate) fn set_auto_online(&self, policy: AutoOnline) {
        let number = match policy {
            AutoOnline::Offline => OFFLINE,
            AutoOnline::Online(way) => 1 + way as u32,
            AutoOnline::AutoMovable { ratio } => {
                self.ratio.store(ratio ^ AUTO_MOVABLE_RATIO, Ordering::Relaxed);
                AUTO
            }
        };
        self.auto.store(number ^ MOVABLE, Ordering::Relaxed);
    }

    /// See [`Mm::self_hosting`](crate::Mm::self_hosting).
    pub(crate) fn self_hosting(&self) -> bool {
        !self.hosts_elsewhere.load(Ordering::Relaxed)
    }

    /// See [`Mm::set_self_hosting`](crate::Mm::set_self_hosting).
    pub(crate) fn set_self_hosting(&self, enabled: bool) {
        self.hosts_elsewhere.store(!enabled, Ordering::Relaxed);
    }

    /// See [`Mm::whole_blocks`](crate::Mm::whole_blocks).
    pub(crate) fn whole_blocks(&self) -> bool {
        self.whole_blocks.load(Ordering::Relaxed)
    }

    /// See [`Mm::set_whole_blocks`](crate::Mm::set_whole_blocks).
    pub(crate) fn set_whole_blocks(&self, only: bool) {
        self.whole_blocks.store(only, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::memmap::placement::Placement;
    use crate::testing::Random;
    use std::string::ToString;

    #[test]
    fn every_policy_and_placement_is_read_back_as_it_was_written() {
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
}
