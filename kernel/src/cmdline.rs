//! The kernel command line: words separated by spaces, `name=value` or `name`.

use crate::memory::layout::BLOCK_SHIFT;
use crate::number;
use hotmem::Placement;
use log::LevelFilter;

/// What the command line can choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// `placement=device|block|boot`: where the memmap of plugged memory goes.
    pub placement: Placement,
    /// `block=SIZE`: bytes of a memory block.
    pub block_bytes: u64,
    /// `policy=online|offline`: whether plugged memory comes online at once.
    pub auto_online: bool,
    /// `icount`: the time stamp counter counts instructions, so steps may report them.
    pub icount: bool,
    /// `log=LEVEL`.
    pub log: LevelFilter,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            placement: Placement::PerRange,
            block_bytes: 1 << BLOCK_SHIFT,
            auto_online: true,
            icount: false,
            log: LevelFilter::Info,
        }
    }
}

/// The placement called `name`.
pub fn placement(name: &str) -> Option<Placement> {
    Placement::ALL.into_iter().find(|placement| match placement {
        Placement::PerRange => name == "device",
        Placement::PerBlock => name == "block",
        Placement::Boot => name == "boot",
    })
}

impl Options {
    /// Reads a command line. A word that makes no sense is told to `ignored` and changes nothing.
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
            ("placement", name) => self.placement = placement(name)?,
            ("block", size) => self.block_bytes = number::parse_size(size)?,
            ("policy", "online") => self.auto_online = true,
            ("policy", "offline") => self.auto_online = false,
            ("icount", "") => self.icount = true,
            ("log", level) => self.log = level.parse().ok()?,
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_sets_its_option() {
        let line = b"placement=block  block=1G\tpolicy=offline icount log=debug";
        let options = Options::parse(line, |word| panic!("{word:?}"));
        let wanted = Options {
            placement: Placement::PerBlock,
            block_bytes: 1 << 30,
            auto_online: false,
            icount: true,
            log: LevelFilter::Debug,
        };
        assert_eq!(options, wanted);
        assert_eq!(Options::parse(b"", |_| panic!()), Options::default());
    }

    #[test]
    fn the_last_word_wins() {
        let options =
            Options::parse(b"policy=offline policy=online block=1G block=2G", |_| panic!());
        assert!(options.auto_online);
        assert_eq!(options.block_bytes, 2 << 30);
    }

    #[test]
    fn words_that_make_no_sense_are_told_and_change_nothing() {
        let line = b"placement=up block=big policy log=loud icount=1 quiet \xff=\xfe =";
        let mut count = 0;
        let options = Options::parse(line, |_| count += 1);
        assert_eq!(options, Options::default());
        assert_eq!(count, 8);
    }
}
