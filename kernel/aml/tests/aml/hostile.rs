//! Hostile tables: whatever their bytes, loading and evaluating ends, in bounded time
//! and memory, with a value or an error.

use std::time::{Duration, Instant};

use hotmem_aml::resource::resources;
use hotmem_aml::{Aml, Arg, ErrorKind, Limits, NodeId, NodeKind, Value};
use hotmem_aml_fakes::{self as fakes, FlatMemory, Machine};

/// Mutants of each table.
const MUTANTS: u32 = 6000;

/// More than any mutant may take, on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tight enough that endless loops end soon, wide enough for the sound tables.
const LIMITS: Limits = Limits { steps: 30_000, ..Limits::DEFAULT };

/// A generator of numbers that are the same in every run (xorshift, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Bytes that mean much to an AML parser: opcodes, prefixes, lengths, limits.
const TELLING: [u8; 24] = [
    0x00, 0x01, 0x06, 0x08, 0x0A, 0x0E, 0x10, 0x11, 0x12, 0x13, 0x14, 0x2E, 0x2F, 0x5B, 0x5C, 0x60,
    0x68, 0x70, 0x80, 0x88, 0xA0, 0xA2, 0xC0, 0xFF,
];

/// Changes a table in one to eight places; its length in the header stays true.
fn mutate(table: &[u8], random: &mut Random) -> Vec<u8> {
    let mut table = table.to_vec();
    // Half of them change single bytes only: those often load, and harm comes later.
    let kinds = if random.below(2) == 0 { 5 } else { 8 };
    for _ in 0..=random.below(kinds) {
        let at = 36 + random.below(table.len() - 36);
        match random.below(kinds) {
            0 | 1 => table[at] ^= 1 << random.below(8),
            2 => table[at] = random.next() as u8,
            3 | 4 => table[at] = TELLING[random.below(TELLING.len())],
            5 => table.insert(at, TELLING[random.below(TELLING.len())]),
            6 => drop(table.remove(at)),
            _ => {
                let from = 36 + random.below(table.len() - 36);
                let end = (from + random.below(64)).min(table.len());
                let piece = table[from..end].to_vec();
                table.splice(at..at, piece);
            }
        }
        if table.len() < 40 {
            return table;
        }
    }
    if kinds == 8 && random.below(16) == 0 {
        table.truncate(36 + random.below(table.len() - 36));
    }
    let length = (table.len() as u32).to_le_bytes();
    table[4..8].copy_from_slice(&length);
    table
}

/// What became of a table.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// Without a fault.
    loaded: u32,
    values: u32,
    errors: u32,
}

/// Loads a table and evaluates all that is in it.
fn exercise(table: &[u8], random: &mut Random, sum: &mut Outcome) {
    let start = Instant::now();
    let mut host = FlatMemory::new(random.next() as u8);
    if let Ok(mut aml) = Aml::load(&mut host, &[table], LIMITS) {
        let skipped = aml.load_report();
        sum.loaded += u32::from(skipped.count() == 0);
        assert!(skipped.skipped().iter().all(|one| !one.to_string().is_empty()));
        let report = aml.init(&mut host);
        sum.errors += report.failed;
        for node in all(&aml) {
            let count = match aml.kind(node) {
                NodeKind::Method(args) => args,
                _ => 0,
            };
            let args = [Arg::Integer(random.next() % 4), Arg::Buffer(&[1, 2]), Arg::String("x")];
            let args: Vec<_> = args.into_iter().cycle().take(usize::from(count)).collect();
            match aml.evaluate(&mut host, node, &args) {
                Ok(value) => {
                    sum.values += 1;
                    look(value, 8);
                }
                Err(error) => {
                    sum.errors += 1;
                    assert!(!error.to_string().is_empty());
                }
            }
            // A host may have grown its log, the evaluator nothing.
            assert!(!aml.path(node).to_string().is_empty());
        }
    }
    assert!(start.elapsed() < PATIENCE, "a table took {:?}", start.elapsed());
}

