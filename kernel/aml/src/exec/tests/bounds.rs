//! Evaluation ends, takes no more than it may, and leaves nothing behind.

use std::format;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

use super::{Log, fault, integer, load, method, package};
use crate::{Arg, ErrorKind, Pool, Value};

#[test]
fn an_opcode_that_is_not_there_is_named_with_its_place() {
    // LoadTable, in a method behind a Noop.
    let mut aml = load(&[&method(b"TEST", 0, &[&[0xA3, 0x5B, 0x1F]])]).expect("loads");
    let node = aml.find("TEST").expect("the method");
    let error = aml.evaluate(&mut Log::default(), node, &[]).map(drop).expect_err("no such opcode");
    assert_eq!(
        error.to_string(),
        "opcode 0x5b 0x1f (LOAD_TABLE) is not supported, in DSDT (table 0) at offset 0x2e"
    );
    let aml = load(&[&[0xA3, 0x15 + 0xB0]]).expect("the rest loads");
    let skipped = aml.load_report().skipped().first().copied().expect("no opcode at all");
    assert_eq!(
        skipped.error.to_string(),
        "opcode 0xc5 (no ACPI opcode) is not supported, in DSDT (table 0) at offset 0x25"
    );
}

#[test]
fn a_loop_without_end_is_cut_off_and_the_next_evaluation_works() {
    let endless = package(&[0xA2], &[&[0x01]]);
    let busy = package(&[0xA2], &[&[0x01], b"\x75\x60"]);
    let mut aml = load(&[
        &method(b"LOOP", 0, &[&endless]),
        &method(b"BUSY", 0, &[b"\x70\x00\x60", &busy]),
        &method(b"FINE", 0, &[&[0xA4, 0x0A, 7]]),
    ])
    .expect("loads");
    assert_eq!(integer(&mut aml, "LOOP"), Err(ErrorKind::TooLong));
    assert_eq!(integer(&mut aml, "BUSY"), Err(ErrorKind::TooLong));
    assert_eq!(integer(&mut aml, "FINE"), Ok(7));
    // The same at load time.
    assert_eq!(fault(&[&endless]), Some(ErrorKind::TooLong));
}

#[test]
fn each_term_and_each_round_of_a_loop_costs_a_step() {
    // Store (Zero, Local0)  While (LLess (Local0, 100)) { Increment (Local0) }  Return (Local0)
    let rounds = package(&[0xA2], &[b"\x95\x60\x0A\x64", b"\x75\x60"]);
    let count = method(b"LOOP", 0, &[b"\x70\x00\x60", &rounds, b"\xA4\x60"]);
    let mut aml = load(&[&count]).expect("loads");
    assert_eq!(integer(&mut aml, "LOOP"), Ok(100));
    let steps = aml.usage().peak_steps;
    assert!((300..1000).contains(&steps), "{steps}");
}

#[test]
fn an_index_past_the_end_leads_to_no_other_buffer() {
    // Local0 and Local1 are buffers of four bytes.  Return (DerefOf (Index (Local0, n)))
    let buffer = |byte: u8| package(&[0x11], &[b"\x0A\x04", &[byte; 4]]);
    for (index, expected) in [(0, Ok(7)), (3, Ok(7)), (4, Err(ErrorKind::OutOfBounds))] {
        let (first, second) = (buffer(7), buffer(9));
        let end = [b"\xA4\x83\x88\x60\x0A".as_slice(), &[index], b"\x00"].concat();
        let body = [b"\x70".as_slice(), &first, b"\x60\x70", &second, b"\x61", &end];
        let mut aml = load(&[&method(b"READ", 0, &body)]).expect("loads");
        assert_eq!(integer(&mut aml, "READ"), expected, "byte {index}");
    }
}

#[test]
fn a_shift_by_as_many_bits_as_there_are_leaves_none() {
    const LEFT: u8 = 0x79;
    const RIGHT: u8 = 0x7A;
    for (shift, bits, expected) in [
        (LEFT, 4, u64::MAX << 4),
        (LEFT, 63, 1 << 63),
        (LEFT, 64, 0),
        (LEFT, 255, 0),
        (RIGHT, 4, u64::MAX >> 4),
        (RIGHT, 63, 1),
        (RIGHT, 64, 0),
    ] {
        // Return (Shift (Ones, n))
        let mut aml =
            load(&[&method(b"TEST", 0, &[&[0xA4, shift, 0xFF, 0x0A, bits, 0x00]])]).expect("loads");
        assert_eq!(integer(&mut aml, "TEST"), Ok(expected), "{shift:#x} by {bits}");
    }
}

