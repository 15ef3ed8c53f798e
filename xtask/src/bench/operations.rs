//! What adding and removing memory costs, in instructions of machines whose time they are: DIMMs of all sizes, whose
//! memory nothing touches, and one with a share of its pages in use.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::plot::{Line, Plot};
use super::{Of, committed, started, write};
use crate::arch::Arch;
use crate::machine::{Add, Config, Dimm, Machine, Online, Placement};
use crate::size::{DimmSpec, GIB, Size, grouped};
use crate::tool;

/// The DIMMs, of which one is there at a time; the last one a second time, beside itself.
const DIMMS: [&str; 6] = ["128M", "1G", "8G", "32G", "128G", "1T"];
/// The largest DIMM whose memmap boot memory has room for.
const MOST_OF_BOOT: u64 = 8 * GIB;
/// A machine with room for a larger DIMM than this clears none when it goes: of a block a 32nd is cleared whole if one page of
/// it was used, gigabytes of a tebibyte, which this host would need. The figures do not count that.
const MOST_CLEARED: u64 = 128 * GIB;
/// Boot memory.
const BOOT: u64 = 2 * GIB;
/// The DIMM that is in use, and the shares of its pages, in per cent.
const USED: &str = "1G";
const SHARES: [u64; 3] = [1, 50, 99];

/// Which figures, and where they go.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    of: Of,
    /// Draw them into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Only rows with this in `DIMM, PLACEMENT`, of pages in use `DIMM, PLACEMENT, SHARE %`
    #[arg(conflicts_with_all = ["json", "svg"])]
    filter: Option<String>,
}

/// What a DIMM took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Row {
    placement: Placement,
    dimm: String,
    bytes: u64,
    /// Per cent of its pages that are in use when it goes.
    in_use: u64,
    add: u64,
    online: u64,
    offline: u64,
    remove: u64,
}

impl Row {
    /// What it is about.
    fn name(&self) -> String {
        name(&self.dimm, self.placement, self.in_use)
    }

