//! Events, from the log to the connectors.

use super::hypervisor::{AWAY, BETWEEN, Connector, Fake, HERE, Side};
use super::log_entry::log;
use super::tree::{FIRST, board, lmbs, tree, tree_of};
use crate::connector::ConnectorError;
use crate::fault::PaprError;
use crate::pieces::Piece;
use crate::source::PaprSource;
use hotmem::{NodeId, PhysRange};
use hotmem_hotplug::Latch;
use hotmem_hotplug::{DeviceId, HotplugSource, Outcome, Refusal, Request};

pub(super) struct Rig {
    pub(super) source: PaprSource<Side>,
    pub(super) fake: Fake,
    latch: &'static Latch,
}

impl Rig {
    pub(super) fn new(plugged: u32) -> Self {
        let mut rig = Self::of(&tree(plugged));
        for number in FIRST..FIRST + plugged {
            *rig.fake.0.borrow_mut().connector(number) = HERE;
        }
        assert_eq!(rig.source.arm(false), usize::from(plugged > 0));
        rig
    }

    /// A machine with this device tree, nothing of which is plugged.
    fn of(tree: &[u8]) -> Self {
        let fake = Fake::default();
        let latch = Box::leak(Box::new(Latch::new()));
        let services = Side { fake: fake.clone(), buffer: vec![0; 4096] };
        Self { source: PaprSource::new(board(tree), services, latch), fake, latch }
    }

    pub(super) fn send(&self, log: Vec<u8>) {
        self.fake.0.borrow_mut().logs.push_back(log);
        self.latch.raise(0, 7);
    }

    pub(super) fn states(&self, count: u32) -> Vec<Connector> {
        let mut hypervisor = self.fake.0.borrow_mut();
        (FIRST..FIRST + count).map(|number| *hypervisor.connector(number)).collect()
    }