#[test]
fn recursion_and_nesting_are_cut_off() {
    let mut aml = load(&[
        &method(b"SELF", 0, &[b"SELF"]),
        &method(b"NEST", 0, &[&[0x92; 5000], &[0x00]]),
        &method(b"FINE", 0, &[&[0xA4, 0x01]]),
    ])
    .expect("loads");
    assert_eq!(integer(&mut aml, "SELF"), Err(ErrorKind::TooDeep));
    assert_eq!(integer(&mut aml, "NEST"), Err(ErrorKind::TooDeep));
    assert_eq!(integer(&mut aml, "FINE"), Ok(1));
}

#[test]
fn what_goes_deeper_comes_back_up_however_often_it_does() {
    // A register behind an index.
    let ports = package(&[0x5B, 0x81], &[b"REGS\x01IDX_\x08DAT_\x08"]);
    let behind = package(&[0x5B, 0x86], &[b"IDX_DAT_\x01BYT0\x08"]);
    let inner = package(&[0x12], &[b"\x01\x01"]);
    let list = package(&[0x12], &[b"\x02\x01", &inner]);
    let world = [
        b"\x5B\x80REGS\x01\x0A\x70\x0A\x02".as_slice(),
        &ports,
        &behind,
        b"\x08LIST",
        &list,
        &method(b"CALL", 0, &[b"\xA4\x01"]),
    ]
    .concat();
    let terms: [&[u8]; 4] = [b"\x70LIST\x61", b"CALL", b"\xA0\x03\x01\xA3", b"\x70BYT0\x61"];
    for term in terms {
        // While (LLess (Local0, rounds)) { term  Increment (Local0) }
        let depth = |rounds: u16| {
            let until = [b"\x95\x60\x0B".as_slice(), &rounds.to_le_bytes()].concat();
            let rounds = package(&[0xA2], &[&until, term, b"\x75\x60"]);
            let test = method(b"TEST", 0, &[b"\x70\x00\x60", &rounds, b"\xA4\x60"]);
            let mut aml = load(&[&world, &test]).expect("loads");
            assert_eq!(aml.load_report().count(), 0, "{:?}", aml.load_report());
            integer(&mut aml, "TEST").map(|rounds| (rounds, aml.usage().peak_depth))
        };
        let (_, once) = depth(1).expect("it runs");
        assert_eq!(depth(400), Ok((400, once)), "{term:x?}");
    }
}

#[test]
fn methods_may_call_one_another_as_deep_as_firmware_does() {
    // Method (Cnnn) { Return (Cnnn+1 () + 1) }, 90 of them.
    let name = |n: u32| format!("C{n:03}").into_bytes();
    let calls = (0..90).map(|n| {
        let body = [b"\xA4\x72".as_slice(), &name(n + 1), b"\x01\x00"].concat();
        method(&name(n).try_into().expect("four characters"), 0, &[&body])
    });
    let terms: Vec<u8> = calls.flatten().chain(*b"\x08C090\x00").collect();
    let mut aml = load(&[&terms]).expect("loads");
    assert_eq!(integer(&mut aml, "C000"), Ok(90));
}

#[test]
fn strings_with_other_bytes_than_ascii_are_strings() {
    // Name (TEXT, "caf\xE9"); ToString of the same bytes; both are equal, and have five with the next.
    let mut aml = load(&[
        b"\x08TEXT\x0Dcaf\xE9\x00",
        b"\x08BYTE\x11\x08\x0A\x05caf\xE9\x00",
        &method(b"SAME", 0, &[b"\xA4\x93TEXT\x9CBYTE\xFF\x00"]),
        &method(b"LONG", 0, &[b"\x73TEXT\x0Da\x00\x60\xA4\x87\x60"]),
    ])
    .expect("loads");
    assert_eq!(aml.load_report().count(), 0, "{:?}", aml.load_report());
    assert_eq!(integer(&mut aml, "SAME"), Ok(u64::MAX));
    assert_eq!(integer(&mut aml, "LONG"), Ok(5));
    let text = aml.find("TEXT").expect("the name");
    let read = aml.evaluate(&mut Log::default(), text, &[]).expect("a string");
    assert!(matches!(read, Value::Bytes(b"caf\xE9")), "{read:?}");
}

