//! Plays the scripts of `src/script.rs` on the fake machine.

use hotmem::testing::{Bench, range};
use hotmem::{Fact, PhysRange, Placement};
use hotmem_tests::memory::{GIB, MIB, REAL_WINDOW, Real, assert_same, real};
use hotmem_tests::script::{self, Act, BLOCKS, Blocks, Memmap};

const BLOCK: u64 = 128 * MIB;

/// The machine that a script is played on.
struct Stage {
    bench: Bench<Real>,
    saved: Vec<Fact>,
    /// Bytes of memory elsewhere that are in use.
    elsewhere: u64,
}

fn at((first, count): Blocks) -> PhysRange {
    range(REAL_WINDOW + first * BLOCK, count * BLOCK)
}

fn play(acts: &[Act]) {
    let bench = real(256 * MIB, BLOCK, 64 * GIB);
    bench.plug(at((0, BLOCKS)));
    let mut stage = Stage { bench, saved: Vec::new(), elsewhere: 0 };
    for (number, &act) in acts.iter().enumerate() {
        println!("act {number}: {act:?}");
        stage.act(act);
        stage.bench.check();
    }
    assert_eq!(stage.elsewhere, 0, "bytes elsewhere were not freed");
    stage.bench.unplug(at((0, BLOCKS)));
}

impl Stage {
    fn act(&mut self, act: Act) {
        let bench = &self.bench;
        match act {
            Act::Add(blocks, memmap) => {
                let placement = match memmap {
                    Memmap::Range => Placement::PerRange,
                    Memmap::Block => Placement::PerBlock,
                };
                let hosts = bench.mm.self_hosting();
                let added = bench.add(at(blocks), placement);
                assert_eq!(added.placement, if hosts { placement } else { Placement::Boot });
                assert_eq!(added.system_bytes == 0, hosts, "{added:?}");
                self.elsewhere += added.system_bytes;
            }
            Act::Remove(blocks) => self.elsewhere -= bench.remove(at(blocks)).system_bytes,
            Act::RemoveRefused(blocks, words) => {
                let why = bench.mm.remove(at(blocks)).err().map(|error| error.to_string());
                assert!(why.as_ref().is_some_and(|why| why.contains(words)), "{why:?}");
            }
            Act::Online(block) => bench.online(at((block, 1))),
            Act::Offline(block) => bench.offline(at((block, 1))),
            Act::Convert(blocks) => assert_eq!(bench.mm.convert(at(blocks)), Ok(blocks.1)),
            Act::SelfHosting(on) => bench.mm.set_self_hosting(on),
            Act::Save => self.saved = bench.snapshot(),
            Act::Same => assert_same(&self.saved, &bench.snapshot()),
        }
    }
}

macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            play(&script::$name());
        })*
    };
}
hotmem_tests::each_script!(tests);
