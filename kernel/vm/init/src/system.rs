//! System calls, and the beginning of the program.

// UNSAFETY: system calls, and what the kernel puts on the stack.
#![expect(unsafe_code)]

use super::calls::{Number, call};
use super::rounds::Found;
use core::ffi::CStr;
use core::fmt::{self, Write};

/// open(2): relative to the working directory, and for writing.
const HERE: u64 = -100_i64 as u64;
const WRITE_ONLY: u64 = 1;
/// mmap(2): read and write; private, anonymous, with its pages from the start.
const READ_WRITE: u64 = 3;
const FLAGS: u64 = 0x02 | 0x20 | 0x8000;
/// reboot(2).
const MAGIC: [u64; 2] = [0xfee1_dead, 0x2812_1969];
const POWER_OFF: u64 = 0x4321_fedc;
const MIB: usize = 1 << 20;

/// The kernel's log: a write is a line.
struct Log(u64);

/// A line in the making.
struct Line {
    bytes: [u8; 160],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.len + text.len();
        self.bytes.get_mut(self.len..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.len = end;
        Ok(())
    }
}

impl Log {
    fn open() -> Self {
        let path = c"/dev/kmsg";
        // SAFETY: the path is a text that ends.
        Self(unsafe { call(Number::OPEN_AT, [HERE, address(path.as_ptr()), WRITE_ONLY, 0, 0, 0]) })
    }

    fn line(&self, text: fmt::Arguments<'_>) {
        let mut line = Line { bytes: [0; 160], len: 0 };
        // A line that is too long is cut.
        let _ = write!(line, "<5>init: ").and_then(|()| line.write_fmt(text));
        let bytes = line.bytes.get(..line.len).unwrap_or_default();
        let words = [self.0, address(bytes.as_ptr()), bytes.len() as u64, 0, 0, 0];
        // SAFETY: the bytes are there.
        unsafe { call(Number::WRITE, words) };
    }
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

/// The CPUs, as bits, that the program was at when it asked to go there.
fn cpus() -> u64 {
    let mut allowed = 0_u64;
    let place = address(&raw mut allowed);
    // SAFETY: the kernel writes as many bytes to the mask as the second word says.
    unsafe { call(Number::GET_AFFINITY, [0, size_of::<u64>() as u64, place, 0, 0, 0]) };
    let allowed = core::hint::black_box(allowed);
    let reached = (0..u64::BITS).filter(|&number| {
        let mask = 1 << number;
        allowed & mask != 0 && {
            go_to(mask);
            here() == number
        }
    });
    reached.fold(0, |cpus, number| cpus | 1 << number)
}

/// Has the program run on one CPU of `cpus` from now on: on another one in each round.
fn go_on_at(cpus: u64, round: u64) {
    let index = (round % u64::from(cpus.count_ones().max(1))) as usize;
    let chosen = (0..u64::BITS).filter(|number| cpus >> number & 1 != 0).nth(index);
    go_to(chosen.map_or(cpus, |number| 1 << number));
}

/// Asks for the CPUs in `mask`.
fn go_to(mask: u64) {
    let place = address(&raw const mask);
    // SAFETY: the kernel reads as many bytes of the mask as the second word says.
    unsafe { call(Number::SET_AFFINITY, [0, size_of::<u64>() as u64, place, 0, 0, 0]) };
}

/// The number of the CPU that the program runs on.
fn here() -> u32 {
    let mut number = u32::MAX;
    let place = address(&raw mut number);
    // SAFETY: the kernel writes four bytes to the number, and nothing for the two other words.
    unsafe { call(Number::GET_CPU, [place, 0, 0, 0, 0, 0]) };
    core::hint::black_box(number)
}

/// New memory of `words` words.
fn memory(words: usize) -> Option<&'static mut [u64]> {
    let bytes = (words * size_of::<u64>()) as u64;
    // SAFETY: the memory is new, so nothing else is there.
    let at = unsafe { call(Number::MMAP, [0, bytes, READ_WRITE, FLAGS, u64::MAX, 0]) };
    let failed = at > -4096_i64 as u64;
    // SAFETY: the kernel returned so many zeroed bytes, aligned to a page, which nothing else uses.
    (!failed).then(|| unsafe {
        core::slice::from_raw_parts_mut(core::ptr::with_exposed_provenance_mut(at as usize), words)
    })
}

/// A number among the arguments.
fn number(argument: *const i8) -> Option<u64> {
    if argument.is_null() {
        return None;
    }
    // SAFETY: the kernel's arguments are texts that end.
    let text = unsafe { CStr::from_ptr(argument.cast()) };
    text.to_str().ok()?.parse().ok()
}

/// Where the program begins: `stack` has the number of arguments, and pointers to them.
pub(crate) extern "C" fn begin(stack: *const usize) -> ! {
    let log = Log::open();
    // SAFETY: the kernel passes a stack with as many pointers behind the first word as it says, and a zero.
    let arguments =
        unsafe { core::slice::from_raw_parts(stack.add(1).cast::<*const i8>(), *stack) };
    let given = |index: usize| arguments.get(index).copied().and_then(number);
    match (given(1), given(2)) {
        (Some(mib), Some(rounds)) => compute(&log, mib, rounds),
        _ => log.line(format_args!("two numbers are needed: MiB, and rounds")),
    }
    // SAFETY: the machine ends here.
    unsafe { call(Number::REBOOT, [MAGIC[0], MAGIC[1], POWER_OFF, 0, 0, 0]) };
    // The kernel panics when its first program ends.
    loop {
        // SAFETY: the program ends here.
        unsafe { call(Number::EXIT, [1, 0, 0, 0, 0, 0]) };
    }
}

fn compute(log: &Log, mib: u64, rounds: u64) {
    let words = usize::try_from(mib).ok().and_then(|mib| mib.checked_mul(MIB / 8));
    let Some(memory) = words.and_then(memory) else {
        return log.line(format_args!("there is no memory of {mib} MiB"));
    };
    let cpus = cpus();
    let count = cpus.count_ones();
    log.line(format_args!("computing on {mib} MiB, CPUs: {count}"));
    let mut found = Found::default();
    for round in 1..=(if rounds == 0 { u64::MAX } else { rounds }) {
        if count > 1 {
            go_on_at(cpus, round);
        }
        found = found.round(memory, round);
        let Found { wrong, checksum } = found;
        log.line(format_args!("round {round}: {wrong} wrong words, checksum {checksum:#018x}"));
    }
    log.line(format_args!("done"));
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        // SAFETY: the program ends here.
        unsafe { call(Number::EXIT, [2, 0, 0, 0, 0, 0]) };
    }
}
