//! The DIMMs that a user plugs and unplugs by number.

use anyhow::{Result, bail};

use crate::machine::{Dimm, Machine};
use crate::size::{DimmSpec, human};

/// The DIMMs that were plugged here, by number. A number is not used again when its DIMM is gone.
#[derive(Default)]
pub(crate) struct Dimms(Vec<Option<Dimm>>);

impl Dimms {
    /// Plugs another one; returns a message for the user. Frees the memory of those that are gone by now.
    ///
    /// # Errors
    /// When QEMU has no room for it.
    pub(crate) fn plug(
        &mut self,
        machine: &mut Machine,
        spec: DimmSpec,
        fill: Option<u8>,
    ) -> Result<String> {
        self.reap(machine)?;
        machine.image().arch.about().check_memory("plug", spec.size)?;
        let dimm = machine.plug(spec, fill)?;
        let text = format!("DIMM {}: {} at {:#x}", self.0.len(), human(dimm.size), dimm.start);
        self.0.push(Some(dimm));
        Ok(text)
    }

    /// Frees the memory behind those that are gone by now.
    ///
    /// # Errors
    /// When QEMU does not reply.
    pub(crate) fn reap(&mut self, machine: &mut Machine) -> Result<()> {
        for one in &mut self.0 {
            if let Some(dimm) = one
                && machine.reap(dimm)?
            {
                *one = None;
            }
        }
        Ok(())
    }

    /// Requests the unplug of DIMM `number` from the guest.
    ///
    /// # Errors
    /// When there is no such DIMM, or QEMU refuses.
    pub(crate) fn unplug(&self, machine: &mut Machine, number: usize) -> Result<()> {
        match self.0.get(number) {
            Some(Some(dimm)) => machine.unplug(dimm),
            Some(None) => bail!("DIMM {number} is gone"),
            None => bail!("there is no such DIMM"),
        }
    }

    /// Those that are there, with their numbers.
    #[cfg(feature = "watch")]
    pub(crate) fn there(&self) -> impl Iterator<Item = (usize, &Dimm)> {
        self.0.iter().enumerate().filter_map(|(number, dimm)| Some((number, dimm.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Arch;
    use crate::machine::Config;
    use crate::machine::fake::{Fake, Habit};

    #[test]
    fn a_dimm_that_is_gone_makes_room_for_the_next_one_any_number_of_times() {
        let mut machine = Fake::start(Habit::Good, &Config::of(Arch::X86_64)).unwrap();
        let mut dimms = Dimms::default();
        for number in 0..50 {
            let text = dimms.plug(&mut machine, "1G".parse().unwrap(), None).unwrap();
            assert_eq!(text, format!("DIMM {number}: 1 GiB at 0x100000000"));
            dimms.unplug(&mut machine, number).unwrap();
            // The reply to this comes after the event that the DIMM is gone.
            assert!(machine.dimms().unwrap().is_empty());
        }
        assert!(dimms.unplug(&mut machine, 48).unwrap_err().to_string().contains("is gone"));
        assert!(dimms.unplug(&mut machine, 50).unwrap_err().to_string().contains("no such"));
    }

    #[test]
    fn the_memory_of_a_dimm_that_is_gone_is_freed_without_another_plug() {
        let mut machine = Fake::start(Habit::Good, &Config::of(Arch::X86_64)).unwrap();
        let mut dimms = Dimms::default();
        dimms.plug(&mut machine, "1G".parse().unwrap(), None).unwrap();
        assert_eq!(machine.backends().unwrap(), 1);
        dimms.unplug(&mut machine, 0).unwrap();
        // The reply to this comes after the event that the DIMM is gone.
        assert_eq!(machine.backends().unwrap(), 1);
        dimms.reap(&mut machine).unwrap();
        assert_eq!(machine.backends().unwrap(), 0);
    }
}
