//! The tour of an NVDIMM: persistent memory is listed, added by the operator, used, and removed while it is used.

use anyhow::{Context, Result, ensure};

use super::memory_device::UNIT;
use super::options::Args;
use super::page::Entry;
use super::tour::Tour;
use crate::arch::Arch;
use crate::machine::{Add, Config, Kind, LABELS, Nvdimm, Offline, Online, Remove};
use crate::size::{both, human, signed};

impl Args {
    /// Adds the NVDIMM of `--nvdimm`.
    pub(super) fn add_nvdimm(&self, config: Config) -> Result<Config> {
        let Some(size) = self.nvdimm else { return Ok(config) };
        ensure!(
            self.arch != Arch::Ppc64,
            "--nvdimm: NVDIMMs are found by ACPI, which {} does not have",
            self.arch
        );
        ensure!(
            size.bytes() != 0 && size.bytes().is_multiple_of(UNIT),
            "--nvdimm {}: not a multiple of 2 MiB",
            size.word()
        );
        let one = Nvdimm { bytes: size.bytes(), labels: LABELS, file: None, node: None };
        Ok(config.nvdimms(vec![one]))
    }
}

impl Tour<'_> {
    /// The tour of a machine that has other memory to add than DIMMs; `false` if this one has DIMMs.
    pub(super) fn went_without_dimms(&mut self) -> Result<bool> {
        match (self.args.virtio_mem, self.args.nvdimm) {
            (Some(size), _) => self.follow_requests(size.bytes())?,
            (None, Some(_)) => self.use_persistent_memory()?,
            (None, None) => return Ok(false),
        }
        Ok(true)
    }

    /// Has the operator use the machine's persistent memory as RAM, and give it back.
    fn use_persistent_memory(&mut self) -> Result<()> {
        let region = self.machine.pmem()?;
        let region = region.first().context("the kernel has no persistent memory")?.clone();
        self.report.chapter(format!(
            "Persistent memory: {} at {:#x}, node {}",
            human(region.bytes),
            region.start,
            region.node
        ));
        self.report.text(
            "ACPI's NFIT describes an NVDIMM. It is not RAM yet: its memory is used on request only, and not as long as its \
             labels say that it holds a namespace, which is somebody's data.",
        );
        let lines = self.machine.run("pmem list")?;
        self.report.push(Entry::Lines(lines));

        self.report.chapter("Add it");
        self.machine.run("pmem add 0")?;
        let add: Add = self.next::<Add>()?.good()?;
        ensure!(
            (add.start(), add.size()) == (region.start, region.bytes),
            "the kernel added {:#x}+{:#x}",
            add.start(),
            add.size()
        );
        ensure!(add.system_bytes == 0, "the add took {} bytes elsewhere", add.system_bytes);
        let online = vec![self.next::<Online>()?.good()?];
        let drawing = self.drawing(&add, &online)?;
        self.report.push(Entry::Lines(drawing));
        self.report.fact("usable now", both(online.iter().map(Online::managed).sum()));
        self.report.fact("taken from memory elsewhere", signed(add.system_bytes));
        self.use_memory()?;
        self.give_it_back()
    }

    /// Removes it while pages of it are in use.
    fn give_it_back(&mut self) -> Result<()> {
        self.report.chapter("Remove it while it is used");
        let pages = self.machine.boot_free()? / 4 / self.geometry.page;
        self.machine.run(&format!("pool grow {pages}"))?;
        self.map("before it goes".into())?;
        self.machine.run("pmem remove 0")?;
        self.next::<Offline>()?.good()?;
        let remove = self.next::<Remove>()?.good()?;
        ensure!(remove.system_bytes == 0, "the remove gave back {} bytes", remove.system_bytes);
        self.machine.run("pool check")?;
        self.machine.run(&format!("pool shrink {pages}"))?;
        self.map("after it went".into())?;
        self.report.text(
            "Pages in use on the NVDIMM moved to boot memory, with their content. What had been allocated on the NVDIMM was cleared; its \
             memmap was not, and what was there before the kernel used it is gone.",
        );
        self.report.fact("pages of a pool in use before", pages.to_string());
        self.report.checked("each page of a pool has its content");
        let region = self.machine.pmem()?;
        ensure!(region.first().is_some_and(|one| one.state == "unused"), "{region:?}");
        self.report.checked("the NVDIMM is unused, and can be added again");
        Ok(())
    }
}
