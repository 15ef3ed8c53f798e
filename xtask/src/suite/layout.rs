//! What a plugged DIMM looks like: where its memmap lies, which blocks it has, what is usable.

use anyhow::{Result, ensure};

use super::lab::{Lab, finish, plug, plug_filled, unplug_taken, use_all};
use super::{Scenario, scenarios};
use crate::machine::Placement;
use crate::size::{GIB, MIB, Size};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    a_gibibyte_per_device_has_one_memmap_at_its_start,
    a_gibibyte_per_block_has_a_memmap_in_each_block,
    a_gibibyte_with_its_memmap_in_boot_memory_is_usable_whole,
    a_single_block_is_enough,
    eight_gibibytes_per_device_fill_the_first_block_with_memmap,
    two_dimms_come_and_go_in_both_orders,
    the_pc_machine_works_as_q35_does,
    blocks_of_one_gibibyte_work_for_every_placement,
    blocks_of_two_gibibytes_work,
    memory_full_of_ones_changes_nothing,
    a_dimm_belongs_to_the_node_the_firmware_names,
    sixteen_gibibytes_fit_a_machine_of_64_mebibytes_per_device,
    sixteen_gibibytes_fit_a_machine_of_64_mebibytes_per_block,
    plugging_the_same_dimm_ten_times_leaves_nothing_behind,
];

/// Plugs one DIMM, uses it, unplugs it; `check` sees it in between.
fn comes_and_goes(
    lab: &Lab,
    size: &str,
    words: &[&str],
    check: impl FnOnce(&super::lab::Taken) -> Result<()>,
) -> Result<()> {
    let config =
        words.iter().try_fold(lab.room(&[size])?, |config, word| anyhow::Ok(config.word(word)))?;
    lab.with(&config, |machine| {
        let taken = plug(machine, size)?;
        check(&taken)?;
        let touched = use_all(machine)?;
        let managed: u64 = taken.online.blocks.iter().map(|block| block.managed_bytes).sum();
        ensure!(touched == managed, "{touched} bytes were touched of {managed}");
        unplug_taken(machine, &taken)?;
        finish(machine)
    })
}

fn a_gibibyte_per_device_has_one_memmap_at_its_start(lab: &Lab) -> Result<()> {
    comes_and_goes(lab, "1G", &["placement=device"], |taken| {
        let [group] = taken.add.groups.as_slice() else {
            anyhow::bail!("{} groups", taken.add.groups.len());
        };
        ensure!(
            group.memmap_start == taken.dimm.start,
            "the memmap starts at {:#x}",
            group.memmap_start
        );
        ensure!((group.sections, group.memmap_pages) == (8, 4096), "{group:?}");
        ensure!(
            taken.add.system_bytes == 0,
            "the add took {} bytes elsewhere",
            taken.add.system_bytes
        );
        ensure!(taken.online.blocks.len() == 8, "{} blocks", taken.online.blocks.len());
        Ok(())
    })
}

fn a_gibibyte_per_block_has_a_memmap_in_each_block(lab: &Lab) -> Result<()> {
    comes_and_goes(lab, "1G", &["placement=block"], |taken| {
        let starts: Vec<u64> = taken.add.groups.iter().map(|group| group.memmap_start).collect();
        let blocks: Vec<u64> = (0..8).map(|block| taken.dimm.start + block * 128 * MIB).collect();
        ensure!(starts == blocks, "memmaps at {starts:x?}");
        let odd =
            taken.add.groups.iter().find(|group| (group.sections, group.memmap_pages) != (1, 512));
        ensure!(odd.is_none(), "{odd:?}");
        ensure!(
            taken.add.system_bytes == 0,
            "the add took {} bytes elsewhere",
            taken.add.system_bytes
        );
        Ok(())
    })
}

fn a_gibibyte_with_its_memmap_in_boot_memory_is_usable_whole(lab: &Lab) -> Result<()> {
    comes_and_goes(lab, "1G", &["placement=boot"], |taken| {
        ensure!(
            taken.add.placement == Placement::Boot && taken.add.groups.is_empty(),
            "{:?}",
            taken.add
        );
        // 262,144 pages of 64 bytes of description each.
        let memmap = i64::try_from(16 * MIB)?;
        ensure!(
            taken.add.system_bytes >= memmap,
            "the add took only {} bytes elsewhere",
            taken.add.system_bytes
        );
        Ok(())
    })
}

fn a_single_block_is_enough(lab: &Lab) -> Result<()> {
    for placement in ["device", "block", "boot"] {
        comes_and_goes(lab, "128M", &[&format!("placement={placement}")], |taken| {
            ensure!(taken.online.blocks.len() == 1, "{} blocks", taken.online.blocks.len());
            Ok(())
        })?;
    }
    Ok(())
}

