//! What adding and removing memory costs, in instructions of machines whose time they are: DIMMs of all sizes, whose
//! memory nothing touches, and one with a share of its pages in use.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::plot::{Line, Plot};
use crate::arch::Arch;
use crate::machine::{Add, Config, Exit, Machine, Offline, Online, Placement, Remove};
use crate::size::{DimmSpec, GIB, Size, grouped};
use crate::{build, setup, tool};

/// The DIMMs, of which one is there at a time; the last one a second time, beside itself.
const DIMMS: [&str; 6] = ["128M", "1G", "8G", "32G", "128G", "1T"];
/// The largest DIMM whose memmap boot memory has room for.
const MOST_OF_BOOT: u64 = 8 * GIB;
/// Boot memory.
const BOOT: u64 = 2 * GIB;
/// The DIMM that is in use, and the shares of its pages, in per cent.
const USED: &str = "1G";
const SHARES: [u64; 3] = [1, 50, 99];
/// How much more than the committed figures is a fault, in per cent.
const TOLERANCE: u64 = 3;

/// Which figures, and where they go.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Count in QEMU, on the usual machine of this architecture
    #[arg(long, value_enum, default_value_t = Arch::X86_64)]
    arch: Arch,
    /// Write the figures to this file, a row for each line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw them into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// What a DIMM took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Row {
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
        let used = if self.in_use == 0 { String::new() } else { format!(", {} %", self.in_use) };
        format!("{}, {}{used}", self.dimm, self.placement.word())
    }

    /// Its figures, each with the name of the operation.
    const fn figures(&self) -> [(&'static str, u64); 4] {
        let Self { add, online, offline, remove, .. } = *self;
        [("add", add), ("online", online), ("offline", offline), ("remove", remove)]
    }
}

/// Measures, and prints a table.
///
/// # Errors
/// When a machine does not start, what it does fails, or a file cannot be written.
pub(super) fn main(root: &Path, args: &Args) -> Result<()> {
    let rows = measure(root, args.arch)?;
    if let Some(file) = &args.json {
        tool::write_in_folder(file, &serde_json::to_vec_pretty(&rows)?)?;
    }
    if let Some(file) = &args.svg {
        tool::write_in_folder(file, plot(args.arch, &rows).draw().as_bytes())?;
    }
    Ok(())
}

/// Measures, and prints a table.
fn measure(root: &Path, arch: Arch) -> Result<Vec<Row>> {
    println!("{:<22}{:>13}{:>13}{:>15}{:>13}", "DIMM", "add", "online", "offline", "remove");
    let mut rows = Vec::new();
    for placement in [Placement::Block, Placement::Device, Placement::Boot] {
        rows.extend(sizes(root, arch, placement)?);
    }
    for share in SHARES {
        rows.push(in_use(root, arch, share)?);
    }
    Ok(rows)
}

/// Measures on each architecture that docs/costs has figures of.
///
/// # Errors
/// As [`main`]; when there are no figures, or one is worse than it may be.
pub(super) fn check_all(root: &Path) -> Result<()> {
    let known = Arch::with_kernel().filter(|&arch| committed(root, arch).exists());
    let known: Vec<Arch> = known.collect();
    ensure!(!known.is_empty(), "docs/costs has no figures");
    known.into_iter().try_for_each(|arch| check(root, arch, &measure(root, arch)?))
}

/// The file with the figures of an architecture.
fn committed(root: &Path, arch: Arch) -> PathBuf {
    root.join(format!("docs/costs/operations-{arch}.json"))
}

/// Compares with the figures that are committed.
fn check(root: &Path, arch: Arch, rows: &[Row]) -> Result<()> {
    let path = committed(root, arch);
    let text = fs::read_to_string(&path);
    let text = text.with_context(|| format!("cannot read {}", path.display()))?;
    let known: Vec<Row> =
        serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let worse = worse(&known, rows)?;
    ensure!(
        worse.is_empty(),
        "more than {TOLERANCE} % above {}:\n{}",
        path.display(),
        worse.join("\n")
    );
    println!("No figure is {TOLERANCE} % above {}.", path.display());
    Ok(())
}

/// The figures that are worse than they may be. Those of both must be about the same.
fn worse(known: &[Row], rows: &[Row]) -> Result<Vec<String>> {
    let mut known: BTreeMap<String, &Row> = known.iter().map(|row| (row.name(), row)).collect();
    let mut worse = Vec::new();
    for row in rows {
        let before = known.remove(&row.name());
        let before = before.with_context(|| format!("no figures of {}", row.name()))?;
        for ((operation, before), (_, now)) in before.figures().into_iter().zip(row.figures()) {
            if now * 100 > before * (100 + TOLERANCE) {
                let (before, now) = (grouped(before), grouped(now));
                worse.push(format!("{}: {operation} takes {now} instead of {before}", row.name()));
            }
        }
    }
    ensure!(known.is_empty(), "figures of {:?} were not measured", known.keys());
    Ok(worse)
}

