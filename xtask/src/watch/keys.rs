//! The keys, and what each has the machine do.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::model::Model;
use crate::size::{GIB, MIB, Size};

/// Pages that a key has the pool grow or shrink by.
const PAGES: u64 = 4096;

/// What a key asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// The machine does something.
    Do(Action),
    /// Only the picture changes.
    Select {
        forwards: bool,
    },
    Help,
    Quit,
}

/// What the machine does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Plug(Size),
    /// The DIMM with this number.
    Unplug(usize),
    /// A command of the monitor.
    Type(String),
    Pin,
    Unpin,
    Leave,
}

/// The keys, for people.
pub(super) const HELP: [(&str, &str); 11] = [
    ("p P", "plug a DIMM of 1 GiB, of 256 MiB"),
    ("j k", "select a DIMM (arrows, too)"),
    ("u", "unplug the selected DIMM"),
    ("c", "cancel the unplug under way"),
    ("g s", "grow or shrink the pool of movable pages by 4,096"),
    ("i o", "pin a page of the pool; unpin it again"),
    ("m r", "create and run a guest of 128 MiB; pause it"),
    ("x", "end the guest"),
    ("v", "verify every invariant"),
    ("?", "this list"),
    ("q", "quit (Esc and Ctrl-C, too)"),
];

/// The name of the guest that keys create.
const GUEST: &str = "guest";

/// What a key asks for; nothing for most keys.
pub(super) fn asked(key: KeyEvent, model: &Model) -> Option<Asked> {
    let typed = |text: String| Some(Asked::Do(Action::Type(text)));
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return (key.code == KeyCode::Char('c')).then_some(Asked::Quit);
    }
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => Some(Asked::Quit),
        KeyCode::Char('?' | 'h') => Some(Asked::Help),
        KeyCode::Char('j') | KeyCode::Down => Some(Asked::Select { forwards: true }),
        KeyCode::Char('k') | KeyCode::Up => Some(Asked::Select { forwards: false }),
        KeyCode::Char('p') => Some(Asked::Do(Action::Plug(Size::new(GIB)))),
        KeyCode::Char('P') => Some(Asked::Do(Action::Plug(Size::new(256 * MIB)))),
        KeyCode::Char('u') => Some(Asked::Do(Action::Unplug(model.dimm()?.number))),
        KeyCode::Char('c') => typed("offline cancel".into()),
        KeyCode::Char('g') => typed(format!("pool grow {PAGES}")),
        KeyCode::Char('s') => typed(format!("pool shrink {PAGES}")),
        KeyCode::Char('i') => Some(Asked::Do(Action::Pin)),
        KeyCode::Char('o') => Some(Asked::Do(Action::Unpin)),
        KeyCode::Char('m') if model.guests.is_empty() => {
            typed(format!("vm create {GUEST} 128M payload"))
        }
        KeyCode::Char('m') => typed(format!("vm run {GUEST}")),
        KeyCode::Char('r') => typed(format!("vm pause {GUEST}")),
        KeyCode::Char('x') => typed(format!("vm kill {GUEST}")),
        KeyCode::Char('v') => typed("verify".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::model::DimmRow;

    fn key(code: char) -> KeyEvent {
        KeyEvent::new(KeyCode::Char(code), KeyModifiers::NONE)
    }

    #[test]
    fn each_key_of_the_list_does_something() {
        let dimms = vec![DimmRow { number: 3, start: 0, size: 1, going: false }];
        let model = Model { dimms, ..Model::default() };
        for (keys, what) in HELP {
            for code in keys.chars().filter(|code| *code != ' ') {
                assert!(asked(key(code), &model).is_some(), "{code}: {what}");
            }
        }
        assert_eq!(asked(key('u'), &model), Some(Asked::Do(Action::Unplug(3))));
        assert_eq!(asked(key('z'), &model), None);
    }

    #[test]
    fn without_a_dimm_nothing_is_unplugged() {
        assert_eq!(asked(key('u'), &Model::default()), None);
    }

    #[test]
    fn control_c_quits_and_c_alone_cancels() {
        let control = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(asked(control, &Model::default()), Some(Asked::Quit));
        let cancel = Asked::Do(Action::Type("offline cancel".into()));
        assert_eq!(asked(key('c'), &Model::default()), Some(cancel));
    }
}
