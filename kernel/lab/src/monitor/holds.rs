//! How long the memory manager's locks were held.

use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt::{self, Write};
use hotmem_hotplug::json_list;

/// The holds of locks that began at one place in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its file.
    pub file: &'static str,
    /// Its line there.
    pub line: u32,
    /// How often it locked.
    pub times: u64,
    /// The instructions of the longest hold.
    pub longest: u64,
}

/// The longest first.
fn sorted(mut holds: Vec<Hold>) -> Vec<Hold> {
    holds.sort_unstable_by_key(|hold| (Reverse(hold.longest), hold.file, hold.line));
    holds
}

/// The holds as one line of JSON: a list.
pub(super) fn json(holds: Vec<Hold>, out: &mut dyn Write) -> fmt::Result {
    json_list(out, sorted(holds), |Hold { file, line, times, longest }, out| {
        write!(out, "{{\"file\":\"{file}\",\"line\":{line},")?;
        write!(out, "\"times\":{times},\"instructions\":{longest}}}")
    })?;
    writeln!(out)
}

/// The holds, as text.
pub(super) fn text(holds: Vec<Hold>, out: &mut dyn Write) -> fmt::Result {
    writeln!(out, "{:>12} {:>10} locked at", "instructions", "times")?;
    for Hold { file, line, times, longest } in sorted(holds) {
        writeln!(out, "{longest:>12} {times:>10} {file}:{line}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_hold_comes_first_and_every_place_is_there() {
        let hold = |line, longest| Hold { file: "mm/a.rs", line, times: 7, longest };
        let (holds, mut shown) = (vec![hold(1, 20), hold(3, 400)], String::new());
        json(holds.clone(), &mut shown).unwrap();
        let one = |line, longest| {
            format!(
                "{{\"file\":\"mm/a.rs\",\"line\":{line},\"times\":7,\"instructions\":{longest}}}"
            )
        };
        assert_eq!(shown, format!("[{},{}]\n", one(3, 400), one(1, 20)));
        shown.clear();
        json(Vec::new(), &mut shown).unwrap();
        assert_eq!(shown, "[]\n");
        shown.clear();
        text(holds, &mut shown).unwrap();
        let lines: Vec<_> = shown.lines().collect();
        assert_eq!(
            lines[1..],
            ["         400          7 mm/a.rs:3", "          20          7 mm/a.rs:1"]
        );
    }
}
