//! Draws the model: the same model gives the same screen.
//!
//! ```text
//!   title
//!   memory: blocks, what is in them   |  zones, CPUs, guests, DIMMs
//!   events                            (the latest at the bottom)
//!   keys
//! ```

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::keys::HELP;
use super::model::{DimmRow, Model, Shares};
use crate::layout::hanging;
use crate::machine::{Cpu, Guest, Mapped};
use crate::size::{counted, grouped, human};

/// The smallest terminal in which everything has room.
pub(super) const SMALLEST: (u16, u16) = (80, 24);
/// Columns of what stands on the right.
const RIGHT: u16 = 34;
/// Columns before the bar of a block, and behind it.
const NAMES: usize = 30;

/// What a page is in use for: its letter and its colour. Those of `kinds` come in this order.
const KINDS: [(char, &str, Color); 5] = [
    ('M', "memmap", Color::Magenta),
    ('u', "unmovable", Color::Gray),
    ('P', "pinned", Color::Red),
    ('m', "movable", Color::Blue),
    ('.', "free", Color::Green),
];

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        return too_small(frame, area);
    }
    let events = (area.height / 4).max(6);
    let rows = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(8),
        Constraint::Length(events),
        Constraint::Length(1),
    ]);
    let [top, middle, below, bottom] = rows.areas(area);
    let columns = Layout::horizontal([Constraint::Min(40), Constraint::Length(RIGHT)]);
    let [left, right] = columns.areas(middle);
    frame.render_widget(title(model), top);
    memory(frame, left, model);
    side(frame, right, model);
    recent(frame, below, model);
    frame.render_widget(bar_of_keys(model), bottom);
    if model.help {
        help(frame, area);
    }
}

/// What a terminal shows that has no room.
fn too_small(frame: &mut Frame<'_>, area: Rect) {
    let (width, height) = SMALLEST;
    let text = format!(
        "This needs {width}x{height}; the terminal has {}x{}. Enlarge it, or press q.",
        area.width, area.height
    );
    let lines = crate::layout::wrapped(&text, usize::from(area.width.max(1)));
    frame.render_widget(Paragraph::new(lines.join("\n")), area);
}

fn title(model: &Model) -> Paragraph<'_> {
    let state = match (&model.ended, &model.busy) {
        (Some(end), _) => Span::styled(format!(" {end} "), Color::Red),
        (None, Some(what)) => Span::styled(format!(" {what} ..."), Color::Yellow),
        (None, None) => Span::styled(" ready", Color::Green),
    };
    let bold = Style::new().add_modifier(Modifier::BOLD);
    Paragraph::new(Line::from(vec![Span::styled(model.title.as_str(), bold), state]))
}

fn bar_of_keys(model: &Model) -> Paragraph<'static> {
    let keys = if model.ended.is_some() {
        " q quit"
    } else {
        " p plug u unplug j/k select g grow i pin o unpin c cancel m guest ? keys q quit"
    };
    Paragraph::new(keys).style(Style::new().add_modifier(Modifier::REVERSED))
}

/// The blocks, and the sum over all of them.
fn memory(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let all = Shares::of(&model.blocks);
    let heading = format!(" memory: {}, {} free ", human(all.size), human(all.free));
    let frame_of = Block::bordered().title(heading);
    let inner = frame_of.inner(area);
    frame.render_widget(frame_of, area);

    let bar = usize::from(inner.width).saturating_sub(NAMES);
    let rows = runs(&model.blocks);
    let room = usize::from(inner.height).saturating_sub(1);
    let (shown, hidden) = if rows.len() > room {
        // The highest blocks are those that come and go.
        let room = room.saturating_sub(1);
        (rows.get(rows.len() - room..).unwrap_or_default(), rows.len() - room)
    } else {
        (rows.as_slice(), 0)
    };
    let mut lines: Vec<Line<'_>> = Vec::new();
    if hidden > 0 {
        lines.push(Line::from(format!("   {hidden} rows of lower blocks are not shown")));
    }
    lines.extend(shown.iter().map(|run| row(run, bar, selected(model, run))));
    lines.resize(room.max(lines.len()), Line::default());
    lines.push(legend(usize::from(inner.width)));
    frame.render_widget(Paragraph::new(lines), inner);
}

