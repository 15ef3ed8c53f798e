//! The renderer of a report for people: wrapped text, aligned facts; colours on a terminal only.

use std::io::{IsTerminal, stdout};

use crate::layout::{WIDTH, hanging, wrapped};
use crate::machine::{Config, Verdict};
use crate::size::counted;

/// What stands before everything below a heading.
const MARGIN: &str = "   ";

/// Columns for lines that are set as they are.
pub(super) const INNER: usize = WIDTH - MARGIN.len();

/// Where a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    /// Standard output.
    Plain,
    /// Standard output that shows colours.
    Coloured,
    /// Nowhere.
    #[cfg(test)]
    Silent,
}

/// One entry of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    /// What this tour is about.
    Title(String),
    /// The start of a chapter.
    Chapter(usize, String),
    /// Running text.
    Text(String),
    /// Lines set as they are: a picture, a table.
    Lines(Vec<String>),
    /// A named fact.
    Fact(&'static str, String),
    /// Something that was checked and holds.
    Checked(String),
    /// The kernel's own words.
    Quote(String),
    /// The end of the console, of a run that failed.
    Console(Vec<String>),
    /// The end.
    Verdict(Verdict),
}

impl Page {
    /// Standard output, coloured if it is a terminal and colours are not turned off (<https://no-color.org>).
    pub(crate) fn stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        if wanted && stdout().is_terminal() { Self::Coloured } else { Self::Plain }
    }

    /// Prints an entry.
    pub(crate) fn show(self, entry: &Entry) {
        #[cfg(test)]
        if self == Self::Silent {
            return;
        }
        println!("{}", self.rendered(entry));
    }

    /// An entry as text.
    fn rendered(self, entry: &Entry) -> String {
        match entry {
            Entry::Title(title) => self.painted("1", &wrapped(title, WIDTH).join("\n")),
            Entry::Chapter(number, title) => {
                format!("\n{}", self.painted("1;36", &format!("{number}. {title}")))
            }
            Entry::Text(text) => set(&wrapped(text, INNER), MARGIN),
            Entry::Lines(lines) => set(lines, MARGIN),
            Entry::Fact(name, value) => {
                hanging(&format!("{MARGIN}{name:<28} "), value, WIDTH).join("\n")
            }
            Entry::Checked(what) => self.marked("32", "ok", what),
            Entry::Quote(words) => self.marked("33", "kernel:", words),
            Entry::Console(lines) => {
                let lines: Vec<_> = lines.iter().flat_map(|line| chopped(line)).collect();
                let heading = self.painted("1", "The console's last lines:");
                format!("\n{heading}\n{}", set(&lines, "   | "))
            }
            Entry::Verdict(verdict) => {
                let colour = match verdict {
                    Verdict::Pass => "1;32",
                    Verdict::Refused(_) => "1;33",
                    Verdict::Fail(_) => "1;31",
                };
                let lines = hanging("verdict: ", &verdict.to_string(), WIDTH);
                format!("\n{}", self.painted(colour, &lines.join("\n")))
            }
        }
    }

    /// Text behind a painted mark.
    fn marked(self, code: &str, mark: &str, text: &str) -> String {
        let lines = hanging(&format!("{MARGIN}{mark} "), text, WIDTH);
        lines.join("\n").replacen(mark, &self.painted(code, mark), 1)
    }

    fn painted(self, code: &str, text: &str) -> String {
        if self == Self::Coloured { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// `lines` with `margin` before each that is not empty.
fn set(lines: &[String], margin: &str) -> String {
    let set =
        |line: &String| if line.is_empty() { String::new() } else { format!("{margin}{line}") };
    lines.iter().map(set).collect::<Vec<_>>().join("\n")
}

/// The first 200 characters of a line of the console, broken where they do not fit.
fn chopped(line: &str) -> Vec<String> {
    let shown: Vec<_> = line.chars().take(200).collect();
    let pieces = shown.chunks(WIDTH - 5).map(|piece| piece.iter().collect());
    if shown.is_empty() { vec![String::new()] } else { pieces.collect() }
}

/// The title of a tour of such a machine.
pub(crate) fn title(config: &Config) -> Entry {
    let (arch, machine) = (config.image.arch, machine(config).join(", "));
    Entry::Title(format!("Memory hotplug on {arch} ({machine})"))
}

/// What the machine is, in a few words.
pub(crate) fn machine(config: &Config) -> Vec<String> {
    let mut words = vec![config.board.to_owned()];
    if !config.cpu.is_empty() {
        words.push(config.cpu.clone());
    }
    words.extend(config.level.map(|level| format!("EL{level}")));
    words.extend(config.gic.map(|version| format!("GICv{version}")));
    if config.image.arch.about().boots.len() > 1 {
        words.push(config.image.firmware.to_string());
    }
    words.push(counted(config.cpus.into(), "CPU"));
    words.push(config.accel.to_string());
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;
    use crate::layout::too_long;

    #[test]
    fn a_machine_is_described_by_what_there_is_a_choice_of() {
        assert_eq!(machine(&Config::of(Arch::X86_64)), ["q35", "bios", "1 CPU", "tcg"]);
        assert_eq!(
            machine(&Config::of(Arch::Aarch64)),
            ["virt", "neoverse-n1", "EL2", "GICv3", "bare", "1 CPU", "tcg"]
        );
    }

    #[test]
    fn each_entry_has_its_form() {
        let lines = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        for (entry, text) in [
            (title(&Config::of(Arch::X86_64)), "Memory hotplug on x86_64 (q35, bios, 1 CPU, tcg)"),
            (Entry::Chapter(2, "Plug".into()), "\n2. Plug"),
            (Entry::Text("It is up.".into()), "   It is up."),
            (Entry::Lines(lines(&["", "a  b"])), "\n   a  b"),
            (Entry::Fact("memory", "1 B".into()), "   memory                       1 B"),
            (Entry::Checked("it is gone".into()), "   ok it is gone"),
            (Entry::Quote("no".into()), "   kernel: no"),
            (Entry::Console(lines(&["x"])), "\nThe console's last lines:\n   | x"),
            (Entry::Verdict(Verdict::Pass), "\nverdict: pass"),
        ] {
            assert_eq!(Page::Plain.rendered(&entry), text);
        }
    }

    #[test]
    fn each_entry_fits_eighty_columns() {
        let long = || "a long reason in many words ".repeat(8);
        let entries = [
            Entry::Title(long()),
            Entry::Text(long()),
            Entry::Fact("flushes for another CPU", long()),
            Entry::Checked(long()),
            Entry::Quote(long()),
            Entry::Console(vec!["x".repeat(500)]),
            Entry::Verdict(Verdict::Refused(long())),
            Entry::Verdict(Verdict::Fail(long())),
        ];
        for entry in entries {
            let text = Page::Plain.rendered(&entry);
            assert!(too_long(&text).is_empty(), "{:?}", too_long(&text));
        }
    }

    #[test]
    fn colours_are_for_terminals_only() {
        let entry = Entry::Verdict(Verdict::Pass);
        assert_eq!(Page::Coloured.rendered(&entry), "\n\x1b[1;32mverdict: pass\x1b[0m");
    }
}
