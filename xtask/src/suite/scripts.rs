//! Plays the scripts of `tests/src/script.rs` at the monitor, on plugged memory without an owner.

use anyhow::{Context, Result, ensure};

use super::lab::{Lab, add, leave_verified, refused, remove, switch, unchanged, unowned};
use super::{Scenario, scenarios};
use crate::machine::{Machine, Placement};
use crate::size::{MIB, Size};

#[path = "../../../tests/src/script.rs"]
#[expect(unreachable_pub, reason = "the same file is part of a library's interface")]
mod script;

use script::{Act, BLOCKS, Blocks, Memmap};

/// The machine that a script is played on.
struct Stage<'a> {
    machine: &'a mut Machine,
    /// Where the plugged memory starts.
    start: u64,
    /// Bytes in a block.
    block: u64,
    /// May added memory host its memmap?
    hosts: bool,
    /// Bytes taken from memory elsewhere and not given back.
    elsewhere: i64,
}

fn play(lab: &Lab, acts: &[Act]) -> Result<()> {
    // As scenarios write it: on each machine it has as many blocks.
    let size = Size::new(BLOCKS * 128 * MIB).word();
    lab.begun(&lab.room(&[&size])?, |machine| {
        let (start, block) = (unowned(machine, &size)?, lab.block());
        let mut stage = Stage { machine, start, block, hosts: true, elsewhere: 0 };
        for (number, &act) in acts.iter().enumerate() {
            stage.act(act).with_context(|| format!("act {number}, {act:?}"))?;
        }
        ensure!(stage.elsewhere == 0, "{} bytes were not given back", stage.elsewhere);
        leave_verified(machine)
    })
}

impl Stage<'_> {
    /// The first byte of some blocks, and how many bytes there are.
    fn at(&self, (first, count): Blocks) -> (u64, u64) {
        (self.start + first * self.block, count * self.block)
    }

    fn act(&mut self, act: Act) -> Result<()> {
        let first = self.start / self.block;
        match act {
            Act::Add(blocks, memmap) => self.add(blocks, memmap)?,
            Act::Remove(blocks) => {
                let (start, size) = self.at(blocks);
                self.elsewhere += remove(self.machine, start, size)?.system_bytes;
            }
            Act::RemoveRefused(blocks, words) => {
                let (start, size) = self.at(blocks);
                let why = refused(self.machine, &format!("remove {start:#x} {size:#x}"))?;
                ensure!(why.contains(words), "{why}");
            }
            Act::Online(block) => drop(switch(self.machine, "online", first + block)?),
            Act::Offline(block) => drop(switch(self.machine, "offline", first + block)?),
            Act::Convert(blocks) => {
                let (start, size) = self.at(blocks);
                self.machine.run(&format!("convert {start:#x} {size:#x} block"))?;
            }
            Act::SelfHosting(on) => {
                self.machine.run(if on { "vmemmap enable" } else { "vmemmap disable" })?;
                self.hosts = on;
            }
            Act::Save => drop(self.machine.run("snapshot save")?),
            Act::Same => unchanged(self.machine)?,
        }
        // The fake machine is checked after each act; looking at all memory takes long in QEMU.
        if matches!(act, Act::Add(..) | Act::Remove(_) | Act::Convert(_)) {
            self.machine.run("verify")?;
        }
        Ok(())
    }

    fn add(&mut self, blocks: Blocks, memmap: Memmap) -> Result<()> {
        let (start, size) = self.at(blocks);
        let placement = match memmap {
            Memmap::Range => Placement::Device,
            Memmap::Block => Placement::Block,
        };
        let added = add(self.machine, start, size, placement.word())?;
        let expected = if self.hosts { placement } else { Placement::Boot };
        ensure!(added.placement == expected, "{added:?}");
        ensure!((added.system_bytes == 0) == self.hosts, "{added:?}");
        self.elsewhere += added.system_bytes;
        Ok(())
    }
}

macro_rules! list {
    ($($name:ident),* $(,)?) => {
        pub(crate) const SCENARIOS: &[Scenario] = scenarios![$($name),*];

        $(fn $name(lab: &Lab) -> Result<()> {
            play(lab, &script::$name())
        })*
    };
}
crate::each_script!(list);
