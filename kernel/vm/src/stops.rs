//! How long a virtual CPU stands still, from an exit to the entry after which it goes on.
//!
//! ```text
//!   guest ----.                                          .---- guest
//!              \ exit    host, moves    enter  same fault /
//!   stop        |----------------------------------------|
//! ```

use hotmem::paging::GuestAddr;
use hotmem_arch::contract::GuestExit;

/// When a virtual CPU was entered or left.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment {
    /// By the clock that guests read.
    pub(crate) ticks: u64,
    /// By the counter that pauses are measured by.
    pub(crate) instructions: u64,
    /// Begins and ends of batches of moves so far: odd while a batch is under way.
    pub(crate) batches: u64,
}

impl Moment {
    /// Whether a batch was under way at some time from here on to `end`.
    const fn meets_a_batch(&self, end: &Self) -> bool {
        !self.batches.is_multiple_of(2) || self.batches != end.batches
    }
}

/// The stops of a virtual CPU.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stops {
    /// When the stop under way began; `None` if it does not count.
    since: Option<Moment>,
    /// Where it faulted last, if it did nothing else since.
    fault: Option<GuestAddr>,
    longest: u64,
    longest_by_moves: u64,
}

impl Stops {
    /// It is entered.
    pub(crate) fn enter(&mut self, now: Moment) {
        let Some(since) = self.since else { return };
        self.longest = self.longest.max(now.ticks.saturating_sub(since.ticks));
        if since.meets_a_batch(&now) {
            let stop = now.instructions.saturating_sub(since.instructions);
            self.longest_by_moves = self.longest_by_moves.max(stop);
        }
    }

    /// It was left by `exit`, or not entered without one: then, and by the same fault again, it has not gone on. What it
    /// waits for of its own accord is not counted.
    pub(crate) fn leave(&mut self, exit: Option<&GuestExit>, now: Moment) {
        let Some(exit) = exit else { return };
        let fault = match exit {
            GuestExit::Fault { at, .. } => Some(*at),
            _ => None,
        };
        let repeats = fault.is_some() && fault == self.fault;
        self.fault = fault;
        if !repeats {
            let waits =
                matches!(exit, GuestExit::Wait | GuestExit::WaitUntil(_) | GuestExit::WaitForCpus);
            self.since = (!waits).then_some(now);
        }
    }

    /// The longest so far, in ticks.
    pub(crate) const fn longest(&self) -> u64 {
        self.longest
    }

    /// The longest so far in which a batch of moves was under way, in instructions.
    pub(crate) const fn longest_by_moves(&self) -> u64 {
        self.longest_by_moves
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotmem_arch::contract::Access;

    /// A moment with ten instructions in a tick.
    fn at(ticks: u64, batches: u64) -> Moment {
        Moment { ticks, instructions: ticks * 10, batches }
    }

    /// Enters and leaves at these times.
    fn visit(stops: &mut Stops, enter: u64, leave: u64, exit: GuestExit) {
        stops.enter(at(enter, 0));
        stops.leave(Some(&exit), at(leave, 0));
    }

    #[test]
    fn a_stop_lasts_from_an_exit_to_the_entry_after_which_the_guest_goes_on() {
        let fault = |at| GuestExit::Fault { at: GuestAddr::new(at), access: Access::Read };
        let mut stops = Stops::default();
        visit(&mut stops, 100, 110, GuestExit::Interrupt);
        assert_eq!(stops.longest(), 0, "nothing before the first entry counts");
        visit(&mut stops, 130, 140, fault(0x1000));
        assert_eq!(stops.longest(), 20);
        // The page moves: the same access faults until it is there again.
        visit(&mut stops, 145, 146, fault(0x1000));
        stops.enter(at(150, 0));
        stops.leave(None, at(151, 0));
        visit(&mut stops, 170, 171, fault(0x1000));
        assert_eq!(stops.longest(), 30);
        visit(&mut stops, 190, 200, fault(0x2000));
        assert_eq!(stops.longest(), 50);
        visit(&mut stops, 230, 240, GuestExit::Interrupt);
        visit(&mut stops, 245, 250, fault(0x2000));
        visit(&mut stops, 260, 270, GuestExit::Wait);
        assert_eq!(stops.longest(), 50, "another exit lies between two faults");
        visit(&mut stops, 900, 910, GuestExit::WaitUntil(950));
        stops.enter(at(1000, 0));
        assert_eq!(stops.longest(), 50, "what it waits for is not counted");
    }

    #[test]
    fn a_stop_is_one_by_moves_if_a_batch_was_under_way_in_it() {
        let mut stops = Stops::default();
        let fault = GuestExit::Fault { at: GuestAddr::new(0x1000), access: Access::Read };
        stops.enter(at(0, 6));
        assert_eq!(stops.longest_by_moves(), 0, "nothing before the first entry counts");
        stops.leave(Some(&GuestExit::Interrupt), at(10, 6));
        stops.enter(at(30, 8));
        // While it ran, another CPU made a batch.
        stops.leave(Some(&fault), at(40, 10));
        stops.enter(at(90, 10));
        assert_eq!((stops.longest(), stops.longest_by_moves()), (50, 200));
        // It waits for its page, which is moved meanwhile.
        stops.leave(Some(&fault), at(91, 11));
        stops.enter(at(100, 12));
        assert_eq!((stops.longest(), stops.longest_by_moves()), (60, 600));
    }

    #[test]
    fn a_stop_that_begins_or_ends_inside_a_batch_of_another_cpu_is_one_by_moves() {
        let longest = |begin, end| {
            let mut stops = Stops::default();
            stops.enter(at(0, 0));
            stops.leave(Some(&GuestExit::Interrupt), at(10, begin));
            stops.enter(at(30, end));
            stops.longest_by_moves()
        };
        assert_eq!([longest(7, 7), longest(7, 8), longest(6, 7)], [200; 3]);
        assert_eq!(longest(8, 8), 0, "between two batches");
    }
}
