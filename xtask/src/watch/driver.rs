//! The machine's side: carries out what keys ask for, and looks at the machine between.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::keys::Action;
use super::model::{DimmRow, News};
use crate::machine::{Machine, Step};
use crate::qemu::{Dimms, sentence};
use crate::size::DimmSpec;

/// The least pause between two looks, and how many times the last look it is: a look holds up what the kernel does.
const PERIOD: Duration = Duration::from_millis(400);
const PAUSE_PER_LOOK: u32 = 4;

/// A message of the thread that has the machine.
#[derive(Debug)]
pub(super) enum Update {
    /// Something has begun that takes a moment.
    Busy(String),
    /// What came of it.
    Said(String),
    /// How the machine is now.
    News(News),
    /// How it ended.
    Ended(String),
}

/// The machine, and what was done to it.
pub(super) struct Driver {
    machine: Machine,
    dimms: Dimms,
    /// The numbers of DIMMs that were asked to go.
    going: Vec<usize>,
    /// Handles of the pool that are pinned, the latest last.
    pinned: Vec<u64>,
}

impl Driver {
    pub(super) fn new(machine: Machine) -> Self {
        Self { machine, dimms: Dimms::default(), going: Vec::new(), pinned: Vec::new() }
    }

    /// Goes on until it is asked to leave, the other side is gone, or the machine has ended.
    pub(super) fn run(mut self, actions: &Receiver<Action>, updates: &Sender<Update>) {
        // If the receiver is gone, so is the sender of actions, and the loop ends.
        let send = |update| drop(updates.send(update));
        let mut pause = Duration::ZERO;
        loop {
            match actions.recv_timeout(pause) {
                Ok(Action::Leave) | Err(RecvTimeoutError::Disconnected) => {
                    // A machine that does not leave by itself is killed when its handle goes.
                    drop(self.machine.exit(0));
                    return;
                }
                Ok(action) => {
                    send(Update::Busy(name(&action)));
                    let said = self.act(&action);
                    send(Update::Said(said.unwrap_or_else(|error| format!("{error:#}"))));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            let begun = Instant::now();
            let looked = self.look();
            pause = PERIOD.max(begun.elapsed() * PAUSE_PER_LOOK);
            if let Some(exit) = self.machine.ended() {
                let last = self.machine.tail(3).join(" / ");
                return send(Update::Ended(format!("{exit}: {last}")));
            }
            send(match looked {
                Ok(news) => Update::News(news),
                Err(error) => Update::Said(format!("{error:#}")),
            });
        }
    }

    /// Does it; returns what to say about it.
    fn act(&mut self, action: &Action) -> Result<String> {
        match action {
            Action::Plug(size) => {
                let spec = DimmSpec { size: *size, node: None };
                self.dimms.plug(&mut self.machine, spec, None)
            }
            Action::Unplug(number) => {
                self.dimms.unplug(&mut self.machine, *number)?;
                self.going.push(*number);
                Ok(format!("DIMM {number} was asked to go"))
            }
            Action::Type(line) => self.typed(line),
            Action::Pin => {
                let next = self.pinned.last().map_or(0, |last| last + 1);
                let said = self.machine.run(&format!("pool pin {next}"))?;
                self.pinned.push(next);
                Ok(format!("page {next} of the pool is pinned {}", said.join(" ")))
            }
            Action::Unpin => {
                let Some(&last) = self.pinned.last() else {
                    return Ok("no page of the pool is pinned".into());
                };
                self.machine.run(&format!("pool unpin {last}"))?;
                self.pinned.pop();
                Ok(format!("page {last} of the pool is not pinned any more"))
            }
            Action::Leave => Ok(String::new()),
        }
    }

    /// Types a command of the monitor. Its steps are events, which the next look finds.
    fn typed(&mut self, line: &str) -> Result<String> {
        let reply = self.machine.command(line)?;
        let mut said: Vec<_> =
            reply.lines.into_iter().filter(|line| Step::parse(line).is_none()).collect();
        said.extend(reply.error.map(|why| format!("error: {why}")));
        if said.is_empty() {
            said.push("ok".into());
        }
        Ok(format!("{line}: {}", said.join("; ")))
    }

    /// Looks at all there is.
    fn look(&mut self) -> Result<News> {
        self.dimms.reap(&mut self.machine)?;
        let blocks = self.machine.map(String::new())?.blocks;
        let cpus = self.machine.cpus()?;
        // A machine that runs no guests has none.
        let guests = self.machine.guests().unwrap_or_default();
        let status = self.machine.command("offline status")?;
        let moving = status.lines.into_iter().find(|line| line.contains(':'));
        let steps = self.machine.unread_steps()?;
        let scrubs = self.machine.take_scrubs().into_iter().map(Step::Scrub);
        let steps: Vec<_> = scrubs.chain(steps).collect();
        if steps.iter().any(|step| step.error().is_some()) {
            // A refusal ends a request.
            self.going.clear();
        }
        let row = |(number, dimm): (usize, &crate::machine::Dimm)| DimmRow {
            number,
            start: dimm.start,
            size: dimm.size,
            going: self.going.contains(&number),
        };
        let dimms = self.dimms.there().map(row).collect();
        let events = steps.iter().map(sentence).collect();
        Ok(News { blocks, cpus, guests, moving, dimms, events })
    }
}

/// What is under way.
fn name(action: &Action) -> String {
    match action {
        Action::Plug(size) => format!("plugging {size}"),
        Action::Unplug(number) => format!("asking DIMM {number} to go"),
        Action::Type(line) => line.clone(),
        Action::Pin => "pinning a page".into(),
        Action::Unpin => "unpinning a page".into(),
        Action::Leave => "leaving".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::arch::Arch;
    use crate::machine::Config;
    use crate::machine::fake::{Fake, Habit};
    use crate::size::{GIB, Size};

    #[test]
    fn what_is_asked_for_is_done_and_told_until_one_leaves() {
        let machine = Fake::start(Habit::Good, &Config::of(Arch::X86_64)).unwrap();
        let (ask, actions) = mpsc::channel();
        let (sender, updates) = mpsc::channel();
        let driver = thread::spawn(move || Driver::new(machine).run(&actions, &sender));
        let plug = Action::Plug(Size::new(GIB));
        for action in [plug, Action::Unplug(7), Action::Type("nonsense".into()), Action::Leave] {
            ask.send(action).unwrap();
        }
        driver.join().unwrap();
        let all: Vec<_> = updates.iter().collect();
        let said: Vec<_> = all
            .iter()
            .filter_map(|update| match update {
                Update::Said(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let expected = [
            "DIMM 0: 1 GiB at 0x100000000",
            "there is no such DIMM",
            "nonsense: error: unknown command `nonsense`",
        ];
        assert_eq!(said, expected);
        // It may look once before it is asked for anything.
        let dimm = all.iter().find_map(|update| match update {
            Update::News(news) => news.dimms.first(),
            _ => None,
        });
        assert_eq!(dimm.unwrap().size, GIB);
        let events = all.iter().filter_map(|update| match update {
            Update::News(news) => Some(news.events.join("\n")),
            _ => None,
        });
        let events: Vec<_> = events.collect();
        assert!(events.join("\n").contains("add: 1 GiB at 0x100000000"), "{events:?}");
    }
}
