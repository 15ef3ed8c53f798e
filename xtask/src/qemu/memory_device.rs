//! The tour of a virtio-mem device: memory grows by steps, is used, and shrinks under use.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::options::Args;
use super::page::Entry;
use super::tour::Tour;
use crate::arch::Arch;
use crate::machine::Config;
use crate::size::{DimmSpec, MIB, Size, both, human};

/// How long the kernel may take for a request.
const SOON: Duration = Duration::from_secs(60);

/// Memory blocks that one character of the picture stands for: as many as it takes to fit in so many.
const CHARACTERS: usize = 32;

/// What is plugged, and what it holds.
#[derive(Debug, Default, PartialEq, Eq)]
struct Held {
    usable: u64,
    free: u64,
    memmap: u64,
    /// A character for each memory block, or for some together.
    picture: String,
}

/// The least size of a device for the tour, and what memory beside DIMMs is a multiple of.
const LEAST: u64 = 512 << 20;
pub(super) const UNIT: u64 = 2 << 20;

impl Args {
    /// Adds the device of `--virtio-mem`.
    pub(super) fn add_memory_device(&self, config: Config) -> Result<Config> {
        let Some(size) = self.virtio_mem else { return Ok(config) };
        ensure!(self.arch != Arch::Ppc64, "--virtio-mem: the kernel of {} has no PCI", self.arch);
        ensure!(
            size.bytes() >= LEAST && size.bytes().is_multiple_of(UNIT),
            "--virtio-mem {}: not a multiple of 2 MiB from {} on",
            size.word(),
            Size::new(LEAST).word()
        );
        Ok(config.memory_devices(&[DimmSpec { size, node: None }]))
    }
}

impl Tour<'_> {
    /// Has the host request sizes of the machine's memory device, which may grow up to `most` bytes.
    pub(super) fn follow_requests(&mut self, most: u64) -> Result<()> {
        let (devices, _) = self.machine.memory_devices()?;
        let device = devices.first().context("the kernel has no memory device")?.clone();
        let boot = self.machine.boot_free()?;

        self.report.chapter(format!("Grow up to {} at {:#x}", human(most), device.start));
        self.report.text(
            "The host requests a size of the device, and the kernel plugs memory until it has it: whole memory blocks, \
             and units at the end. The descriptors of what is plugged lie at its head, so growing takes no other memory.",
        );
        self.report.fact("unit", both(device.unit));
        let steps = [2 * MIB, 4 * MIB, 64 * MIB, 128 * MIB, most / 4, most / 2, most];
        let steps = steps.map(|bytes| bytes / device.unit * device.unit);
        self.requests(device.start, most, &steps)?;
        let now = self.machine.boot_free()?;
        ensure!(now == boot, "growing took {} bytes of boot memory", boot.saturating_sub(now));
        self.report.checked("all of it took 0 bytes of other memory");

        self.report.chapter("Use it");
        let pages = most / 8 / self.geometry.page;
        self.machine.run(&format!("pool grow {pages}"))?;
        self.report.text(
            "A pool of pages takes an eighth of the device. Each page has a content that says which one it is, and an owner \
             that moves it on request.",
        );
        self.requests(device.start, most, &[])?;

        self.report.chapter("Shrink it while it is used");
        self.report.text(
            "Memory blocks without pages in use go first, then those with the fewest; their pages move to what stays. The \
             last step asks for less than a block: of the piece that is there its end goes.",
        );
        let steps = [most / 2, most / 4, most / 4 - 10 * MIB];
        let steps = steps.map(|bytes| bytes.div_ceil(device.unit) * device.unit);
        self.requests(device.start, most, &steps)?;
        self.machine.run("pool check")?;
        self.report.checked("each page of the pool has its content");

        self.report.chapter("Ask for what cannot go");
        self.machine.run("pool pin 7")?;
        self.machine.request_memory(0, 0)?;
        // The pages of the pool do not fit into boot memory either, or the pinned one stays: some of it does in any case.
        let why = self.reason()?;
        self.report.fact("the kernel says", why);
        self.requests(device.start, most, &[])?;
        self.machine.run("pool unpin 7")?;
        self.machine.run(&format!("pool shrink {pages}"))?;
        self.machine.request_memory_again(0, 0, SOON)?;
        self.machine.wait_memory(0, 0, SOON)?;
        self.requests(device.start, most, &[])?;
        self.report.checked("without the pool all of it went");
        self.machine.unread_steps().map(drop)
    }

    /// Waits until the kernel says why memory does not go.
    fn reason(&mut self) -> Result<String> {
        for _ in 0..100_000 {
            let (_, why) = self.machine.memory_devices()?;
            if let Some(why) = why {
                return Ok(why);
            }
        }
        anyhow::bail!("the kernel gives no reason")
    }

    /// Requests sizes one after the other, and shows what there is after each; without sizes, what there is now.
    fn requests(&mut self, start: u64, most: u64, sizes: &[u64]) -> Result<()> {
        let [requested, usable, memmap, free] = ["requested", "usable", "descriptors", "free"];
        let mut lines =
            vec![format!("{requested:>10}  {usable:>10}  {memmap:>11}  {free:>10}  blocks")];
        let requests = sizes.iter().map(|&size| Some(size));
        let now = sizes.is_empty().then_some(None);
        for request in requests.chain(now) {
            if let Some(bytes) = request {
                self.machine.request_memory(0, bytes)?;
                self.machine.wait_memory(0, bytes, SOON)?;
                self.machine.run("verify")?;
                self.machine.unread_steps()?;
            }
            let blocks = self.machine.json("blocks --json")?;
            let held = held(&blocks, (start, most), self.geometry.block)?;
            let requested = request.map_or("-".into(), human);
            let [usable, memmap, free] = [held.usable, held.memmap, held.free].map(human);
            let picture = held.picture;
            lines.push(format!(
                "{requested:>10}  {usable:>10}  {memmap:>11}  {free:>10}  |{picture}|"
            ));
        }
        lines.push("|: one memory block or some; .: free  o: used up to a half  #: more  p: partly plugged".into());
        self.report.push(Entry::Lines(lines));
        Ok(())
    }
}

