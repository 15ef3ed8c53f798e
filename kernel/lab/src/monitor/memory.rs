//! Commands on the life cycle of memory: policy, explanations, taken memory, bad pages, dumps.

use super::life::{Life, Watch};
use super::listeners::{Trace, Watchers};
use super::machinery::Machinery;
use super::refused::Refused;
use core::fmt::{self, Write};
use hotmem::{
    AutoOnline, Block, BlockState, Content, DumpRun, Machine, Mm, Obstacle, PhysRange, Quarantined,
    Removability, TakeList,
};
use hotmem_hotplug::{JsonString, OrNull, json_list};

/// The state that these commands keep.
#[derive(Debug)]
pub(super) struct Lives<'m, M: Machine> {
    mm: &'m Mm<M>,
    trace: &'static Trace<M::Lock>,
    watchers: Watchers,
}

impl<'m, M: Machine> Lives<'m, M> {
    pub(super) fn new(mm: &'m Mm<M>) -> Self {
        Self { mm, trace: Trace::start(mm), watchers: Watchers::default() }
    }

    pub(super) fn run(
        &mut self,
        command: Life,
        machinery: &impl Machinery,
        out: &mut dyn Write,
    ) -> Result<(), Refused<'static>> {
        match command {
            Life::Policy(policy) => self.policy(policy, out)?,
            Life::Vmemmap(enable) => self.vmemmap(enable, out)?,
            Life::Explain { range, json } => {
                let removability = self.mm.explain_remove(range);
                if json {
                    explain_json(&removability, machinery, out)?;
                } else {
                    explain_text(range, &removability, machinery, out)?;
                }
            }
            Life::Convert(range) => {
                let count = self.mm.convert(range)?;
                writeln!(out, "blocks with a memmap of their own now: {count}")?;
            }
            Life::Take(list) => self.take(list, out)?,
            Life::Contig(node, bytes) => {
                let range = self.mm.take_contig(node, bytes)?;
                writeln!(out, "{range} is out of the linear map")?;
            }
            Life::Taken { json } => self.status(json, out)?,
            Life::Release => {
                let count = self.mm.release()?;
                self.trace.clear();
                writeln!(out, "blocks back in the linear map: {count}")?;
            }
            Life::Poison(pfn) => {
                let kind = self.mm.poison(pfn)?;
                writeln!(out, "{pfn}: {}", quarantined(kind))?;
            }
            Life::PoisonLater(pfn) => {
                self.mm.poison_later(pfn)?;
                writeln!(out, "{pfn}: will be taken out of use when the kernel is idle")?;
            }
            Life::Dump { json } => dump(self.mm, json, out)?,
            Life::Compact(node, kind, order) => {
                writeln!(out, "{} is free", self.mm.compact(node, kind, order)?)?;
            }
            Life::Watch(watch) => self.watch(watch, out)?,
        }
        Ok(())
    }

    fn policy(&self, policy: Option<AutoOnline>, out: &mut dyn Write) -> fmt::Result {
        match policy {
            Some(policy) => {
                self.mm.set_auto_online(policy);
                Ok(())
            }
            None => writeln!(out, "{}", self.mm.auto_online()),
        }
    }

    fn vmemmap(&self, enable: Option<bool>, out: &mut dyn Write) -> fmt::Result {
        match enable {
            Some(enable) => {
                self.mm.set_self_hosting(enable);
                Ok(())
            }
            None if self.mm.self_hosting() => writeln!(out, "enabled"),
            None => writeln!(out, "disabled"),
        }
    }

    fn take(&self, list: TakeList, out: &mut dyn Write) -> Result<(), Refused<'static>> {
        if !self.trace.has_room() {
            return Err(Refused::Because("no room for more lists of taken blocks"));
        }
        let count = self.mm.take(list.pieces())?;
        self.trace.keep(list);
        writeln!(out, "blocks out of the linear map: {count}")?;
        Ok(())
    }

    fn status(&self, json: bool, out: &mut dyn Write) -> fmt::Result {
        let how = |block: &Block| {
            if block.state == BlockState::Offline { "name" } else { "size" }
        };
        let mut taken = self.mm.blocks().filter(|block| block.taken);
        if !json {
            return taken.try_for_each(|block| {
                writeln!(out, "{} of {}, taken by {}", block.id, block.node, how(&block))
            });
        }
        json_list(out, taken, |block, out| {
            let (id, node, how) = (block.id.get(), block.node.get(), how(&block));
            write!(out, "{{\"block\":{id},\"node\":{node},\"by\":\"{how}\"}}")
        })?;
        writeln!(out)
    }

    fn watch(&mut self, watch: Watch, out: &mut dyn Write) -> Result<(), Refused<'static>> {
        match watch {
            Watch::List => self.watchers.write(out)?,
            Watch::Add(priority, objection) => {
                let number = self.watchers.add(self.mm, priority, objection)?;
                writeln!(out, "watcher {number}")?;
            }
            Watch::Remove(number) => self.watchers.remove(self.mm, number)?,
        }
        Ok(())
    }
}

