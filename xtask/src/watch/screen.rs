//! The terminal: draws the model, and reads keys. It is given back as it was, also after a panic.

use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use crossterm::event::{self, Event, KeyEventKind};
use ratatui::DefaultTerminal;

use super::driver::{Driver, Update};
use super::keys::{Action, Asked, asked};
use super::model::Model;
use super::view;
use crate::machine::Machine;

/// How often the machine's side is listened to while no key is pressed.
const LISTEN: Duration = Duration::from_millis(100);

/// Shows `machine` until the user quits.
///
/// # Errors
/// When the terminal cannot be used.
pub(super) fn run(machine: Machine, title: String) -> Result<ExitCode> {
    let (ask, actions) = mpsc::channel();
    let (sender, updates) = mpsc::channel();
    let driver = thread::spawn(move || Driver::new(machine).run(&actions, &sender));

    // This also has a panic, of whatever thread, give the terminal back before it is reported.
    let mut terminal = ratatui::try_init().context("the terminal cannot be used")?;
    let mut model = Model { title, ..Model::default() };
    let shown = watch(&mut terminal, &mut model, &ask, &updates);
    ratatui::try_restore().context("the terminal cannot be given back")?;

    // The driver may have left before, with its machine.
    let _ = ask.send(Action::Leave);
    println!("leaving the machine ...");
    let _ = driver.join();
    shown.map(|()| ExitCode::SUCCESS)
}

/// Draws and obeys until the user quits.
fn watch(
    terminal: &mut DefaultTerminal,
    model: &mut Model,
    ask: &Sender<Action>,
    updates: &Receiver<Update>,
) -> Result<()> {
    loop {
        terminal.draw(|frame| view::draw(frame, model)).context("cannot draw")?;
        if event::poll(LISTEN).context("cannot read the terminal")?
            && let Event::Key(key) = event::read().context("cannot read the terminal")?
            && key.kind != KeyEventKind::Release
        {
            match asked(key, model) {
                Some(Asked::Quit) => return Ok(()),
                Some(Asked::Help) => model.help = !model.help,
                Some(Asked::Select { forwards }) => model.select(forwards),
                // Nobody hears it once the machine has ended.
                Some(Asked::Do(action)) => drop(ask.send(action)),
                None => model.help = false,
            }
        }
        updates.try_iter().for_each(|update| apply(model, update));
    }
}

/// Applies a message to the model.
fn apply(model: &mut Model, update: Update) {
    match update {
        Update::Busy(what) => model.busy = Some(what),
        Update::Said(text) => {
            model.busy = None;
            model.add_event(text);
        }
        Update::News(news) => model.refresh(news),
        Update::Ended(how) => {
            model.busy = None;
            model.ended = Some(how);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_a_moment_is_shown_until_its_outcome_is_known() {
        let mut model = Model::default();
        apply(&mut model, Update::Busy("verify".into()));
        assert_eq!(model.busy.as_deref(), Some("verify"));
        apply(&mut model, Update::Said("verify: ok".into()));
        assert_eq!((model.busy.as_deref(), model.events.len()), (None, 1));
        apply(&mut model, Update::Ended("the guest exited with 0".into()));
        assert!(model.ended.is_some());
    }
}
