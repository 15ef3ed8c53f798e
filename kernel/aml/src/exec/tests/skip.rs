//! A fault in a table leaves out only the term that has it.

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::{Log, device, integer, load, method, package, table};
use crate::{Aml, ErrorKind, Extent, Limits, NodeKind};

/// The messages about what loading left out.
fn skipped(aml: &Aml) -> Vec<String> {
    let text = |error: &crate::Skipped| error.to_string();
    aml.load_report().skipped().iter().map(text).collect()
}

/// Loads a fault between two definitions; both must be there. Returns the message about the fault.
fn around(fault: &[u8]) -> String {
    let mut aml = load(&[b"\x08FRST\x01", fault, b"\x08LAST\x0A\x02"]).expect("loads");
    let text = skipped(&aml);
    assert_eq!(integer(&mut aml, "FRST"), Ok(1), "{text:?}");
    assert!(aml.find("LAST").is_some(), "{text:?}");
    assert_eq!((integer(&mut aml, "LAST"), text.len()), (Ok(2), 1), "{text:?}");
    assert_eq!(aml.load_report().count(), 1);
    text[0].clone()
}

#[test]
fn a_term_whose_name_leads_nowhere_is_left_out_with_all_inside_it() {
    let inner = b"\x08\\INNR\x01";
    let scope = package(&[0x10], &[b"NONE", inner]);
    let text = around(&scope);
    assert_eq!(text, "Scope NONE: name NONE not found, in DSDT (table 0) at offset 0x2a");
    let aml = load(&[&scope]).expect("loads");
    assert_eq!(aml.find("INNR"), None, "the body of the scope is not run");
    let body = b"\x5C\x2ENONEDEV0";
    for (fault, start) in [
        (package(&[0x5B, 0x82], &[body, inner]), "Device DEV0: name "),
        (package(&[0x14], &[body, &[0, 0xA4, 0x01]]), "Method DEV0: name "),
        ([&[0x08], body.as_slice(), &[0x0B, 1, 2]].concat(), "Name DEV0: name "),
        (b"\x06NONEALI_".to_vec(), "Alias ALI_: name NONE not"),
        ([&[0x5B, 0x01], body.as_slice(), &[3]].concat(), "Mutex DEV0: name "),
        ([&[0x5B, 0x80], body.as_slice(), b"\x01\x0A\x10\x01"].concat(), "OperationRegion DEV0"),
        (b"\x5B\x80PORT\x01BASELEN_".to_vec(), "OperationRegion PORT: name BASE not"),
        (package(&[0x5B, 0x81], &[b"NREG\x01FLD0\x08"]), "Field NREG: name NREG not"),
        (package(&[0xA0], &[b"NONE", inner]), "If: name NONE not"),
    ] {
        let text = around(&fault);
        assert!(text.starts_with(start), "{text}");
    }
}

#[test]
fn the_first_of_two_definitions_stays() {
    let second = package(&[0x5B, 0x82], &[b"DEVX", b"\x08TWO_\x01"]);
    let mut aml = load(&[
        &device(b"DEVX", &[b"\x08ONE_\x01"]),
        &second,
        b"\x08DATA\x0A\x05",
        b"\x08DATA\x0A\x06",
        &method(b"METH", 0, &[&[0xA4, 0x0A, 7]]),
        &method(b"METH", 1, &[&[0xA4, 0x0A, 8]]),
    ])
    .expect("loads");
    assert_eq!(aml.load_report().count(), 3);
    assert_eq!((integer(&mut aml, "DATA"), integer(&mut aml, "METH")), (Ok(5), Ok(7)));
    assert!(aml.find("DEVX.ONE").is_some() && aml.find("DEVX.TWO").is_none());
}

#[test]
fn a_field_whose_name_is_taken_costs_that_field() {
    let mut aml = load(&[
        b"\x08FLD1\x0A\x07",
        b"\x5B\x80PORT\x01\x0A\x80\x0A\x04",
        &package(&[0x5B, 0x81], &[b"PORT\x01FLD0\x08FLD1\x08FLD2\x08"]),
    ])
    .expect("loads");
    assert!(skipped(&aml)[0].starts_with("field FLD1: name FLD1 exists already"));
    assert_eq!((integer(&mut aml, "FLD1"), integer(&mut aml, "FLD2")), (Ok(7), Ok(1)));
}

