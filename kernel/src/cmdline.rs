//! The kernel command line: words separated by spaces, `name=value` or `name`.

use crate::memory::layout::BLOCK_SHIFT;
use hotmem::{AutoOnline, PhysAddr, PhysRange, Placement};
use hotmem_hotplug::{BUDGET, Growth, number};
use log::LevelFilter;

/// The options of the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// `placement=device|block|boot`: where the memmap of plugged memory goes.
    pub placement: Placement,
    /// `memmap_on_memory=device|block|off`: the same, but with `off` the memory manager also takes every memmap from
    /// system memory, until the operator allows other placements again.
    pub self_hosting: bool,
    /// `block=SIZE`: bytes of a memory block.
    pub block_bytes: u64,
    /// `blocks=whole|any`: whether memory that is not whole memory blocks is refused.
    pub whole_blocks: bool,
    /// `policy=offline|online|online_kernel|online_movable|auto_movable[:RATIO]`: the state that plugged memory gets
    /// automatically.
    pub policy: AutoOnline,
    /// `virtio_mem=eager|need[:LOW,HIGH]`: when memory is plugged that a host offers by a virtio-mem device.
    pub growth: Growth,
    /// `kernelcore=SIZE`: bytes of RAM that are system memory; blocks above can go offline.
    pub kernelcore: Option<u64>,
    /// `budget=N`: pages that an eject examines or moves before the kernel looks at its console.
    pub budget: u64,
    /// `scrub=all|guests|off`: what is cleared.
    pub scrub: Scrub,
    /// `initrdmem=ADDRESS,SIZE`: where the loader put a file beside the kernel.
    pub module: Option<PhysRange>,
    /// `icount`: the time stamp counter counts instructions, so steps may report them.
    pub icount: bool,
    /// `nmi=log|panic`: whether an NMI that the operator sends (x86_64) ends the kernel with a report.
    pub nmi_panics: bool,
    /// `log=LEVEL`.
    pub log: LevelFilter,
}

/// Which memory is cleared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scrub {
    /// That of guests, and all memory of a device before the device goes.
    #[default]
    All,
    /// That of guests, before anybody else gets it.
    Guests,
    /// None.
    Off,
}

impl Scrub {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Self); 3] =
        [("all", Self::All), ("guests", Self::Guests), ("off", Self::Off)];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(known, _)| *known == name).map(|(_, scrub)| scrub)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            placement: Placement::PerRange,
            self_hosting: true,
            block_bytes: 1 << BLOCK_SHIFT,
            whole_blocks: false,
            policy: AutoOnline::default(),
            growth: Growth::default(),
            kernelcore: None,
            budget: BUDGET,
            scrub: Scrub::default(),
            module: None,
            icount: false,
            nmi_panics: false,
            log: LevelFilter::Info,
        }
    }
}

/// Reads `ADDRESS,SIZE`.
fn range(text: &str) -> Option<PhysRange> {
    let (start, len) = text.split_once(',')?;
    PhysRange::new(PhysAddr::new(number::parse_size(start)?), number::parse_size(len)?)
}

impl Options {
    /// Reads a command line. Passes every unknown or invalid word to `ignored`; such a word changes nothing.
    pub fn parse(line: &[u8], mut ignored: impl FnMut(&[u8])) -> Self {
        let mut options = Self::default();
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        for word in words {
            let known = core::str::from_utf8(word).ok().and_then(|word| options.apply(word));
            if known.is_none() {
                ignored(word);
            }
        }
        options
    }