#[test]
fn deep_and_long_names_cost_no_more_than_others() {
    // A name of a million parents; scopes that nest by a path each.
    let carets = vec![b'^'; 1 << 20];
    assert_eq!(fault(&[&carets, b"NAME"]), Some(ErrorKind::BadName));
    let mut terms = Vec::new();
    let mut path = Vec::new();
    for level in 1..=80u8 {
        path.extend(b"NEST");
        let count = [b'\\', 0x2F, level];
        terms.extend(package(&[0x5B, 0x82], &[&count, &path]));
    }
    assert_eq!(fault(&[&terms]), Some(ErrorKind::TooDeep));
}

#[test]
fn an_error_releases_the_mutexes_that_were_held() {
    // Mutex (MTX0, 5); DIES acquires it and divides by zero; FREE releases it.
    let mut aml = load(&[
        b"\x5B\x01MTX0\x05",
        &method(b"DIES", 0, &[b"\x5B\x23MTX0\xFF\xFF", b"\x78\x01\x00\x00\x00"]),
        &method(b"HOLD", 0, &[b"\x5B\x23MTX0\xFF\xFF"]),
        &method(b"FREE", 0, &[b"\x5B\x27MTX0"]),
    ])
    .expect("loads");
    assert_eq!(integer(&mut aml, "FREE"), Err(ErrorKind::NotHeld));
    assert_eq!(integer(&mut aml, "DIES"), Err(ErrorKind::DivideByZero));
    assert_eq!(integer(&mut aml, "FREE"), Err(ErrorKind::NotHeld));
    // A method that returns without `Release` releases its mutexes as well.
    assert_eq!(integer(&mut aml, "HOLD"), Err(ErrorKind::WrongType("an integer")));
    assert_eq!(integer(&mut aml, "FREE"), Err(ErrorKind::NotHeld));
}

#[test]
fn an_error_takes_the_names_of_its_method_with_it() {
    // TEST: Name (LOC_, 1), then a name that exists already.
    let mut aml = load(&[&method(b"TEST", 0, &[b"\x08LOC_\x01", b"\x08LOC_\x00"])]).expect("loads");
    let name = crate::NameSeg::from_text("LOC").expect("a name");
    for _ in 0..3 {
        assert_eq!(integer(&mut aml, "TEST"), Err(ErrorKind::Exists(name)));
        assert_eq!(aml.find("TEST.LOC"), None);
    }
}

#[test]
fn what_a_method_creates_is_bounded_and_given_back() {
    // BIG_: a buffer of 0x00FFFFFF bytes. FILL: makes buffers of 4 KiB for ever.
    let big = package(&[0x11], &[b"\x0C\xFF\xFF\xFF\x00"]);
    let page = package(&[0x11], &[b"\x0B\x00\x10"]);
    let fill = package(&[0xA2], &[&[0x01], &[0x70], &page, &[0x60]]);
    // CALL: calls MAKE 1000 times; each makes a page and gives nothing back but a number.
    let calls = package(&[0xA2], &[b"\x95\x60\x0B\xE8\x03", b"MAKE", b"\x75\x60"]);
    let mut aml = load(&[
        &method(b"BIG_", 0, &[&[0x70], &big, &[0x60]]),
        &method(b"FILL", 0, &[&fill]),
        &method(b"MAKE", 0, &[&[0x70], &page, &[0x60], &[0xA4, 0x01]]),
        &method(b"CALL", 0, &[b"\x70\x00\x60", &calls, b"\xA4\x60"]),
    ])
    .expect("loads");
    assert_eq!(integer(&mut aml, "BIG_"), Err(ErrorKind::Full(Pool::Bytes)));
    assert_eq!(integer(&mut aml, "FILL"), Err(ErrorKind::Full(Pool::Bytes)));
    assert_eq!(integer(&mut aml, "CALL"), Ok(1000));
}

#[test]
fn a_result_survives_what_its_method_gives_back() {
    // GIVE: Return (Buffer () {1, 2, 3}); KEEP: Local0 = GIVE (), Local1 = GIVE (), Return (Local0)
    let buffer = package(&[0x11], &[b"\x0A\x03\x01\x02\x03"]);
    let mut aml = load(&[
        &method(b"GIVE", 0, &[&[0x70], &buffer, &[0x67], &[0xA4], &buffer]),
        &method(b"KEEP", 0, &[b"\x70GIVE\x60", b"\x70GIVE\x61", b"\xA4\x60"]),
    ])
    .expect("loads");
    let node = aml.find("KEEP").expect("the method");
    let value = aml.evaluate(&mut Log::default(), node, &[]).expect("a value");
    assert_eq!(value.buffer(), Some(&[1, 2, 3][..]));
}