    /// Its figures, each with the name of the operation.
    const fn figures(&self) -> [(&'static str, u64); 4] {
        let Self { add, online, offline, remove, .. } = *self;
        [("add", add), ("online", online), ("offline", offline), ("remove", remove)]
    }
}

impl committed::Row for Row {
    fn figures(&self) -> Vec<(String, u64)> {
        let figure = |(operation, figure)| (format!("{}: {operation}", self.name()), figure);
        Self::figures(self).map(figure).into()
    }
}

/// What a row is about.
fn name(dimm: &str, placement: Placement, in_use: u64) -> String {
    let used = if in_use == 0 { String::new() } else { format!(", {in_use} %") };
    format!("{dimm}, {}{used}", placement.word())
}

/// Measures, and prints a table.
///
/// # Errors
/// When a machine does not start, what it does fails, or a file cannot be written.
pub(super) fn main(root: &Path, args: &Args) -> Result<()> {
    let filter = args.filter.as_deref();
    let Of { arch, json } = &args.of;
    let rows = measure(root, *arch, &|name| filter.is_none_or(|filter| name.contains(filter)))?;
    ensure!(!rows.is_empty(), "no row is about {}", filter.unwrap_or_default());
    write(json.as_deref(), &rows)?;
    if let Some(file) = &args.svg {
        tool::write_in_folder(file, plot(*arch, &rows).draw().as_bytes())?;
    }
    Ok(())
}

/// Measures the rows that are wanted, and prints a table.
pub(super) fn measure(root: &Path, arch: Arch, wants: &dyn Fn(&str) -> bool) -> Result<Vec<Row>> {
    println!("{:<22}{:>13}{:>13}{:>15}{:>13}", "DIMM", "add", "online", "offline", "remove");
    let mut rows = Vec::new();
    for placement in [Placement::Block, Placement::Device, Placement::Boot] {
        rows.extend(sizes(root, arch, placement, wants)?);
    }
    for share in SHARES.into_iter().filter(|&share| wants(&name(USED, Placement::Block, share))) {
        rows.push(in_use(root, arch, share)?);
    }
    Ok(rows)
}

/// Starts a machine with room for `dimms`.
fn start(root: &Path, arch: Arch, placement: Placement, dimms: &[DimmSpec]) -> Result<Machine> {
    let config = Config { icount: Some(0), memory: Size::new(BOOT), ..Config::of(arch) };
    let config = Config { timeout: None, ..config }.room_for(dimms);
    let config = config.word("icount").word("policy=online_movable");
    let config = config.word(format!("placement={}", placement.word()));
    let is_large = dimms.iter().any(|dimm| dimm.size.bytes() > MOST_CLEARED);
    let config = if is_large { config.word("scrub=off") } else { config };
    started(root, &config)
}

/// A DIMM of each size comes and goes on one machine, and two of the last size.
fn sizes(
    root: &Path,
    arch: Arch,
    placement: Placement,
    wants: &dyn Fn(&str) -> bool,
) -> Result<Vec<Row>> {
    let named = |&name: &&'static str| Ok((name, name.parse::<DimmSpec>()?));
    let dimms = DIMMS.iter().map(named).collect::<Result<Vec<_>>>()?;
    let block = arch.about().block(Config::of(arch).image.page);
    let fits = |(_, dimm): &(_, DimmSpec)| {
        let bytes = dimm.size.bytes();
        bytes >= block && (placement != Placement::Boot || bytes <= MOST_OF_BOOT)
    };
    let dimms: Vec<_> = dimms.into_iter().filter(fits).collect();
    let &(largest, last) = dimms.last().context("no DIMM fits")?;
    let second = format!("second {largest}");
    let wanted = |dimm: &str| wants(&name(dimm, placement, 0));
    if !dimms.iter().any(|&(dimm, _)| wanted(dimm)) && !wanted(&second) {
        return Ok(Vec::new());
    }
    let mut machine = start(root, arch, placement, &[last, last])?;
    let mut rows = Vec::new();
    for &(dimm, spec) in dimms.iter().filter(|&&(dimm, _)| wanted(dimm)) {
        rows.push(come_and_go(&mut machine, placement, spec, dimm)?);
    }
    if wanted(&second) {
        rows.push(beside_another(&mut machine, placement, last, &second)?);
    }
    end(&mut machine)?;
    Ok(rows)
}

/// Plugs a DIMM, and counts a second one of the same size that comes and goes.
fn beside_another(
    machine: &mut Machine,
    placement: Placement,
    spec: DimmSpec,
    name: &str,
) -> Result<Row> {
    let (beside, ..) = machine.plug_online(spec)?;
    let row = come_and_go(machine, placement, spec, name)?;
    machine.unplug_gone(&beside)?;
    Ok(row)
}

/// A DIMM comes, and goes while a share of its pages is in use; there is room for them beside it.
fn in_use(root: &Path, arch: Arch, share: u64) -> Result<Row> {
    let dimm: DimmSpec = USED.parse()?;
    let mut machine = start(root, arch, Placement::Block, &[dimm, dimm])?;
    let page = machine.geometry()?.page;
    let used = machine.plug_online(dimm)?;
    let pages = used.2.managed() / page * share / 100;
    machine.run(&format!("pool grow {pages}"))?;
    machine.plug_online(dimm)?;
    let row = gone(&mut machine, USED, used, Placement::Block, share)?;
    end(&mut machine)?;
    Ok(row)
}

/// A DIMM comes and goes.
fn come_and_go(
    machine: &mut Machine,
    placement: Placement,
    spec: DimmSpec,
    name: &str,
) -> Result<Row> {
    let plugged = machine.plug_online(spec)?;
    gone(machine, name, plugged, placement, 0)
}

/// Unplugs a DIMM that came like this, and prints its row.
fn gone(
    machine: &mut Machine,
    name: &str,
    (dimm, add, online): (Dimm, Add, Online),
    placement: Placement,
    in_use: u64,
) -> Result<Row> {
    let (offline, remove) = machine.unplug_gone(&dimm)?;
    let count = |instructions: Option<u64>| instructions.context("the machine does not count");
    let row = Row {
        placement,
        dimm: name.to_owned(),
        bytes: add.size(),
        in_use,
        add: count(add.instructions)?,
        online: count(online.instructions)?,
        offline: count(offline.instructions)?,
        remove: count(remove.instructions)?,
    };
    println!("{}", line(&row));
    Ok(row)
}

/// A line of the table.
fn line(row: &Row) -> String {
    let [add, online, offline, remove] = row.figures().map(|(_, figure)| grouped(figure));
    format!("{:<22}{add:>13}{online:>13}{offline:>15}{remove:>13}", row.name())
}

/// Checks the invariants, and turns the machine off.
fn end(machine: &mut Machine) -> Result<()> {
    machine.run("verify")?;
    machine.leave()
}

/// Instructions for each GiB over the size, of DIMMs that nothing is in use of.
fn plot(arch: Arch, rows: &[Row]) -> Plot {
    let unused = |row: &&Row| row.in_use == 0 && !row.dimm.starts_with("second");
    let rows: Vec<&Row> = rows.iter().filter(unused).collect();
    let mut lines = Vec::new();
    for placement in [Placement::Block, Placement::Device] {
        for index in 0..4 {
            let of_this = rows.iter().filter(|row| row.placement == placement);
            let point = |row: &&Row| {
                let figure = row.figures()[index].1;
                (row.dimm.clone(), figure as f64 * GIB as f64 / row.bytes as f64)
            };
            let points: Vec<(String, f64)> = of_this.map(point).collect();
            let operation = rows.first().map_or("", |row| row.figures()[index].0);
            let name = format!("{operation}, {}", placement.word());
            lines.push(Line {
                name,
                dashed: placement == Placement::Device,
                colour: index,
                points,
            });
        }
    }
    Plot { title: format!("Instructions for each GiB of a DIMM ({arch})"), lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(dimm: &str, add: u64) -> Row {
        let placement = Placement::Block;
        let (bytes, in_use) = (GIB, 0);
        Row { placement, dimm: dimm.into(), bytes, in_use, add, online: 9, offline: 9, remove: 9 }
    }

    #[test]
    fn a_line_fits_the_terminal() {
        let row = Row { in_use: 99, offline: 1 << 33, ..row("second 1T", 1 << 27) };
        assert!(line(&row).len() <= crate::layout::WIDTH, "{}", line(&row));
    }
}
