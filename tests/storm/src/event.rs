//! What can happen, and how a line of a log says it.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail, ensure};

/// Blocks of plugged memory that no device of firmware owns: the operator's.
pub const WINDOW_BLOCKS: u64 = 8;
/// Slots for DIMMs that firmware gives and takes.
pub const SLOTS: usize = 4;
/// Blocks of the largest DIMM of a slot.
pub const SLOT_BLOCKS: u64 = 2;
/// Regions of persistent memory, which the operator has serve as RAM, and takes back.
pub const REGIONS: usize = 2;
/// Blocks of a region.
pub const REGION_BLOCKS: u64 = 2;
/// Blocks of boot memory that can go offline.
pub const BOOT_BLOCKS: u64 = 2;

/// A block, by what it is: `w3` is the operator's fourth, `s1.0` the first of slot 1, `p1.0` that of the second region of
/// persistent memory, `b0` one of boot memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Of the operator's memory.
    Window(u64),
    /// Of the DIMM in a slot.
    Slot(usize, u64),
    /// Of a region of persistent memory.
    Region(usize, u64),
    /// Of boot memory.
    Boot(u64),
}

/// Neighbours of the operator's blocks, as `FIRST+COUNT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first.
    pub first: u64,
    /// How many; one at least.
    pub count: u64,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[$each])* $variant),*
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its word in a log, which is the monitor's, too.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.word())
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(word: &str) -> Result<Self> {
                let found = Self::ALL.iter().copied().find(|one| one.word() == word);
                found.with_context(|| format!("'{word}' is not one of {:?}", Self::ALL))
            }
        }
    };
}

words! {
    /// The place of a memmap.
    Memmap {
        /// At the start of the range.
        Range = "device",
        /// At the start of each block.
        Block = "block",
        /// In boot memory.
        Boot = "boot",
    }
}

words! {
    /// Whether memory is used that may hold data.
    Force {
        /// It is not.
        No = "gently",
        /// It is.
        Yes = "force",
    }
}

words! {
    /// The zone of a block that is online.
    Zone {
        /// For the kernel.
        Normal = "normal",
        /// For pages that can be moved.
        Movable = "movable",
    }
}

words! {
    /// What becomes of a DIMM that was added.
    Policy {
        /// It stays offline.
        Offline = "offline",
        /// Online, for the kernel.
        Kernel = "online_kernel",
        /// Online, for pages that can be moved.
        Movable = "online_movable",
    }
}

words! {
    /// A change of a block that listeners may object to.
    Kind {
        /// Coming online.
        Online = "online",
        /// Going offline.
        Offline = "offline",
    }
}

words! {
    /// What happens after a request to the kernel by firmware.
    Wait {
        /// The next event.
        No = "now",
        /// The end of all requests.
        Yes = "wait",
    }
}

impl Zone {
    /// The monitor's word for bringing a block online in it.
    pub const fn way(self) -> &'static str {
        match self {
            Self::Normal => "online_kernel",
            Self::Movable => "online_movable",
        }
    }
}

impl Policy {
    /// The zone of a block that it brings online.
    pub const fn zone(self) -> Option<Zone> {
        match self {
            Self::Offline => None,
            Self::Kernel => Some(Zone::Normal),
            Self::Movable => Some(Zone::Movable),
        }
    }
}

