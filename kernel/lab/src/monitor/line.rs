//! The line editor: bytes from a terminal become lines of text.
//!
//! Accepted: printable text in UTF-8, backspace and DEL (erase a character), ^U (erase the line), CR, LF or both as
//! the end. Anything else makes the line an error, which is reported at its end; such a line is never run.

use core::fmt;

/// Bytes of the longest line.
pub const MAX_LINE: usize = 512;

const BACKSPACE: u8 = 0x08;
const LINE_FEED: u8 = b'\n';
const CARRIAGE_RETURN: u8 = b'\r';
const KILL_LINE: u8 = 0x15;
const DELETE: u8 = 0x7f;

/// The error in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineError {
    /// It has more than [`MAX_LINE`] bytes.
    TooLong,
    /// It has a control character with this code.
    Control(u8),
    /// It is not UTF-8.
    NotText,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "a line of more than {MAX_LINE} bytes"),
            Self::Control(code) => write!(f, "a line with control character {code:#04x}"),
            Self::NotText => f.write_str("a line that is not UTF-8"),
        }
    }
}

/// The effect of a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit<'l> {
    /// Nothing changes on the screen.
    Nothing,
    /// Text was added to the line.
    Added {
        /// The whole line.
        line: &'l str,
        /// What was added at its end.
        text: &'l str,
    },
    /// Characters were erased at the end of the line.
    Erased {
        /// What is left of it.
        line: &'l str,
        /// The number of characters.
        characters: usize,
    },
    /// The line is complete. The editor starts a new one.
    Line(Result<&'l str, LineError>),
}

/// The line being typed.
#[derive(Debug)]
pub struct LineEditor {
    bytes: [u8; MAX_LINE],
    len: usize,
    /// Bytes at the end that are an unfinished UTF-8 sequence, not shown yet.
    unfinished: usize,
    error: Option<LineError>,
    /// The last byte was a carriage return: a line feed right after it belongs to it.
    returned: bool,
}

impl Default for LineEditor {
    fn default() -> Self {
        Self::new()
    }
}

impl LineEditor {
    /// An empty line.
    pub const fn new() -> Self {
        Self { bytes: [0; MAX_LINE], len: 0, unfinished: 0, error: None, returned: false }
    }

    /// The text typed so far, up to the last complete character.
    pub fn text(&self) -> &str {
        let shown = self.bytes.get(..self.len - self.unfinished);
        core::str::from_utf8(shown.unwrap_or_default()).unwrap_or_default()
    }

