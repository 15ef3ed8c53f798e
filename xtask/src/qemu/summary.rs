//! The closing table: what each step did, what it cost, what was reported to the firmware.

use crate::layout::wrapped;
use crate::machine::{Add, Online, Step, Use};
use crate::size::{counted, grouped, human, signed};

/// Above the columns, in two lines.
const HEADINGS: [&str; 5] = ["step", "what", "memory elsewhere", "guest instructions", "_OST"];
/// Characters in a line of the second column, at most.
const WHAT: usize = 34;

/// A row: the lines of each cell.
type Row = [Vec<String>; 5];

/// The table of `steps`: a row for each, columns aligned.
pub(crate) fn table(steps: &[Step]) -> Vec<String> {
    let heading = HEADINGS.map(|text| text.split(' ').map(str::to_owned).collect());
    let mut rows: Vec<Row> = std::iter::once(heading).chain(steps.iter().map(row)).collect();
    if !steps.iter().any(has_status) {
        // This firmware takes no statuses, so the column and its heading are left out.
        rows.iter_mut().for_each(|[.., ost]| ost.clear());
    }
    let widths: [usize; 5] = std::array::from_fn(|column| {
        let lines = rows.iter().flat_map(|row| &row[column]);
        lines.map(|line| line.chars().count()).max().unwrap_or_default()
    });
    rows.iter().flat_map(|row| aligned(row, &widths)).collect()
}

/// Has the step a status for the firmware?
fn has_status(step: &Step) -> bool {
    match step {
        Step::Add(step) => step.ost.is_some(),
        Step::Remove(step) => step.ost.is_some(),
        _ => false,
    }
}

/// Text to the left, figures to the right.
fn aligned(row: &Row, widths: &[usize; 5]) -> Vec<String> {
    let height = row.iter().map(Vec::len).max().unwrap_or_default();
    let line = |number| {
        let [step, what, memory, instructions, ost] =
            row.each_ref().map(|cell| cell.get(number).map_or("", String::as_str));
        let [w0, w1, w2, w3, w4] = *widths;
        let line =
            format!("{step:<w0$}  {what:<w1$}  {memory:>w2$}  {instructions:>w3$}  {ost:>w4$}");
        line.trim_end().to_owned()
    };
    (0..height).map(line).collect()
}

/// A step in one sentence.
pub(crate) fn sentence(step: &Step) -> String {
    if let Some(why) = step.error() {
        return format!("{}: refused: {why}", step.operation());
    }
    let [operation, what, memory, instructions, _] = texts(step);
    let mut text = format!("{operation}: {what}");
    if !["", "0 B"].contains(&memory.as_str()) {
        text.push_str(&format!(", {memory} of memory elsewhere"));
    }
    if !["", "-"].contains(&instructions.as_str()) {
        text.push_str(&format!(", {} instructions", instructions.replace('\n', " + ")));
    }
    text
}

fn row(step: &Step) -> Row {
    let [operation, what, memory, instructions, ost] = texts(step);
    let lines = |cell: String| cell.lines().map(str::to_owned).collect();
    [vec![operation], wrapped(&what, WHAT), lines(memory), lines(instructions), lines(ost)]
}

/// What stands in the columns.
fn texts(step: &Step) -> [String; 5] {
    let none = String::new;
    let (what, memory, instructions, ost) = match step {
        Step::Add(step) => {
            (added(step), signed(step.system_bytes), count(step.instructions), number(step.ost))
        }
        Step::Online(step) => (put_online(step), none(), count(step.instructions), none()),
        Step::Use(step) => {
            let what = format!("{} written and read back", human(step.touched_bytes));
            (what, none(), passes(step), none())
        }
        Step::Offline(step) => {
            ("all blocks given back".into(), none(), count(step.instructions), none())
        }
        Step::Scrub(step) => {
            let skipped = match step.skipped_blocks {
                0 => String::new(),
                count => format!(", {} with bad memory not", counted(count, "block")),
            };
            let what = format!("{} cleared{skipped}", human(step.scrubbed_bytes));
            (what, none(), count(step.instructions), none())
        }
        Step::Remove(step) => {
            ("gone".into(), signed(step.system_bytes), count(step.instructions), number(step.ost))
        }
    };
    let what = step.error().map_or(what, |why| format!("refused: {}", shortened(why)));
    [step.operation().into(), what, memory, instructions, ost]
}

