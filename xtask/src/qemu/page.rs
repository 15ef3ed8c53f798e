//! How the tour looks: headings, facts, the verdict; colours on a terminal only.

use std::io::{IsTerminal, stdout};

use crate::machine::{Config, Verdict};

/// Width that running text is wrapped at.
const WIDTH: usize = 88;

/// The tour's output.
pub(crate) struct Page {
    colours: bool,
}

impl Page {
    /// Standard output, coloured if a person looks at it and wants colours (<https://no-color.org>).
    pub(crate) fn stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colours: wanted && stdout().is_terminal() }
    }

    /// Output without colours.
    #[cfg(test)]
    pub(crate) fn plain() -> Self {
        Self { colours: false }
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// What this tour is about.
    pub(crate) fn title(&self, config: &Config) {
        let what =
            format!("Memory hotplug on {} ({})", config.image.arch, machine(config).join(", "));
        println!("{}", self.painted("1", &what));
    }

    /// The start of a chapter.
    pub(crate) fn chapter(&self, number: usize, title: &str) {
        println!("\n{}", self.painted("1;36", &format!("{number}. {title}")));
    }

    /// Running text.
    pub(crate) fn text(&self, text: &str) {
        for line in wrapped(text, WIDTH - 3) {
            println!("   {line}");
        }
    }

    /// A line set as it is.
    pub(crate) fn line(&self, line: &str) {
        println!("{}", if line.is_empty() { String::new() } else { format!("   {line}") });
    }

    /// A named fact.
    pub(crate) fn fact(&self, name: &str, value: &str) {
        println!("   {name:<28} {value}");
    }

    /// Something that was checked and holds.
    pub(crate) fn checked(&self, what: &str) {
        println!("   {} {what}", self.painted("32", "ok"));
    }

    /// The kernel's own words.
    pub(crate) fn quote(&self, words: &str) {
        println!("   {} {words}", self.painted("33", "kernel:"));
    }

    /// The end of the console, for a run that failed.
    pub(crate) fn console_tail(&self, lines: &[String]) {
        println!("\n{}", self.painted("1", "The console's last lines:"));
        for line in lines {
            println!("   | {line:.200}");
        }
    }

    /// The last line of all.
    pub(crate) fn verdict(&self, verdict: &Verdict) {
        let colour = match verdict {
            Verdict::Pass => "1;32",
            Verdict::Refused(_) => "1;33",
            Verdict::Fail(_) => "1;31",
        };
        println!("\n{}", self.painted(colour, &format!("verdict: {verdict}")));
    }
}

/// What the machine is, in a few words.
fn machine(config: &Config) -> Vec<String> {
    let mut words = vec![config.board.to_owned()];
    if !config.cpu.is_empty() {
        words.push(config.cpu.clone());
    }
    words.extend(config.level.map(|level| format!("EL{level}")));
    words.extend(config.gic.map(|version| format!("GICv{version}")));
    if config.image.arch.about().boots.len() > 1 {
        words.push(config.image.firmware.name().to_owned());
    }
    words.push(config.accel.name().to_owned());
    words
}

/// `text` in lines of at most `width` characters, broken at spaces.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let full = lines
            .last()
            .is_some_and(|line| !line.is_empty() && line.len() + 1 + word.len() > width);
        if full {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;

    #[test]
    fn text_is_wrapped_at_spaces() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("incomprehensible word", 5), ["incomprehensible", "word"]);
    }

    #[test]
    fn a_machine_is_described_by_what_there_is_a_choice_of() {
        assert_eq!(machine(&Config::of(Arch::X86_64)), ["q35", "tcg"]);
        assert_eq!(
            machine(&Config::of(Arch::Aarch64)),
            ["virt", "neoverse-n1", "EL2", "GICv3", "bare", "tcg"]
        );
    }

    #[test]
    fn colours_are_for_terminals_only() {
        assert_eq!(Page::plain().painted("1", "x"), "x");
        assert_eq!(Page { colours: true }.painted("1", "x"), "\x1b[1mx\x1b[0m");
    }
}