    /// Takes the next byte.
    pub fn push(&mut self, byte: u8) -> Edit<'_> {
        let returned = core::mem::replace(&mut self.returned, byte == CARRIAGE_RETURN);
        match byte {
            LINE_FEED if returned => Edit::Nothing,
            LINE_FEED | CARRIAGE_RETURN => self.finish(),
            BACKSPACE | DELETE => self.erase(1),
            KILL_LINE => {
                self.error = None;
                self.erase(MAX_LINE)
            }
            0..0x20 => self.spoil(LineError::Control(byte)),
            _ => self.add(byte),
        }
    }

    fn spoil(&mut self, error: LineError) -> Edit<'_> {
        self.error.get_or_insert(error);
        Edit::Nothing
    }

    fn finish(&mut self) -> Edit<'_> {
        let error = self.error.take().or((self.unfinished > 0).then_some(LineError::NotText));
        let len = core::mem::take(&mut self.len);
        self.unfinished = 0;
        let text = core::str::from_utf8(self.bytes.get(..len).unwrap_or_default());
        Edit::Line(match error {
            Some(error) => Err(error),
            None => text.map_err(|_| LineError::NotText),
        })
    }

    fn erase(&mut self, characters: usize) -> Edit<'_> {
        self.len -= core::mem::take(&mut self.unfinished);
        let text = self.text();
        let shown = text.chars().count();
        let kept = shown.saturating_sub(characters);
        let end = text.char_indices().nth(kept).map_or(text.len(), |(at, _)| at);
        self.len = end;
        Edit::Erased { line: self.text(), characters: shown - kept }
    }

    fn add(&mut self, byte: u8) -> Edit<'_> {
        // An invalid line is neither kept nor shown: a flood costs neither memory nor console time.
        if self.error.is_some() {
            return Edit::Nothing;
        }
        let Some(slot) = self.bytes.get_mut(self.len) else {
            return self.spoil(LineError::TooLong);
        };
        *slot = byte;
        self.len += 1;
        self.unfinished += 1;

        let start = self.len - self.unfinished;
        match self.tail(start).map_err(|error| error.error_len()) {
            Ok(_) => {
                self.unfinished = 0;
                Edit::Added { line: self.text(), text: self.tail(start).unwrap_or_default() }
            }
            Err(None) => Edit::Nothing,
            Err(Some(_)) => {
                self.len = start;
                self.unfinished = 0;
                self.spoil(LineError::NotText)
            }
        }
    }

    fn tail(&self, start: usize) -> Result<&str, core::str::Utf8Error> {
        core::str::from_utf8(self.bytes.get(start..self.len).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types `bytes`; returns the lines.
    fn lines(bytes: &[u8]) -> Vec<Result<String, LineError>> {
        let mut editor = LineEditor::new();
        let mut lines = Vec::new();
        for &byte in bytes {
            if let Edit::Line(line) = editor.push(byte) {
                lines.push(line.map(str::to_owned));
            }
        }
        lines
    }

    fn ok(text: &str) -> Result<String, LineError> {
        Ok(text.to_owned())
    }

    #[test]
    fn every_kind_of_line_end_ends_one_line() {
        assert_eq!(lines(b"a\nb\rc\r\nd\n\n"), [ok("a"), ok("b"), ok("c"), ok("d"), ok("")]);
    }

    #[test]
    fn backspace_erases_whole_characters_and_stops_at_the_start() {
        assert_eq!(lines("aé\u{8}\u{7f}\u{7f}b\n".as_bytes()), [ok("b")]);
        assert_eq!(lines(b"\x7f\x08x\n"), [ok("x")]);
        assert_eq!(lines(b"abc\x15de\n"), [ok("de")]);
    }

    #[test]
    fn the_screen_shows_the_content_of_the_line() {
        let mut editor = LineEditor::new();
        assert_eq!(editor.push(b'a'), Edit::Added { line: "a", text: "a" });
        assert_eq!(editor.push(0xc3), Edit::Nothing);
        assert_eq!(editor.push(0xa9), Edit::Added { line: "aé", text: "é" });
        assert_eq!(editor.text(), "aé");
        assert_eq!(editor.push(0xc3), Edit::Nothing);
        assert_eq!(editor.text(), "aé");
        assert_eq!(editor.push(0x7f), Edit::Erased { line: "a", characters: 1 });
        assert_eq!(editor.text(), "a");
        assert_eq!(editor.push(0x15), Edit::Erased { line: "", characters: 1 });
        assert_eq!(editor.push(0x7f), Edit::Erased { line: "", characters: 0 });
    }

    #[test]
    fn an_invalid_line_is_one_error_and_the_next_line_is_valid() {
        assert_eq!(lines(b"a\x01b\x02\nc\n"), [Err(LineError::Control(1)), ok("c")]);
        assert_eq!(lines(b"\xff\xfe\nc\n"), [Err(LineError::NotText), ok("c")]);
        assert_eq!(lines(b"a\xc3\nc\n"), [Err(LineError::NotText), ok("c")]);
        assert_eq!(lines(b"\xc3(\nc\n"), [Err(LineError::NotText), ok("c")]);
        assert_eq!(lines(b"\x01\x15c\n"), [ok("c")]);
    }

    #[test]
    fn a_line_of_ten_kilobytes_is_one_error() {
        let mut bytes = vec![b'x'; 10_000];
        bytes.extend(b"\nok\n");
        assert_eq!(lines(&bytes), [Err(LineError::TooLong), ok("ok")]);
        let mut full = vec![b'y'; MAX_LINE];
        full.push(b'\n');
        assert_eq!(lines(&full), [ok(&"y".repeat(MAX_LINE))]);
    }

    #[test]
    fn no_flood_of_random_bytes_breaks_the_editor() {
        let mut editor = LineEditor::new();
        let mut seed = 1u64;
        for _ in 0..200_000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let _ = editor.push((seed >> 40) as u8);
            assert!(editor.text().chars().all(|shown| !shown.is_ascii_control()));
        }
    }
}
