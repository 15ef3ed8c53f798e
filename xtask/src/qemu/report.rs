//! The tour's report: a value that holds all that a tour found and printed.
//!
//! Programs read it as one JSON object, addresses and sizes in bytes. People read its entries as the
//! [page](super::page) renders each as soon as it is known.

use serde::Serialize;

use super::guest_report::GuestReport;
use super::page::{Entry, Page};
use crate::machine::{Config, Cpu, Map, Step};

/// What a tour found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    arch: &'static str,
    machine: &'static str,
    accel: String,
    /// Bytes in a page: the configured size until the kernel reports its own.
    pub(crate) page_size: u64,
    /// `pass`, `refused` or `fail`.
    pub(crate) verdict: &'static str,
    /// Bytes of boot memory set aside for memory to come; null if the kernel never reported it.
    pub(crate) reserved_for_hotplug: Option<u64>,
    /// The CPUs that are up, and what they did; empty if the kernel never reported it.
    pub(crate) cpus: Vec<Cpu>,
    /// The guest, and the pull from under it; null without one.
    pub(crate) guest: Option<GuestReport>,
    /// Memory before and after a pull.
    pub(crate) maps: Vec<Map>,
    /// What the kernel did, in order, as it reported it.
    pub(crate) steps: Vec<Step>,
    /// The messages about it, for people.
    #[serde(skip)]
    entries: Vec<Entry>,
    #[serde(skip)]
    page: Page,
}

impl Report {
    /// An empty report on a machine, which prints on `page`.
    pub(crate) fn new(config: &Config, page: Page) -> Self {
        Self {
            arch: config.image.arch.name(),
            machine: config.board,
            accel: config.accel.to_string(),
            page_size: config.image.page,
            verdict: "fail",
            reserved_for_hotplug: None,
            cpus: Vec::new(),
            guest: None,
            maps: Vec::new(),
            steps: Vec::new(),
            entries: Vec::new(),
            page,
        }
    }

    /// Adds an entry, and prints it.
    pub(crate) fn push(&mut self, entry: Entry) {
        self.page.show(&entry);
        self.entries.push(entry);
    }

    /// Begins a chapter.
    pub(crate) fn chapter(&mut self, title: impl Into<String>) {
        let before = self.entries.iter().filter(|entry| matches!(entry, Entry::Chapter(..)));
        let number = before.count() + 1;
        self.push(Entry::Chapter(number, title.into()));
    }

    /// Adds running text.
    pub(crate) fn text(&mut self, text: impl Into<String>) {
        self.push(Entry::Text(text.into()));
    }

    /// Adds a named fact.
    pub(crate) fn fact(&mut self, name: &'static str, value: impl Into<String>) {
        self.push(Entry::Fact(name, value.into()));
    }

    /// Adds something that was checked and holds.
    pub(crate) fn checked(&mut self, what: impl Into<String>) {
        self.push(Entry::Checked(what.into()));
    }

    /// All messages.
    #[cfg(test)]
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;
    use crate::machine::Verdict;

    #[test]
    fn the_report_has_the_promised_fields_in_the_promised_order() {
        let mut report = Report::new(&Config::of(Arch::X86_64), Page::Silent);
        report.chapter("Boot");
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(
            json,
            r#"{"arch":"x86_64","machine":"q35","accel":"tcg","page_size":4096,"verdict":"fail","reserved_for_hotplug":null,"cpus":[],"guest":null,"maps":[],"steps":[]}"#
        );
    }

    #[test]
    fn chapters_are_numbered_and_the_verdict_is_the_last_entry() {
        let mut report = Report::new(&Config::of(Arch::X86_64), Page::Silent);
        report.chapter("Boot");
        report.text("The kernel is up.");
        report.chapter("Check");
        report.push(Entry::Verdict(Verdict::Pass));
        assert_eq!(
            report.entries(),
            [
                Entry::Chapter(1, "Boot".into()),
                Entry::Text("The kernel is up.".into()),
                Entry::Chapter(2, "Check".into()),
                Entry::Verdict(Verdict::Pass),
            ]
        );
    }
}
