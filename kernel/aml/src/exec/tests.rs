//! What evaluation promises beyond right results: bounds, clean ends and messages. The results
//! themselves are compared with ACPICA's in the suites, on tables that compilers made; the
//! tables here are ones that compilers refuse to make.

use std::format;
use std::string::ToString;
use std::vec;
use std::vec::Vec;

use crate::{
    Aml, AmlError, Arg, ErrorKind, Host, HostError, Limits, NodeId, PciAddress, Pool, Space, Value,
    Width,
};

/// A machine that logs what is done to it; every register reads as 1.
#[derive(Debug, Default)]
struct Log {
    writes: Vec<(Space, u64, u64)>,
    reads: Vec<(Space, u64)>,
    notices: Vec<(NodeId, u64)>,
    slept: u64,
}

impl Host for Log {
    fn read(&mut self, space: Space, address: u64, _: Width) -> Result<u64, HostError> {
        self.reads.push((space, address));
        Ok(1)
    }

    fn write(&mut self, space: Space, at: u64, _: Width, value: u64) -> Result<(), HostError> {
        self.writes.push((space, at, value));
        Ok(())
    }

    fn notify(&mut self, node: NodeId, value: u64) {
        self.notices.push((node, value));
    }

    fn stall(&mut self, microseconds: u64) {
        self.slept += microseconds;
    }

    fn sleep(&mut self, milliseconds: u64) {
        self.slept += milliseconds * 1000;
    }
}

/// A term whose contents are a package: opcode, length, contents.
fn package(opcode: &[u8], contents: &[&[u8]]) -> Vec<u8> {
    let contents = contents.concat();
    let length = contents.len() as u32 + 3;
    let lead = 0x80 | (length & 0x0F) as u8;
    [opcode, &[lead, (length >> 4) as u8, (length >> 12) as u8], &contents].concat()
}

/// `Method (name, args) { body }`.
fn method(name: &[u8; 4], args: u8, body: &[&[u8]]) -> Vec<u8> {
    package(&[0x14], &[name, &[args], &body.concat()])
}

/// `Device (name) { body }`.
fn device(name: &[u8; 4], body: &[&[u8]]) -> Vec<u8> {
    package(&[0x5B, 0x82], &[name, &body.concat()])
}

/// A table of revision 2 with these terms.
fn table(terms: &[&[u8]]) -> Vec<u8> {
    let mut table = vec![0; 36];
    table[..4].copy_from_slice(b"DSDT");
    table[8] = 2;
    table.extend(terms.concat());
    let length = (table.len() as u32).to_le_bytes();
    table[4..8].copy_from_slice(&length);
    table
}

/// Loads terms.
fn load(terms: &[&[u8]]) -> Result<Aml, AmlError> {
    Aml::load(&mut Log::default(), &[&table(terms)], Limits::DEFAULT)
}

/// Evaluates a path to an integer or an error.
fn integer(aml: &mut Aml, path: &str) -> Result<u64, ErrorKind> {
    let node = aml.find(path).expect("the path exists");
    aml.integer(&mut Log::default(), node, &[]).map_err(|error| error.kind)
}

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
    let error = load(&[&[0xA3, 0x15 + 0xB0]]).map(drop).expect_err("no opcode at all");
    assert_eq!(
        error.to_string(),
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
    assert_eq!(load(&[&endless]).map(drop).map_err(|error| error.kind), Err(ErrorKind::TooLong));
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
    // One that returns without a release lets go as well.
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
    assert_eq!((error.kind, host.slept), (ErrorKind::TooSleepy, 0));
    let nap = aml.find("NAP").expect("the method");
    aml.evaluate(&mut host, nap, &[Arg::Integer(3)]).expect("naps");
    assert_eq!(host.slept, 3005);
}

#[test]
fn aliases_lead_to_what_exists_and_never_in_circles() {
    // Alias (ONE_, TWO_), Alias (TWO_, THRE); the other order names something unknown.
    let mut aml = load(&[b"\x08ONE_\x0A\x05", b"\x06ONE_TWO_", b"\x06TWO_THRE"]).expect("loads");
    assert_eq!(integer(&mut aml, "THRE"), Ok(5));
    let circle = load(&[b"\x06AAAABBBB", b"\x06BBBBAAAA"]).map(drop);
    assert!(matches!(circle, Err(AmlError { kind: ErrorKind::NotFound(_), .. })), "{circle:?}");
    let own = load(&[b"\x06AAAAAAAA"]).map(drop);
    assert!(matches!(own, Err(AmlError { kind: ErrorKind::NotFound(_), .. })), "{own:?}");
}

#[test]
fn fatal_is_an_error_with_its_code() {
    let mut aml =
        load(&[&method(b"TEST", 0, &[b"\x5B\x32\x02\x78\x56\x34\x12\x00"])]).expect("loads");
    let fatal = ErrorKind::Fatal { kind: 2, code: 0x1234_5678 };
    assert_eq!(integer(&mut aml, "TEST"), Err(fatal));
}