/// All nodes below the root.
fn all(aml: &Aml) -> Vec<NodeId> {
    let mut pending = vec![NodeId::ROOT];
    let mut found = Vec::new();
    while let Some(node) = pending.pop() {
        pending.extend(aml.children(node));
        found.push(node);
    }
    found
}

/// Looks at every part of a value, resource lists included.
fn look(value: Value<'_>, depth: u32) {
    match value {
        Value::Buffer(bytes) => assert!(resources(bytes).count() <= bytes.len() * 16 + 1),
        Value::Package(list) if depth > 0 => {
            (0..list.len()).filter_map(|n| list.get(n)).for_each(|value| look(value, depth - 1));
        }
        _ => {}
    }
}

/// Exercises mutants of a table; some have to load and some have to fail, or nothing was shown.
fn survive(table: &[u8], seed: u64) {
    let mut random = Random(seed);
    let mut sound = Outcome::default();
    exercise(table, &mut random, &mut sound);
    assert_eq!(sound.loaded, 1, "the table itself loads");

    let mut sum = Outcome::default();
    for _ in 0..MUTANTS {
        let mutant = mutate(table, &mut random);
        exercise(&mutant, &mut random, &mut sum);
    }
    assert!(sum.loaded > MUTANTS / 20 && sum.loaded < MUTANTS, "{sum:?}");
    assert!(sum.values > 0 && sum.errors > 0, "{sum:?}");
}

#[test]
fn mutants_of_q35_do_no_harm() {
    survive(&fakes::tables(Machine::Q35, 4, &[]).expect("QEMU's tables").dsdt, 0x5EED_0001);
}

#[test]
fn mutants_of_virt_do_no_harm() {
    survive(&fakes::tables(Machine::Virt, 4, &[]).expect("QEMU's tables").dsdt, 0x5EED_0002);
}

#[test]
fn mutants_of_every_operator_do_no_harm() {
    survive(&fakes::compile("operators").expect("the table compiles"), 0x5EED_0003);
    let narrow = fakes::compile_with("operators", &["NARROW"]).expect("the table compiles");
    survive(&narrow, 0x5EED_0004);
}

#[test]
fn mutants_of_our_own_tables_do_no_harm() {
    for (n, name) in ["moved", "reduced", "cloud"].into_iter().enumerate() {
        survive(&fakes::compile(name).expect("the table compiles"), 0x5EED_0010 + n as u64);
    }
}

#[test]
fn random_bytes_do_no_harm() {
    let mut random = Random(0x5EED_0020);
    let mut sum = Outcome::default();
    for _ in 0..20 * MUTANTS {
        let mut table = vec![0; 36];
        table[8] = 2;
        for _ in 0..random.below(48) {
            let byte = if random.below(3) > 0 {
                TELLING[random.below(TELLING.len())]
            } else {
                random.next() as u8
            };
            table.push(byte);
        }
        let length = table.len() as u32;
        table[4..8].copy_from_slice(&length.to_le_bytes());
        exercise(&table, &mut random, &mut sum);
    }
    assert!(sum.loaded > 100, "{sum:?}");
}

#[test]
fn every_cut_of_a_table_is_an_error_or_a_smaller_table() {
    let table = fakes::compile("reduced").expect("the table compiles");
    for length in 0..table.len() {
        let mut cut = table[..length].to_vec();
        if length >= 8 {
            cut[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        }
        let result = Aml::load(&mut FlatMemory::new(0), &[&cut], LIMITS);
        let fault = |aml: Aml| aml.load_report().skipped().first().map(|one| one.error.kind);
        match result.map(fault).map_err(|error| error.kind) {
            Ok(None | Some(ErrorKind::Truncated)) => assert!(length >= 36, "{length}"),
            Ok(Some(other)) => panic!("cut to {length}: {other}"),
            Err(ErrorKind::BadTable) => assert!(length < 36, "{length}"),
            Err(other) => panic!("cut to {length}: {other}"),
        }
    }
}
