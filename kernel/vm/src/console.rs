//! What a guest wrote to its serial port, and what was typed there.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;

/// Bytes that are kept.
const MOST: usize = 64 << 10;

/// Typed bytes that wait for the guest at most.
const MOST_TYPED: usize = 4 << 10;

/// The last bytes that a guest wrote, and those that it did not read yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Console {
    bytes: Vec<u8>,
    /// Bytes before those.
    forgotten: u64,
    typed: VecDeque<u8>,
}

impl Console {
    /// An empty console that allocates all of its memory now; `None` if the heap has no room.
    pub(crate) fn new() -> Option<Self> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(MOST).ok()?;
        let mut typed = VecDeque::new();
        typed.try_reserve_exact(MOST_TYPED).ok()?;
        Some(Self { bytes, forgotten: 0, typed })
    }

    /// Adds a byte; a full console forgets the older half.
    pub(crate) fn push(&mut self, byte: u8) {
        if self.bytes.len() >= MOST {
            self.bytes.drain(..MOST / 2);
            self.forgotten += MOST as u64 / 2;
        }
        self.bytes.push(byte);
    }

    /// Types a line. Returns `false` if it has no room beside what was typed before.
    pub(crate) fn type_line(&mut self, line: &[u8]) -> bool {
        let fits = line.len() < MOST_TYPED - self.typed.len();
        if fits {
            self.typed.extend(line.iter().chain(b"\n"));
        }
        fits
    }

    /// Hands typed bytes to `receive` until that refuses one. Returns whether it took any.
    pub(crate) fn hand_typed(&mut self, mut receive: impl FnMut(u8) -> bool) -> bool {
        let before = self.typed.len();
        while let Some(byte) = self.typed.front()
            && receive(*byte)
        {
            self.typed.pop_front();
        }
        self.typed.len() < before
    }

    /// Whether typed bytes wait for the guest.
    pub(crate) fn has_typed(&self) -> bool {
        !self.typed.is_empty()
    }

    /// Bytes so far.
    pub(crate) fn written(&self) -> u64 {
        self.forgotten + self.bytes.len() as u64
    }

    /// The whole lines from byte `from` on, and their place among all bytes.
    pub(crate) fn lines(&self, from: u64) -> (Range<u64>, &[u8]) {
        let begin = from.clamp(self.forgotten, self.written());
        let kept = self.bytes.get((begin - self.forgotten) as usize..).unwrap_or_default();
        let end = kept.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        (begin..begin + end as u64, kept.get(..end).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_are_shown_from_any_byte_on() {
        let mut console = Console::new().unwrap();
        b"one\ntwo\nthr".iter().for_each(|byte| console.push(*byte));
        assert_eq!(console.lines(0), (0..8, b"one\ntwo\n".as_slice()));
        assert_eq!(console.lines(4), (4..8, b"two\n".as_slice()));
        assert_eq!(console.lines(8), (8..8, b"".as_slice()));
        assert_eq!(console.lines(u64::MAX), (11..11, b"".as_slice()));
    }

    #[test]
    fn typed_lines_are_handed_on_in_order_as_far_as_there_is_room() {
        let mut console = Console::new().unwrap();
        assert!(console.type_line(b"ab") && console.type_line(b""));
        let mut read = Vec::new();
        let mut receive = |most: usize| {
            console.hand_typed(|byte| {
                let has_room = read.len() < most;
                read.extend(has_room.then_some(byte));
                has_room
            })
        };
        assert_eq!([receive(0), receive(2), receive(9), receive(9)], [false, true, true, false]);
        assert_eq!(read, b"ab\n\n");
        assert!(console.type_line(&[b'x'; MOST_TYPED - 10]));
        assert!(!console.type_line(&[b'y'; 9]), "with its end it has ten bytes");
        assert!(console.type_line(&[b'y'; 8]));
    }

    #[test]
    fn a_console_that_is_full_forgets_what_is_old_and_takes_no_more_memory() {
        let mut console = Console::new().unwrap();
        let capacity = console.bytes.capacity();
        for line in 0..100_000 {
            format!("{line}\n").bytes().for_each(|byte| console.push(byte));
        }
        let (range, lines) = console.lines(0);
        assert_eq!(range.end, console.written());
        assert_eq!(range.end - range.start, lines.len() as u64);
        assert!(lines.ends_with(b"\n99999\n") && lines.len() >= MOST / 2);
        assert_eq!(console.bytes.capacity(), capacity);
    }
}