/// What the blocks of a device hold, as the kernel lists all blocks.
fn held(blocks: &Value, (start, most): (u64, u64), size: u64) -> Result<Held> {
    let count = usize::try_from(most.div_ceil(size))?;
    let each = count.div_ceil(CHARACTERS).max(1);
    let mut cells = vec![' '; count.div_ceil(each)];
    let mut held = Held::default();
    for block in blocks.as_array().context("`blocks --json` is no list")? {
        let number = |name: &str| {
            block[name].as_u64().with_context(|| format!("a block without `{name}`: {block}"))
        };
        let at = number("start")?;
        let Some(offset) = at.checked_sub(start).filter(|&offset| offset < most) else { continue };
        let [usable, free, memmap] =
            [number("managed_bytes")?, number("free_bytes")?, number("memmap_bytes")?];
        held.usable += usable;
        held.free += free;
        held.memmap += memmap;
        let one = match usable - free {
            _ if usable + memmap < size => 'p',
            0 => '.',
            used if used <= usable / 2 => 'o',
            _ => '#',
        };
        let rank = |cell: char| " p.o#".find(cell);
        if let Some(cell) = cells.get_mut(usize::try_from(offset / size)? / each)
            && rank(one) > rank(*cell)
        {
            *cell = one;
        }
    }
    held.picture = cells.into_iter().collect();
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_character_shows_a_block_or_the_fullest_of_some() {
        let block = |start: u64, managed: u64, free: u64| {
            let memmap = managed / 63;
            json!({"start": start, "managed_bytes": managed, "free_bytes": free, "memmap_bytes": memmap})
        };
        // Blocks of 64 bytes; the first is not of the device.
        let blocks = json!([
            block(0, 63, 0),
            block(640, 63, 63),
            block(704, 63, 40),
            block(768, 63, 9),
            block(896, 31, 31),
        ]);
        let found = held(&blocks, (640, 320), 64).unwrap();
        assert_eq!(found.picture, ".o# p");
        assert_eq!((found.usable, found.free, found.memmap), (220, 143, 3));
        let found = held(&blocks, (640, 64 * 64), 64).unwrap();
        assert_eq!(found.picture.trim_end(), "o#p");
        assert_eq!(found.picture.len(), 32);
        assert!(held(&json!([{"start": 640}]), (640, 64), 64).is_err());
    }
}