/// Neighbours that look alike.
fn runs(blocks: &[Mapped]) -> Vec<&[Mapped]> {
    let look = |block: &Mapped| {
        let Mapped { memmap_bytes, movable_bytes, pinned_bytes, unmovable_bytes, .. } = *block;
        let shares = [memmap_bytes, movable_bytes, pinned_bytes, unmovable_bytes];
        (shares, block.state.clone(), block.zone.clone(), block.node, block.boot)
    };
    let alike = |a: &Mapped, b: &Mapped| b.block == a.block + 1 && look(a) == look(b);
    blocks.chunk_by(alike).collect()
}

/// Does a run lie in the DIMM that keys act on?
fn selected(model: &Model, run: &[Mapped]) -> bool {
    let inside = |dimm: &DimmRow, block: &Mapped| {
        (dimm.start..dimm.start + dimm.size).contains(&block.start)
    };
    model.dimm().zip(run.first()).is_some_and(|(dimm, block)| inside(dimm, block))
}

/// A row of blocks that look alike.
fn row(run: &[Mapped], bar: usize, selected: bool) -> Line<'static> {
    let [first, rest @ ..] = run else { return Line::default() };
    let number = match rest.last() {
        None => first.block.to_string(),
        Some(last) => format!("{}-{}", first.block, last.block),
    };
    let zone = first.zone.clone().unwrap_or_else(|| first.state.clone());
    let mark = if selected { '>' } else { ' ' };
    let name = format!("{mark}{number:<10} {:<8} {zone:<8} ", human(first.size * run.len() as u64));
    let style = if selected { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() };
    let mut spans = vec![Span::styled(name, style)];
    spans.extend(parts(first, bar));
    Line::from(spans)
}

/// A block to scale; what is there shows as one character at least.
fn parts(block: &Mapped, bar: usize) -> Vec<Span<'static>> {
    if block.zone.is_none() && block.memmap_bytes == 0 {
        return vec![Span::styled(" ".repeat(bar), Color::DarkGray)];
    }
    let used = [block.memmap_bytes, block.unmovable_bytes, block.pinned_bytes, block.movable_bytes];
    let mut left = bar;
    let mut spans: Vec<_> = KINDS
        .iter()
        .zip(used)
        .map(|(&(letter, _, colour), bytes)| {
            let scaled = bytes.saturating_mul(bar as u64) / block.size.max(1);
            let width =
                usize::try_from(scaled).unwrap_or(bar).max(usize::from(bytes > 0)).min(left);
            left -= width;
            Span::styled(letter.to_string().repeat(width), colour)
        })
        .collect();
    let rest = if block.zone.is_some() { "." } else { " " };
    spans.push(Span::styled(rest.repeat(left), Color::Green));
    spans
}

/// The letters and their meanings; without that of free memory if the line is too narrow.
fn legend(width: usize) -> Line<'static> {
    let spans = |kinds: &[(char, &str, Color)]| {
        let spans = kinds.iter().flat_map(|&(letter, name, colour)| {
            [Span::styled(letter.to_string(), colour), Span::raw(format!(" {name} "))]
        });
        Line::from_iter(spans)
    };
    let [used @ .., _] = &KINDS;
    let whole = spans(&KINDS);
    if whole.width() <= width { whole } else { spans(used) }
}

