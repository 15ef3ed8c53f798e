//! The closing table: what each step did, what it cost, what was reported to the firmware.

use crate::machine::{Add, Online, Step, Use};
use crate::size::{counted, grouped, human, signed};

/// The table of `steps`: a row for each, columns aligned.
pub(crate) fn table(steps: &[Step]) -> Vec<String> {
    let header =
        ["step", "what", "memory elsewhere", "guest instructions", "_OST"].map(String::from);
    let mut rows: Vec<[String; 5]> = std::iter::once(header).chain(steps.iter().map(row)).collect();
    if !steps.iter().any(has_status) {
        // This firmware takes no statuses, so the column and its heading are left out.
        rows.iter_mut().for_each(|[.., ost]| ost.clear());
    }
    let widths: [usize; 5] = std::array::from_fn(|column| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    });
    rows.iter().map(|row| aligned(row, &widths)).collect()
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
fn aligned([step, what, memory, instructions, ost]: &[String; 5], widths: &[usize; 5]) -> String {
    let [w0, w1, w2, w3, w4] = *widths;
    let line = format!("{step:<w0$}  {what:<w1$}  {memory:>w2$}  {instructions:>w3$}  {ost:>w4$}");
    line.trim_end().to_owned()
}

fn row(step: &Step) -> [String; 5] {
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
        let (sections, pages) = (add.sections(), add.memmap_pages());
        [counted(groups, "memmap"), counted(sections, "section"), counted(pages, "page")].join(", ")
    };
    format!("{} at {:#x}, {place}", human(add.size()), add.start())
}

fn put_online(online: &Online) -> String {
    let blocks = counted(online.blocks.len() as u64, "block");
    format!("{blocks}, {} usable", human(online.managed()))
}

fn passes(used: &Use) -> String {
    let both = used.first_pass_instructions.zip(used.second_pass_instructions);
    both.map_or("-".into(), |(first, second)| format!("{} + {}", grouped(first), grouped(second)))
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
        let lines = table(&steps);
        assert_eq!(
            lines[1],
            "add     1 GiB at 0x100000000, 1 memmap, 8 sections, 4,096 pages            +4 KiB              31,500     0"
        );
        assert_eq!(
            lines[3],
            "remove  gone                                                               -4 KiB                   -     0"
        );
        assert!(lines[2].contains("2,000 + 1,000"));
        assert!(lines.iter().all(|line| line.len() <= lines[0].len() && !line.ends_with(' ')));
    }

    #[test]
    fn without_statuses_to_firmware_their_column_is_left_out() {
        let line = r#"{"operation":"remove","system_bytes":0,"instructions":12,"ost":null}"#;
        let lines = table(&[step(line)]);
        assert!(lines[0].ends_with("guest instructions") && lines[1].ends_with("12"), "{lines:?}");
    }

    #[test]
    fn a_refusal_shows_its_reason_shortened() {
        let long = "x".repeat(100);
        let refused = step(&format!(r#"{{"operation":"online","blocks":[],"error":"{long}"}}"#));
        let line = &table(&[refused])[1];
        assert!(line.contains("refused: xxx") && line.contains("...") && line.len() < 120);
    }
}
