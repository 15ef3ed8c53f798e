//! A machine without a source of events, and a device without memory.

use std::boxed::Box;
use std::string::ToString;

use hotmem::testing::range;

use super::doubles::Script;
use super::{Fixture, MIB, WINDOW};
use crate::{DeviceId, HotplugSource, Outcome};

#[test]
fn a_machine_without_a_source_has_no_events_and_names_the_device_it_does_not_know() {
    let mut none: Option<Box<Script>> = None;
    assert!(none.next_event().is_none() && !none.has_work());
    let unknown = "memory device 7 is not known";
    let replied = none.reply(DeviceId::new(7), Outcome::Ejected);
    assert_eq!(replied.unwrap_err().to_string(), unknown);
    assert_eq!(none.eject(DeviceId::new(7)).unwrap_err().to_string(), unknown);
    assert_eq!(none.label(DeviceId::new(7)).to_string(), "memory device 7");
}

#[test]
fn firmware_hears_a_failure_of_memory_that_is_not_there() {
    let mut this = Fixture::new();
    let before = this.bench.snapshot();
    let hollow = range(WINDOW + 32 * MIB, 4 * MIB);
    this.bench.mm.machine().plug_hollow(hollow);
    // The first range is there: the device comes as a whole or not at all.
    this.script.insert(1, &[this.pieces[0], hollow]);
    let lines = this.run();
    assert_eq!(this.script.reported(), [Outcome::InsertFailed]);
    assert!(lines.contains("does not hold what is written"), "{lines}");
    assert_eq!(this.bench.snapshot(), before);
}