/// Zones, CPUs, guests and DIMMs.
fn side(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let frame_of = Block::bordered().title(" machine ");
    let inner = frame_of.inner(area);
    frame.render_widget(frame_of, area);
    let width = usize::from(inner.width);
    let mut lines: Vec<Line<'_>> = Vec::new();
    for (node, name, shares) in model.zones() {
        lines.push(Line::from(format!("{name}, node {node}: {}", human(shares.size))));
        lines.push(Line::from(format!(" {} free", human(shares.free))));
        if shares.movable > 0 {
            lines.push(Line::from(format!(" {} movable", human(shares.movable))));
        }
        if shares.pinned > 0 {
            let pinned = format!(" {} pinned", human(shares.pinned));
            lines.push(Line::styled(pinned, Color::Red));
        }
    }
    lines.extend(model.dimms.iter().map(|dimm| dimm_line(dimm, model.dimm() == Some(dimm))));
    if model.dimms.is_empty() {
        lines.push(Line::styled("no DIMM: p plugs one", Color::DarkGray));
    }
    let moving = model.moving.iter().flat_map(|text| hanging("", text, width));
    lines.extend(moving.map(|text| Line::styled(text, Color::Yellow)));
    lines.extend(model.guests.iter().flat_map(guest_lines));
    lines.extend(cpu_line(&model.cpus));
    lines.iter_mut().for_each(|line| cut(line, width));
    frame.render_widget(Paragraph::new(lines), inner);
}

fn dimm_line(dimm: &DimmRow, selected: bool) -> Line<'static> {
    let mark = if selected { '>' } else { ' ' };
    let place = if dimm.going { ", asked to go".into() } else { format!(" at {:#x}", dimm.start) };
    let text = format!("{mark}DIMM {}: {}{place}", dimm.number, human(dimm.size));
    let colour = if dimm.going { Color::Yellow } else { Color::Reset };
    Line::styled(text, colour)
}

fn guest_lines(guest: &Guest) -> [Line<'static>; 2] {
    let moved = grouped(guest.pages_moved);
    [
        Line::from(format!("{}: {}, {}", guest.name, guest.state, human(guest.bytes))),
        Line::from(format!(" {}, {moved} pages moved", counted(guest.rounds, "round"))),
    ]
}

/// How many CPUs are up, and what they did.
fn cpu_line(cpus: &[Cpu]) -> Option<Line<'static>> {
    let up = cpus.iter().filter(|cpu| cpu.state == "up").count();
    let flushes: u64 = cpus.iter().map(|cpu| cpu.flushes).sum();
    let text = format!("{up} up of {}, flushes: {}", cpus.len(), grouped(flushes));
    (!cpus.is_empty()).then(|| Line::from(format!("CPUs: {text}")))
}

/// Cuts a line that is too long, and shows that.
fn cut(line: &mut Line<'_>, width: usize) {
    let text: String = line.spans.iter().map(|span| span.content.as_ref()).collect();
    if text.chars().count() > width {
        let style = line.style;
        let kept: String = text.chars().take(width.saturating_sub(1)).collect();
        *line = Line::styled(format!("{kept}~"), style);
    }
}

/// The latest events, wrapped.
fn recent(frame: &mut Frame<'_>, area: Rect, model: &Model) {
    let frame_of = Block::bordered().title(" events ");
    let inner = frame_of.inner(area);
    frame.render_widget(frame_of, area);
    let (width, height) = (usize::from(inner.width), usize::from(inner.height));
    let lines = model.events.iter().flat_map(|event| hanging("", event, width));
    let lines: Vec<_> = lines.map(Line::from).collect();
    let latest = lines.len().saturating_sub(height);
    frame.render_widget(Paragraph::new(lines[latest..].to_vec()), inner);
}

