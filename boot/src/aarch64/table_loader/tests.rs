extern crate std;

use super::super::fw_cfg::fake::Fake;
use super::*;
use std::vec::Vec;

const BASE: u64 = 0x4070_0000;
const TABLES: &str = "etc/acpi/tables";

fn named(name: &str) -> [u8; NAME_BYTES] {
    let mut bytes = [0; NAME_BYTES];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes
}

fn padded(kind: u32, rest: &[&[u8]]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    rest.iter().for_each(|part| bytes.extend(*part));
    bytes.resize(COMMAND_BYTES, 0);
    bytes
}

fn allocate(file: &str, align: u32) -> Vec<u8> {
    padded(1, &[&named(file), &align.to_le_bytes(), &[1]])
}

fn pointer(inside: &str, of: &str, offset: u32, size: u8) -> Vec<u8> {
    padded(2, &[&named(inside), &named(of), &offset.to_le_bytes(), &[size]])
}

fn checksum(file: &str, result: u32, start: u32, len: u32) -> Vec<u8> {
    padded(3, &[&named(file), &result.to_le_bytes(), &start.to_le_bytes(), &len.to_le_bytes()])
}

/// Runs `commands` on a root pointer of 36 bytes (pointing at offset 0x10) and tables of 0x40 bytes.
fn run(commands: &[Vec<u8>], arena: &mut [u8]) -> Result<Loaded, ScriptError> {
    let mut rsdp = [0; 36];
    rsdp[24] = 0x10;
    let script = commands.concat();
    let mut device =
        Fake::new(&[("etc/acpi/rsdp", &rsdp), (TABLES, &[1; 0x40]), ("etc/table-loader", &script)]);
    load(&mut device, Arena { bytes: arena, at: PhysAddr::new(BASE) })
}

#[test]
fn files_are_placed_linked_and_summed_as_the_script_says() {
    let script = [
        allocate("etc/acpi/rsdp", 16),
        allocate(TABLES, 0x1000),
        pointer("etc/acpi/rsdp", TABLES, 24, 8),
        checksum("etc/acpi/rsdp", 32, 20, 16),
    ];
    let mut arena = [0; 0x3000];
    let loaded = run(&script, &mut arena).unwrap();
    assert_eq!(loaded, Loaded { rsdp: PhysAddr::new(BASE), used: 0x1040 });
    assert_eq!(arena[24..32], (BASE + 0x1010).to_le_bytes());
    assert_eq!(arena[20..36].iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte)), 0);
    assert_eq!(arena[0x1000..0x1040], [1; 0x40]);
}

#[test]
fn what_points_outside_of_its_file_is_refused_with_its_place() {
    let placed = [allocate("etc/acpi/rsdp", 16), allocate(TABLES, 64)];
    let bounds = |file| Err(ScriptError::Bounds { index: 2, file: Name(named(file)) });
    let mut arena = [0; 0x3000];
    let mut after = |command: Vec<u8>| run(&[&placed[..], &[command]].concat(), &mut arena);

    assert_eq!(after(pointer("etc/acpi/rsdp", TABLES, 30, 8)), bounds("etc/acpi/rsdp"));
    assert_eq!(after(pointer("etc/acpi/rsdp", TABLES, u32::MAX, 8)), bounds("etc/acpi/rsdp"));
    assert_eq!(after(pointer("etc/acpi/rsdp", TABLES, 24, 3)), bounds("etc/acpi/rsdp"));
    // 0x0101_0101... is past the end of the tables; and four bytes hold it, but not two.
    assert_eq!(after(pointer(TABLES, TABLES, 0, 8)), bounds(TABLES));
    assert_eq!(after(pointer("etc/acpi/rsdp", TABLES, 24, 2)), bounds(TABLES));
    assert_eq!(after(checksum(TABLES, 0x40, 0, 0x40)), bounds(TABLES));
    assert_eq!(after(checksum(TABLES, 0, 1, 0x40)), bounds(TABLES));
    assert_eq!(after(checksum(TABLES, 0, u32::MAX, u32::MAX)), bounds(TABLES));
}

#[test]
fn a_command_that_is_not_known_is_refused_even_if_it_is_known_elsewhere() {
    let mut arena = [0; 0x1000];
    let write_pointer = padded(4, &[]);
    let refused = run(&[allocate("etc/acpi/rsdp", 16), write_pointer], &mut arena);
    assert_eq!(refused, Err(ScriptError::Command { index: 1, command: 4 }));
}

#[test]
fn files_that_are_not_there_or_twice_or_too_large_are_refused() {
    let mut arena = [0; 0x400];
    let name = |name| Name(named(name));
    let mut only = |commands: &[Vec<u8>]| run(commands, &mut arena);
    assert_eq!(only(&[allocate("nope", 16)]), Err(ScriptError::NoFile(name("nope"))));
    assert_eq!(only(&[allocate(TABLES, 16)]), Err(ScriptError::NoRoot));
    let twice = [allocate(TABLES, 16), allocate(TABLES, 16)];
    assert_eq!(only(&twice), Err(ScriptError::Placing(name(TABLES))));
    assert_eq!(only(&[pointer(TABLES, TABLES, 0, 8)]), Err(ScriptError::Placing(name(TABLES))));
    let far = [allocate("etc/acpi/rsdp", 16), allocate(TABLES, 0x1000)];
    assert!(matches!(only(&far), Err(ScriptError::NoRoom { .. })));
    let huge = [allocate("etc/acpi/rsdp", 16), allocate(TABLES, u32::MAX)];
    assert!(matches!(only(&huge), Err(ScriptError::NoRoom { .. })));
}

#[test]
fn a_root_pointer_of_too_few_bytes_is_refused_with_their_number() {
    let script = allocate("etc/acpi/rsdp", 16);
    for bytes in [0, 1, RSDP_BYTES - 1] {
        let root = [0; RSDP_BYTES];
        let mut device =
            Fake::new(&[("etc/acpi/rsdp", &root[..bytes]), ("etc/table-loader", &script)]);
        let arena = Arena { bytes: &mut [0; 0x1000], at: PhysAddr::new(BASE) };
        assert_eq!(load(&mut device, arena), Err(ScriptError::Root(bytes)));
    }
}

#[test]
fn no_flipped_byte_of_a_script_makes_the_loader_panic() {
    let script = [
        allocate("etc/acpi/rsdp", 16),
        allocate(TABLES, 64),
        pointer("etc/acpi/rsdp", TABLES, 24, 8),
        checksum("etc/acpi/rsdp", 8, 0, 20),
    ]
    .concat();
    let mut arena = [0; 0x1000];
    for at in 0..script.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut script = script.clone();
            script[at] = value;
            let _ = run(&[script], &mut arena);
        }
    }
}
