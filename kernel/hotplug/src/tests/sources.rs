//! A driver with several sources: one that is broken does not keep the others from being served.

use std::string::{String, ToString};
use std::vec::Vec;

use hotmem::testing::{FakeMachine, Tiny, range};
use hotmem::{BlockState, PhysRange, Placement};

use super::doubles::{Script, Ticks, Wrong};
use super::{Fixture, MIB, ONLINE, WINDOW};
use crate::{
    DeviceId, Holds, Hotplug, HotplugSource, Outcome, Policy, Reason, Refusal, Request, Sources,
};

/// A list of three.
type List = Sources<Script, Sources<Option<Box<Script>>, Script>>;

/// A driver with three sources, and two pieces of memory.
struct Several {
    fixture: Fixture,
    scripts: [Script; 3],
    driver: Hotplug<'static, List, FakeMachine<Tiny>, Ticks>,
    pieces: [PhysRange; 2],
}

impl Several {
    fn new() -> Self {
        let fixture = Fixture::new();
        let scripts: [Script; 3] = core::array::from_fn(|_| Script::default());
        let [first, second, third] = scripts.clone();
        let list = Sources::new(first, Sources::new(Some(Box::new(second)), third));
        let mm = &fixture.bench.mm;
        let driver = Hotplug::new(list, mm, Ticks(None), Policy::default()).unwrap();
        let pieces = fixture.pieces;
        Self { fixture, scripts, driver, pieces }
    }

    /// Sees one event through, or a step of one.
    fn step(&mut self) -> bool {
        self.driver.run_one(&mut String::new())
    }

    fn run(&mut self) -> String {
        let mut out = String::new();
        while self.driver.run_one(&mut out) {}
        self.fixture.bench.check();
        out
    }

    fn reported(&self) -> [Vec<Outcome>; 3] {
        self.scripts.each_ref().map(Script::reported)
    }

    fn states(&self, piece: PhysRange) -> Vec<BlockState> {
        let mm = &self.fixture.bench.mm;
        mm.blocks_in(piece).filter_map(|id| mm.block(id)).map(|block| block.state).collect()
    }
}

#[test]
fn devices_of_the_same_number_are_distinguished_and_each_source_gets_its_own_reports() {
    let mut this = Several::new();
    let [one, other] = this.pieces;
    this.scripts[0].insert(7, &[one]);
    this.scripts[2].insert(7, &[other]);
    this.run();
    let inserted = vec![Outcome::Inserted];
    assert_eq!(this.reported(), [inserted.clone(), vec![], inserted]);
    let devices: Vec<_> = this.driver.plugged().iter().map(|entry| entry.device).collect();
    assert_eq!(devices.iter().map(|device| device.number()).collect::<Vec<_>>(), [7, 7]);
    assert_eq!(
        devices.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["memory device 7", "memory device 7 of source 2"]
    );

    this.scripts[2].eject(7);
    this.run();
    assert_eq!(this.reported(), [vec![], vec![], vec![Outcome::Ejecting, Outcome::Ejected]]);
    let ejected = this.scripts.each_ref().map(|script| script.0.borrow().ejected.clone());
    assert_eq!(ejected, [vec![], vec![], vec![7]]);
    assert_eq!((this.states(one), this.states(other)), (vec![ONLINE; 2], vec![]));
}

#[test]
fn sources_that_have_events_at_once_are_served_in_turns() {
    let mut this = Several::new();
    for script in &this.scripts {
        (0..4).for_each(|n| script.event(n, Request::Unreadable(Wrong("odd"))));
    }
    let mut most = 0;
    while this.step() {
        let left = this.scripts.each_ref().map(|script| script.0.borrow().events.len());
        most = most.max(left.iter().max().unwrap() - left.iter().min().unwrap());
    }
    assert_eq!(most, 1);
    assert_eq!(this.reported(), [const { [Outcome::InsertFailed; 4] }; 3].map(Vec::from));
}

