//! Which tests try a fault, in an order in which most faults are noticed soon.

use std::time::Duration;

/// Some tests of one program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Suite {
    /// The words after `cargo test` that name the program.
    pub(super) program: &'static str,
    /// Which tests of it.
    pub(super) part: Part,
}

/// Which tests of a program run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    All,
    /// Those that have none of these words in their names.
    Without(&'static [&'static str]),
    /// Those that have one of them.
    Only(&'static [&'static str]),
}

/// Tests beside the manager's code that take nine tenths of its program's time.
const LONG: &[&str] = &[
    "::what_a_device_has_of_a_block_is_cleared_",
    "::the_reserve_holds_all_tables_of_a_window_",
    "::looks_from_many_threads_",
    "::layouts_of_every_small_geometry_",
    "::an_extent_that_is_freed_at_any_time_",
    "::a_dimm_holds_nothing_of_its_users_",
    "::an_extent_that_is_divided_",
    "::a_block_that_was_scrubbed_",
];
/// Suites of the manager that do.
const SLOW: &[&str] = &[
    "storm",
    "subsections::",
    "odd::",
    "points::",
    "holds::",
    "explain::",
    "offline_threads::",
    "convert::at01_",
    "at::at03_eight_",
    "reserve::adds_and_removes_in_turns_",
    "ppc64::boot_blocks_",
];

const fn all(program: &'static str) -> Suite {
    Suite { program, part: Part::All }
}

const PAGING: Suite = all("-p hotmem-paging --lib");
const MM: Suite = Suite { program: "-p hotmem --lib", part: Part::Without(LONG) };
const MM_LONG: Suite = Suite { program: MM.program, part: Part::Only(LONG) };
const HOTPLUG: Suite = all("-p hotmem-hotplug --lib");
const ACPI: Suite = all("-p hotmem-acpi --lib");
const AML: Suite = all("-p hotmem-aml --lib");
const PAPR: Suite = all("-p hotmem-papr --lib");
const VIRTIO_MEM: Suite = all("-p hotmem-virtio-mem --lib");
const ARCH: Suite = all("-p hotmem-arch --lib");
const ACPICA: Suite = all("-p hotmem-aml --test aml");
const ADAPTERS: Suite = all("-p hotmem-tests --test adapters");
const HEAP: Suite = all("-p hotmem-hosted --test heap");
const KERNEL: Suite = all("-p hotmem-kernel --test host");
const HOSTILE: Suite = all("-p hotmem-fuzz --test replay");
const MANAGER: Suite =
    Suite { program: "-p hotmem-tests --test manager", part: Part::Without(SLOW) };
const STORMS: Suite = Suite { program: MANAGER.program, part: Part::Only(SLOW) };

/// The tests for the faults of a package: its own and those that exercise most of it, in this order, then all others that could
/// notice one.
pub(super) fn of(package: &str) -> (&'static [Suite], &'static [Suite]) {
    match package {
        "hotmem-paging" => {
            (&[PAGING, ADAPTERS, MM, MM_LONG, MANAGER], &[ARCH, HEAP, HOSTILE, STORMS])
        }
        "hotmem" => (
            &[MM, MM_LONG, MANAGER, HEAP],
            &[ADAPTERS, HOTPLUG, PAPR, ACPI, VIRTIO_MEM, KERNEL, STORMS],
        ),
        "hotmem-hotplug" => (&[HOTPLUG], &[PAPR, ACPI, VIRTIO_MEM, KERNEL]),
        "hotmem-acpi" => (&[ACPI], &[VIRTIO_MEM, KERNEL, HOSTILE]),
        "hotmem-aml" => (&[AML, ACPICA], &[ACPI, KERNEL, HOSTILE]),
        "hotmem-papr" => (&[PAPR], &[HOSTILE]),
        _ => (&[], &[]),
    }
}

impl Suite {
    /// The words behind the program that choose its tests.
    pub(super) fn words(&self) -> Vec<&'static str> {
        match self.part {
            Part::All => Vec::new(),
            Part::Only(words) => words.to_vec(),
            Part::Without(words) => words.iter().flat_map(|word| ["--skip", word]).collect(),
        }
    }

    /// Time without the result of a test after which the program counts as one that hangs.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(if matches!(self.part, Part::Only(_)) { 600 } else { 120 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::sample::possible::PACKAGES;

    #[test]
    fn each_package_has_its_own_tests_first() {
        for package in PACKAGES {
            assert_eq!(of(package).0[0].program, format!("-p {package} --lib"));
        }
    }

    #[test]
    fn what_is_left_out_first_runs_later() {
        for package in PACKAGES {
            let (first, others) = of(package);
            let suites = [first, others].concat();
            for (index, suite) in suites.iter().enumerate() {
                let Part::Without(words) = suite.part else { continue };
                let left_out = Suite { program: suite.program, part: Part::Only(words) };
                assert!(suites[index..].contains(&left_out), "{package}: {suite:?}");
            }
        }
    }

    #[test]
    fn words_choose_the_tests() {
        let part = |part| Suite { program: "-p a", part };
        assert_eq!(part(Part::Without(&["x", "y"])).words(), ["--skip", "x", "--skip", "y"]);
        assert_eq!(part(Part::Only(&["x", "y"])).words(), ["x", "y"]);
        assert!(part(Part::All).words().is_empty());
    }
}