fn added(add: &Add) -> String {
    let groups = add.groups.len() as u64;
    let place = if groups == 0 {
        "memmap in boot memory".into()
    } else {
        [counted(groups, "memmap"), counted(add.memmap_pages(), "page")].join(", ")
    };
    format!("{} at {:#x}, {place}", human(add.size()), add.start())
}

fn put_online(online: &Online) -> String {
    let blocks = counted(online.blocks.len() as u64, "block");
    format!("{blocks}, {} usable", human(online.managed()))
}

/// The instructions of both passes, a line each.
fn passes(used: &Use) -> String {
    let both = used.first_pass_instructions.zip(used.second_pass_instructions);
    both.map_or("-".into(), |(first, second)| format!("{}\n{}", grouped(first), grouped(second)))
}

fn count(instructions: Option<u64>) -> String {
    instructions.map_or("-".into(), grouped)
}

fn number(ost: Option<u64>) -> String {
    ost.map_or("-".into(), |ost| ost.to_string())
}

/// The first characters of a long reason; the whole of it stands above and in the verdict.
fn shortened(text: &str) -> String {
    const MOST: usize = 48;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::INNER;
    use super::*;

    fn step(json: &str) -> Step {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn figures_stand_below_each_other() {
        let steps = [
            step(
                r#"{"operation":"add","start":4294967296,"size":1073741824,"node":0,"placement":"device","groups":[{"memmap_start":4294967296,"memmap_pages":4096,"sections":8}],"system_bytes":4096,"instructions":31500,"ost":0}"#,
            ),
            step(
                r#"{"operation":"use","touched_bytes":1073741824,"first_pass_instructions":2000,"second_pass_instructions":1000}"#,
            ),
            step(r#"{"operation":"remove","system_bytes":-4096,"instructions":null,"ost":0}"#),
        ];
        assert_eq!(
            table(&steps),
            [
                "step    what                                memory         guest  _OST",
                "                                         elsewhere  instructions",
                "add     1 GiB at 0x100000000, 1 memmap,     +4 KiB        31,500     0",
                "        4,096 pages",
                "use     1 GiB written and read back                        2,000",
                "                                                           1,000",
                "remove  gone                                -4 KiB             -     0",
            ]
        );
    }

    #[test]
    fn without_statuses_to_firmware_their_column_is_left_out() {
        let line = r#"{"operation":"remove","system_bytes":0,"instructions":12,"ost":null}"#;
        let lines = table(&[step(line)]);
        assert!(lines[1].ends_with("instructions") && lines[2].ends_with("12"), "{lines:?}");
    }

    #[test]
    fn a_refusal_shows_its_reason_shortened() {
        let long = "x".repeat(100);
        let refused = step(&format!(r#"{{"operation":"online","blocks":[],"error":"{long}"}}"#));
        let text = table(&[refused]).join("\n");
        assert!(text.contains("refused:") && text.contains("xxx..."), "{text}");
    }

    #[test]
    fn it_fits_whatever_the_figures() {
        let steps = [
            step(
                r#"{"operation":"add","start":17592186044416,"size":549755813888,"node":0,"placement":"block","groups":[{"memmap_start":4294967296,"memmap_pages":4096,"sections":8}],"system_bytes":-1099511627776,"instructions":123456789012,"ost":255}"#,
            ),
            step(
                r#"{"operation":"scrub","start":0,"size":0,"scrubbed_bytes":549755813888,"skipped_blocks":4096,"instructions":null}"#,
            ),
            step(
                r#"{"operation":"online","blocks":[],"error":"a reason in a lot of words, one after another, on and on"}"#,
            ),
        ];
        for line in table(&steps) {
            assert!(line.len() <= INNER, "{line}");
        }
    }
}
