//! CPUs on several nodes: each allocates from its own node first, and then from the nearest.

use anyhow::{Context, Result, bail, ensure};

use super::lab::{Lab, Taken, end_well, plug, unplug_taken};
use super::{Scenario, scenarios};
use crate::arch::Arch;
use crate::machine::{Config, Machine};

pub(crate) const SCENARIOS: &[Scenario] =
    scenarios![a_cpu_allocates_from_its_own_node_and_then_from_the_nearest];

/// The distances that firmware describes, and for the CPUs on nodes 0 and 1 the nodes of added memory, the nearest
/// first. Without a description they would come by number.
fn distances(lab: &Lab) -> (Vec<Vec<u8>>, [[u64; 3]; 2]) {
    let (rows, order) = match lab.arch() {
        // A hypervisor describes domains that nodes share: a distance doubles with each that they do not.
        Arch::Ppc64 => (
            [[10, 80, 20, 80], [80, 10, 80, 20], [20, 80, 10, 80], [80, 20, 80, 10]],
            [[2, 1, 3], [1, 3, 2]],
        ),
        _ => (
            [[10, 40, 21, 35], [40, 10, 30, 15], [21, 30, 10, 25], [35, 15, 25, 10]],
            [[2, 3, 1], [1, 3, 2]],
        ),
    };
    (rows.map(|row| row.to_vec()).to_vec(), order)
}

/// Allocates on a CPU; returns the first page and the node of the DIMM that it is on.
fn allocate(machine: &mut Machine, order: u32, cpu: usize, dimms: &[Taken]) -> Result<(u64, u64)> {
    let reply = machine.run(&format!("alloc {order} {cpu}"))?;
    let digits = reply.iter().find_map(|line| line.split_once("0x")?.1.split(',').next());
    let pfn = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let pfn = pfn.with_context(|| format!("no page in {reply:?}"))?;
    let at = pfn * machine.geometry()?.page;
    let dimm = dimms.iter().map(|taken| &taken.dimm);
    let dimm = dimm.clone().find(|dimm| (dimm.start..dimm.start + dimm.size).contains(&at));
    let Some(dimm) = dimm else { bail!("page {pfn:#x} is on no DIMM") };
    Ok((pfn, dimm.node))
}

/// Has a CPU allocate until it got memory of as many nodes as there are DIMMs; returns the nodes in their order.
fn order_of(machine: &mut Machine, order: u32, cpu: usize, dimms: &[Taken]) -> Result<Vec<u64>> {
    let (mut pages, mut nodes) = (Vec::new(), Vec::new());
    while nodes.len() < dimms.len() {
        let (pfn, node) = allocate(machine, order, cpu, dimms)?;
        pages.push(pfn);
        if nodes.last() != Some(&node) {
            nodes.push(node);
        }
    }
    for pfn in pages {
        machine.run(&format!("free {pfn:#x}"))?;
    }
    Ok(nodes)
}

fn a_cpu_allocates_from_its_own_node_and_then_from_the_nearest(lab: &Lab) -> Result<()> {
    let sizes = ["128M@1", "128M@2", "128M@3"];
    let (distances, expected) = distances(lab);
    let config = lab.room(&sizes)?.word("policy=online_kernel");
    let config = Config { cpus: 2, cpu_nodes: vec![0, 1], distances, ..config };
    // An eighth of a block, which no cache keeps.
    let eighth = (lab.block() / lab.page()).ilog2() - 3;
    lab.begun(&config, |machine| {
        let nodes: Vec<_> =
            machine.cpus()?.iter().map(|cpu| (cpu.node, cpu.state == "up")).collect();
        ensure!(nodes == [(0, true), (1, true)], "CPUs are on {nodes:?}");
        let dimms = sizes.map(|size| plug(machine, size));
        let dimms = dimms.into_iter().collect::<Result<Vec<_>>>()?;
        for (cpu, expected) in expected.iter().enumerate() {
            // By its cache, and by zones.
            let (pfn, node) = allocate(machine, 0, cpu, &dimms)?;
            ensure!(node == expected[0], "a page of CPU {cpu} is on node {node}");
            machine.run(&format!("free {pfn:#x}"))?;
            let nodes = order_of(machine, eighth, cpu, &dimms)?;
            ensure!(
                nodes == expected,
                "CPU {cpu} allocated from {nodes:?} instead of {expected:?}"
            );
        }
        machine.run("verify")?;
        for taken in &dimms {
            unplug_taken(machine, taken)?;
        }
        end_well(machine)
    })
}
