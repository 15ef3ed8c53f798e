//! What a plugged DIMM looks like: where its memmap lies, which blocks it has, what is usable.

use anyhow::{Context, Result, ensure};

use super::lab::{
    Lab, Taken, all_memmap, check_nothing_elsewhere, finish, plug, plug_filled, plug_spec,
    unplug_taken, use_all, use_and_unplug,
};
use super::{Scenario, scenarios};
use crate::machine::{Config, DESCRIPTOR, Geometry, Placement};
use crate::size::{DimmSpec, GIB, MIB, Size};

pub(crate) const SCENARIOS: &[Scenario] = scenarios![
    eight_blocks_per_device_have_one_memmap_at_their_start,
    eight_blocks_per_block_have_a_memmap_in_each,
    eight_blocks_with_their_memmap_in_boot_memory_are_usable_whole,
    a_single_block_is_enough,
    a_dimm_per_device_may_fill_its_first_block_with_memmap,
    two_dimms_are_added_and_removed_in_both_orders,
    every_mainboard_works if has_boards,
    larger_blocks_with_one_memmap_work if has_blocks => |lab| larger_blocks_work(lab, "device", 1),
    larger_blocks_with_a_memmap_in_each_work if has_blocks =>
        |lab| larger_blocks_work(lab, "block", 2),
    larger_blocks_with_their_memmap_in_boot_memory_work if has_blocks =>
        |lab| larger_blocks_work(lab, "boot", 0),
    memory_that_holds_all_ones_is_added_like_any_other,
    a_dimm_belongs_to_the_node_the_firmware_names,
    a_dimm_256_times_as_large_as_boot_memory_fits_per_device =>
        |lab| large_into_small(lab, "device"),
    a_dimm_256_times_as_large_as_boot_memory_fits_per_block => |lab| large_into_small(lab, "block"),
    plugging_the_same_dimm_ten_times_leaves_nothing_behind,
];

/// Plugs one DIMM, uses it, unplugs it; `check` sees it in between.
fn plug_and_unplug(
    lab: &Lab,
    size: &str,
    placement: &str,
    check: impl FnOnce(&Taken, Geometry) -> Result<()>,
) -> Result<()> {
    let config = lab.room(&[size])?.word(format_args!("placement={placement}"));
    lab.with(&config, |machine| {
        let taken = plug(machine, size)?;
        check(&taken, machine.geometry()?)?;
        use_and_unplug(machine, &taken)
    })
}

fn eight_blocks_per_device_have_one_memmap_at_their_start(lab: &Lab) -> Result<()> {
    plug_and_unplug(lab, "1G", "device", |taken, geometry| {
        let [group] = taken.add.groups.as_slice() else {
            anyhow::bail!("{} groups", taken.add.groups.len());
        };
        ensure!(
            group.memmap_start == taken.dimm.start,
            "the memmap starts at {:#x}",
            group.memmap_start
        );
        // `plug` checks that so many sections have so many pages of memmap.
        ensure!(group.sections == 8 * geometry.block_sections(), "{group:?}");
        check_nothing_elsewhere(&taken.add)?;
        ensure!(taken.online.blocks.len() == 8, "{} blocks", taken.online.blocks.len());
        Ok(())
    })
}

fn eight_blocks_per_block_have_a_memmap_in_each(lab: &Lab) -> Result<()> {
    plug_and_unplug(lab, "1G", "block", |taken, geometry| {
        let starts: Vec<u64> = taken.add.groups.iter().map(|group| group.memmap_start).collect();
        let blocks: Vec<u64> =
            (0..8).map(|block| taken.dimm.start + block * geometry.block).collect();
        ensure!(starts == blocks, "memmaps at {starts:x?}");
        let sections = geometry.block_sections();
        let odd = taken.add.groups.iter().find(|group| group.sections != sections);
        ensure!(odd.is_none(), "{odd:?}");
        check_nothing_elsewhere(&taken.add)?;
        Ok(())
    })
}

