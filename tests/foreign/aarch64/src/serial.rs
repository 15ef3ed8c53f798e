//! The PL011 of QEMU's board.

use core::fmt::{self, Write};

const BASE: usize = 0x0900_0000;
const DATA: usize = BASE;
const FLAGS: usize = BASE + 0x18;
const RECEIVE_EMPTY: u32 = 1 << 4;
const TRANSMIT_FULL: u32 = 1 << 5;

/// The port.
pub struct Serial;

fn flags() -> u32 {
    // SAFETY: the port is this kernel's console, and UEFI has it mapped.
    unsafe { (FLAGS as *const u32).read_volatile() }
}

/// Whether something was typed since this was asked last.
pub fn typed() -> bool {
    let typed = flags() & RECEIVE_EMPTY == 0;
    if typed {
        // SAFETY: as above.
        unsafe { (DATA as *const u32).read_volatile() };
    }
    typed
}

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while flags() & TRANSMIT_FULL != 0 {}
            // SAFETY: as above.
            unsafe { (DATA as *mut u32).write_volatile(byte.into()) };
        }
        Ok(())
    }
}

/// Writes a line to the serial port.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => {{
        use core::fmt::Write as _;
        let _ = writeln!($crate::serial::Serial, $($arg)*);
    }};
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Info
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            println!("[{}] {}", record.level(), record.args());
        }
    }

    fn flush(&self) {}
}

/// Sends the messages of libraries to the serial port.
pub fn init() {
    let _ = log::set_logger(&Logger).map(|()| log::set_max_level(log::LevelFilter::Info));
}
