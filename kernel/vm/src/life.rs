//! The life of a guest: what changes under its lock.

use crate::figures::Figures;
use crate::name::Name;
use crate::program::Loaded;
use crate::status::State;
use crate::vcpus::{Power, VcpuLife, VcpuStatus};
use alloc::string::String;
use alloc::vec::Vec;

/// What is known of a guest besides its memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life {
    pub(crate) name: Option<Name>,
    pub(crate) state: State,
    pub(crate) program: Loaded,
    pub(crate) vcpus: Vec<VcpuLife>,
    /// Bytes that the payload works on, if they are not all that it can.
    pub(crate) work: Option<u64>,
    /// Each virtual CPU ends after so many rounds of the payload; 0 for none.
    pub(crate) last_round: u64,
    /// Why it stopped, and its registers.
    pub(crate) log: String,
}

impl Life {
    /// All that its virtual CPUs have reported together.
    pub(crate) fn figures(&self) -> Figures {
        Figures::of_all(self.vcpus.iter().map(|vcpu| vcpu.status.figures))
    }

    /// Its virtual CPUs begin again, each on one of `cpus`: the first is on.
    pub(crate) fn begin(&mut self, cpus: &[usize]) {
        for (number, (vcpu, &cpu)) in self.vcpus.iter_mut().zip(cpus).enumerate() {
            let power = if number == 0 { Power::On } else { Power::Off };
            let status = VcpuStatus { cpu, power, ..VcpuStatus::default() };
            *vcpu = VcpuLife { status, ..VcpuLife::default() };
        }
        (self.state, self.last_round, self.log) = (State::Runs, 0, String::new());
    }

    /// Its virtual CPUs go on where they were, each on one of `cpus`, up to round `last_round` or without end. It has
    /// ended if they all ended while it was being paused.
    pub(crate) fn go_on(&mut self, cpus: &[usize], last_round: u64) {
        for (vcpu, &cpu) in self.vcpus.iter_mut().zip(cpus) {
            vcpu.status.cpu = cpu;
        }
        let goes_on = self.has_others_on(usize::MAX);
        self.state = if goes_on { State::Runs } else { State::Done };
        self.last_round = last_round;
    }

    /// Changes whether a virtual CPU is on, if that is `from`. Returns what it was.
    pub(crate) fn change(&mut self, number: usize, from: Power, to: Power) -> Option<Power> {
        let power = &mut self.vcpus.get_mut(number)?.status.power;
        let before = *power;
        if before == from {
            *power = to;
        }
        Some(before)
    }

    /// Whether a virtual CPU other than this one is on, or will be.
    pub(crate) fn has_others_on(&self, number: usize) -> bool {
        let is_on = |vcpu: &VcpuLife| matches!(vcpu.status.power, Power::On | Power::Starting);
        self.vcpus.iter().enumerate().any(|(other, vcpu)| other != number && is_on(vcpu))
    }

    /// The first virtual CPU that is on; the first of all if none is.
    pub(crate) fn first_on(&self) -> usize {
        self.vcpus.iter().position(|vcpu| vcpu.status.power == Power::On).unwrap_or(0)
    }

    /// Whether each virtual CPU that is on waits for another one.
    pub(crate) fn is_deadlocked(&self) -> bool {
        let can_go_on = |vcpu: &VcpuLife| match vcpu.status.power {
            Power::On => !vcpu.needs_others,
            Power::Starting => true,
            Power::Off | Power::Stopping | Power::Done => false,
        };
        self.state == State::Runs && !self.vcpus.iter().any(can_go_on)
    }

    /// The program of a virtual CPU has ended, and that of the guest with the last one that is on, unless the guest was
    /// paused or killed meanwhile. Returns whether that of the guest has.
    pub(crate) fn end(&mut self, number: usize) -> bool {
        self.change(number, Power::On, Power::Done);
        let is_last = self.state == State::Runs && !self.has_others_on(number);
        if is_last {
            self.state = State::Done;
        }
        is_last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life(powers: &[Power]) -> Life {
        let vcpu = |&power: &Power| VcpuLife {
            status: VcpuStatus { power, ..VcpuStatus::default() },
            ..VcpuLife::default()
        };
        let vcpus = powers.iter().map(vcpu).collect();
        Life { state: State::Runs, vcpus, ..Life::default() }
    }

    #[test]
    fn a_guest_ends_with_the_last_of_its_cpus_that_is_on() {
        use Power::{Done, Off, On, Starting};
        let mut guest = life(&[On, On, Off]);
        assert!(!guest.end(1) && guest.state == State::Runs);
        assert!(guest.end(0) && guest.state == State::Done);
        assert!(!life(&[On, Starting]).end(0));
        assert!(life(&[On, Off]).end(0));
        assert!(life(&[Done, On]).end(1));
        let mut paused = Life { state: State::Paused, ..life(&[On]) };
        assert!(!paused.end(0) && paused.state == State::Paused);
    }

    #[test]
    fn cpus_that_begin_again_have_reported_nothing_and_only_the_first_is_on() {
        let mut guest = life(&[Power::Done; 3]);
        guest.vcpus[1].status.figures.rounds = 7;
        guest.go_on(&[4, 5, 6], 9);
        assert_eq!((guest.state, guest.last_round), (State::Done, 9), "all had ended");
        assert_eq!(guest.figures().rounds, 0);
        assert_eq!((guest.vcpus[1].status.cpu, guest.vcpus[1].status.figures.rounds), (5, 7));
        guest.begin(&[1, 2, 3]);
        assert_eq!((guest.state, guest.last_round), (State::Runs, 0));
        let status: Vec<_> = guest.vcpus.iter().map(|vcpu| vcpu.status).collect();
        let fresh = |cpu, power| VcpuStatus { cpu, power, figures: Figures::default() };
        assert_eq!(status, [fresh(1, Power::On), fresh(2, Power::Off), fresh(3, Power::Off)]);
    }
}
