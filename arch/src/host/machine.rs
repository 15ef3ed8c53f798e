//! The machine, as a test controls it.

// UNSAFETY: vouches for memory that no program uses yet.
#![expect(unsafe_code)]
#![expect(clippy::panic, reason = "where a machine would misbehave, the test fails")]

use super::board::Board;
use super::memory::Memory;
use super::std::string::String;
use super::std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use super::std::time::{Duration, Instant};
use super::std::{format, thread, thread_local};
use super::traps::Trap;
use crate::contract::Exit;
use crate::io::{IoError, Place};
use core::cell::OnceCell;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use hotmem_paging::addr::{PhysAddr, PhysRange};

/// The interrupt line of the console.
pub(super) const CONSOLE_LINE: u8 = 4;
/// Bytes of the CPU's own stack.
const STACK: usize = 16 << 20;
/// The time that a kernel may take before a test fails; it usually takes milliseconds.
const TIMEOUT: Duration = Duration::from_secs(120);

thread_local! {
    /// The machine that this thread is the CPU of.
    static OWN: OnceCell<Arc<Machine>> = const { OnceCell::new() };
}

/// A device that is accessed by ports, PCI configuration space, and registers in memory.
pub trait Device: Send {
    /// Reads `bytes` bytes at `place`.
    ///
    /// # Errors
    ///
    /// [`IoError`]
    fn read(&mut self, place: Place, bytes: u32) -> Result<u64, IoError>;

    /// Writes the low `bytes` bytes of `value` to `place`.
    ///
    /// # Errors
    ///
    /// [`IoError`]
    fn write(&mut self, place: Place, bytes: u32, value: u64) -> Result<(), IoError>;

    /// Loads the `bytes` bytes of the register at `at`, which was [plugged](Machine::plug_registers).
    fn load(&mut self, at: PhysAddr, bytes: u32) -> u64 {
        let _ = (at, bytes);
        u64::MAX
    }

    /// Stores the low `bytes` bytes of `value` in the register at `at`.
    fn store(&mut self, at: PhysAddr, bytes: u32, value: u64) {
        let _ = (at, bytes, value);
    }

    /// The interrupt line of the device, and whether the line is active now.
    fn line(&self) -> (u32, bool);
}

/// The machine that this thread is the CPU of.
pub(super) fn own() -> Arc<Machine> {
    let own = OWN.with(|own| own.get().cloned());
    own.unwrap_or_else(|| panic!("this thread is not a machine's CPU"))
}

/// Held by the thread of a CPU: its drop reports every end of the thread.
struct Ending(Arc<Machine>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.change(|board| board.died = true);
    }
}

/// A machine with one CPU, memory, a serial line, an interrupt controller, and at most one [`Device`].
#[derive(Default)]
pub struct Machine {
    memory: Mutex<Memory>,
    board: Mutex<Board>,
    /// The board changed.
    changed: Condvar,
    device: OnceLock<Arc<Mutex<dyn Device>>>,
    ticks: AtomicU64,
    missing: OnceLock<&'static str>,
    /// The feature that the CPU lacks to run guests.
    no_guests: OnceLock<&'static str>,
    guests: AtomicBool,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("board", &*self.board()).finish_non_exhaustive()
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Machine {
    /// A machine without memory and devices, turned off.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Plugs memory that holds garbage.
    ///
    /// # Panics
    ///
    /// If memory is there already, or the range is not whole pages.
    pub fn plug(&self, range: PhysRange) {
        self.memory().plug(range, false);
    }

    /// Makes `range` registers of the device.
    ///
    /// # Panics
    ///
    /// As [`plug`](Self::plug).
    pub fn plug_registers(&self, range: PhysRange) {
        self.memory().plug(range, true);
    }

    /// Unplugs memory that was plugged in one piece.
    ///
    /// # Panics
    ///
    /// If the range was not plugged in one piece, or the CPU still translates to it.
    pub fn unplug(&self, range: PhysRange) {
        self.memory().unplug(range);
    }

    /// Writes `bytes` to memory, as firmware does before the kernel runs.
    ///
    /// # Panics
    ///
    /// If the CPU was started, since its program may use the memory, or part of the range is not memory.
    pub fn write(&self, at: PhysAddr, bytes: &[u8]) {
        let memory = self.memory();
        assert!(!memory.in_use, "the CPU runs: only its program writes to memory");
        // SAFETY: no program has got a pointer into the memory, and none gets one while it is locked here.
        unsafe { memory.write(at, bytes) };
    }

    /// Makes the CPU lack a feature that the kernel needs; only the first call counts.
    pub fn lack(&self, what: &'static str) {
        self.missing.get_or_init(|| what);
    }

    /// Makes the CPU lack a feature that guests need; only the first call counts.
    pub fn lack_for_guests(&self, what: &'static str) {
        self.no_guests.get_or_init(|| what);
    }

    /// Makes the CPU keep its cached translations of guests whatever the kernel flushes: an error of the kernel that a
    /// test must notice.
    pub fn skip_guest_flushes(&self) {
        self.memory().skip_guest_flushes();
    }

    /// Attaches the device; only the first call counts.
    pub fn attach<D: Device + 'static>(&self, device: &Arc<Mutex<D>>) {
        let device: Arc<Mutex<dyn Device>> = Arc::<Mutex<D>>::clone(device);
        self.device.get_or_init(|| device);
    }