/// Something that happens to a machine. Each variant begins with its line in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// `plug SLOT BLOCKS now|wait`: a DIMM of so many blocks comes into a slot, if that is empty.
    Plug(usize, u64, Wait),
    /// `unplug SLOT now|wait`: firmware asks for the DIMM of a slot, unless it has already.
    Unplug(usize, Wait),
    /// `twice SLOT now|wait`: the same, asked twice before the kernel can look.
    Twice(usize, Wait),
    /// `cancel`: the operator cancels the unplug that is under way.
    Cancel,
    /// `settle`: nothing happens until all requests of firmware have ended.
    Settle,
    /// `turn N`: the kernel does so much of its work. A machine with a clock of its own needs no such event.
    Turn(u64),
    /// `add RUN device|block|boot`: the operator adds blocks.
    Add(Run, Memmap),
    /// `remove RUN`: the operator removes blocks.
    Remove(Run),
    /// `convert RUN`: each block gets a memmap of its own.
    Convert(Run),
    /// `pmem-add REGION device|block|boot gently|force`: persistent memory serves as RAM. A machine that has none leaves this out,
    /// and all else about it.
    PmemAdd(usize, Memmap, Force),
    /// `pmem-remove REGION now|wait`: the operator begins to take it back. While that is under way, both are left out.
    PmemRemove(usize, Wait),
    /// `online PLACE normal|movable`.
    Online(Place, Zone),
    /// `offline PLACE`.
    Offline(Place),
    /// `take PLACE`: boot memory leaves the linear map.
    Take(Place),
    /// `release`: all of that comes back.
    Release,
    /// `poison PLACE PAGE`: a page of a block is bad.
    Poison(Place, u64),
    /// `alloc NAME ORDER`: unmovable pages, if nothing has that name.
    Alloc(u64, u32),
    /// `free NAME`.
    Free(u64),
    /// `grow NAME ORDER`: movable pages with contents, if nothing has that name.
    Grow(u64, u32),
    /// `drop NAME`: frees them.
    Drop(u64),
    /// `pin NAME`: they must not move.
    Pin(u64),
    /// `unpin NAME`.
    Unpin(u64),
    /// `veto online|offline`: a listener objects from now on.
    Veto(Kind),
    /// `allow online|offline`: it is gone.
    Allow(Kind),
    /// `compact normal|movable ORDER`.
    Compact(Zone, u32),
    /// `policy POLICY`: for DIMMs that come.
    Policy(Policy),
    /// `vmemmap enable|disable`: whether added memory may hold its own memmap.
    Hosting(bool),
    /// `reset`: the machine starts again with its DIMMs. The kernel forgets everything else, and takes each DIMM that it
    /// finds; one that was asked for before goes.
    Reset,
    /// `guest NAME`: a guest of that name begins to compute, if none has it. A machine that runs no guests leaves it out.
    Guest(u64),
    /// `kill NAME`: it ends.
    Kill(u64),
    /// `fault K`: a step of the next event that types a command fails. A machine counts its own: where K is larger than the
    /// number of steps, none fails.
    Fault(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Window(block) => write!(f, "w{block}"),
            Self::Slot(slot, block) => write!(f, "s{slot}.{block}"),
            Self::Region(region, block) => write!(f, "p{region}.{block}"),
            Self::Boot(block) => write!(f, "b{block}"),
        }
    }
}

impl FromStr for Place {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        let (kind, rest) = word.split_at_checked(1).context("a block is missing")?;
        let number = |digits: &str, end: u64| {
            let found = digits.parse().ok().filter(|&number| number < end);
            found.with_context(|| format!("'{word}' is not a block"))
        };
        match (kind, rest.split_once('.')) {
            ("w", None) => number(rest, WINDOW_BLOCKS).map(Self::Window),
            ("b", None) => number(rest, BOOT_BLOCKS).map(Self::Boot),
            ("s", Some((slot, block))) => Ok(Self::Slot(
                usize::try_from(number(slot, SLOTS as u64)?)?,
                number(block, SLOT_BLOCKS)?,
            )),
            ("p", Some((region, block))) => Ok(Self::Region(
                usize::try_from(number(region, REGIONS as u64)?)?,
                number(block, REGION_BLOCKS)?,
            )),
            _ => bail!("'{word}' is not a block"),
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.first, self.count)
    }
}

impl FromStr for Run {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        let (first, count) =
            word.split_once('+').with_context(|| format!("'{word}' is not a run"))?;
        let (first, count): (u64, u64) = (first.parse()?, count.parse()?);
        let fits = count > 0 && first.checked_add(count).is_some_and(|end| end <= WINDOW_BLOCKS);
        ensure!(fits, "{word} is not within {WINDOW_BLOCKS} blocks");
        Ok(Self { first, count })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plug(slot, blocks, wait) => write!(f, "plug {slot} {blocks} {wait}"),
            Self::Unplug(slot, wait) => write!(f, "unplug {slot} {wait}"),
            Self::Twice(slot, wait) => write!(f, "twice {slot} {wait}"),
            Self::Cancel => f.write_str("cancel"),
            Self::Settle => f.write_str("settle"),
            Self::Turn(turns) => write!(f, "turn {turns}"),
            Self::Add(run, memmap) => write!(f, "add {run} {memmap}"),
            Self::Remove(run) => write!(f, "remove {run}"),
            Self::Convert(run) => write!(f, "convert {run}"),
            Self::PmemAdd(region, memmap, force) => write!(f, "pmem-add {region} {memmap} {force}"),
            Self::PmemRemove(region, wait) => write!(f, "pmem-remove {region} {wait}"),
            Self::Online(place, zone) => write!(f, "online {place} {zone}"),
            Self::Offline(place) => write!(f, "offline {place}"),
            Self::Take(place) => write!(f, "take {place}"),
            Self::Release => f.write_str("release"),
            Self::Poison(place, page) => write!(f, "poison {place} {page}"),
            Self::Alloc(name, order) => write!(f, "alloc {name} {order}"),
            Self::Free(name) => write!(f, "free {name}"),
            Self::Grow(name, order) => write!(f, "grow {name} {order}"),
            Self::Drop(name) => write!(f, "drop {name}"),
            Self::Pin(name) => write!(f, "pin {name}"),
            Self::Unpin(name) => write!(f, "unpin {name}"),
            Self::Veto(kind) => write!(f, "veto {kind}"),
            Self::Allow(kind) => write!(f, "allow {kind}"),
            Self::Compact(zone, order) => write!(f, "compact {zone} {order}"),
            Self::Policy(policy) => write!(f, "policy {policy}"),
            Self::Hosting(true) => f.write_str("vmemmap enable"),
            Self::Hosting(false) => f.write_str("vmemmap disable"),
            Self::Reset => f.write_str("reset"),
            Self::Guest(name) => write!(f, "guest {name}"),
            Self::Kill(name) => write!(f, "kill {name}"),
            Self::Fault(nth) => write!(f, "fault {nth}"),
        }
    }
}

