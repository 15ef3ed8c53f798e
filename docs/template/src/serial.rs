//! The first serial port, for messages.

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, Ordering};
use spin::Mutex;
use x86_64::instructions::interrupts::without_interrupts;
use x86_64::instructions::port::Port;

const COM1: u16 = 0x3f8;

/// The port.
pub struct Serial;

static LOCK: Mutex<()> = Mutex::new(());
static TYPED: AtomicBool = AtomicBool::new(false);

/// The interrupt line of the port.
pub const LINE: u8 = 4;

/// Whether something was typed since this was asked last.
pub fn typed() -> bool {
    TYPED.swap(false, Ordering::Relaxed)
}

/// The handler of the line.
pub fn interrupt() {
    // SAFETY: the port is this kernel's console.
    while unsafe { Port::<u8>::new(COM1 + 5).read() } & 1 != 0 {
        // SAFETY: as above.
        unsafe { Port::<u8>::new(COM1).read() };
        TYPED.store(true, Ordering::Relaxed);
    }
}

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        without_interrupts(|| {
            let _held = LOCK.lock();
            for byte in text.bytes() {
                let (mut data, mut status) = (Port::new(COM1), Port::<u8>::new(COM1 + 5));
                // SAFETY: the port is this kernel's console.
                unsafe {
                    while status.read() & 0x20 == 0 {}
                    data.write(byte);
                }
            }
        });
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
    // SAFETY: interrupts when a byte has come, with the port connected to its line (OUT2).
    unsafe {
        Port::<u8>::new(COM1 + 1).write(1);
        Port::<u8>::new(COM1 + 4).write(0xb);
    }
}
