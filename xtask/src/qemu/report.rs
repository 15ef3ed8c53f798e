//! The tour's report for programs: one JSON object, addresses and sizes in bytes.

use serde::Serialize;

use crate::machine::{Config, Step};

/// What a tour found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    arch: &'static str,
    machine: &'static str,
    accel: &'static str,
    /// Bytes in a page: what was asked for until the kernel tells.
    pub(crate) page_size: u64,
    /// `pass`, `refused` or `fail`.
    pub(crate) verdict: &'static str,
    /// Bytes of boot memory set aside for memory to come; null if the kernel never told.
    pub(crate) reserved_for_hotplug: Option<u64>,
    /// What the kernel did, in order, as it reported it.
    pub(crate) steps: Vec<Step>,
}

impl Report {
    /// A report that has seen nothing pass yet.
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            arch: config.image.arch.name(),
            machine: config.board,
            accel: config.accel.name(),
            page_size: config.image.page,
            verdict: "fail",
            reserved_for_hotplug: None,
            steps: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;

    #[test]
    fn the_report_has_the_promised_fields_in_the_promised_order() {
        let json = serde_json::to_string(&Report::new(&Config::of(Arch::X86_64))).unwrap();
        assert_eq!(
            json,
            r#"{"arch":"x86_64","machine":"q35","accel":"tcg","page_size":4096,"verdict":"fail","reserved_for_hotplug":null,"steps":[]}"#
        );
    }
}
