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

/// Writes the elements of a list with commas between them.
pub struct List<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    first: bool,
    result: fmt::Result,
}

impl fmt::Debug for List<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("List").field("first", &self.first).finish_non_exhaustive()
    }
}

impl<'a, 'b> List<'a, 'b> {
    /// Opens a list.
    pub fn open(out: &'a mut fmt::Formatter<'b>) -> Self {
        let result = out.write_char('[');
        Self { out, first: true, result }
    }

    /// Writes an element. After an error nothing more is written.
    pub fn element(&mut self, element: fmt::Arguments<'_>) {
        let comma = if core::mem::take(&mut self.first) { "" } else { "," };
        if self.result.is_ok() {
            self.result = write!(self.out, "{comma}{element}");
        }
    }

    /// Closes the list.
    ///
    /// # Errors
    ///
    /// The first error since it was opened.
    pub fn close(self) -> fmt::Result {
        self.result?;
        self.out.write_char(']')
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn text_is_escaped_as_json_asks() {
        assert_eq!(JsonString("a \"b\"\\\n\u{1}ä").to_string(), r#""a \"b\"\\\u000a\u0001ä""#);
    }

    #[test]
    fn a_missing_value_is_null() {
        assert_eq!(OrNull(Some(7)).to_string(), "7");
        assert_eq!(OrNull(None::<u64>).to_string(), "null");
    }
}
