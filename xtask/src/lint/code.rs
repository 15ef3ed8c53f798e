//! Rust source with everything that is not code blanked out, line by line as it was.

/// `text` with each character of a comment, and of what stands between quotes, made a space; lines stay.
pub(crate) fn code_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let blank = comment(rest).or_else(|| quoted(rest));
        // A name may end in a letter that begins a raw string elsewhere: take it whole.
        let length = blank.unwrap_or_else(|| word(rest).max(first.len_utf8()));
        let (piece, behind) = rest.split_at(length.min(rest.len()));
        match blank {
            Some(_) => out.extend(piece.chars().map(|c| if c == '\n' { c } else { ' ' })),
            None => out.push_str(piece),
        }
        rest = behind;
    }
    out
}

/// Length of the comment that `text` begins with.
fn comment(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    let mut depth = 0;
    let mut at = 0;
    while text.starts_with("/*") {
        let left = text.get(at..)?;
        if left.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if left.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            // A comment that never ends goes on to the end.
            let Some(next) = left.chars().next() else { return Some(at) };
            at += next.len_utf8();
        }
    }
    None
}

/// Length of the string or character, quotes and all, that `text` begins with.
fn quoted(text: &str) -> Option<usize> {
    let plain = text.strip_prefix(['b', 'c']).unwrap_or(text);
    let prefix = text.len() - plain.len();
    if let Some(raw) = plain.strip_prefix('r') {
        let hashes = raw.chars().take_while(|&c| c == '#').count();
        let body = raw.get(hashes..)?.strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = body.find(&end).map_or(body.len(), |at| at + end.len());
        return Some(text.len() - body.len() + length);
    }
    if let Some(body) = plain.strip_prefix('"') {
        return Some(prefix + 1 + until(body, '"'));
    }
    let body = plain.strip_prefix('\'')?;
    // `'a'` and `'\n'` are characters, `'a` alone is a lifetime.
    let one = body.chars().next()?;
    let closed = one == '\\' || body.get(one.len_utf8()..)?.starts_with('\'');
    closed.then(|| prefix + 1 + until(body, '\''))
}

/// Length of `body` up to and with `quote`, which a backslash takes its meaning.
fn until(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        if c == quote && !escaped {
            return at + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    body.len()
}

/// Length of the name or number that `text` begins with.
fn word(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_blanked_and_lines_stay() {
        for (text, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ \n */ d", "a              \n    d"),
            (r#"f("x\"y", z)"#, "f(      , z)"),
            (r##"r#"a"b"# c"##, "         c"),
            ("b'\\'' 'x' &'a str", "          &'a str"),
            ("letter\"x\"", "letter   "),
            ("\"never closed", "             "),
            ("/* never closed", "               "),
            ("\u{e9}\"\u{e9}\"\u{e9}", "\u{e9}   \u{e9}"),
        ] {
            assert_eq!(code_only(text), code, "{text}");
        }
    }
}