/// The words of a line that were not read yet.
struct Words<'t>(std::str::SplitAsciiWhitespace<'t>);

impl Words<'_> {
    fn next<T: FromStr>(&mut self) -> Result<T>
    where
        Error: From<T::Err>,
    {
        let word = self.0.next().context("a word is missing")?;
        word.parse().map_err(|error| Error::from(error).context(format!("'{word}'")))
    }

    fn slot(&mut self) -> Result<usize> {
        let slot = self.next()?;
        ensure!(slot < SLOTS, "no slot {slot} exists");
        Ok(slot)
    }

    fn region(&mut self) -> Result<usize> {
        let region = self.next()?;
        ensure!(region < REGIONS, "no region {region} exists");
        Ok(region)
    }
}

impl FromStr for Event {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut words = Words(line.split_ascii_whitespace());
        let event = read(&mut words).with_context(|| format!("'{line}'"))?;
        ensure!(words.0.next().is_none(), "'{line}' has too many words");
        Ok(event)
    }
}

fn read(words: &mut Words<'_>) -> Result<Event> {
    let name: String = words.next()?;
    Ok(match name.as_str() {
        "plug" => {
            let (slot, blocks) = (words.slot()?, words.next()?);
            ensure!((1..=SLOT_BLOCKS).contains(&blocks), "a DIMM does not have {blocks} blocks");
            Event::Plug(slot, blocks, words.next()?)
        }
        "unplug" => Event::Unplug(words.slot()?, words.next()?),
        "twice" => Event::Twice(words.slot()?, words.next()?),
        "cancel" => Event::Cancel,
        "settle" => Event::Settle,
        "turn" => Event::Turn(words.next()?),
        "add" => Event::Add(words.next()?, words.next()?),
        "remove" => Event::Remove(words.next()?),
        "convert" => Event::Convert(words.next()?),
        "pmem-add" => Event::PmemAdd(words.region()?, words.next()?, words.next()?),
        "pmem-remove" => Event::PmemRemove(words.region()?, words.next()?),
        "online" => Event::Online(words.next()?, words.next()?),
        "offline" => Event::Offline(words.next()?),
        "take" => Event::Take(words.next()?),
        "release" => Event::Release,
        "poison" => Event::Poison(words.next()?, words.next()?),
        "alloc" => Event::Alloc(words.next()?, words.next()?),
        "free" => Event::Free(words.next()?),
        "grow" => Event::Grow(words.next()?, words.next()?),
        "drop" => Event::Drop(words.next()?),
        "pin" => Event::Pin(words.next()?),
        "unpin" => Event::Unpin(words.next()?),
        "veto" => Event::Veto(words.next()?),
        "allow" => Event::Allow(words.next()?),
        "compact" => Event::Compact(words.next()?, words.next()?),
        "policy" => Event::Policy(words.next()?),
        "vmemmap" => match words.next::<String>()?.as_str() {
            "enable" => Event::Hosting(true),
            "disable" => Event::Hosting(false),
            other => bail!("'{other}' is neither enable nor disable"),
        },
        "reset" => Event::Reset,
        "guest" => Event::Guest(words.next()?),
        "kill" => Event::Kill(words.next()?),
        "fault" => Event::Fault(words.next()?),
        other => bail!("there is no event '{other}'"),
    })
}

impl Event {
    /// The first word of its line.
    pub fn name(&self) -> String {
        let line = self.to_string();
        line.split(' ').next().unwrap_or_default().to_owned()
    }

    /// Whether it is about persistent memory.
    pub(crate) const fn is_about_region(&self) -> bool {
        match self {
            Self::PmemAdd(..) | Self::PmemRemove(..) => true,
            Self::Online(place, _)
            | Self::Offline(place)
            | Self::Take(place)
            | Self::Poison(place, _) => {
                matches!(place, Place::Region(..))
            }
            _ => false,
        }
    }
}