#[test]
fn a_buffer_field_outside_its_buffer_is_left_out() {
    // CreateDWordField (BUF_, 1, FLD_) of a buffer of four bytes; CreateField with no bits.
    let buffer = package(&[0x11], &[b"\x0A\x04"]);
    for fault in [b"\x8ABUF_\x01FLD_".as_slice(), b"\x5B\x13BUF_\x00\x00FLD_"] {
        let aml = load(&[b"\x08BUF_", &buffer, fault, b"\x08LAST\x01"]).expect("loads");
        assert!(skipped(&aml)[0].starts_with("CreateField: access outside"), "{:?}", skipped(&aml));
        assert!(aml.find("LAST").is_some() && aml.find("FLD").is_none());
    }
}

#[test]
fn a_return_outside_methods_ends_its_table_and_no_other() {
    let first = table(&[b"\x08ONE_\x01", &package(&[0xA0], &[b"\x01\xA4\x00"]), b"\x08TWO_\x01"]);
    let second = table(&[b"\x08THRE\x01"]);
    let tables: [&[u8]; 2] = [&first, &second];
    let aml = Aml::load(&mut Log::default(), &tables, Limits::DEFAULT).expect("loads");
    let found = ["ONE", "TWO", "THRE"].map(|name| aml.find(name).is_some());
    assert_eq!(found, [true, false, true]);
    let extents: Vec<_> = aml.load_report().skipped().iter().map(|one| one.extent).collect();
    assert_eq!(extents, [Extent::Table], "{:?}", skipped(&aml));
}

#[test]
fn break_and_continue_outside_loops_cost_nothing_else() {
    for fault in [b"\xA5".as_slice(), b"\x9F", &package(&[0xA0], &[b"\x01\xA5"])] {
        let text = around(fault);
        assert!(text.contains("out of place"), "{text}");
    }
}

#[test]
fn a_fault_inside_a_called_method_leaves_nothing_of_the_method() {
    // BAD_: Name (LOC_, 1), Acquire (MTX_), divide by zero. The table calls it, then goes on.
    let bad = method(b"BAD_", 0, &[b"\x08LOC_\x01\x5B\x23MTX_\xFF\xFF\x78\x01\x00\x00\x00"]);
    let free = method(b"FREE", 0, &[b"\x5B\x27MTX_"]);
    let mut aml =
        load(&[b"\x5B\x01MTX_\x05", &bad, &free, b"BAD_", b"\x08LAST\x01"]).expect("loads");
    assert_eq!(skipped(&aml).len(), 1);
    assert!(aml.find("LAST").is_some() && aml.find("BAD.LOC").is_none());
    assert_eq!(integer(&mut aml, "FREE"), Err(ErrorKind::NotHeld));
}

#[test]
fn a_status_that_cannot_be_loaded_does_not_make_a_device_present() {
    // Name (_STA, 1 / 0): a device without `_STA` would always be there.
    let broken = b"\x08_STA\x78\x01\x00\x00\x00";
    let mut aml = load(&[&device(b"MEM0", &[broken, b"\x08LAST\x01"])]).expect("loads");
    let memory = aml.find("MEM0").expect("the device");
    assert!(aml.find("MEM0.LAST").is_some());
    assert!(aml.status(&mut Log::default(), memory).is_err());
}

#[test]
fn a_device_whose_body_is_cut_off_is_not_a_device() {
    // An opcode that does not exist, a method of unknown arity, a length past the end.
    for fault in [b"\xC5".as_slice(), b"NONE\x72\x01\x01\x00", b"\x14\x3F_STA"] {
        let aml = load(&[
            &device(b"MEM0", &[b"\x08_HID\x01", fault, b"\x08_STA\x00"]),
            &device(b"MEM1", &[b"\x08_HID\x01"]),
        ])
        .expect("loads");
        assert_eq!(aml.load_report().skipped()[0].extent, Extent::List);
        let kind = |name| aml.find(name).map(|node| aml.kind(node));
        assert_eq!((kind("MEM0"), kind("MEM1")), (Some(NodeKind::Other), Some(NodeKind::Device)));
    }
}