/// The list of keys, above everything else.
fn help(frame: &mut Frame<'_>, area: Rect) {
    let height = u16::try_from(HELP.len() + 2).unwrap_or(area.height).min(area.height);
    let width = 60.min(area.width);
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let lines = HELP.iter().map(|(keys, what)| Line::from(format!(" {keys:<5} {what}")));
    frame.render_widget(Clear, place);
    let list = Paragraph::new(lines.collect::<Vec<_>>());
    frame.render_widget(list.block(Block::bordered().title(" keys ")), place);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::model::tests::block;
    use super::*;

    const MIB: u64 = 1 << 20;

    /// The screen as lines.
    fn screen(model: &Model, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, model)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| line(y).trim_end().to_owned()).collect()
    }

    fn usual() -> Model {
        let mut model =
            Model { title: "hotmem on x86_64 (q35, 2 CPUs, tcg)".into(), ..Model::default() };
        model.blocks = (0..4).map(|number| block(number, Some("system"))).collect();
        model.blocks.extend((32..40).map(|number| block(number, Some("movable"))));
        model.blocks[4].memmap_bytes = 16 * MIB;
        model.blocks[4].free_bytes -= 16 * MIB;
        model.blocks[11].movable_bytes = 64 * MIB;
        model.blocks[11].pinned_bytes = 4096;
        model.dimms = vec![DimmRow { number: 0, start: 1 << 32, size: 1 << 30, going: false }];
        model.add_event("add: 1 GiB at 0x100000000, 1 memmap, 4,096 pages");
        model.add_event("online: 8 blocks, 1008 MiB usable");
        model
    }

    fn shows(screen: &[String], text: &str) -> bool {
        screen.iter().any(|line| line.contains(text))
    }

    #[test]
    fn all_of_it_has_room_in_eighty_columns() {
        let mut model = usual();
        model.moving = Some("dimm0: block 33 migrating, 64 of 400 pages moved, 3 steps".into());
        let screen = screen(&model, 80, 24);
        for text in [
            "hotmem on x86_64 (q35, 2 CPUs, tcg) ready",
            " memory: 1.5 GiB, 1.4 GiB free ",
            " 0-3        512 MiB  system   ..............",
            ">32         128 MiB  movable  M.............",
            ">33-38      768 MiB  movable  ..............",
            ">39         128 MiB  movable  Pmmmmmmm......",
            "M memmap u unmovable P pinned m movable",
            "movable, node 0: 1 GiB",
            "4 KiB pinned",
            ">DIMM 0: 1 GiB at 0x100000000",
            "dimm0: block 33 migrating",
            "online: 8 blocks, 1008 MiB usable",
            " p plug u unplug",
        ] {
            assert!(shows(&screen, text), "{text}\n{}", screen.join("\n"));
        }
    }

    #[test]
    fn a_large_terminal_shows_longer_bars_and_more_events() {
        let mut model = usual();
        (0..20).for_each(|number| model.add_event(format!("event {number}")));
        let large = screen(&model, 200, 60);
        assert_eq!(large.len(), 60);
        assert!(shows(&large, "m movable . free"));
        let bar = |screen: &[String]| {
            let row = screen.iter().find(|line| line.contains(">33-38 ")).unwrap();
            row.matches('.').count()
        };
        assert_eq!((bar(&screen(&model, 80, 24)), bar(&large)), (14, 134));
        assert!(shows(&large, "event 7") && !shows(&screen(&model, 80, 24), "event 7"));
    }

    #[test]
    fn a_terminal_that_is_too_small_says_what_it_needs() {
        let small = screen(&usual(), 60, 24);
        assert!(small[0].starts_with("This needs 80x24; the terminal has 60x24."), "{small:?}");
        assert!(!shows(&small, "memory:"));
        // Nothing fits here, and nothing breaks.
        screen(&usual(), 1, 1);
    }

    #[test]
    fn more_blocks_than_rows_leave_out_the_lowest_and_say_so() {
        let mut model = usual();
        for number in 40..80 {
            let mut odd = block(number, Some("movable"));
            odd.movable_bytes = number * MIB;
            model.blocks.push(odd);
        }
        let screen = screen(&model, 80, 24);
        assert!(shows(&screen, "rows of lower blocks are not shown"));
        assert!(shows(&screen, " 79 ") && !shows(&screen, " 0-3 "));
    }

    #[test]
    fn the_end_of_the_machine_and_the_keys_are_shown() {
        let mut model = usual();
        model.help = true;
        assert!(shows(&screen(&model, 80, 24), "unplug the selected DIMM"));
        model.help = false;
        model.ended = Some("the guest exited with 0".into());
        let screen = screen(&model, 80, 24);
        assert!(screen[0].ends_with("the guest exited with 0") && screen[23] == " q quit");
    }
}
