//! A request about a container, or about another device around memory devices, is served member by member;
//! `_OST` is evaluated for the container only.
//!
//! ```text
//! check: look at each member --> add what is there --------------> _OST of the container: the worst
//! eject: has _EJ0? --> _OST "under way" --> offline and remove each --> _EJ0 --> _OST
//!           |                                    |   of the container
//!           +-- refused, nothing moves           +-- one stays: _OST says why, the others come back
//! ```
//!
//! For members `_EJ0` and `_OST` are not evaluated: firmware takes the container away.

use core::ops::Range;

use hotmem_aml::{NodeId, NodeKind};
use hotmem_hotplug::{DeviceId, Event, Outcome, Refusal, Request};

use super::describe::is_empty;
use super::fault::DeviceError;
use super::hardware::Hardware;
use super::parent::Round;
use super::pending::{EJECT_REQUEST, Wanted};
use super::presence::{PRESENT, USABLE};
use super::source::AcpiSource;

/// Devices that the kernel has no way to give up: processors and host bridges (ACPI 6.5, table 5.163).
const KEPT: [&str; 3] = ["ACPI0007", "PNP0A03", "PNP0A08"];

impl<H: Hardware> AcpiSource<H> {
    /// Begins with the next request about a container; `false` if none is pending.
    pub(super) fn begin_round(&mut self) -> bool {
        let Some((parent, wanted, since)) = self.devices.parents.take() else { return false };
        let Some(found) = self.devices.parents.get_mut(parent) else { return false };
        let (node, members) = (found.node, found.members.clone());
        let absent = wanted == Wanted::Eject && self.is_vanished(node, &members);
        if wanted == Wanted::Eject && !absent {
            if let Err((refusal, why)) = self.may_go(node, members.is_empty()) {
                log::warn!("acpi: {}: stays: {why}", self.aml.path(node));
                self.report(node, wanted, Outcome::EjectRefused(refusal));
                return true;
            }
            self.report(node, wanted, Outcome::Ejecting);
        }
        let (first, next, end) = (members.start, members.start, members.end);
        let (worst, current, ejected) = (Outcome::Inserted, None, false);
        let round = Round {
            parent,
            node,
            wanted,
            since,
            first,
            next,
            end,
            current,
            worst,
            ejected,
            absent,
        };
        self.round = Some(round);
        true
    }

    /// The event of the next member of the request under way. After the last one the request is over.
    pub(super) fn next_member(&mut self) -> Option<Event<DeviceError>> {
        while let Some(round) = self.round.filter(|round| round.current.is_none()) {
            let Some(index) = self.find_member() else {
                self.end_round(&round);
                return None;
            };
            let device = DeviceId::new(index);
            if let Some(round) = &mut self.round {
                (round.current, round.next) = (Some(index), index + 1);
            }
            let request = match round.wanted {
                Wanted::Eject if self.is_lost(device) => Request::Gone,
                Wanted::Eject => Request::Eject,
                Wanted::Check(_) | Wanted::Scan => {
                    let described = self.describe(device);
                    self.insert_request(device, described)
                }
            };
            // An empty slot needs no event.
            if is_empty(&request) {
                self.pass_over();
                continue;
            }
            return Some(Event { device, request, since: round.since });
        }
        None
    }

    /// Moves on from the current member without an outcome for it.
    fn pass_over(&mut self) {
        if let Some(round) = &mut self.round {
            round.current = None;
        }
    }

    /// The members of the container that is under way: what is pending for them waits for its end, even if
    /// the driver asks for events of others meanwhile.
    pub(super) fn members_under_way(&self) -> Range<u16> {
        self.round.map_or(0..0, |round| round.first..round.end)
    }

    /// Whether the driver handles a device as a member of a container.
    pub(super) fn is_member(&self, device: DeviceId) -> bool {
        self.round.is_some_and(|round| round.current == Some(device.number()))
    }

    /// Notes how it went with a member; evaluates the container's `_OST` if the request is over.
    pub(super) fn reply_member(&mut self, outcome: Outcome) -> Result<Option<u32>, DeviceError> {
        let Some(round) = &mut self.round else { return Ok(None) };
        if outcome == Outcome::Ejecting {
            return Ok(None);
        }
        let at = round.current.take().unwrap_or(round.first);
        if round.absent || round.wanted != Wanted::Eject {
            round.worst = worse(round.worst, outcome);
            return Ok(None);
        }
        if outcome == Outcome::Ejected && !round.ejected {
            return Ok(None);
        }
        let (node, first) = (round.node, round.first);
        self.round = None;
        if outcome != Outcome::Ejected {
            // The members that were given up before are still there, and are announced as newly plugged.
            (first..at).for_each(|index| self.devices.scan_one(index));
        }
        self.evaluate_ost(node, EJECT_REQUEST, outcome)
    }