#[test]
fn devices_that_a_return_cuts_off_are_not_devices() {
    let aml = load(&[&device(b"BUS_", &[&device(b"MEM0", &[b"\xA4\x00"])])]).expect("loads");
    assert_eq!(
        aml.devices()
            .filter_map(|node| aml.name(node))
            .map(|name| format!("{name}"))
            .collect::<Vec<_>>(),
        ["_SB_"]
    );
}

#[test]
fn a_term_about_an_object_of_another_kind_costs_itself() {
    // All name an integer: a field of it, a field of a buffer that it is not, a reference that it is not.
    for (fault, start) in [
        (package(&[0x5B, 0x81], &[b"FRST\x01FLD0\x08"]), "Field FRST: "),
        (b"\x8AFRST\x00FLD0".to_vec(), "CreateField: "),
        (b"\x70\x83FRST\x60".to_vec(), "a statement: "),
    ] {
        let text = around(&fault);
        assert!(text.starts_with(start) && text.contains("is not a"), "{text}");
    }
}

#[test]
fn an_unknown_call_with_constants_costs_only_itself() {
    assert!(around(b"NONE\x01\x0A\x05").starts_with("a statement: name NONE not found"));
}

#[test]
fn a_table_that_is_not_one_costs_that_table() {
    let (first, last) = (table(&[b"\x08ONE_\x01"]), table(&[b"\x08TWO_\x01"]));
    let tables: [&[u8]; 3] = [&first, b"SSDT\xFF\x00\x00\x00", &last];
    let aml = Aml::load(&mut Log::default(), &tables, Limits::DEFAULT).expect("loads");
    assert_eq!(skipped(&aml), ["table: table length does not fit its header"]);
    assert!(aml.find("ONE").is_some() && aml.find("TWO").is_some());
    assert!(Aml::load(&mut Log::default(), &tables[1..2], Limits::DEFAULT).is_err());
}

#[test]
fn a_loop_without_end_costs_itself_and_what_is_in_it() {
    // While (1) { Name (INNR, 1) While (1) { } }
    let endless = package(&[0xA2], &[&[0x01]]);
    let outer = package(&[0xA2], &[b"\x01\x08INNR\x01", &endless]);
    for fault in [endless.clone(), outer] {
        assert!(around(&fault).starts_with("While: "));
    }
    // However many there are, loading ends; what is behind very many is left out.
    for (count, found) in [(20, true), (5000, false)] {
        let aml = load(&[&endless.repeat(count), b"\x08LAST\x01"]).expect("loads");
        assert_eq!(aml.find("LAST").is_some(), found, "{count}");
    }
}

#[test]
fn a_term_is_left_out_with_its_text_and_with_the_arguments_of_its_calls() {
    // Name (FLT_, "12" / 0).
    assert!(around(b"\x08FLT_\x78\x0D12\x00\x00\x00\x00").starts_with("Name FLT_: "));
    // Name (FLT_, TWO_ (1, 1) / 0), with BAD_ as both targets: a call of BAD_ would be a fault of its own.
    let two = method(b"TWO_", 2, &[&[0xA4, 0x01]]);
    let bad = method(b"BAD_", 0, &[b"\x78\x01\x00\x00\x00"]);
    let text = around(&[&two, &bad, b"\x08FLT_\x78TWO_\x01\x01\x00BAD_BAD_".as_slice()].concat());
    assert!(text.starts_with("Name FLT_: "), "{text}");
}

#[test]
fn a_device_that_ends_with_an_unknown_call_stays_a_device() {
    let aml = load(&[&device(b"MEM0", &[b"\x08_HID\x01", b"NONE\x01\x0A\x05"]), b"\x08LAST\x01"]);
    let aml = aml.expect("loads");
    assert_eq!(skipped(&aml).len(), 1, "{:?}", skipped(&aml));
    assert_eq!(aml.find("MEM0").map(|node| aml.kind(node)), Some(NodeKind::Device));
    assert!(aml.find("LAST").is_some());
}
