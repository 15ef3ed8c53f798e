//! The console: one port, whole lines out, bytes in.
//!
//! Output may come at any time, the monitor's prompt only when the kernel is idle. A line of output that finds a
//! prompt on the screen starts on a new line and removes the prompt; the main loop shows the prompt again when it is
//! idle.

// UNSAFETY: takes over the serial port.
#![expect(unsafe_code)]

use crate::lock::Mutex;
use core::fmt::{self, Write};
use hotmem_arch::contract::Port as _;
use hotmem_arch::current::Port;

static CONSOLE: Mutex<Console> = Mutex::new(Console { port: None, prompt: false });

struct Console {
    port: Option<Port>,
    /// Whether the cursor is after a prompt.
    prompt: bool,
}

/// Writes formatted text and a newline to the console.
#[macro_export]
macro_rules! say {
    ($($part:tt)*) => { $crate::console::line(::core::format_args!($($part)*)) };
}

impl Console {
    /// Shows the prompt and `line` after it, unless a prompt is on the screen already. Returns whether it was.
    fn put_up(&mut self, prompt: &str, line: &str) -> bool {
        let was_up = core::mem::replace(&mut self.prompt, true);
        if !was_up {
            let _ = self.write_str(prompt);
            let _ = self.write_str(line);
        }
        was_up
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if let Some(port) = &mut self.port {
            text.bytes().for_each(|byte| port.send(byte));
        }
        Ok(())
    }
}

fn with<R>(f: impl FnOnce(&mut Console) -> R) -> R {
    f(&mut CONSOLE.lock())
}

/// Sets up the port. Called once, before anything is printed.
pub fn init() {
    // SAFETY: the port is at the address where this kind of machine has it, or no device is there, and this is the
    // only value that drives it until a panic, which never returns.
    let port = unsafe { Port::open() };
    with(|console| console.port = Some(port));
}

/// Writes a line, below the prompt if one is on the screen.
pub fn line(text: fmt::Arguments<'_>) {
    with(|console| {
        if core::mem::take(&mut console.prompt) {
            let _ = console.write_str("\n");
        }
        let _ = console.write_fmt(text);
        let _ = console.write_str("\n");
    });
}

/// The console as a writer of whole lines: the first write removes a prompt.
#[derive(Clone, Copy, Debug)]
pub struct Screen;

impl Write for Screen {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        with(|console| {
            if core::mem::take(&mut console.prompt) {
                console.write_str("\n")?;
            }
            console.write_str(text)
        })
    }
}

/// Shows the prompt and the line typed so far after it, unless the prompt is on the screen already.
pub fn prompt(prompt: &str, line: &str) {
    with(|console| console.put_up(prompt, line));
}

/// Shows text that was typed at the end of `line`, or the whole line if output has removed the prompt.
pub fn typed(prompt: &str, line: &str, text: &str) {
    with(|console| {
        if console.put_up(prompt, line) {
            let _ = console.write_str(text);
        }
    });
}

/// Removes characters from the screen that were erased at the end of the line, of which `line` is left.
pub fn erased(prompt: &str, line: &str, characters: usize) {
    with(|console| {
        if console.put_up(prompt, line) {
            for _ in 0..characters {
                let _ = console.write_str("\u{8} \u{8}");
            }
        }
    });
}

/// Ends `line`, as the operator did; it is on the screen as a whole then.
pub fn end_of_input(prompt: &str, line: &str) {
    with(|console| {
        console.put_up(prompt, line);
        console.prompt = false;
        let _ = console.write_str("\n");
    });
}

/// The next byte received, if there is one.
pub fn receive() -> Option<u8> {
    with(|console| console.port.as_mut().and_then(Port::receive))
}

/// Whether a byte was received that was not read yet.
pub fn has_input() -> bool {
    with(|console| console.port.as_ref().is_some_and(Port::has_input))
}

/// Enables the port's interrupt on a received byte.
pub fn interrupt_on_receive() {
    with(|console| {
        if let Some(port) = &mut console.port {
            port.interrupt_on_receive();
        }
    });
}

/// A console for a kernel that panics: it bypasses the lock, which the CPU may hold.
pub fn last_words() -> impl Write {
    // SAFETY: the port is the console's. This CPU no longer drives it by another value; the others were asked to
    // stop, and the output of one that did not can only mix with this CPU's: the registers belong to a port, not to
    // memory.
    let port = unsafe { Port::open() };
    Console { port: Some(port), prompt: false }
}
