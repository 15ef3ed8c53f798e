//! Ends the program if a call of the mapper does not return: a lock that it takes twice would hang the test.

use super::super::std::boxed::Box;
use super::super::std::io::{self, Write};
use super::super::std::sync::mpsc::{self, RecvTimeoutError, Sender};
use super::super::std::time::Duration;
use super::super::std::{process, thread};

/// A thread that expects a word before each call.
pub(super) struct Watch(Sender<&'static str>);

impl Watch {
    /// Waits `patience` for a call to return, and so for the next word.
    pub(super) fn new(patience: Duration) -> Self {
        let (sender, receiver) = mpsc::channel();
        let watch = move || {
            let mut call = "mapper";
            loop {
                match receiver.recv_timeout(patience) {
                    Ok(next) => call = next,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        // Not by a macro: what a test prints is shown when it ends.
                        let _ = writeln!(
                            io::stderr(),
                            "`{call}` has not returned for {patience:?}: a mapper calls itself with \
                             its lock held, or loops"
                        );
                        process::exit(101);
                    }
                }
            }
        };
        // Without a thread the check still checks.
        let _unwatched = thread::Builder::new().spawn(Box::new(watch) as Box<dyn FnOnce() + Send>);
        Self(sender)
    }

    /// A call begins.
    pub(super) fn begins(&self, call: &'static str) {
        // The thread ends only with this value.
        let _ = self.0.send(call);
    }
}