#[test]
fn a_method_takes_exactly_its_arguments() {
    let mut aml =
        load(&[&method(b"TWO_", 2, &[b"\xA4\x72\x68\x69\x00"]), b"\x08DATA\x01"]).expect("loads");
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
    assert!(aml.integer(&mut host, two, &[arg; 9]).is_err());
}

/// `OperationRegion (REGS, PCI_Config, 0x40, 4) Field (REGS, ByteAcc) { PIN0, 8 }`.
const PCI_FIELD: &[u8] = b"\x5B\x80REGS\x02\x0A\x40\x0A\x04\x5B\x81\x0BREGS\x01PIN0\x08";

/// `Name (_ADR, device << 16 | function)`.
fn address(device: u8, function: u8) -> Vec<u8> {
    [b"\x08_ADR\x0C".as_slice(), &[function, 0, device, 0]].concat()
}

#[test]
fn configuration_space_is_found_through_bridges() {
    // Host bridge on bus 2 -> bridge 1.0 -> function 3.1 behind it, on the bus that the
    // bridge's secondary bus register (0x19) tells.
    let leaf = device(b"LEAF", &[&address(3, 1), PCI_FIELD]);
    let bridge = device(b"BRDG", &[&address(1, 0), &leaf, PCI_FIELD]);
    let root = device(b"PCI0", &[b"\x08_HID\x0C\x41\xD0\x0A\x03", b"\x08_BBN\x0A\x02", &bridge]);
    let mut aml = load(&[&root]).expect("loads");
    let mut host = Log::default();
    let function =
        |bus, device, function| Space::PciConfig(PciAddress { segment: 0, bus, device, function });
    let near = aml.find("PCI0.BRDG.PIN0").expect("the field");
    assert_eq!(aml.integer(&mut host, near, &[]), Ok(1));
    let far = aml.find("PCI0.BRDG.LEAF.PIN0").expect("the field");
    assert_eq!(aml.integer(&mut host, far, &[]), Ok(1));
    assert_eq!(aml.integer(&mut host, far, &[]), Ok(1));
    assert_eq!(
        host.reads,
        [
            (function(2, 1, 0), 0x40),
            (function(2, 1, 0), 0x19),
            (function(1, 3, 1), 0x40),
            (function(1, 3, 1), 0x40),
        ]
    );
}

#[test]
fn configuration_space_without_a_host_bridge_is_an_error() {
    let mut aml = load(&[&device(b"LOST", &[&address(3, 1), PCI_FIELD])]).expect("loads");
    let error = integer(&mut aml, "LOST.PIN0");
    assert_eq!(error, Err(ErrorKind::BadValue("no PCI host bridge above")));
}

#[test]
fn an_access_outside_its_region_never_reaches_the_host() {
    // A region of one byte with a field of two, and one whose end is beyond all addresses.
    let mut aml = load(&[
        b"\x5B\x80REGS\x01\x0A\x70\x01\x5B\x81\x0BREGS\x01WIDE\x10",
        b"\x5B\x80WRAP\x00\xFF\x0A\x08\x5B\x81\x0DWRAP\x01\x00\x08OVER\x08",
    ])
    .expect("loads");
    let mut host = Log::default();
    for (name, reads) in [("WIDE", 1), ("OVER", 0)] {
        host.reads.clear();
        let node = aml.find(name).expect("the field");
        let error = aml.integer(&mut host, node, &[]).map_err(|error| error.kind);
        assert_eq!(error, Err(ErrorKind::OutOfBounds));
        assert_eq!(host.reads.len(), reads, "{name}");
    }
}

#[test]
fn the_bytes_of_a_loaded_table_can_be_read_as_a_region() {
    // DataTableRegion (TABL, "DSDT", "", ""), its first field is the signature.
    let body = b"\x5B\x88TABL\x0DDSDT\x00\x0D\x00\x0D\x00\x5B\x81\x0BTABL\x03SIGN\x20";
    let mut aml = load(&[body]).expect("loads");
    assert_eq!(integer(&mut aml, "SIGN"), Ok(u64::from(u32::from_le_bytes(*b"DSDT"))));
    let missing = b"\x5B\x88TABL\x0DNONE\x00\x0D\x00\x0D\x00";
    assert!(load(&[missing]).is_err());
}