#[test]
fn what_is_stored_in_a_caller_survives_the_callee() {
    // PUT_ (Arg0): Arg0 [0] = Buffer () {9, 9}
    // TEST: Local0 = Package (1) {}, PUT_ (Local0), Local1 = a buffer, Return (DerefOf (Local0 [0]))
    let nines = package(&[0x11], &[b"\x0A\x02\x09\x09"]);
    let other = package(&[0x11], &[b"\x0A\x02\x07\x07"]);
    let list = package(&[0x12], &[b"\x01"]);
    let mut aml = load(&[
        &method(b"PUT_", 1, &[&[0x70], &nines, b"\x88\x68\x00\x00"]),
        &method(
            b"TEST",
            0,
            &[
                &[0x70],
                &list,
                &[0x60],
                b"PUT_\x60",
                &[0x70],
                &other,
                &[0x61],
                b"\xA4\x83\x88\x60\x00\x00",
            ],
        ),
    ])
    .expect("loads");
    let node = aml.find("TEST").expect("the method");
    let value = aml.evaluate(&mut Log::default(), node, &[]).expect("a value");
    assert_eq!(value.buffer(), Some(&[9, 9][..]));
}

#[test]
fn stores_to_the_tables_objects_last_and_are_bounded() {
    // Name (TEXT, "a"); SET_ (Arg0): TEXT = Arg0
    let mut aml =
        load(&[b"\x08TEXT\x0Da\x00", &method(b"SET_", 1, &[b"\x70\x68TEXT"])]).expect("loads");
    let (text, set) = (aml.find("TEXT").expect("TEXT"), aml.find("SET").expect("SET"));
    let mut host = Log::default();
    let long = "x".repeat(1000);
    // Growing again and again takes room once: shorter and equal ones fit where it is.
    for round in 0..100 {
        let value = if round % 2 == 0 { long.as_str() } else { "b" };
        aml.evaluate(&mut host, set, &[Arg::String(value)]).expect("stored");
        let read = aml.evaluate(&mut host, text, &[]).expect("TEXT");
        assert!(matches!(read, Value::String(found) if found == value));
    }
    let huge = "y".repeat(10_000);
    let error =
        aml.evaluate(&mut host, set, &[Arg::String(&huge)]).map(drop).expect_err("too long");
    assert_eq!(error.kind, ErrorKind::Full(Pool::Bytes));
}

#[test]
fn sleeping_is_bounded_before_it_is_done() {
    // Sleep (0xFFFFFFFF); Sleep (Arg0)
    let mut aml = load(&[
        &method(b"LONG", 0, &[b"\x5B\x22\x0C\xFF\xFF\xFF\xFF"]),
        &method(b"NAP_", 1, &[b"\x5B\x22\x68", b"\x5B\x21\x0A\x05"]),
    ])
    .expect("loads");
    let mut host = Log::default();
    let long = aml.find("LONG").expect("the method");
    let error = aml.evaluate(&mut host, long, &[]).map(drop).expect_err("too long");
    assert_eq!((error.kind, host.slept), (ErrorKind::TooSleepy(2000), 0));
    let said = "wants to sleep longer than the 2000 ms that one evaluation may, in DSDT";
    assert!(error.to_string().starts_with(said), "{error}");
    let nap = aml.find("NAP").expect("the method");
    aml.evaluate(&mut host, nap, &[Arg::Integer(3)]).expect("naps");
    assert_eq!(host.slept, 3005);
}

#[test]
fn aliases_lead_to_what_exists_and_never_in_circles() {
    // Alias (ONE_, TWO_), Alias (TWO_, THRE); the other order names something unknown.
    let mut aml = load(&[b"\x08ONE_\x0A\x05", b"\x06ONE_TWO_", b"\x06TWO_THRE"]).expect("loads");
    assert_eq!(integer(&mut aml, "THRE"), Ok(5));
    let circle = fault(&[b"\x06AAAABBBB", b"\x06BBBBAAAA"]);
    assert!(matches!(circle, Some(ErrorKind::NotFound(_))), "{circle:?}");
    let own = fault(&[b"\x06AAAAAAAA"]);
    assert!(matches!(own, Some(ErrorKind::NotFound(_))), "{own:?}");
}

