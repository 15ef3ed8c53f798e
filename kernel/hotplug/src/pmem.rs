//! Persistent memory as RAM, on the operator's request.
//!
//! ```text
//!   region --- pmem_add -------> does it hold data? ---> add, with its memmap on it ---> online
//!      ^                              | refused, unless forced
//!      \------- pmem_remove: as an eject, in steps: offline, scrub, remove
//! ```
//!
//! The memory's contents are lost when it is used. When it is removed, pages that were used are cleared if the driver
//! [scrubs](Hotplug::set_scrub); the memmap and pages that were never used are left as they are.

use core::fmt::{self, Write};

use hotmem::{Machine, PhysRange, Placement};

use super::clock::Clock;
use super::driver::Hotplug;
use super::event::{DeviceId, Holds, HotplugSource, Persistent, Ranges};
use super::json::JsonString;
use super::listen::OnStep;
use super::operator::OperatorError;
use super::owners::Claim;
use super::report::Reason;
use super::underway::{Context, Plug};

hotmem::errors! {
    /// Why persistent memory is not used as RAM, or stays so. Nothing was changed.
    #[derive(Clone, Copy, Debug)]
    #[non_exhaustive]
    pub enum PmemError {
        /// The source does not have this one.
        None(number: usize) => "persistent memory {number} does not exist",
        /// It is in use already.
        InUse(range: PhysRange) => "{range} is in use already",
        /// It is not in use.
        NotInUse(range: PhysRange) => "{range} is not in use",
        /// It holds data, or that cannot be excluded.
        Holds(range: PhysRange, holds: Holds) => { f => match holds {
            Holds::Unknown(why) => {
                write!(f, "{range} may hold data, and is used only by force: {why}")
            }
            _ => write!(f, "{range} holds data, and is used only by force: {}", holds.shown().1),
        } },
        /// Its memmap would take other memory.
        Placement => "the memmap of persistent memory lies on it: device or block",
        /// An eject is under way.
        Ejecting(error: OperatorError) => "{error}",
        /// The memory manager refuses.
        Refused(range: PhysRange, why: Reason) => "{range}: {why}",
    }
}

impl<S: HotplugSource, M: Machine, C: Clock> Hotplug<'_, S, M, C> {
    /// Adds persistent memory `number` of the source, with its memmap on it, and brings it online as the policy has it. With
    /// `force` also if it holds data, which is lost then. Its lines go to `out`.
    ///
    /// # Errors
    ///
    /// [`PmemError`]; nothing was changed, but for memory that was added and does not come online: `pmem_remove` takes that.
    pub fn pmem_add(
        &mut self,
        number: usize,
        placement: Placement,
        force: bool,
        out: &mut dyn OnStep,
    ) -> Result<(), PmemError> {
        self.check_idle().map_err(PmemError::Ejecting)?;
        if placement == Placement::Boot {
            return Err(PmemError::Placement);
        }
        let found = self.source.persistent(number).ok_or(PmemError::None(number))?;
        let Persistent { device, range, node, holds } = found;
        if self.owners.of(device).next().is_some() {
            return Err(PmemError::InUse(range));
        }
        if !matches!(holds, Holds::Nothing(_)) && !force {
            return Err(PmemError::Holds(range, holds));
        }
        self.written = 0;
        let mut ranges = Ranges::default();
        // There is room for the first one.
        let _ = ranges.push(range);
        let plug = Plug { context: Context { device, since: None }, ranges: &ranges, node };
        let done = self.insert_requested(plug, placement, out);
        done.map_err(|why| PmemError::Refused(range, why))?;
        log::info!("{}: took {range}; {}", self.source.label(device), holds.shown().1);
        Ok(())
    }

    /// Begins to give up persistent memory `number`: the steps that follow ([`run_one`](Self::run_one)) move what is in use,
    /// and remove it, or leave everything as it was. They can be [cancelled](Self::cancel_eject).
    ///
    /// # Errors
    ///
    /// [`PmemError`]; nothing was changed.
    pub fn pmem_remove(&mut self, number: usize, out: &mut dyn OnStep) -> Result<(), PmemError> {
        self.check_idle().map_err(PmemError::Ejecting)?;
        let found = self.source.persistent(number).ok_or(PmemError::None(number))?;
        let Persistent { device, range, .. } = found;
        if self.owners.of(device).next().is_none() {
            return Err(PmemError::NotInUse(range));
        }
        self.why_kept(device).map_or(Ok(()), |why| Err(PmemError::Refused(range, why)))?;
        self.written = 0;
        self.eject(Context { device, since: None }, out);
        Ok(())
    }

    /// Writes a line for each region of persistent memory that is there: where it is, whether it is in use, and what it holds; or
    /// all of them as a list in JSON.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write_pmem(&mut self, json: bool, out: &mut dyn Write) -> fmt::Result {
        let mut separator = "[";
        for number in 0..self.source.persistent_count() {
            let Some(found) = self.source.persistent(number) else { continue };
            let Persistent { range, node, holds, .. } = found;
            let (state, (holds, why)) = (self.pmem_state(found.device), holds.shown());
            if json {
                write!(
                    out,
                    "{separator}{{\"number\":{number},\"start\":{},\"bytes\":{},\"node\":{},\"state\":\"{state}\",\
                     \"holds\":\"{holds}\",\"why\":{}}}",
                    range.start().get(),
                    range.len(),
                    node.get(),
                    JsonString(why)
                )?;
            } else {
                writeln!(out, "{number}: {range} {node}, {state}; holds {holds}: {why}")?;
            }
            separator = ",";
        }
        match (json, separator) {
            (true, "[") => out.write_str("[]"),
            (true, _) => out.write_str("]"),
            (false, "[") => writeln!(out, "no persistent memory"),
            (false, _) => Ok(()),
        }
    }

    /// A word for what a region is used for.
    fn pmem_state(&self, device: DeviceId) -> &'static str {
        if self.ejecting().is_some_and(|ejecting| ejecting.device == device) {
            return "leaving";
        }
        match self.owners.of(device).next().map(|entry| entry.claim) {
            None => "unused",
            Some(Claim::Stranded) => "added, offline",
            Some(_) => "in use",
        }
    }
}
