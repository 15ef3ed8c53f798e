//! What the tables hold that is used, and what of them was left out: for the monitor.

use core::fmt::{self, Write};

use hotmem_aml::{Extent, Skipped};
use hotmem_hotplug::{JsonString, OrNull, json_list, shown};

use super::hardware::Hardware;
use super::source::AcpiSource;

/// For people.
pub(super) fn text<H: Hardware>(source: &AcpiSource<H>, out: &mut dyn Write) -> fmt::Result {
    write!(out, "{}", source.aml.loaded())?;
    source.left_out.iter().try_for_each(|error| writeln!(out, "left out: {error}"))?;
    source.pmem.refused().iter().try_for_each(|error| writeln!(out, "left out: NFIT: {error}"))?;
    writeln!(out, "memory devices: {}", source.devices.len())?;
    source.handlers.lines.iter().try_for_each(|line| writeln!(out, "events by {line}"))
}

/// As one line of JSON.
pub(super) fn json<H: Hardware>(source: &AcpiSource<H>, out: &mut dyn Write) -> fmt::Result {
    let report = source.aml.load_report();
    let definitions =
        shown(|f| json_list(f, report.skipped(), |skipped, out| write!(out, "{}", Json(skipped))));
    let tables = shown(|f| {
        json_list(f, &source.left_out, |error, out| write!(out, "{}", JsonString(error)))
    });
    let pmem = shown(|f| {
        json_list(f, source.pmem.refused(), |error, out| write!(out, "{}", JsonString(error)))
    });
    let lines =
        shown(|f| json_list(f, &source.handlers.lines, |line, out| write!(out, "{}", line.gsi)));
    write!(
        out,
        "{{\"tables\":{},\"names\":{},\"left_out\":{},\"definitions\":{definitions},\
         \"tables_left_out\":{tables},\"memory_devices\":{},\"lines\":{lines},\"pmem_left_out\":{pmem}}}",
        source.aml.table_count(),
        source.aml.usage().nodes,
        report.count() as usize + source.left_out.len() + source.pmem.refused().len(),
        source.devices.len(),
    )
}

/// A definition that was left out.
struct Json<'a>(&'a Skipped);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Skipped { term, name, extent, error } = self.0;
        let extent = match extent {
            Extent::Term => "term",
            Extent::List => "list",
            Extent::Table => "table",
        };
        let table = error.place.map(|place| place.table);
        let offset = error.place.map(|place| place.offset);
        write!(
            f,
            "{{\"what\":{},\"name\":{},\"extent\":\"{extent}\",\"table\":{},\"offset\":{},\"error\":{}}}",
            JsonString(term),
            OrNull(name.map(JsonString)),
            OrNull(table),
            OrNull(offset),
            JsonString(error.kind)
        )
    }
}