/// Gives the first source an unreadable device and an eject request, and fails every reply to it.
fn flood(this: &mut Several) {
    this.scripts[0].0.borrow_mut().deaf = true;
    this.scripts[0].event(9, Request::Unreadable(Wrong("odd")));
    this.scripts[0].eject(9);
}

/// How many steps it takes, with a flood before each.
fn steps_until(this: &mut Several, done: impl Fn(&Several) -> bool) -> u32 {
    for steps in 0..60 {
        if done(this) {
            return steps;
        }
        flood(this);
        this.step();
    }
    panic!("the sources that work are not served");
}

#[test]
fn a_source_that_never_falls_silent_and_hears_nothing_does_not_keep_the_others_waiting() {
    let mut this = Several::new();
    let [one, other] = this.pieces;
    this.scripts[1].insert(0, &[one]);
    this.scripts[2].insert(0, &[other]);
    let both =
        move |this: &Several| [one, other].iter().all(|&piece| !this.states(piece).is_empty());
    assert!(steps_until(&mut this, both) <= 3);
    this.scripts[1].eject(0);
    this.scripts[2].eject(0);
    let gone =
        move |this: &Several| [one, other].iter().all(|&piece| this.states(piece).is_empty());
    steps_until(&mut this, gone);
    let whole = vec![Outcome::Inserted, Outcome::Ejecting, Outcome::Ejected];
    let [_, second, third] = this.reported();
    assert_eq!((&second, &third), (&whole, &whole));
}

#[test]
fn a_source_that_announces_more_than_the_table_holds_does_not_fill_the_share_of_another() {
    let mut this = Several::new();
    for device in 0..600 {
        let at = WINDOW + 64 * MIB + u64::from(device) * 8192;
        this.scripts[0].insert(device, &[range(at, 4096)]);
    }
    assert!(this.run().contains("no room in the table of plugged memory"));
    this.scripts[2].insert(0, &this.pieces);
    this.run();
    let [refused, _, taken] = this.reported();
    assert!(refused.iter().all(|&reported| reported == Outcome::InsertFailed));
    assert_eq!(taken, [Outcome::Inserted]);
}

#[test]
fn a_device_is_served_while_one_of_another_source_is_given_up() {
    let mut this = Several::new();
    let [one, other] = this.pieces;
    this.scripts[0].insert(3, &[other]);
    this.run();
    this.scripts[0].eject(3);
    this.step();
    // The same number in another source is another device; of its own source it waits.
    this.scripts[2].insert(3, &[one]);
    this.scripts[0].insert(3, &[other]);
    while this.states(one).is_empty() {
        assert!(this.step());
    }
    assert_eq!(this.driver.ejecting().unwrap().device.source(), 0);
    assert_eq!(this.states(one), [ONLINE; 2]);
    assert!(this.driver.cancel_eject(&mut String::new()));
    this.run();
    let refused = Outcome::EjectRefused(Refusal::Busy);
    let whole = vec![Outcome::Inserted, Outcome::Ejecting, refused, Outcome::Inserted];
    assert_eq!(this.reported(), [whole, vec![], vec![Outcome::Inserted]]);
}

#[test]
fn a_source_that_keeps_its_device_or_takes_its_wish_back_is_asked_about_its_own_error() {
    for withdrawn in [false, true] {
        let mut this = Several::new();
        let [_, other] = this.pieces;
        this.scripts[2].insert(0, &[other]);
        this.run();
        this.scripts[2].0.borrow_mut().stuck = true;
        this.scripts[2].0.borrow_mut().withdrawn = withdrawn;
        this.scripts[2].eject(0);
        this.run();
        let [_, _, reported] = this.reported();
        assert_eq!(reported.last(), Some(&Outcome::EjectFailed));
        let state = if withdrawn { ONLINE } else { BlockState::Offline };
        assert_eq!(this.states(other), [state; 3]);
    }
}

