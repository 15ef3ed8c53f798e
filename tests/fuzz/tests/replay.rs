//! The inputs that cargo-fuzz found, and others near them.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]
use std::fs;
use std::path::{Path, PathBuf};

use hotmem_fuzz::{TARGETS, run};
use hotmem_paging::testing::Random;

/// Mutants of the inputs of each target; of one that starts a memory manager for each input, fewer.
const MUTANTS: usize = 10_000;
const SLOW: &str = "virtio_mem";
const SLOW_MUTANTS: usize = 1000;

/// The inputs that are kept for a target, those first that failed once, in the order of their names.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = |kind: &str| fs::read_dir(manifest.join(kind).join(name));
    let corpus = list("corpus").expect("each target has inputs");
    let files = list("faults").into_iter().flatten().chain(corpus);
    let mut files: Vec<_> = files.map(|file| file.expect("it can be listed").path()).collect();
    files.sort_by_key(|file| (file.starts_with(manifest.join("corpus")), file.clone()));
    assert!(!files.is_empty(), "{name} has no inputs");
    files.into_iter().map(|file| (file.clone(), fs::read(file).expect("it can be read"))).collect()
}

/// Runs an input, and names it if the target panics.
fn checked(name: &str, from: &Path, input: &[u8]) {
    let ran = std::panic::catch_unwind(|| run(name, input));
    let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(ran.is_ok(), "{name} fails, near {}: {hex}", from.display());
}

#[test]
fn the_inputs_that_are_kept_do_no_harm() {
    for (name, _) in TARGETS {
        corpus(name).iter().for_each(|(file, input)| checked(name, file, input));
    }
}

#[test]
fn inputs_near_those_that_are_kept_do_no_harm() {
    for (name, _) in TARGETS {
        let corpus = corpus(name);
        let mut random = Random::new(1);
        for _ in 0..if *name == SLOW { SLOW_MUTANTS } else { MUTANTS } {
            let (file, input) = random.pick(&corpus);
            checked(name, file, &mutant(input, &mut random));
        }
    }
}

/// An input with one to four bytes changed, added or removed.
fn mutant(input: &[u8], random: &mut Random) -> Vec<u8> {
    let mut mutant = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(mutant.len() as u64 + 1) as usize;
        let byte = random.bits() as u8;
        match mutant.get_mut(at) {
            Some(there) => match random.below(4) {
                0 => *there ^= 1 << (byte % 8),
                1 => *there = byte,
                2 => mutant.insert(at, byte),
                _ => drop(mutant.remove(at)),
            },
            None => mutant.push(byte),
        }
    }
    mutant
}

#[test]
fn each_target_has_a_program() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = fs::read_to_string(manifest.join("Cargo.toml")).expect("the manifest");
    for (name, _) in TARGETS {
        assert!(listed.contains(&format!("name = \"{name}\"\n")), "{name}");
        let program = fs::read_to_string(manifest.join(format!("targets/{name}.rs")));
        assert!(program.is_ok_and(|text| text.contains(&format!("\"{name}\""))), "{name}");
    }
}
