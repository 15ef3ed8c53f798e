//! Text for a terminal of 80 columns, which is what everything that we print fits.

/// Columns.
pub(crate) const WIDTH: usize = 80;

/// `text` in lines of at most `width` characters, broken at spaces. A longer word stands alone.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let fits = |line: &&mut String| line.chars().count() + 1 + word.chars().count() <= width;
        match lines.last_mut().filter(fits) {
            Some(line) => line.extend([" ", word]),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// `first` and then `text` in lines of at most `width` characters, the further ones under the beginning of `text`.
pub(crate) fn hanging(first: &str, text: &str, width: usize) -> Vec<String> {
    let indent = first.chars().count();
    let lines = wrapped(text, width.saturating_sub(indent)).into_iter().enumerate();
    let lines: Vec<_> = lines
        .map(|(index, line)| match index {
            0 => format!("{first}{line}"),
            _ => format!("{:indent$}{line}", ""),
        })
        .collect();
    if lines.is_empty() { vec![first.trim_end().to_owned()] } else { lines }
}

/// A command to type, `indent` columns to the right; continued as a shell has it.
pub(crate) fn command(indent: usize, text: &str) -> Vec<String> {
    let mut lines = wrapped(text, WIDTH.saturating_sub(indent + 2));
    let last = lines.len().saturating_sub(1);
    lines.iter_mut().take(last).for_each(|line| line.push_str(" \\"));
    lines.iter().map(|line| format!("{:indent$}{line}", "")).collect()
}

/// `text` with each line that does not fit broken at spaces; its rest stands a little to the right of its beginning.
pub(crate) fn fitted(text: &str) -> String {
    let fit = |line: &str| {
        if line.chars().count() <= WIDTH {
            return format!("{line}\n");
        }
        let indent = line.len() - line.trim_start().len();
        let lines = wrapped(line, WIDTH - indent - 2).into_iter().enumerate();
        let set = |(index, line)| format!("{:1$}{line}\n", "", indent + usize::from(index > 0) * 2);
        lines.map(set).collect()
    };
    text.lines().map(fit).collect()
}

/// The lines of `text` that do not fit.
#[cfg(test)]
pub(crate) fn too_long(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.chars().count() > WIDTH).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_wrapped_at_spaces() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("incomprehensible word", 5), ["incomprehensible", "word"]);
    }

    #[test]
    fn further_lines_stand_under_the_first() {
        let lines = hanging("  name   ", &"word ".repeat(20), WIDTH);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("  name   word") && lines[1].starts_with("         word"));
        assert!(too_long(&lines.join("\n")).is_empty());
        assert_eq!(hanging("  name   ", "", WIDTH), ["  name"]);
    }

    #[test]
    fn only_lines_that_do_not_fit_are_broken() {
        let long = format!("  {}", "word ".repeat(20));
        let text = fitted(&format!("a  b\n{long}\n"));
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines[0], lines.len()), ("a  b", 3));
        assert!(lines[1].starts_with("  word") && lines[2].starts_with("    word"), "{text}");
        assert!(too_long(&text).is_empty());
    }

    #[test]
    fn a_command_can_be_copied_as_it_is_shown() {
        let typed = format!("install {}", "package ".repeat(12).trim_end());
        let shown = command(4, &typed);
        assert!(shown.len() == 2 && shown[0].ends_with("package \\"), "{shown:?}");
        let joined = shown.join("\n").replace("\\\n", "");
        assert_eq!(joined.split_whitespace().collect::<Vec<_>>().join(" "), typed);
        assert!(too_long(&shown.join("\n")).is_empty());
    }
}
