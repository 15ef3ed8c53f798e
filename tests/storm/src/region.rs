//! Persistent memory in storms: what the model knows of it, and how its events are played.
//!
//! ```text
//!   unused --- pmem-add ---> in use, or added and offline --- pmem-remove ---> leaving ---> unused, or as before
//! ```
//!
//! For the model it is a slot that the operator fills and empties. What a kernel wrote there is somebody's data for the
//! next one.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::contents::{Contents, Region};
use crate::driver::{Driver, End};
use crate::event::{Force, Memmap, Policy, REGION_BLOCKS, SLOTS, Wait};
use crate::model::{Expect, Model};
use crate::play::{PATIENCE, Player, TURNS};

/// A region, as `pmem list --json` shows it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Shown {
    number: usize,
    start: u64,
    bytes: u64,
    state: String,
    holds: String,
}

impl Model {
    pub(crate) fn expect_pmem_add(&self, region: usize, memmap: Memmap, force: Force) -> Expect {
        let is_used = self.slots[SLOTS + region].blocks > 0;
        match (self.regions[region].data, force) {
            _ if is_used || memmap == Memmap::Boot => Expect::Refused,
            (Contents::Data, Force::No) => Expect::Refused,
            (Contents::Unknown, Force::No) => Expect::Either,
            _ if self.vetoes_online() => Expect::Either,
            _ => Expect::Done,
        }
    }

    pub(crate) fn expect_pmem_remove(&self, region: usize) -> Expect {
        if self.slots[SLOTS + region].blocks > 0 { Expect::Done } else { Expect::Refused }
    }

    /// Notes that a region is added: it is used from now on.
    fn pmem_added(&mut self, region: usize) {
        self.plugged(SLOTS + region, REGION_BLOCKS);
        self.regions[region] = Region { data: Contents::Nothing, later: Contents::Data };
    }

    /// Notes that adding a region failed: what undid it may have left something in it.
    fn pmem_undone(&mut self, region: usize) {
        let later = &mut self.regions[region].later;
        if *later == Contents::Nothing {
            *later = Contents::Unknown;
        }
    }

    /// Compares regions with what the monitor shows.
    fn compare_regions(&self, shown: &[Shown]) -> Result<()> {
        let firsts = self.layout.regions.context("the machine has no persistent memory")?;
        ensure!(shown.len() == firsts.len(), "{shown:?} are not {} regions", firsts.len());
        for ((number, one), first) in shown.iter().enumerate().zip(firsts) {
            let slot = self.slots[SLOTS + number];
            let place = (number, first * self.layout.block, REGION_BLOCKS * self.layout.block);
            ensure!((one.number, one.start, one.bytes) == place, "{one:?} must be at {place:?}");
            let state = match one.state.as_str() {
                "leaving" => slot.asked,
                "unused" => slot.asked || slot.blocks == 0,
                "in use" | "added, offline" => slot.blocks > 0,
                _ => false,
            };
            ensure!(state, "{one:?} must be {slot:?}");
            let holds = match self.regions[number].data {
                Contents::Nothing => one.holds == "nothing",
                Contents::Unknown => true,
                Contents::Data => one.holds == "data",
            };
            ensure!(holds, "{one:?} must hold {:?}", self.regions[number].data);
        }
        Ok(())
    }
}

impl<D: Driver> Player<D> {
    /// Takes over what became of a region that was to be added: all of it is there, or nothing. If that was refused, it is offline.
    pub(crate) fn note_pmem_add(&mut self, region: usize, done: bool) -> Result<()> {
        if !self.model.slots[SLOTS + region].is_empty() {
            return Ok(());
        }
        let state = self.region(region)?.state;
        if state == "unused" {
            ensure!(!done, "region {region} was added, and is unused");
            self.model.pmem_undone(region);
            return Ok(());
        }
        self.model.pmem_added(region);
        if !done {
            self.model.slots[SLOTS + region].policy = Some(Policy::Offline);
        }
        let shown = self.shown()?;
        self.model.settle(SLOTS + region, false, &shown)
    }

    /// Takes over that a region is being taken back.
    pub(crate) fn note_pmem_remove(&mut self, region: usize, wait: Wait) -> Result<()> {
        self.model.asked(SLOTS + region);
        self.model.note_obstacles();
        self.wait(wait)
    }

    /// Waits for the end of that.
    pub(crate) fn region_end(&mut self, region: usize) -> Result<End> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.driver.turn(TURNS);
            match self.region(region)?.state.as_str() {
                "unused" => return Ok(End::Gone),
                "leaving" => {}
                _ => return Ok(End::Kept),
            }
            ensure!(Instant::now() < deadline, "region {region} does not leave");
        }
    }

    /// Compares regions with the model, if the machine has any.
    pub(crate) fn compare_regions(&mut self) -> Result<()> {
        if self.layout.regions.is_none() {
            return Ok(());
        }
        let shown = self.regions()?;
        self.model.compare_regions(&shown)
    }

    fn regions(&mut self) -> Result<Vec<Shown>> {
        let list = self.json("pmem list --json")?;
        serde_json::from_value(list).context("what `pmem list --json` shows")
    }

    fn region(&mut self, number: usize) -> Result<Shown> {
        let found = self.regions()?.into_iter().find(|one| one.number == number);
        found.with_context(|| format!("region {number} is missing"))
    }
}