#[test]
fn a_list_says_what_each_of_its_sources_says() {
    let mut this = Several::new();
    let said = |this: &Several, json| {
        let mut out = String::new();
        this.driver.source().write_firmware(json, &mut out).unwrap();
        out
    };
    assert_eq!(said(&this, true), r#"[{"left_out":0},[{"left_out":0},{"left_out":0}]]"#);
    assert_eq!(said(&this, false), "nothing was left out\n".repeat(3));
    assert!(!this.driver.source().has_work());
    this.scripts[1].event(4, Request::Unreadable(Wrong("odd")));
    assert!(this.driver.has_work());
    this.run();
    assert!(this.reported()[1].contains(&Outcome::InsertFailed));
    let none: Sources<Script, Option<Box<Script>>> = Sources::new(Script::default(), None);
    assert_eq!(none.label(DeviceId::new(4)).to_string(), "4");
    assert!(none.can_eject(DeviceId::new(4)).is_ok());
}

#[test]
fn a_source_that_the_machine_does_not_have_is_left_out_of_the_list_and_of_the_table() {
    type Pair = Sources<Option<Box<Script>>, Option<Box<Script>>>;
    let said = |list: &Pair, json| {
        let mut out = String::new();
        list.write_firmware(json, &mut out).unwrap();
        (out, list.most_ranges(0), list.most_ranges(1), list.is_absent())
    };
    let source = || Some(Box::new(Script::default()));
    let one = "{\"left_out\":0}".to_owned();
    assert_eq!(said(&Sources::new(source(), None), true), (one.clone(), 512, 0, false));
    assert_eq!(said(&Sources::new(None, source()), true), (one.clone(), 0, 512, false));
    let both = std::format!("[{one},{one}]");
    assert_eq!(said(&Sources::new(source(), source()), true), (both, 512, 512, false));
    assert_eq!(said(&Sources::new(None, None), true), ("null".into(), 0, 0, true));
    let text = "nothing was left out\n".to_owned();
    assert_eq!(said(&Sources::new(source(), None), false), (text, 512, 0, false));
}

#[test]
fn persistent_memory_of_all_sources_is_numbered_through_and_each_source_has_its_own() {
    let mut this = Several::new();
    let nothing = Holds::Nothing(Reason::new("empty"));
    let data = Holds::Data(Reason::new("data"));
    let [first, second] = this.pieces;
    let before = this.fixture.bench.snapshot();
    // Devices of the same number, of the second and the third source.
    this.scripts[1].0.borrow_mut().persistent.push((7, first, data));
    this.scripts[2].0.borrow_mut().persistent.push((7, second, nothing));
    let mut text = String::new();
    this.driver.write_pmem(false, &mut text).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with(&format!("0: {first} node 0, unused; holds data")), "{text}");
    assert!(lines[1].starts_with(&format!("1: {second} node 0, unused; holds nothing")), "{text}");

    let add = |this: &mut Several, number, force| {
        this.driver.pmem_add(number, Placement::PerBlock, force, &mut String::new())
    };
    assert!(add(&mut this, 0, false).is_err());
    assert!(add(&mut this, 2, true).is_err());
    add(&mut this, 1, false).unwrap();
    add(&mut this, 0, true).unwrap();
    assert_eq!(this.states(first), [ONLINE; 2]);
    assert_eq!(this.states(second), [ONLINE; 3]);
    let outcomes = this.reported();
    assert_eq!(outcomes, [vec![], vec![Outcome::Inserted], vec![Outcome::Inserted]]);
    this.driver.pmem_remove(1, &mut String::new()).unwrap();
    this.run();
    assert_eq!(this.states(second), []);
    assert_eq!(this.scripts[2].0.borrow().ejected, [7]);
    assert_eq!(this.scripts[1].0.borrow().ejected, []);
    this.driver.pmem_remove(0, &mut String::new()).unwrap();
    this.run();
    assert_eq!(this.fixture.bench.snapshot(), before);
}