/// Starts a machine with room for `dimms`.
fn start(root: &Path, arch: Arch, placement: Placement, dimms: &[DimmSpec]) -> Result<Machine> {
    let config = Config { icount: Some(0), memory: Size::new(BOOT), ..Config::of(arch) };
    let config = Config { timeout: None, ..config }.room_for(dimms);
    let config = config.word("icount").word("policy=online_movable");
    let config = config.word(format!("placement={}", placement.word()));
    setup::ready_to_run(&config)?;
    let image = build::image(root, config.image, &["--quiet"])?;
    let mut machine = Machine::start(&image, &config, None)?;
    machine.wait_ready()?;
    Ok(machine)
}

/// A DIMM of each size comes and goes on one machine, and two of the last size.
fn sizes(root: &Path, arch: Arch, placement: Placement) -> Result<Vec<Row>> {
    let named = |&name: &&'static str| Ok((name, name.parse::<DimmSpec>()?));
    let dimms = DIMMS.iter().map(named).collect::<Result<Vec<_>>>()?;
    let block = arch.about().block(Config::of(arch).image.page);
    let fits = |(_, dimm): &(_, DimmSpec)| {
        let bytes = dimm.size.bytes();
        bytes >= block && (placement != Placement::Boot || bytes <= MOST_OF_BOOT)
    };
    let dimms: Vec<_> = dimms.into_iter().filter(fits).collect();
    let &(name, last) = dimms.last().context("no DIMM fits")?;
    let mut machine = start(root, arch, placement, &[last, last])?;
    let mut rows = Vec::new();
    for &(name, dimm) in &dimms {
        rows.push(come_and_go(&mut machine, placement, dimm, name)?);
    }
    let beside = machine.plug(last, None)?;
    machine.done::<Add>()?;
    machine.done::<Online>()?;
    rows.push(come_and_go(&mut machine, placement, last, &format!("second {name}"))?);
    machine.unplug(&beside)?;
    machine.done::<Offline>()?;
    machine.done::<Remove>()?;
    machine.wait_deleted(&beside)?;
    end(&mut machine)?;
    Ok(rows)
}

/// A DIMM comes, and goes while a share of its pages is in use; there is room for them beside it.
fn in_use(root: &Path, arch: Arch, share: u64) -> Result<Row> {
    let dimm: DimmSpec = USED.parse()?;
    let mut machine = start(root, arch, Placement::Block, &[dimm, dimm])?;
    let page = machine.geometry()?.page;
    let used = machine.plug(dimm, None)?;
    let (add, online): (Add, Online) = (machine.done()?, machine.done()?);
    let pages = online.managed() / page * share / 100;
    machine.run(&format!("pool grow {pages}"))?;
    machine.plug(dimm, None)?;
    machine.done::<Add>()?;
    machine.done::<Online>()?;
    machine.unplug(&used)?;
    let row = gone(&mut machine, (&add, &online), Placement::Block, share)?;
    machine.wait_deleted(&used)?;
    end(&mut machine)?;
    show(Row { dimm: USED.to_owned(), ..row })
}

/// A DIMM comes and goes.
fn come_and_go(
    machine: &mut Machine,
    placement: Placement,
    spec: DimmSpec,
    name: &str,
) -> Result<Row> {
    let dimm = machine.plug(spec, None)?;
    let (add, online): (Add, Online) = (machine.done()?, machine.done()?);
    machine.unplug(&dimm)?;
    let row = gone(machine, (&add, &online), placement, 0)?;
    machine.wait_deleted(&dimm)?;
    show(Row { dimm: name.to_owned(), ..row })
}

/// Waits until a DIMM that came like this is gone.
fn gone(
    machine: &mut Machine,
    (add, online): (&Add, &Online),
    placement: Placement,
    in_use: u64,
) -> Result<Row> {
    let (offline, remove): (Offline, Remove) = (machine.done()?, machine.done()?);
    let count = |instructions: Option<u64>| instructions.context("the machine does not count");
    Ok(Row {
        placement,
        dimm: String::new(),
        bytes: add.size(),
        in_use,
        add: count(add.instructions)?,
        online: count(online.instructions)?,
        offline: count(offline.instructions)?,
        remove: count(remove.instructions)?,
    })
}

/// Prints a row.
fn show(row: Row) -> Result<Row> {
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
    let exit = machine.exit(0)?;
    ensure!(exit == Exit::Left(0), "the kernel did not leave: {exit}");
    Ok(())
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
    fn a_figure_may_be_three_per_cent_worse_and_no_more() {
        let known = [row("1G", 1000), row("1T", 1000)];
        assert!(worse(&known, &[row("1T", 1030), row("1G", 10)]).unwrap().is_empty());
        let found = worse(&known, &[row("1G", 1031), row("1T", 1000)]).unwrap();
        assert_eq!(found, ["1G, block: add takes 1,031 instead of 1,000"]);
    }

    #[test]
    fn figures_that_are_missing_on_either_side_are_named() {
        let error = worse(&[row("1G", 1)], &[row("1G", 1), row("8G", 1)]).unwrap_err();
        assert!(error.to_string().contains("8G, block"), "{error}");
        let error = worse(&[row("1G", 1), row("8G", 1)], &[row("1G", 1)]).unwrap_err();
        assert!(error.to_string().contains("8G, block"), "{error}");
    }

    #[test]
    fn a_line_fits_the_terminal() {
        let row = Row { in_use: 99, offline: 1 << 33, ..row("second 1T", 1 << 27) };
        assert!(line(&row).len() <= crate::layout::WIDTH, "{}", line(&row));
    }
}