#[test]
fn fatal_is_an_error_with_its_code_and_argument() {
    let mut aml =
        load(&[&method(b"TEST", 0, &[b"\x5B\x32\x02\x78\x56\x34\x12\x0A\x07"])]).expect("loads");
    let fatal = ErrorKind::Fatal { kind: 2, code: 0x1234_5678, argument: 7 };
    assert_eq!(integer(&mut aml, "TEST"), Err(fatal));
}

#[test]
fn a_method_takes_exactly_its_arguments() {
    let two = method(b"TWO_", 2, &[b"\xA4\x72\x68\x69\x00"]);
    let bare = method(b"BARE", 0, &[b"\xA4\x83\x0DTWO_\x00"]);
    let mut aml = load(&[&two, &bare, b"\x08DATA\x01"]).expect("loads");
    let (two, data) = (aml.find("TWO").expect("TWO"), aml.find("DATA").expect("DATA"));
    let mut host = Log::default();
    let arg = Arg::Integer(3);
    assert_eq!(aml.integer(&mut host, two, &[arg, arg]), Ok(6));
    for args in [&[][..], &[arg], &[arg; 3]] {
        let error = aml.integer(&mut host, two, args).map_err(|error| error.kind);
        assert_eq!(error, Err(ErrorKind::Arguments(2)));
    }
    let error = aml.integer(&mut host, data, &[arg]).map_err(|error| error.kind);
    assert_eq!(error, Err(ErrorKind::Arguments(0)));
    // DerefOf ("TWO_") passes no arguments.
    assert_eq!(integer(&mut aml, "BARE"), Err(ErrorKind::Arguments(2)));
    assert!(aml.integer(&mut host, two, &[arg; 9]).is_err());
}

#[test]
fn references_that_outlive_their_method_are_refused() {
    // Return (RefOf (Local0)); LAST = RefOf (Local0), with LAST a name of the table.
    let mut aml = load(&[
        b"\x08LAST\x12\x02\x00",
        &method(b"GIVE", 0, &[b"\x70\x01\x60", b"\xA4\x71\x60"]),
        &method(b"KEEP", 0, &[b"\x70\x01\x60", b"\x70\x71\x60LAST"]),
    ])
    .expect("loads");
    for name in ["GIVE", "KEEP"] {
        let result = integer(&mut aml, name);
        assert!(matches!(result, Err(ErrorKind::BadValue(_))), "{name}: {result:?}");
    }
}

#[test]
fn what_a_table_writes_out_takes_its_room_once() {
    // Name (BUFF, Buffer (1000) {}), Name (LIST, Package (1) { "0123456789" })
    let buffer = package(&[0x11], &[&[0x0B, 0xE8, 0x03]]);
    let list = package(&[0x12], &[&[1, 0x0D], b"0123456789\x00"]);
    let empty = load(&[]).expect("loads").usage().data;
    let named = |name: &[u8], value: &[u8]| [&[0x08], name, value].concat();
    let aml = load(&[&named(b"BUFF", &buffer), &named(b"LIST", &list)]).expect("loads");
    // Four bytes before each hold its capacity.
    assert_eq!(aml.usage().data - empty, 1010 + 2 * 4);
    // Each name has a value of its own all the same: Store (0x5A, Index (BUF0, 0)).
    let two = [named(b"BUF0", &buffer), named(b"BUF1", &buffer)].concat();
    let store = b"\x70\x0A\x5A\x88BUF0\x00\x00";
    let first = |name: &[u8]| [b"\xA4\x83\x88", name, b"\x00\x00"].concat();
    let (one, other) =
        (method(b"ONE_", 0, &[&first(b"BUF0")]), method(b"TWO_", 0, &[&first(b"BUF1")]));
    let mut aml = load(&[&two, store, &one, &other]).expect("loads");
    assert_eq!((integer(&mut aml, "ONE"), integer(&mut aml, "TWO")), (Ok(0x5A), Ok(0)));
}

#[test]
fn a_package_that_a_method_stores_may_have_more_elements_than_the_one_before() {
    // Name (DATA, Package (1) {}); TEST: Store (Package (16) {}, DATA), Return (SizeOf (DATA)).
    let [small, large] = [b"\x01", b"\x10"].map(|count| package(&[0x12], &[count]));
    let test = method(b"TEST", 0, &[b"\x70", &large, b"DATA\xA4\x87DATA"]);
    let mut aml = load(&[b"\x08DATA", &small, &test]).expect("loads");
    assert_eq!(integer(&mut aml, "TEST"), Ok(16));
}