fn eight_blocks_with_their_memmap_in_boot_memory_are_usable_whole(lab: &Lab) -> Result<()> {
    plug_and_unplug(lab, "1G", "boot", |taken, geometry| {
        ensure!(
            taken.add.placement == Placement::Boot && taken.add.groups.is_empty(),
            "{:?}",
            taken.add
        );
        let memmap = i64::try_from(taken.dimm.size / geometry.page * DESCRIPTOR)?;
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
        plug_and_unplug(lab, "128M", placement, |taken, _| {
            ensure!(taken.online.blocks.len() == 1, "{} blocks", taken.online.blocks.len());
            Ok(())
        })?;
    }
    Ok(())
}

fn a_dimm_per_device_may_fill_its_first_block_with_memmap(lab: &Lab) -> Result<()> {
    let size = all_memmap(lab);
    lab.with(&lab.room(&[&size])?, |machine| {
        let taken = plug(machine, &size)?;
        let geometry = machine.geometry()?;
        let [group] = taken.add.groups.as_slice() else {
            anyhow::bail!("{} groups", taken.add.groups.len());
        };
        ensure!(group.memmap_pages * geometry.page == geometry.block, "{group:?}");
        let first = taken.online.blocks.iter().min_by_key(|block| block.block);
        ensure!(first.is_some_and(|block| block.managed_bytes == 0), "block 0 is {first:?}");
        unplug_taken(machine, &taken)
    })
}

fn two_dimms_are_added_and_removed_in_both_orders(lab: &Lab) -> Result<()> {
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
            Ok(())
        })?;
    }
    Ok(())
}

/// Is there more than one mainboard?
fn has_boards(lab: &Lab) -> bool {
    lab.about().boards.len() > 1
}

fn every_mainboard_works(lab: &Lab) -> Result<()> {
    for &board in lab.about().boards {
        let mut config = lab.room(&["1G"])?;
        config.board = board;
        lab.with(&config, |machine| {
            let taken = plug(machine, "1G")?;
            use_all(machine)?;
            unplug_taken(machine, &taken)
        })
        .context(board)?;
    }
    Ok(())
}

/// Sizes of a block other than the usual one.
fn larger_blocks(lab: &Lab) -> impl Iterator<Item = u64> {
    let (usual, all) = (lab.block(), (lab.about().blocks)(lab.page()));
    all.iter().copied().filter(move |&block| block != usual)
}

/// Is there more than one size of a block?
fn has_blocks(lab: &Lab) -> bool {
    larger_blocks(lab).next().is_some()
}

/// Two larger blocks come and go, for each size of one; their memmap has so many groups.
fn larger_blocks_work(lab: &Lab, placement: &str, groups: usize) -> Result<()> {
    for block in larger_blocks(lab) {
        let spec = DimmSpec { size: Size::new(2 * block), node: None };
        let word = format!("block={}", Size::new(block).word());
        let config = lab.room(&[])?.room_for(&[spec]).word(&word);
        lab.with(&config.word(format_args!("placement={placement}")), |machine| {
            let taken = plug_spec(machine, spec, None)?;
            ensure!(taken.online.blocks.len() == 2, "{} blocks", taken.online.blocks.len());
            ensure!(taken.add.groups.len() == groups, "{:?}", taken.add.groups);
            // Of the largest blocks all memory is used once: it takes longer than everything else here.
            if block <= GIB || placement == "device" {
                use_all(machine)?;
            }
            unplug_taken(machine, &taken)
        })
        .context(word)?;
    }
    Ok(())
}

fn memory_that_holds_all_ones_is_added_like_any_other(lab: &Lab) -> Result<()> {
    lab.self_hosted(&["512M"], |machine| {
        let taken = plug_filled(machine, "512M", Some(0xff))?;
        machine.run("verify")?;
        use_all(machine)?;
        unplug_taken(machine, &taken)?;
        finish(machine)
    })
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
        Ok(())
    })
}

/// 256 times the memory of boot, added at once.
fn large_into_small(lab: &Lab, placement: &str) -> Result<()> {
    let memory = lab.memory(64 * MIB);
    let large = DimmSpec { size: Size::new(256 * memory.bytes()), node: None };
    let config = lab.room(&[])?.room_for(&[large]).word(format_args!("placement={placement}"));
    lab.with(&Config { memory, ..config }, |machine| {
        let taken = plug_spec(machine, large, None)?;
        ensure!(taken.add.size() == large.size.bytes(), "{:#x}", taken.add.size());
        unplug_taken(machine, &taken)
    })
}

fn plugging_the_same_dimm_ten_times_leaves_nothing_behind(lab: &Lab) -> Result<()> {
    lab.with(&lab.room(&["256M"])?, |machine| {
        for round in 0..10 {
            let taken = plug(machine, "256M")?;
            unplug_taken(machine, &taken)?;
            machine.run("snapshot check").with_context(|| format!("after round {round}"))?;
        }
        Ok(())
    })
}
