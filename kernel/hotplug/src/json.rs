//! JSON without a heap: what is written goes straight to the formatter.

use core::fmt::{self, Write as _};

/// Shows text as a JSON string, quotes included (RFC 8259, section 7).
#[derive(Debug)]
pub struct JsonString<T>(pub T);

impl<T: fmt::Display> fmt::Display for JsonString<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        write!(Escape(f), "{}", self.0)?;
        f.write_char('"')
    }
}

/// Shows a value, or `null`.
#[derive(Debug)]
pub struct OrNull<T>(pub Option<T>);

impl<T: fmt::Display> fmt::Display for OrNull<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("null"),
        }
    }
}

/// Escapes what passes through it.
struct Escape<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escape<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| self.write_char(c))
    }

    fn write_char(&mut self, c: char) -> fmt::Result {
        match c {
            '"' | '\\' => write!(self.0, "\\{c}"),
            '\0'..='\x1f' => write!(self.0, "\\u{:04x}", u32::from(c)),
            _ => self.0.write_char(c),
        }
    }
}

/// Writes `items` as a list, each as `write` writes it.
///
/// # Errors
///
/// The first error of `out`; nothing more is written then.
pub fn json_list<T>(
    out: &mut dyn fmt::Write,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(T, &mut dyn fmt::Write) -> fmt::Result,
) -> fmt::Result {
    let mut before = "[";
    for item in items {
        out.write_str(before)?;
        write(item, out)?;
        before = ",";
    }
    out.write_str(if before == "[" { "[]" } else { "]" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};

    #[test]
    fn text_is_escaped_as_json_asks() {
        assert_eq!(JsonString("a \"b\"\\\n\u{1}ä").to_string(), r#""a \"b\"\\\u000a\u0001ä""#);
    }

    #[test]
    fn a_missing_value_is_null() {
        assert_eq!(OrNull(Some(7)).to_string(), "7");
        assert_eq!(OrNull(None::<u64>).to_string(), "null");
    }

    #[test]
    fn elements_of_a_list_have_commas_between_them() {
        let list = |items: &[u64]| {
            let mut text = String::new();
            json_list(&mut text, items, |item, out| write!(out, "{item}")).unwrap();
            text
        };
        assert_eq!([list(&[]), list(&[1]), list(&[1, 2, 3])], ["[]", "[1]", "[1,2,3]"]);
    }
}
