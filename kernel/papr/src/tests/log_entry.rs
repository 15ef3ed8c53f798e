//! Logs of `check-exception`.

use std::cell::Cell;

use super::source::Rig;
use super::tree::FIRST;
use crate::log_entry::{Action, LogError, MemoryEvent};
use crate::pieces::Piece;
use hotmem_hotplug::HotplugSource;

/// The log of a hotplug of memory, with sections before it as QEMU has them.
pub(super) fn log(action: u8, identifier: u8, words: [u32; 2]) -> Vec<u8> {
    let mut log = vec![0x06, 0x34, 0x60, 0xe5, 0, 0, 0, 0x6c, 0x86, 0, 0x8e, 0];
    log.resize(24, 0);
    log.extend([b'P', b'H', 0, 48]);
    log.resize(72, 0);
    log.extend([b'U', b'H', 0, 24]);
    log.resize(96, 0);
    log.extend([b'H', b'P', 0, 20, 1, 0, 0, 0, 2, action, identifier, 0]);
    log.extend(words.iter().flat_map(|word| word.to_be_bytes()));
    log
}

/// The log of a hotplug of a processor.
fn about_a_processor() -> Vec<u8> {
    let mut log = log(1, 2, [0, 0]);
    log[104] = 1;
    log
}

#[test]
fn a_log_is_read_as_the_reference_says() {
    let add = MemoryEvent { action: Action::Add, piece: Piece { connector: FIRST, count: 4 } };
    assert_eq!(MemoryEvent::read(&log(1, 4, [4, FIRST])), Ok(add));
    let remove =
        MemoryEvent { action: Action::Remove, piece: Piece { connector: FIRST, count: 1 } };
    assert_eq!(MemoryEvent::read(&log(2, 2, [FIRST, 0])), Ok(remove));
    let by_name = LogError::NoConnector { action: Action::Add, by_name: true };
    assert_eq!(MemoryEvent::read(&log(1, 1, [0, 0])), Err(by_name));
    let by_count = LogError::NoConnector { action: Action::Remove, by_name: false };
    assert_eq!(MemoryEvent::read(&log(2, 3, [4, 0])), Err(by_count));
    let text = by_count.to_string();
    assert_eq!(text, "a request to remove memory by a count, without a connector, is refused");
    let action = LogError::Unknown { action: 3, identifier: 3 };
    assert_eq!(MemoryEvent::read(&log(3, 3, [4, 0])), Err(action));
    let none = LogError::Unknown { action: 1, identifier: 4 };
    assert_eq!(MemoryEvent::read(&log(1, 4, [0, FIRST])), Err(none));
    assert_eq!(MemoryEvent::read(&about_a_processor()), Err(LogError::NotMemory(1)));
}

#[test]
fn a_power_warning_is_not_taken_for_hotplug() {
    let mut warning = log(1, 4, [4, FIRST]);
    warning[96..98].copy_from_slice(b"EP");
    warning[104] = 3;
    let read = MemoryEvent::read(&warning);
    assert_eq!(read, Err(LogError::Power(3)));
    assert_eq!(read.unwrap_err().to_string(), "EPOW action 3");
}

#[test]
fn what_is_behind_the_end_of_a_section_is_not_read() {
    let of_len = |len: u8, identifier| {
        let mut log = log(1, identifier, [4, FIRST]);
        log[99] = len;
        MemoryEvent::read(&log)
    };
    // The connector is the second word: a section of 16 bytes has one.
    assert_eq!(of_len(16, 4), Err(LogError::Short));
    let one = MemoryEvent { action: Action::Add, piece: Piece { connector: 4, count: 1 } };
    assert_eq!(of_len(16, 2), Ok(one));
    assert_eq!(of_len(12, 2), Err(LogError::Short));
    // Shorter than the header of a section, or than the fields behind it; longer than the log.
    for len in [0, 7, 8, 11, 21, 255] {
        assert_eq!(of_len(len, 4), Err(LogError::Short), "{len}");
    }
    assert!(of_len(20, 4).is_ok());
    // A section of four bytes ends inside its own header, whatever is behind it.
    let mut short = log(1, 4, [4, FIRST]);
    short.drain(28..96);
    short[27] = 4;
    assert_eq!(MemoryEvent::read(&short), Err(LogError::Short));
    // The next section begins where the one before ends: here inside it, where none is.
    let mut log = log(1, 4, [4, FIRST]);
    log[75] -= 8;
    assert_eq!(MemoryEvent::read(&log), Err(LogError::Short));
}

#[test]
fn what_is_behind_the_end_of_a_log_is_not_read() {
    let mut old = log(1, 4, [4, FIRST]);
    // The end of the log in front of the last section: that is of a log before it, which was longer.
    old[7] -= 20;
    assert_eq!(MemoryEvent::read(&old), Err(LogError::NoHotplug));
    // Behind what was read, whatever the log says.
    old[4] = 0xff;
    assert_eq!(MemoryEvent::read(&old[..96]), Err(LogError::NoHotplug));
}

#[test]
fn a_log_that_is_cut_or_changed_is_refused_without_a_panic() {
    let whole = log(1, 4, [4, FIRST]);
    for len in 0..whole.len() {
        assert!(MemoryEvent::read(&whole[..len]).is_err(), "{len}");
    }
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut changed = whole.clone();
            changed[at] = value;
            let _ = MemoryEvent::read(&changed);
        }
    }
}

thread_local! {
    /// The errors that this thread has logged.
    static ERRORS: Cell<u32> = const { Cell::new(0) };
}

/// Counts the errors of each test's own thread.
struct CountsErrors;

impl log::Log for CountsErrors {
    fn enabled(&self, of: &log::Metadata<'_>) -> bool {
        of.level() == log::Level::Error
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            ERRORS.set(ERRORS.get() + 1);
        }
    }

    fn flush(&self) {}
}

#[test]
fn a_log_about_a_processor_is_not_an_error_and_one_that_is_not_understood_is() {
    log::set_logger(&CountsErrors).unwrap();
    log::set_max_level(log::LevelFilter::Error);
    let mut rig = Rig::new(0);
    for (entry, errors) in [(about_a_processor(), 0), (log(3, 3, [4, 0]), 1)] {
        rig.send(entry);
        assert!(rig.source.next_event().is_none());
        assert_eq!(ERRORS.get(), errors);
    }
}