    pub(super) fn inserted(&mut self) -> (DeviceId, Vec<PhysRange>, NodeId) {
        let event = self.source.next_event().unwrap();
        match event.request {
            Request::Insert { ranges, node } => (event.device, ranges.as_slice().to_vec(), node),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_interrupts_of_hotplug_and_of_power_events_are_those_of_the_tree() {
    let source = Rig::of(&tree(0)).source;
    assert_eq!((source.event_source(), source.power_source()), (Some(0x1001), Some(0x1000)));
}

#[test]
fn plugged_memory_is_configured_block_by_block_and_then_announced() {
    let mut rig = Rig::new(0);
    rig.send(log(1, 4, [4, FIRST]));
    assert!(rig.source.has_work());
    let (_, ranges, node) = rig.inserted();
    assert_eq!((ranges, node), (vec![lmbs(0, 4)], NodeId::new(1).unwrap()));
    assert_eq!(rig.states(5), [HERE, HERE, HERE, HERE, AWAY]);
    assert!(rig.source.next_event().is_none());
    assert!(!rig.source.has_work());
}

#[test]
fn a_request_for_more_blocks_than_can_be_taken_in_a_bounded_time_touches_none() {
    let mut rig = Rig::of(&tree_of(0, u32::MAX));
    for count in [(1 << 16) + 1, u32::MAX] {
        rig.send(log(1, 4, [count, FIRST]));
        let Request::Unreadable(error) = rig.source.next_event().unwrap().request else {
            panic!("{count} blocks are taken");
        };
        assert_eq!(error, PaprError::TooLarge(Piece { connector: FIRST, count }));
        let text = format!("{count} connectors from 0x80000004 on are more than 65536");
        assert_eq!(error.to_string(), text);
        rig.send(log(2, 4, [count, FIRST]));
        assert!(rig.source.next_event().is_none());
    }
    assert_eq!(rig.states(2), [AWAY, AWAY]);
}

#[test]
fn memory_is_plugged_and_unplugged_and_plugged_again() {
    let mut rig = Rig::new(0);
    for _ in 0..300 {
        rig.send(log(1, 4, [2, FIRST]));
        let (device, ..) = rig.inserted();
        rig.send(log(2, 4, [2, FIRST]));
        let event = rig.source.next_event().unwrap();
        assert!(matches!(event.request, Request::Eject) && event.device == device);
        rig.source.eject(device).unwrap();
        assert_eq!(rig.states(2), [AWAY, AWAY]);
        rig.source.reply(device, Outcome::Ejected).unwrap();
    }
    assert_eq!(rig.fake.0.borrow().kept, [0; 0]);
}

#[test]
fn a_power_event_that_wants_the_machine_off_is_not_taken_for_a_warning() {
    for (action, off) in
        [(0, false), (1, false), (2, false), (3, true), (4, true), (5, true), (7, true)]
    {
        let mut rig = Rig::new(0);
        let mut warning = log(1, 4, [4, FIRST]);
        warning[96..98].copy_from_slice(b"EP");
        warning[104] = action;
        rig.send(warning);
        assert!(rig.source.next_event().is_none());
        assert_eq!(rig.source.wants_power_off(), off, "{action}");
    }
}

#[test]
fn a_refusal_is_reported_to_the_hypervisor_before_any_block_is_isolated() {
    let mut rig = Rig::new(0);
    rig.send(log(1, 4, [3, FIRST]));
    let (device, ..) = rig.inserted();
    rig.source.reply(device, Outcome::EjectRefused(Refusal::InUse)).unwrap();
    assert_eq!(rig.fake.0.borrow().kept, [FIRST]);
    assert_eq!(rig.states(3), [HERE; 3]);
}

#[test]
fn what_was_plugged_before_is_announced_once_as_it_is() {
    let mut rig = Rig::new(2);
    let (device, ranges, node) = rig.inserted();
    assert_eq!((ranges, node), (vec![lmbs(0, 2)], NodeId::new(1).unwrap()));
    assert!(rig.source.next_event().is_none());
    rig.source.eject(device).unwrap();
    assert_eq!(rig.states(2), [AWAY, AWAY]);
}

#[test]
fn one_block_that_cannot_be_configured_gives_the_others_back() {
    let mut rig = Rig::new(0);
    rig.fake.0.borrow_mut().broken = Some(FIRST + 2);
    rig.send(log(1, 4, [4, FIRST]));
    let failed = ConnectorError::Failed {
        service: "ibm,configure-connector",
        status: -9003,
        connector: FIRST + 2,
    };
    match rig.source.next_event().unwrap().request {
        Request::Unreadable(error) => assert_eq!(error, PaprError::Connector(failed)),
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.states(4), [AWAY, AWAY, BETWEEN, AWAY]);
}

#[test]
fn events_of_unknown_memory_are_refused() {
    let mut rig = Rig::new(0);
    rig.send(log(1, 4, [4, FIRST + 6]));
    let not_described = PaprError::NotDescribed(Piece { connector: FIRST + 6, count: 4 });
    match rig.source.next_event().unwrap().request {
        Request::Unreadable(error) => assert_eq!(error, not_described),
        other => panic!("{other:?}"),
    }
    // A part of what was plugged, and what never was.
    rig.send(log(1, 4, [4, FIRST]));
    rig.inserted();
    rig.send(log(2, 2, [FIRST + 1, 0]));
    assert!(rig.source.next_event().is_none());
    assert_eq!(rig.fake.0.borrow().kept, [FIRST + 1]);
    assert!(rig.source.has_work(), "there may be another log");
}

#[test]
fn logs_wait_for_each_other() {
    let mut rig = Rig::new(0);
    rig.send(log(1, 2, [FIRST, 0]));
    rig.send(log(1, 4, [1, FIRST + 1]));
    assert_eq!(rig.inserted().1, [lmbs(0, 1)]);
    assert_eq!(rig.inserted().1, [lmbs(1, 1)]);
    assert!(rig.source.next_event().is_none());
}

#[test]
fn without_interrupts_logs_are_looked_for_all_the_time() {
    let mut rig = Rig::new(0);
    rig.source.arm(true);
    assert!(rig.source.next_event().is_none());
    rig.fake.0.borrow_mut().logs.push_back(log(1, 4, [1, FIRST]));
    assert_eq!(rig.inserted().1, [lmbs(0, 1)]);
}

#[test]
fn a_failure_to_fetch_a_log_does_not_end_the_looking() {
    let mut rig = Rig::new(0);
    rig.source.arm(true);
    rig.fake.0.borrow_mut().mute = true;
    for _ in 0..3 {
        assert!(rig.source.next_event().is_none());
    }
    rig.fake.0.borrow_mut().mute = false;
    rig.fake.0.borrow_mut().logs.push_back(log(1, 4, [1, FIRST]));
    assert_eq!(rig.inserted().1, [lmbs(0, 1)]);
}

#[test]
fn a_log_that_could_not_be_fetched_waits_for_no_other_interrupt() {
    let mut rig = Rig::new(0);
    rig.fake.0.borrow_mut().mute = true;
    rig.send(log(1, 4, [1, FIRST]));
    for _ in 0..3 {
        assert!(rig.source.next_event().is_none() && rig.source.has_work());
    }
    rig.fake.0.borrow_mut().mute = false;
    assert_eq!(rig.inserted().1, [lmbs(0, 1)]);
    // Where it never works, the kernel has other things to do.
    rig.fake.0.borrow_mut().mute = true;
    rig.send(log(1, 4, [1, FIRST + 1]));
    let looks = core::iter::from_fn(|| rig.source.has_work().then(|| rig.source.next_event()));
    assert!(looks.take(1000).count() < 1000);
}

#[test]
fn a_source_of_interrupts_is_routed_and_enabled() {
    let mut rig = Rig::new(0);
    rig.source.enable(0x1001).unwrap();
    assert_eq!(rig.fake.0.borrow().enabled, [0x1001]);
}

#[test]
fn a_piece_of_many_blocks_is_taken_and_given_whole() {
    const MANY: u32 = 64;
    let mut rig = Rig::of(&tree_of(0, MANY));
    rig.send(log(1, 4, [MANY, FIRST]));
    let (device, ranges, _) = rig.inserted();
    assert_eq!(ranges, [lmbs(0, MANY.into())]);
    assert!(rig.states(MANY).iter().all(|&state| state == HERE));
    rig.send(log(2, 4, [MANY, FIRST]));
    assert!(matches!(rig.source.next_event().unwrap().request, Request::Eject));
    rig.source.eject(device).unwrap();
    assert!(rig.states(MANY).iter().all(|&state| state == AWAY));
    // The last change makes the last block unusable: the device can go only then.
    let last = rig.fake.0.borrow().changes.last().copied();
    assert_eq!(last, Some((9003, FIRST + MANY - 1, 0)));
}

#[test]
fn a_log_that_comes_while_another_is_served_is_served_next() {
    let mut rig = Rig::new(0);
    rig.fake.0.borrow_mut().meanwhile = Some(log(1, 4, [2, FIRST + 2]));
    rig.send(log(1, 4, [2, FIRST]));
    assert_eq!(rig.inserted().1, [lmbs(0, 2)]);
    assert!(rig.source.has_work());
    assert_eq!(rig.inserted().1, [lmbs(2, 2)]);
    assert!(rig.source.next_event().is_none());
    assert!(!rig.source.has_work());
}

#[test]
fn an_unplug_that_was_refused_works_when_asked_again() {
    let mut rig = Rig::new(0);
    rig.send(log(1, 4, [3, FIRST]));
    let (device, ..) = rig.inserted();
    rig.fake.0.borrow_mut().changes.clear();
    rig.send(log(2, 4, [3, FIRST]));
    assert!(matches!(rig.source.next_event().unwrap().request, Request::Eject));
    rig.source.reply(device, Outcome::EjectRefused(Refusal::InUse)).unwrap();
    // Nothing was isolated before the hypervisor got the refusal, nor after.
    assert_eq!(rig.fake.0.borrow().changes, [(9001, FIRST, 1)]);
    rig.send(log(2, 4, [3, FIRST]));
    assert_eq!(rig.source.next_event().unwrap().device, device);
    rig.source.eject(device).unwrap();
    assert_eq!(rig.states(3), [AWAY; 3]);
}

#[test]
fn memory_that_is_plugged_already_is_not_taken_again() {
    let mut rig = Rig::new(0);
    rig.send(log(1, 4, [2, FIRST]));
    let (device, ..) = rig.inserted();
    rig.fake.0.borrow_mut().changes.clear();
    rig.send(log(1, 4, [2, FIRST]));
    assert_eq!(rig.inserted(), (device, vec![lmbs(0, 2)], NodeId::new(1).unwrap()));
    let overlaps = PaprError::Overlaps(Piece { connector: FIRST + 1, count: 2 });
    rig.send(log(1, 4, [2, FIRST + 1]));
    match rig.source.next_event().unwrap().request {
        Request::Unreadable(error) => assert_eq!(error, overlaps),
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.fake.0.borrow().changes, []);
}

#[test]
fn an_eject_that_fails_at_the_first_block_leaves_the_device_whole() {
    for (stuck, clings) in [(Some(FIRST), None), (None, Some(FIRST))] {
        let mut rig = Rig::new(4);
        let (device, ..) = rig.inserted();
        rig.fake.0.borrow_mut().stuck = stuck;
        rig.fake.0.borrow_mut().clings = clings;
        let error = rig.source.eject(device).unwrap_err();
        let failed =
            ConnectorError::Failed { service: "set-indicator", status: -1, connector: FIRST };
        // The hypervisor still requests the other blocks, so this is an error, and is reported as one.
        assert_eq!(error, PaprError::Connector(failed));
        assert!(!rig.source.is_withdrawn(&error));
        assert_eq!(rig.states(4), [HERE; 4]);
        rig.fake.0.borrow_mut().stuck = None;
        rig.fake.0.borrow_mut().clings = None;
        rig.source.eject(device).unwrap();
        assert_eq!(rig.states(4), [AWAY; 4]);
    }
}

#[test]
fn an_eject_of_what_is_not_wanted_any_more_leaves_the_device_whole() {
    for blocks in [1, 4] {
        let mut rig = Rig::new(blocks);
        let (device, ..) = rig.inserted();
        rig.fake.0.borrow_mut().withdrawn = true;
        let error = rig.source.eject(device).unwrap_err();
        let not_wanted = ConnectorError::NotWanted(FIRST);
        assert_eq!(error, PaprError::Connector(not_wanted));
        assert!(rig.source.is_withdrawn(&error) && error.to_string().contains("status -1"));
        assert_eq!(rig.states(blocks), vec![HERE; blocks as usize]);
        rig.fake.0.borrow_mut().withdrawn = false;
        rig.source.eject(device).unwrap();
        assert_eq!(rig.states(blocks), vec![AWAY; blocks as usize]);
    }
}

#[test]
fn an_eject_after_which_a_block_cannot_be_used_again_lets_the_device_go() {
    let mut rig = Rig::new(3);
    let (device, ..) = rig.inserted();
    rig.fake.0.borrow_mut().stuck = Some(FIRST);
    rig.fake.0.borrow_mut().shut = Some(FIRST + 1);
    rig.source.eject(device).unwrap();
    assert_eq!(rig.states(3), [HERE, AWAY, AWAY]);
    assert_eq!(rig.fake.0.borrow().kept, [0; 0]);
}

#[test]
fn an_eject_that_fails_later_gives_the_rest_up_and_cancels_nothing() {
    let mut rig = Rig::new(4);
    let (device, ..) = rig.inserted();
    rig.fake.0.borrow_mut().stuck = Some(FIRST + 2);
    // If this returned an error, the kernel would use memory that is gone.
    rig.source.eject(device).unwrap();
    assert_eq!(rig.states(4), [AWAY, AWAY, HERE, AWAY]);
    assert_eq!(rig.fake.0.borrow().kept, [0; 0]);
    let unknown = rig.source.reply(device, Outcome::EjectRefused(Refusal::Busy));
    assert_eq!(unknown, Err(PaprError::Unknown(device)));
    // Announced again, the block that stayed is used as it is: it cannot be configured again.
    rig.fake.0.borrow_mut().stuck = None;
    rig.fake.0.borrow_mut().changes.clear();
    rig.send(log(1, 4, [4, FIRST]));
    let (device, ..) = rig.inserted();
    assert!(rig.fake.0.borrow().changes.iter().all(|&(_, number, _)| number != FIRST + 2));
    rig.source.eject(device).unwrap();
    assert_eq!(rig.states(4), [AWAY; 4]);
}

#[test]
fn a_block_that_can_neither_go_nor_be_used_again_is_not_kept_as_memory() {
    for blocks in [1, 4] {
        let mut rig = Rig::new(blocks);
        let (device, ..) = rig.inserted();
        rig.fake.0.borrow_mut().clings = Some(FIRST);
        rig.fake.0.borrow_mut().shut = Some(FIRST);
        // It is isolated, so after an error the kernel would use memory that is not there.
        rig.source.eject(device).unwrap();
        let states = rig.states(blocks);
        assert!(states.iter().all(|&state| state != HERE), "{states:?}");
        assert_eq!(rig.source.eject(device), Err(PaprError::Unknown(device)));
    }
}

#[test]
fn a_block_that_is_isolated_and_stays_usable_is_configured_when_it_comes_again() {
    // It goes with its device, or after it was held.
    for held in [None, Some(FIRST + 2)] {
        let mut rig = Rig::new(4);
        let (device, ..) = rig.inserted();
        rig.fake.0.borrow_mut().stuck = held;
        rig.fake.0.borrow_mut().clings = Some(FIRST + 2);
        rig.source.eject(device).unwrap();
        rig.fake.0.borrow_mut().stuck = None;
        rig.send(log(2, 4, [4, FIRST]));
        assert!(rig.source.next_event().is_none());
        rig.fake.0.borrow_mut().clings = None;
        rig.send(log(1, 4, [4, FIRST]));
        rig.inserted();
        assert_eq!(rig.states(4), [HERE; 4]);
    }
}

#[test]
fn blocks_that_are_held_go_when_they_are_asked_for() {
    let mut rig = Rig::new(4);
    let (device, ..) = rig.inserted();
    rig.fake.0.borrow_mut().stuck = Some(FIRST + 2);
    rig.source.eject(device).unwrap();
    rig.fake.0.borrow_mut().stuck = None;
    rig.send(log(2, 4, [4, FIRST]));
    assert!(rig.source.next_event().is_none());
    assert_eq!(rig.states(4), [AWAY; 4]);
    assert_eq!(rig.fake.0.borrow().kept, [0; 0]);
}

#[test]
fn a_removal_that_names_no_connector_is_refused_for_all_that_is_in_use() {
    let mut rig = Rig::new(0);
    rig.send(log(1, 4, [2, FIRST]));
    rig.send(log(1, 2, [FIRST + 2, 0]));
    let _ = (rig.inserted(), rig.inserted());
    rig.send(log(1, 3, [2, 0]));
    assert!(rig.source.next_event().is_none());
    assert_eq!(rig.fake.0.borrow().kept, [0; 0]);
    rig.send(log(2, 3, [2, 0]));
    assert!(rig.source.next_event().is_none());
    assert_eq!(rig.fake.0.borrow().kept, [FIRST, FIRST + 2]);
    assert_eq!(rig.states(3), [HERE; 3]);
}

#[test]
fn a_removal_of_memory_that_is_gone_already_is_given_up_without_an_event() {
    let mut rig = Rig::new(0);
    rig.send(log(2, 4, [2, FIRST]));
    rig.send(log(1, 4, [2, FIRST]));
    rig.send(log(2, 4, [2, FIRST]));
    rig.send(log(1, 4, [2, FIRST]));
    assert!(
        std::iter::repeat_with(|| rig.source.next_event()).take(3).all(|event| event.is_none())
    );
    assert_eq!(rig.inserted().1, [lmbs(0, 2)]);
    assert_eq!(rig.fake.0.borrow().kept, [0; 0]);
}

#[test]
fn more_logs_than_the_queue_holds_are_all_served_in_order() {
    let mut rig = Rig::new(0);
    for _ in 0..300 {
        rig.send(log(2, 4, [2, FIRST]));
    }
    rig.send(log(1, 4, [2, FIRST]));
    let mut events = 0;
    while rig.source.has_work() {
        events += usize::from(rig.source.next_event().is_some());
    }
    assert_eq!((events, rig.states(2)), (1, vec![HERE; 2]));
}

#[test]
fn a_busy_service_is_called_again() {
    let mut rig = Rig::new(0);
    rig.fake.0.borrow_mut().busy = 40;
    rig.send(log(1, 4, [2, FIRST]));
    assert_eq!(rig.inserted().1, [lmbs(0, 2)]);
    assert_eq!(rig.states(2), [HERE; 2]);
}