#[test]
fn devices_are_initialised_top_down_and_only_where_present() {
    // _INI of each device writes a digit to a port; GONE is neither present nor functioning,
    // HALF is functioning but not present, so that its child is looked at and it is not run.
    let port = b"\x5B\x80PORT\x01\x0A\x80\x01\x5B\x81\x0BPORT\x01POST\x08";
    let ini = |digit: u8| method(b"_INI", 0, &[&[0x70, 0x0A, digit], b"\\POST"]);
    let sta = |bits: u8| [b"\x08_STA\x0A".as_slice(), &[bits]].concat();
    let inner = |digit| device(b"INNR", &[&ini(digit)]);
    let here = device(b"HERE", &[&ini(1), &inner(2)]);
    let gone = device(b"GONE", &[&sta(0), &ini(3), &inner(4)]);
    let half = device(b"HALF", &[&sta(8), &ini(5), &inner(6)]);
    let reg = device(b"REGD", &[&method(b"_REG", 2, &[b"\x70\x68\\POST", b"\x70\x69\\POST"])]);
    let scope = package(&[0x10], &[b"_SB_", &ini(9)]);
    let mut aml = load(&[port, &here, &gone, &half, &reg, &scope]).expect("loads");
    let mut host = Log::default();
    let report = aml.init(&mut host);
    assert_eq!((report.failed, report.methods), (0, 5));
    let values: Vec<u64> = host.writes.iter().map(|&(_, _, value)| value).collect();
    assert_eq!(values, [2, 1, 9, 1, 2, 6]);
}

#[test]
fn a_failing_ini_is_reported_and_stops_nobody() {
    let dies = device(b"DIES", &[&method(b"_INI", 0, &[b"\x78\x01\x00\x00\x00"])]);
    let fine = device(b"FINE", &[&method(b"_INI", 0, &[])]);
    let mut aml = load(&[&dies, &fine]).expect("loads");
    let report = aml.init(&mut Log::default());
    assert_eq!((report.methods, report.failed), (2, 1));
    let (node, error) = report.first_failure.expect("a failure");
    assert_eq!(aml.path(node).to_string(), "\\DIES._INI");
    assert_eq!(error.kind, ErrorKind::DivideByZero);
}

#[test]
fn event_methods_are_found_by_their_names() {
    let names = [b"_L0A", b"_E1F", b"_Q01", b"_LXY", b"EVNT"];
    let methods = names.map(|name| method(name, 0, &[]));
    let scope = package(&[0x10], &[b"_GPE", &methods.concat(), b"\x08_E03\x01"]);
    let aml = load(&[&scope]).expect("loads");
    let scope = aml.find("\\_GPE").expect("the scope");
    let found: Vec<_> = aml.gpe_methods(scope).map(|gpe| (gpe.number, gpe.edge)).collect();
    assert_eq!(found, [(0x0A, false), (0x1F, true)]);
}

#[test]
fn notifications_reach_the_host_by_name_local_and_package() {
    // Local0 = RefOf (DEVX); Notify (DEVX, 1), Notify (Local0, 3), Notify (DATA, 1)
    let list = package(&[0x12], &[b"\x01DEVX"]);
    let mut aml = load(&[
        &device(b"DEVX", &[]),
        b"\x08DATA\x01",
        &[b"\x08LIST".as_slice(), &list].concat(),
        &method(
            b"TEST",
            0,
            &[
                b"\x86DEVX\x01",
                b"\x70\x71DEVX\x60\x86\x60\x0A\x03",
                b"\x70\x83\x88LIST\x00\x00\x61\x86\x61\x0A\x05",
            ],
        ),
        &method(b"FAIL", 0, &[b"\x86DATA\x01"]),
    ])
    .expect("loads");
    let mut host = Log::default();
    let (test, device) = (aml.find("TEST").expect("TEST"), aml.find("DEVX").expect("DEVX"));
    aml.evaluate(&mut host, test, &[]).expect("notifies");
    assert_eq!(host.notices, [(device, 1), (device, 3), (device, 5)]);
    assert!(integer(&mut aml, "FAIL").is_err());
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
fn paths_are_shown_from_the_root() {
    let aml = load(&[&device(b"OUTR", &[&device(b"INNR", &[b"\x08X___\x01"])])]).expect("loads");
    let node = aml.find("\\OUTR.INNR.X").expect("the name");
    assert_eq!(aml.path(node).to_string(), "\\OUTR.INNR.X___");
    assert_eq!(aml.path(NodeId::ROOT).to_string(), "\\");
    assert_eq!(aml.find("\\OUTR.NONE"), None);
    assert_eq!(format!("{:?}", aml.name(node)), "Some(X___)");
}

#[test]
fn a_second_table_sees_the_names_of_the_first() {
    let first = table(&[&device(b"DEVX", &[b"\x08BASE\x0A\x05"])]);
    // Scope (\DEVX) { Method (SUM_) { Return (BASE + 1) } }, as an SSDT of revision 1.
    let sum = method(b"SUM_", 0, &[b"\xA4\x72BASE\x01\x00"]);
    let mut second = table(&[&package(&[0x10], &[b"\\DEVX", &sum])]);
    second[..4].copy_from_slice(b"SSDT");
    second[8] = 1;
    let tables: [&[u8]; 2] = [&first, &second];
    let mut aml = Aml::load(&mut Log::default(), &tables, Limits::DEFAULT).expect("loads");
    assert_eq!(integer(&mut aml, "DEVX.SUM"), Ok(6));
    assert!(aml.is_wide(), "the DSDT alone decides the width");
}