const fn quarantined(kind: Quarantined) -> &'static str {
    match kind {
        Quarantined::Page => "out of use",
        Quarantined::Table => "holds page tables, and is out of use when they are gone",
        Quarantined::Memmap => "holds descriptors, its blocks do not come online again",
        Quarantined::Offline => "its block stays offline",
    }
}

fn explain_text(
    range: PhysRange,
    removability: &Removability,
    machinery: &impl Machinery,
    out: &mut dyn Write,
) -> fmt::Result {
    match *removability {
        Removability::Blocked(Obstacle::InUse { pfn, block, by, since, .. }) => writeln!(
            out,
            "{range}: blocked: {pfn} of {block} is held by {} for {} ms",
            by,
            machinery.age(since)
        ),
        ref other => writeln!(out, "{range}: {other}"),
    }
}

fn explain_json(
    removability: &Removability,
    machinery: &impl Machinery,
    out: &mut dyn Write,
) -> fmt::Result {
    let (state, extents, pages) = match *removability {
        Removability::Now => ("now", 0, 0),
        Removability::AfterMoving { extents, pages } => ("after-moving", extents, pages),
        Removability::Blocked(_) => ("blocked", 0, 0),
    };
    let (mut pfn, mut owner, mut age) = (None, None, None);
    if let Removability::Blocked(Obstacle::InUse { pfn: at, by, since, .. }) = *removability {
        pfn = Some(at.get());
        owner = Some(JsonString(by));
        age = Some(machinery.age(since));
    }
    write!(out, "{{\"state\":\"{state}\",\"extents\":{extents},\"pages\":{pages}")?;
    write!(out, ",\"pfn\":{},\"owner\":{}", OrNull(pfn), OrNull(owner))?;
    write!(out, ",\"age_ms\":{},\"why\":\"", OrNull(age))?;
    if let Removability::Blocked(obstacle) = removability {
        write!(out, "{obstacle}")?;
    }
    writeln!(out, "\"}}")
}

/// Lists the pages that a crash dump saves.
fn dump<M: Machine>(mm: &Mm<M>, json: bool, out: &mut dyn Write) -> fmt::Result {
    let mut comma = "[";
    let mut written = Ok(());
    mm.dump(&mut |DumpRun { pfns, content }| {
        let (kind, owner) = match content {
            Content::Memmap => ("memmap", None),
            Content::Used(owner) => ("used", Some(mm.owner_name(owner))),
            Content::Free => ("free", None),
        };
        let line = if json {
            let (start, owner) = (pfns.start.get(), OrNull(owner.map(JsonString)));
            let pages = pfns.pages();
            write!(
                out,
                "{comma}{{\"pfn\":{start},\"pages\":{pages},\"kind\":\"{kind}\",\"owner\":{owner}}}"
            )
        } else {
            writeln!(out, "{pfns} {kind} {}", owner.unwrap_or(""))
        };
        written = written.and(line);
        comma = ",";
    });
    written?;
    if json { writeln!(out, "{}]", if comma == "[" { "[" } else { "" }) } else { Ok(()) }
}
