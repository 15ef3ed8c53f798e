//! A machine without a source of events.

use std::boxed::Box;
use std::string::ToString;

use super::doubles::Script;
use crate::{DeviceId, HotplugSource, Outcome};

#[test]
fn a_machine_without_a_source_has_no_events_and_names_the_device_it_does_not_know() {
    let mut none: Option<Box<Script>> = None;
    assert!(none.next_event().is_none() && !none.has_work());
    let unknown = "memory device 7 is not known";
    let replied = none.answer(DeviceId(7), Outcome::Ejected);
    assert_eq!(replied.unwrap_err().to_string(), unknown);
    assert_eq!(none.eject(DeviceId(7)).unwrap_err().to_string(), unknown);
    assert_eq!(none.label(DeviceId(7)).to_string(), "memory device 7");
}
