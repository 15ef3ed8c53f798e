//! Two maps as an SVG picture: a panel for each moment, a row of cells for each range, a cell for each block.
//!
//! A cell is filled from the bottom by what its pages are in use for. What was there at another moment and is not now
//! is drawn dotted. All coordinates are whole numbers, so that a report has one picture, byte for byte.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::machine::{Map, Mapped};
use crate::size::human;

const WIDTH: u64 = 760;
const MARGIN: u64 = 16;
/// A panel is so wide: as eight cells.
const PANEL: u64 = 356;
/// A cell, and the gap between two of them.
const CELL: (u64, u64) = (40, 48);
const GAP: u64 = 4;
const IN_ROW: usize = 8;
/// Above a row of cells, and below it.
const ABOVE: u64 = 22;
const BELOW: u64 = 30;
/// With more blocks than this, neighbours that look alike share a cell.
const MANY: usize = 45;

/// A use of pages: its name, its colour, and its bytes of a block.
type Kind = (&'static str, &'static str, fn(&Mapped) -> u64);

/// What pages are in use for: from the bottom of a cell upwards.
const KINDS: [Kind; 4] = [
    ("memmap", "#7a5195", |block| block.memmap_bytes),
    ("unmovable", "#555555", |block| block.unmovable_bytes),
    ("pinned", "#d64545", |block| block.pinned_bytes),
    ("movable", "#3b82c4", |block| block.movable_bytes),
];

/// Neighbours that are drawn as one cell.
type Cell<'m> = &'m [Shown<'m>];

/// A block in a panel.
#[derive(Clone, Copy)]
struct Shown<'m> {
    block: &'m Mapped,
    /// Is it there at this moment?
    here: bool,
}

/// Draws two moments beside one another.
pub(super) fn draw(machine: &str, maps: [&Map; 2]) -> String {
    // The first map with a block says what it was.
    let all = maps.iter().rev().flat_map(|map| &map.blocks);
    let all: BTreeMap<u64, &Mapped> = all.map(|one| (one.block, one)).collect();

    let mut body = String::new();
    let mut y = MARGIN + 14;
    text(&mut body, MARGIN, y, "t", &format!("Memory of a machine ({machine})"));
    let left = panel(&mut body, (MARGIN, y + 28), maps[0], &all);
    let right = panel(&mut body, (WIDTH - MARGIN - PANEL, y + 28), maps[1], &all);
    y = left.max(right);
    y = legend(&mut body, y + 4);
    let height = y + MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\">\n\
         <style>text{{font-family:sans-serif;font-size:11px;fill:#222}}.t{{font-size:16px;font-weight:bold}}\
         .h{{font-size:13px;font-weight:bold}}.n{{text-anchor:middle}}.z{{text-anchor:middle;font-size:9px;fill:#666}}\
         </style>\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n{body}</svg>\n"
    )
}

/// Draws one moment below a point; returns where it ends.
fn panel(body: &mut String, at: (u64, u64), map: &Map, all: &BTreeMap<u64, &Mapped>) -> u64 {
    let (left, mut y) = at;
    text(body, left, y, "h", &map.when);
    for line in totals(map) {
        y += 15;
        text(body, left, y, "r", &line);
    }
    let here: BTreeMap<u64, &Mapped> = map.blocks.iter().map(|one| (one.block, one)).collect();
    let shown = all.iter().map(|(number, &other)| {
        let now = here.get(number).copied();
        Shown { block: now.unwrap_or(other), here: now.is_some() }
    });
    let shown: Vec<_> = shown.collect();
    let many = shown.len() > MANY;
    for range in shown.chunk_by(|a, b| are_one_range(a.block, b.block)) {
        let cells: Vec<Cell<'_>> = range.chunk_by(|a, b| many && look_alike(*a, *b)).collect();
        y += ABOVE;
        text(body, left, y, "r", &title(range));
        y += 6;
        for row in cells.chunks(IN_ROW) {
            let mut x = left;
            for cell in row {
                draw_cell(body, x, y, cell);
                x += CELL.0 + GAP;
            }
            y += CELL.1 + BELOW;
        }
        y -= GAP;
    }
    y
}

/// Are both blocks of one range: boot memory, or memory that was added, of one node?
fn are_one_range(a: &Mapped, b: &Mapped) -> bool {
    b.start == a.start + a.size && a.boot == b.boot && a.node == b.node
}

fn look_alike(a: Shown<'_>, b: Shown<'_>) -> bool {
    let look = |shown: Shown<'_>| {
        let Shown { block, here } = shown;
        (here, block.state.clone(), block.zone.clone(), KINDS.map(|(_, _, bytes)| bytes(block)))
    };
    look(a) == look(b)
}