    /// Has the firmware take the container away, if the member that was given up is the last one.
    pub(super) fn eject_member(&mut self, device: DeviceId) -> Result<(), DeviceError> {
        let member = self.node(device)?;
        if self.find_member().is_some() {
            return Ok(());
        }
        let Some(round) = &mut self.round else { return Ok(()) };
        round.ejected = true;
        let round = *round;
        self.run_eject(round.node, Some(member))?;
        self.container_gone(&round);
        Ok(())
    }

    /// Ends a request whose last member was seen.
    fn end_round(&mut self, round: &Round) {
        self.round = None;
        let outcome = match round.wanted {
            Wanted::Eject if !round.absent => match self.run_eject(round.node, None) {
                Ok(()) => {
                    self.container_gone(round);
                    Outcome::Ejected
                }
                Err(error) => {
                    log::error!("acpi: {}: {error}", self.aml.path(round.node));
                    Outcome::EjectFailed
                }
            },
            Wanted::Eject | Wanted::Check(_) | Wanted::Scan => round.worst,
        };
        self.report(round.node, round.wanted, outcome);
    }

    /// Moves to the next member that matters. For a check each does; for an eject, each whose memory the
    /// driver may know, and each that is there.
    fn find_member(&mut self) -> Option<u16> {
        let round = self.round?;
        for index in round.next..round.end {
            let Some(device) = self.devices.get(index).copied() else { break };
            let there = |status: Result<u64, _>| status.is_ok_and(|s| s & USABLE == USABLE);
            if round.wanted != Wanted::Eject || device.announced || there(self.status(device.node))
            {
                if let Some(round) = &mut self.round {
                    round.next = index;
                }
                return Some(index);
            }
        }
        if let Some(round) = &mut self.round {
            round.next = round.end;
        }
        None
    }

    /// Whether a container is gone, but memory of it is still in use.
    fn is_vanished(&mut self, node: NodeId, members: &Range<u16>) -> bool {
        let mut members = members.clone().filter_map(|index| self.devices.get(index));
        members.any(|member| member.announced) && self.is_absent(node)
    }

    /// A container is gone: drops the requests for its members.
    fn container_gone(&mut self, round: &Round) {
        log::info!("acpi: {}: gone", self.aml.path(round.node));
        (round.first..round.end).for_each(|index| self.devices.gone(index));
        for index in 0..self.devices.parents.len() {
            let Some(parent) = self.devices.parents.get_mut(index) else { continue };
            if index == round.parent || self.aml.is_below(parent.node, round.node) {
                parent.pending.gone();
            }
        }
    }

    /// Whether a container can be given up at all, before anything moves.
    fn may_go(&mut self, node: NodeId, is_empty: bool) -> Result<(), (Refusal, &'static str)> {
        if self.aml.child(node, "_EJ0").is_none() {
            return Err((Refusal::Unknown, "the device has no _EJ0"));
        }
        if is_empty {
            return Err((Refusal::Unknown, "no memory device is below it"));
        }
        if !self.status(node).is_ok_and(|status| status & PRESENT != 0) {
            return Err((Refusal::Unknown, "its _STA does not say that it is there"));
        }
        if self.has_kept(node) {
            let why = "a processor or a host bridge is below it, which the kernel does not give up";
            return Err((Refusal::Dependency, why));
        }
        Ok(())
    }

    /// Whether something is below a device that the kernel cannot give up.
    fn has_kept(&mut self, node: NodeId) -> bool {
        let mut last = Some(node);
        while let Some(at) = self.aml.next_node(last).filter(|&at| self.aml.is_below(at, node)) {
            last = Some(at);
            let kept = match self.aml.kind(at) {
                NodeKind::Processor => true,
                NodeKind::Device => KEPT.iter().any(|id| self.has_id(at, id)),
                _ => false,
            };
            if kept && !self.status(at).is_ok_and(|status| status & PRESENT == 0) {
                return true;
            }
        }
        false
    }

    /// Whether a device has this identifier. If that cannot be read, it counts as a match.
    fn has_id(&mut self, node: NodeId, id: &str) -> bool {
        let (aml, mut host) = self.interpreter();
        aml.has_id(&mut host, node, id).unwrap_or(true)
    }

    /// Evaluates a container's `_OST` where the driver does not call `reply`.
    fn report(&mut self, node: NodeId, wanted: Wanted, outcome: Outcome) {
        let Some(notification) = wanted.notification() else { return };
        if let Err(error) = self.evaluate_ost(node, notification, outcome) {
            log::error!("acpi: {}: {error}", self.aml.path(node));
        }
    }
}

/// The worse of two ends of an insert.
fn worse(one: Outcome, other: Outcome) -> Outcome {
    let rank = |outcome| match outcome {
        Outcome::Inserted | Outcome::Ejected => 0,
        Outcome::InsertedOffline => 1,
        _ => 2,
    };
    if rank(other) > rank(one) { other } else { one }
}