    /// Calls `act` with the device; the device's line may change by that.
    pub fn act<D: Device + ?Sized, R>(
        &self,
        device: &Mutex<D>,
        act: impl FnOnce(&mut D) -> R,
    ) -> R {
        let mut device = lock(device);
        let result = act(&mut device);
        let (gsi, active) = device.line();
        self.set_line(gsi, active);
        result
    }

    /// Makes an interrupt line active or inactive.
    pub fn set_line(&self, gsi: u32, active: bool) {
        self.change(|board| board.set_line(gsi, active));
    }

    /// Has the CPU take an exception as soon as it enables interrupts.
    pub fn raise(&self, exception: Trap) {
        self.change(|board| board.exceptions.push_back(exception));
    }

    /// Has the CPU's timer interrupt once, if it runs, and waits until the CPU has taken the interrupt: input that a
    /// test types next is read after the handler has returned. Returns whether the timer runs.
    ///
    /// # Panics
    ///
    /// If the kernel exits before, or takes too long.
    #[track_caller]
    pub fn ring_timer(&self) -> bool {
        let runs = self.change(|board| {
            board.timer_rang |= board.timer_runs;
            board.timer_runs
        });
        let taken = self.wait(|board| (!board.timer_rang).then_some(()));
        assert!(taken.is_some(), "the timer's interrupt was not taken; {}", self.story());
        runs
    }

    /// Types at the console.
    pub fn type_in(&self, text: &str) {
        self.change(|board| {
            board.typed.extend(text.bytes());
            if board.interrupts_on_receive {
                board.pulse(CONSOLE_LINE.into());
            }
        });
    }

    /// Starts the CPU: a thread that runs `main`.
    ///
    /// # Panics
    ///
    /// If the host cannot create the thread.
    pub fn power_on(self: &Arc<Self>, main: impl FnOnce() + Send + 'static) {
        self.memory().in_use = true;
        let machine = Arc::clone(self);
        let cpu = move || {
            let _end = Ending(Arc::clone(&machine));
            OWN.with(|own| {
                own.get_or_init(|| machine);
            });
            main();
        };
        let started = thread::Builder::new().name("cpu".into()).stack_size(STACK).spawn(cpu);
        assert!(started.is_ok(), "the host cannot create a thread for the CPU");
    }