    fn apply(&mut self, word: &str) -> Option<()> {
        match word.split_once('=').unwrap_or((word, "")) {
            ("placement", name) => self.placement = name.parse().ok()?,
            ("blocks", "whole") => self.whole_blocks = true,
            ("blocks", "any") => self.whole_blocks = false,
            ("block", size) => self.block_bytes = number::parse_size(size)?,
            ("policy", name) => self.policy = name.parse().ok()?,
            ("virtio_mem", growth) => self.growth = growth.parse().ok()?,
            ("memmap_on_memory", "off") => self.self_hosting = false,
            ("memmap_on_memory", name) => {
                let placement =
                    name.parse().ok().filter(|placement: &Placement| placement.self_hosted());
                self.placement = placement?;
                self.self_hosting = true;
            }
            ("budget", count) => self.budget = number::parse(count).filter(|&count| count > 0)?,
            ("scrub", name) => self.scrub = Scrub::named(name)?,
            ("kernelcore", size) => self.kernelcore = Some(number::parse_size(size)?),
            ("initrdmem", place) => self.module = Some(range(place)?),
            ("icount", "") => self.icount = true,
            ("nmi", "log") => self.nmi_panics = false,
            ("nmi", "panic") => self.nmi_panics = true,
            ("log", level) => self.log = level.parse().ok()?,
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotmem::testing::Random;
    use hotmem::{Marks, OnlineAs};

    #[test]
    fn every_word_sets_its_option() {
        let line =
            b"placement=block  block=1G\tpolicy=offline icount log=debug kernelcore=256M budget=3 scrub=off blocks=whole initrdmem=0x48000000,3M nmi=panic virtio_mem=need:32M,96M";
        let options = Options::parse(line, |word| panic!("{word:?}"));
        let wanted = Options {
            placement: Placement::PerBlock,
            self_hosting: true,
            block_bytes: 1 << 30,
            whole_blocks: true,
            policy: AutoOnline::Offline,
            growth: Growth::Need(Marks::new(32 << 20, 96 << 20).unwrap()),
            kernelcore: Some(256 << 20),
            budget: 3,
            scrub: Scrub::Off,
            module: PhysRange::new(PhysAddr::new(0x4800_0000), 3 << 20),
            icount: true,
            nmi_panics: true,
            log: LevelFilter::Debug,
        };
        assert_eq!(options, wanted);
        assert_eq!(Options::parse(b"", |_| panic!()), Options::default());
    }

    #[test]
    fn the_last_word_wins() {
        let options =
            Options::parse(b"policy=offline policy=online_kernel block=1G block=2G", |_| panic!());
        assert_eq!(options.policy, AutoOnline::Online(OnlineAs::Kernel));
        assert_eq!(options.block_bytes, 2 << 30);
    }

    #[test]
    fn a_ratio_follows_its_policy() {
        let options = Options::parse(b"policy=auto_movable:77", |_| panic!());
        assert_eq!(options.policy, AutoOnline::AutoMovable { ratio: 77 });
    }

    #[test]
    fn the_placement_of_memmaps_can_be_set_by_linuxs_name() {
        let read = |line| {
            let options = Options::parse(line, |word| panic!("{word:?}"));
            (options.placement, options.self_hosting)
        };
        assert_eq!(read(b"memmap_on_memory=block"), (Placement::PerBlock, true));
        assert_eq!(read(b"memmap_on_memory=device"), (Placement::PerRange, true));
        assert!(!read(b"memmap_on_memory=off").1);
        assert!(read(b"memmap_on_memory=off memmap_on_memory=block").1);
    }

    /// The command line that sets these options.
    fn line(options: &Options) -> String {
        let Options { placement, self_hosting, block_bytes, whole_blocks, policy, .. } = options;
        let Options { growth, kernelcore, budget, scrub, module, icount, nmi_panics, log, .. } =
            options;
        let policy = policy.to_string().replace(' ', ":");
        let mut words = vec![
            format!("placement={placement}"),
            format!("block={block_bytes}"),
            format!("policy={policy}"),
            format!("budget={budget}"),
            format!("log={log}"),
        ];
        words.extend((!self_hosting).then(|| "memmap_on_memory=off".into()));
        words.push(format!("nmi={}", if *nmi_panics { "panic" } else { "log" }));
        words.push(format!("blocks={}", if *whole_blocks { "whole" } else { "any" }));
        let named = Scrub::ALL.into_iter().find(|(_, known)| known == scrub);
        words.extend(named.map(|(name, _)| format!("scrub={name}")));
        words.extend(kernelcore.map(|bytes| format!("kernelcore={bytes:#x}")));
        words.extend(module.map(|at| format!("initrdmem={:#x},{:#x}", at.start().get(), at.len())));
        words.push(match growth {
            Growth::Eager => "virtio_mem=eager".into(),
            Growth::Need(marks) => format!("virtio_mem=need:{},{:#x}", marks.low(), marks.high()),
        });
        words.extend(icount.then(|| "icount".into()));
        words.join(" ")
    }

    fn any(random: &mut Random) -> Options {
        let mut number = || {
            let shift = random.below(64);
            random.bits() >> shift
        };
        let [block_bytes, core, budget, ratio] = [number(), number(), number().max(1), number()];
        let [low, more] = [number().max(1), number()];
        let marks = Marks::new(low, low.saturating_add(more)).unwrap();
        let policies = OnlineAs::ALL.map(|(_, way)| AutoOnline::Online(way));
        let policies = policies
            .into_iter()
            .chain([AutoOnline::Offline, AutoOnline::AutoMovable { ratio: ratio as u32 }]);
        Options {
            placement: *random.pick(&Placement::ALL),
            self_hosting: random.one_in(2),
            block_bytes,
            whole_blocks: random.one_in(2),
            policy: *random.pick(&policies.collect::<Vec<_>>()),
            growth: if random.one_in(2) { Growth::Need(marks) } else { Growth::Eager },
            kernelcore: random.one_in(2).then_some(core),
            budget,
            scrub: random.pick(&Scrub::ALL).1,
            module: PhysRange::new(PhysAddr::new(core), budget),
            icount: random.one_in(2),
            nmi_panics: random.one_in(2),
            log: *random.pick(&[LevelFilter::Off, LevelFilter::Warn, LevelFilter::Trace]),
        }
    }

    #[test]
    fn every_option_is_read_back_as_it_was_written() {
        let mut random = Random::new(6);
        for _ in 0..5000 {
            let options = any(&mut random);
            let text = line(&options);
            let read = Options::parse(text.as_bytes(), |word| panic!("{word:?}"));
            assert_eq!(read, options, "{text}");
        }
    }

    #[test]
    fn a_damaged_line_is_read_as_far_as_it_is_valid() {
        let mut random = Random::new(7);
        for _ in 0..20_000 {
            let mut bytes = line(&any(&mut random)).into_bytes();
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len() as u64) as usize;
                bytes[at] = random.bits() as u8;
            }
            let options = Options::parse(&bytes, |word| assert!(!word.is_empty()));
            // The options that were read are the same when they are written and read again.
            let text = line(&options);
            let again = Options::parse(text.as_bytes(), |word| panic!("{word:?}"));
            assert_eq!(again, options, "{text}");
        }
    }

    #[test]
    fn invalid_words_are_reported_and_change_nothing() {
        let line = b"placement=up block=big policy memmap_on_memory=boot kernelcore=- budget=0 log=loud scrub=some initrdmem=1M icount=1 virtio_mem=lazy virtio_mem=need:2M,1M virtio_mem virtio_mem=need:0,1 quiet nmi=off \xff=\xfe =";
        let mut count = 0;
        let options = Options::parse(line, |_| count += 1);
        assert_eq!(options, Options::default());
        assert_eq!(count, 18);
    }
}