/// What stands above the cells of a range.
fn title(range: &[Shown<'_>]) -> String {
    let Some(first) = range.first().map(|shown| shown.block) else { return String::new() };
    let origin = if first.boot { "boot memory" } else { "added memory" };
    let bytes = range.iter().map(|shown| shown.block.size).sum();
    let gone = range.iter().all(|shown| !shown.here);
    let state = if gone { ", not there" } else { "" };
    format!("{origin} at {:#x}, node {}: {}{state}", first.start, first.node, human(bytes))
}

/// The sums over a map, in two lines.
fn totals(map: &Map) -> [String; 2] {
    let sum = |of: fn(&Mapped) -> u64| human(map.blocks.iter().map(of).sum());
    let free = format!("{} free", sum(|block| block.free_bytes));
    let [memmap, rest @ ..] = KINDS.map(|(name, _, bytes)| format!("{} {name}", sum(bytes)));
    [format!("{free}, {memmap}"), rest.join(", ")]
}

/// Draws a cell, with number and zone below it.
fn draw_cell(body: &mut String, x: u64, y: u64, cell: Cell<'_>) {
    let (Some(first), Some(last)) = (cell.first(), cell.last()) else { return };
    let (block, (width, height)) = (first.block, CELL);
    let online = first.here && block.zone.is_some();
    if first.here {
        let ground = if online { "#e9f3e6" } else { "#f0f0f0" };
        rectangle(body, (x, y), CELL, ground, "");
        let mut top = y + height;
        for (_, colour, bytes) in KINDS {
            let bytes = bytes(block);
            // What is there shows as one line at least.
            let part = (bytes * height / block.size.max(1)).max(u64::from(bytes > 0));
            let part = part.min(top - y);
            top -= part;
            if part > 0 {
                rectangle(body, (x, top), (width, part), colour, "");
            }
        }
    }
    let border = match (first.here, online) {
        (true, true) => "stroke=\"#333333\"",
        (true, false) => "stroke=\"#999999\"",
        (false, _) => "stroke=\"#bbbbbb\" stroke-dasharray=\"2 3\"",
    };
    rectangle(body, (x, y), CELL, "none", border);
    let name = match cell.len() {
        1 => block.block.to_string(),
        _ => format!("{}-{}", block.block, last.block.block),
    };
    let zone = match (&block.zone, first.here) {
        (_, false) => "",
        (Some(zone), true) => zone,
        (None, true) => &block.state,
    };
    text(body, x + width / 2, y + height + 12, "n", &name);
    text(body, x + width / 2, y + height + 22, "z", zone);
}

/// Draws the legend below `y`; returns where it ends.
fn legend(body: &mut String, y: u64) -> u64 {
    let mut x = MARGIN;
    let free = ("free", "#e9f3e6");
    let kinds = KINDS.iter().map(|&(name, colour, _)| (name, colour));
    for (name, colour) in kinds.chain([free, ("offline", "#f0f0f0")]) {
        rectangle(body, (x, y), (12, 12), colour, "stroke=\"#333333\"");
        text(body, x + 18, y + 10, "l", name);
        x += 100;
    }
    y + 12
}

fn rectangle(body: &mut String, at: (u64, u64), size: (u64, u64), fill: &str, more: &str) {
    let space = if more.is_empty() { "" } else { " " };
    // Writing to a string does not fail.
    let _ = writeln!(
        body,
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"{fill}\"{space}{more}/>",
        at.0, at.1, size.0, size.1
    );
}

fn text(body: &mut String, x: u64, y: u64, class: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(body, "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{text}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn block(number: u64) -> Mapped {
        let start = number * 128 * MIB;
        Mapped {
            block: number,
            start,
            size: 128 * MIB,
            state: "online".into(),
            zone: Some("movable".into()),
            node: 0,
            boot: number < 4,
            memmap_bytes: 0,
            free_bytes: 128 * MIB,
            movable_bytes: 0,
            pinned_bytes: 0,
            unmovable_bytes: 0,
        }
    }

    fn map(when: &str, numbers: std::ops::Range<u64>) -> Map {
        Map { when: when.into(), blocks: (0..4).chain(numbers).map(block).collect() }
    }

    #[test]
    fn a_share_is_as_high_as_its_part_of_the_block_and_never_invisible() {
        let mut before = map("before", 32..33);
        before.blocks[4].movable_bytes = 64 * MIB;
        before.blocks[4].pinned_bytes = 4096;
        let picture = draw("q35", [&before, &before]);
        assert!(picture.contains("width=\"40\" height=\"24\" fill=\"#3b82c4\""), "{picture}");
        assert!(picture.contains("width=\"40\" height=\"1\" fill=\"#d64545\""), "{picture}");
        assert!(picture.contains(">640 MiB free, 0 B memmap<"), "{picture}");
    }

    #[test]
    fn what_is_gone_is_dotted_where_it_was() {
        let picture = draw("q35", [&map("before", 32..40), &map("after", 32..32)]);
        assert_eq!(picture.matches("stroke-dasharray").count(), 8);
        assert!(picture.contains("added memory at 0x100000000, node 0: 1 GiB, not there"));
        assert_eq!(picture.matches("boot memory at 0x0, node 0: 512 MiB<").count(), 2);
    }

    #[test]
    fn many_blocks_that_look_alike_share_a_cell() {
        let twice = |map: Map| draw("q35", [&map, &map]);
        let picture = twice(map("before", 32..2080));
        assert!(picture.contains(">32-2079</text>"), "{picture}");
        assert!(twice(map("before", 32..40)).contains(">39</text>"));
    }

    #[test]
    fn names_cannot_break_the_picture() {
        let map = map("a < b", 32..33);
        assert!(draw("<&>", [&map, &map]).contains("(&lt;&amp;>)"));
    }
}
