//! Words of page tables, as each format decodes them.

use hotmem_arch::aarch64::pte::Stage1;
use hotmem_arch::aarch64::stage2::Stage2;
use hotmem_arch::ppc64::partition::Partition;
use hotmem_arch::ppc64::pte::Radix;
use hotmem_arch::x86_64::npt::Npt;
use hotmem_arch::x86_64::pte::X86Pte4;
use hotmem_paging::{Entry, PteFormat};

use crate::input::Input;

/// Words, each at each level of each format.
pub(crate) fn words(data: &[u8]) {
    let mut input = Input(data);
    while !input.is_empty() {
        let word = input.word();
        one::<X86Pte4>(word);
        one::<Npt>(word);
        one::<Stage1<12>>(word);
        one::<Stage1<14>>(word);
        one::<Stage1<16>>(word);
        one::<Stage2<12>>(word);
        one::<Stage2<14>>(word);
        one::<Stage2<16>>(word);
        one::<Radix<12>>(word);
        one::<Radix<16>>(word);
        one::<Partition<12>>(word);
        one::<Partition<16>>(word);
    }
}

/// What a word means is what the word means that is stored for that.
fn one<F: PteFormat>(word: u64) {
    let _ = F::canonical(word);
    for (level, here) in F::LEVELS.iter().enumerate() {
        let entry = F::decode(word, level);
        let sound = match entry {
            Entry::Absent => true,
            Entry::Table(at) => at.get() < F::PHYS_LIMIT && at.is_aligned(4096),
            Entry::Leaf(at, _) => {
                here.leaf && at.get() < F::PHYS_LIMIT && at.is_aligned(here.span())
            }
        };
        if sound {
            assert_eq!(F::decode(F::encode(entry, level), level), entry, "{word:#x} at {level}");
        }
    }
}