fn eight_gibibytes_per_device_fill_the_first_block_with_memmap(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["8G"])?, |machine| {
        let taken = plug(machine, "8G")?;
        ensure!(
            taken
                .add
                .groups
                .iter()
                .map(|group| (group.sections, group.memmap_pages))
                .eq([(64, 32768)]),
            "{:?}",
            taken.add.groups
        );
        let first = taken.online.blocks.iter().min_by_key(|block| block.block);
        ensure!(first.is_some_and(|block| block.managed_bytes == 0), "block 0 is {first:?}");
        unplug_taken(machine, &taken)?;
        finish(machine)
    })
}

fn two_dimms_come_and_go_in_both_orders(lab: &Lab) -> Result<()> {
    for reverse in [false, true] {
        lab.with(&lab.room(&["1G", "512M"])?, |machine| {
            let mut dimms = [plug(machine, "1G")?, plug(machine, "512M")?];
            use_all(machine)?;
            if reverse {
                dimms.reverse();
            }
            for taken in &dimms {
                unplug_taken(machine, taken)?;
            }
            finish(machine)
        })?;
    }
    Ok(())
}

fn the_pc_machine_works_as_q35_does(lab: &Lab) -> Result<()> {
    let mut config = lab.room(&["1G"])?;
    config.board = "pc";
    lab.with(&config, |machine| {
        let taken = plug(machine, "1G")?;
        use_all(machine)?;
        unplug_taken(machine, &taken)?;
        finish(machine)
    })
}

fn blocks_of_one_gibibyte_work_for_every_placement(lab: &Lab) -> Result<()> {
    for (placement, groups) in
        [("device", vec![(16, 8192)]), ("block", vec![(8, 4096); 2]), ("boot", vec![])]
    {
        comes_and_goes(lab, "2G", &["block=1G", &format!("placement={placement}")], |taken| {
            ensure!(taken.online.blocks.len() == 2, "{} blocks", taken.online.blocks.len());
            let found: Vec<_> =
                taken.add.groups.iter().map(|group| (group.sections, group.memmap_pages)).collect();
            ensure!(found == groups, "{placement}: groups {found:?}");
            Ok(())
        })?;
    }
    Ok(())
}

fn blocks_of_two_gibibytes_work(lab: &Lab) -> Result<()> {
    comes_and_goes(lab, "2G", &["block=2G", "placement=block"], |taken| {
        let found: Vec<_> =
            taken.add.groups.iter().map(|group| (group.sections, group.memmap_pages)).collect();
        ensure!(found == [(16, 8192)] && taken.online.blocks.len() == 1, "groups {found:?}");
        Ok(())
    })
}

fn memory_full_of_ones_changes_nothing(lab: &Lab) -> Result<()> {
    for placement in ["device", "block"] {
        let config = lab.room(&["512M"])?.word(format_args!("placement={placement}"));
        lab.with(&config, |machine| {
            let taken = plug_filled(machine, "512M", Some(0xff))?;
            machine.run("verify")?;
            use_all(machine)?;
            unplug_taken(machine, &taken)?;
            finish(machine)
        })?;
    }
    Ok(())
}

fn a_dimm_belongs_to_the_node_the_firmware_names(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["256M@2", "256M@1", "256M@0"])?, |machine| {
        let mut dimms = Vec::new();
        for (size, node) in [("256M@2", 2), ("256M@1", 1), ("256M@0", 0)] {
            let taken = plug(machine, size)?;
            ensure!(taken.add.node == Some(node), "node {:?} instead of {node}", taken.add.node);
            dimms.push(taken);
        }
        for taken in &dimms {
            unplug_taken(machine, taken)?;
        }
        finish(machine)
    })
}

/// 256 times the memory of boot, added at once.
fn large_into_small(lab: &Lab, placement: &str) -> Result<()> {
    let mut config = lab.room(&["16G"])?.word(format_args!("placement={placement}"));
    config.memory = Size::new(64 * MIB);
    lab.with(&config, |machine| {
        let taken = plug(machine, "16G")?;
        ensure!(taken.add.size() == 16 * GIB, "{:#x}", taken.add.size());
        unplug_taken(machine, &taken)?;
        finish(machine)
    })
}

fn sixteen_gibibytes_fit_a_machine_of_64_mebibytes_per_device(lab: &Lab) -> Result<()> {
    large_into_small(lab, "device")
}

fn sixteen_gibibytes_fit_a_machine_of_64_mebibytes_per_block(lab: &Lab) -> Result<()> {
    large_into_small(lab, "block")
}

fn plugging_the_same_dimm_ten_times_leaves_nothing_behind(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["256M"])?, |machine| {
        for round in 0..10 {
            let taken = plug(machine, "256M")?;
            unplug_taken(machine, &taken)?;
            machine
                .run("snapshot check")
                .map_err(|error| error.context(format!("after round {round}")))?;
        }
        finish(machine)
    })
}
