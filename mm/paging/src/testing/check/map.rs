//! Steps that map.

use super::super::std::vec::Vec;
use super::model::Model;
use super::{Check, MOST_LEAVES, MapperRig, TRIED, range};
use crate::addr::{PhysAddr, Space};
use crate::{MapError, Mapper, Mapping};

impl<R: MapperRig<I>, I: Space> Check<'_, R, I> {
    /// Maps, while a CPU tries some of the addresses.
    pub(super) fn map(&self, mapping: &Mapping<I>) -> Result<(), MapError<I>> {
        let mut wanted = Model::new(self.rig.leaves());
        wanted.record(mapping);
        let every = wanted.leaves().len().div_ceil(TRIED).max(1);
        self.speculation.begin(wanted.leaves().step_by(every).map(|leaf| leaf.virt));
        let mapped = self.mapper("map").map(mapping, &self.frames);
        match mapped {
            Ok(()) if mapping.len > 0 => self.speculation.end(false),
            Err(MapError::OutOfFrames(_)) => self.speculation.end(true),
            _ => {}
        }
        mapped
    }

    /// A random mapping in the window.
    pub(super) fn wish(&mut self) -> Mapping<I> {
        let (window, sizes) = (self.rig.window(), self.model.sizes().to_vec());
        loop {
            let granule = *self.random.pick(&sizes);
            let start = self.random.below(window.len() / granule) * granule;
            let bits = self.random.below(10);
            let len = granule * (1 + self.random.below(1 << bits));
            // Half of them congruent modulo the largest leaf, so that leaf sizes mix.
            let modulus = if self.random.one_in(2) { sizes[0] } else { granule };
            let virt = window.start().add(start);
            let phys = self.random.below(self.rig.phys_limit().get() / 2) & !(modulus - 1)
                | virt.get() & (modulus - 1);
            let mapping = Mapping {
                virt,
                phys: PhysAddr::new(phys),
                len: len.min(window.len() - start),
                attr: *self.random.pick(self.rig.attrs()),
                max_leaf: *self.random.pick(&sizes),
            };
            if len / granule.min(mapping.max_leaf) <= MOST_LEAVES {
                return mapping;
            }
        }
    }

    pub(super) fn map_some(&mut self) {
        self.last = "after a map";
        let mapping = self.wish();
        let taken = self.model.overlapping(range(&mapping)).next().is_some();
        let before = self.frames.used();
        match self.map(&mapping) {
            Ok(()) => {
                assert!(!taken, "{mapping:?} went over another mapping");
                self.model.record(&mapping);
                self.see_leaves(range(&mapping));
                self.took_no_more_than_announced(&mapping, &before);
            }
            Err(MapError::AlreadyMapped { at }) => {
                let right = taken && range(&mapping).contains(at);
                assert!(right, "{mapping:?} is refused, since {at} is mapped already");
                self.last = "after a map that was refused";
            }
            Err(error) => panic!("{mapping:?} is refused: {error}"),
        }
    }

    /// Checks that the tables that were allocated are no more than `tables_for` reports, if leaves of `max_leaf` fit
    /// throughout.
    pub(super) fn took_no_more_than_announced(
        &self,
        mapping: &Mapping<I>,
        before: &[(PhysAddr, u64)],
    ) {
        let Mapping { virt, phys, len, max_leaf, .. } = *mapping;
        if (virt.get() | phys.get() | len) & (max_leaf - 1) != 0 {
            return;
        }
        let mut announced = Vec::new();
        let note = &mut |bytes, count| announced.push((bytes, count));
        self.mapper("tables_for").tables_for(range(mapping), max_leaf, note);
        for size in 0..u64::BITS {
            let bytes = 1 << size;
            let of_size =
                |frames: &[(PhysAddr, u64)]| frames.iter().filter(|f| f.1 == bytes).count();
            let taken = (of_size(&self.frames.used()) - of_size(before)) as u64;
            let announced: u64 = announced
                .iter()
                .filter(|announced| announced.0 == bytes)
                .map(|announced| announced.1)
                .sum();
            assert!(
                taken <= announced,
                "tables_for announced {announced} tables of {bytes} bytes, and {mapping:?} took {taken}"
            );
        }
    }

    /// Maps with the first allocation failing, then the second, ... until none does. Returns how many failed.
    pub(super) fn map_with_each_fault(&mut self) -> usize {
        let mapping = self.wish();
        if self.model.overlapping(range(&mapping)).next().is_some() {
            return 0;
        }
        for nth in 1.. {
            self.rig.after_step();
            self.frames.plan.arm(nth);
            let result = self.map(&mapping);
            let fired = self.frames.plan.fired();
            self.frames.plan.disarm();
            let refused = matches!(result, Err(MapError::OutOfFrames(_)));
            assert_eq!(fired, refused, "{mapping:?} without a frame for table {nth}: {result:?}");
            if !fired {
                assert_eq!(result, Ok(()), "{mapping:?}");
                self.model.record(&mapping);
                self.last = "after a map";
                return nth as usize - 1;
            }
            self.last = "after a map that got no frame";
            self.see();
        }
        0
    }
}