    /// Waits until the kernel has written `text`. Returns what the kernel wrote after the last wait, up to and with
    /// `text`.
    ///
    /// # Panics
    ///
    /// If the kernel exits before, or takes too long.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        let find = |board: &mut Board| {
            let unseen = board.written.get(board.seen..).unwrap_or_default();
            let place = unseen.windows(text.len()).position(|here| here == text.as_bytes())?;
            let end = place + text.len();
            let found = String::from_utf8_lossy(unseen.get(..end).unwrap_or_default());
            let found = found.into_owned();
            board.seen += end;
            Some(found)
        };
        self.wait(find)
            .unwrap_or_else(|| panic!("\"{text}\" was not written by the kernel; {}", self.story()))
    }

    /// Waits until the kernel leaves the machine. Returns the exit.
    ///
    /// # Panics
    ///
    /// If the CPU's thread panics, or the kernel takes too long.
    #[track_caller]
    pub fn wait_for_exit(&self) -> Exit {
        let exit = self.wait(|board| board.ended);
        exit.unwrap_or_else(|| panic!("the kernel did not leave the machine; {}", self.story()))
    }

    /// Waits until `find` returns a value for the device; `find` runs after every access.
    ///
    /// # Panics
    ///
    /// If the kernel exits before, or takes too long.
    #[track_caller]
    pub fn wait_for_device<D: Device + ?Sized, R>(
        &self,
        device: &Mutex<D>,
        mut find: impl FnMut(&mut D) -> Option<R>,
    ) -> R {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let changes = self.board().changes;
            if let Some(found) = find(&mut lock(device)) {
                return found;
            }
            let changed = self.wait(|board| (board.changes != changes).then_some(()));
            let goes_on = changed.is_some() && Instant::now() < deadline;
            assert!(goes_on, "the device did not reach the awaited state; {}", self.story());
        }
    }

    /// The kernel's console output so far.
    pub fn written(&self) -> String {
        String::from_utf8_lossy(&self.board().written).into_owned()
    }

    fn story(&self) -> String {
        let end = self.board().ended;
        format!("it ended by {end:?} and wrote:\n{}", self.written())
    }

    /// Waits until `find` returns a value. Returns `None` if the CPU's thread has ended, or takes too long.
    fn wait<R>(&self, mut find: impl FnMut(&mut Board) -> Option<R>) -> Option<R> {
        let deadline = Instant::now() + TIMEOUT;
        let mut board = self.board();
        loop {
            if let Some(found) = find(&mut board) {
                return Some(found);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if board.died || board.ended.is_some() || left.is_zero() {
                return None;
            }
            let waited = self.changed.wait_timeout(board, left);
            board = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The machine, as its CPU uses it.
impl Machine {
    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }

    pub(super) fn board(&self) -> MutexGuard<'_, Board> {
        lock(&self.board)
    }

    /// Changes the board, and wakes all threads that wait for a change.
    pub(super) fn change<R>(&self, change: impl FnOnce(&mut Board) -> R) -> R {
        let result = {
            let mut board = self.board();
            board.changes += 1;
            change(&mut board)
        };
        self.changed.notify_all();
        result
    }

    /// Waits until there is a trap to take.
    pub(super) fn wait_for_trap(&self) -> Trap {
        let mut board = self.board();
        loop {
            if let Some(trap) = board.next_trap() {
                return trap;
            }
            board = self.changed.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Accesses the device.
    pub(super) fn access<R>(
        &self,
        access: impl FnOnce(&mut dyn Device) -> Result<R, IoError>,
    ) -> Result<R, IoError> {
        let device = self.device.get().ok_or(IoError::Unsupported)?;
        self.act(&**device, |device| access(device))
    }

    /// The feature that the CPU lacks.
    pub(super) fn missing(&self) -> Option<&'static str> {
        self.missing.get().copied()
    }

    /// Lets the CPU run guests.
    pub(super) fn enable_guests(&self) -> Result<(), &'static str> {
        if let Some(what) = self.no_guests.get() {
            return Err(what);
        }
        self.guests.store(true, Ordering::Relaxed);
        Ok(())
    }

    pub(super) fn guests_are_enabled(&self) -> bool {
        self.guests.load(Ordering::Relaxed)
    }

    /// Reads the clock, which advances at every read.
    pub(super) fn tick(&self, ticks: u64) -> u64 {
        self.ticks.fetch_add(ticks, Ordering::Relaxed)
    }
}
