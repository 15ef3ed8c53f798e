//! The usual machine of an architecture, what can be asked of it, and the QEMU command line that it makes.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use super::config::{Accel, Config, Disk, Line, joined};
use super::{Nvdimm, QemuDir, region};
use crate::arch::{Arch, Image};
use crate::setup::Program;
use crate::size::{DimmSpec, GIB, KIB, MIB, Size};

impl Config {
    /// The usual machine of an architecture, with 512 MiB and room for one DIMM of 1 GiB.
    pub(crate) fn of(arch: Arch) -> Self {
        let about = arch.about();
        Self {
            image: Image::of(arch),
            board: about.boards.first().copied().unwrap_or_default(),
            qemu: QemuDir::default(),
            accel: Accel::Tcg,
            cpu: about.cpu.unwrap_or_default().to_owned(),
            level: about.levels.first().copied(),
            gic: about.gics.first().copied(),
            its: true,
            cpus: 1,
            most_cpus: None,
            memory: Size::new(512 * MIB),
            slots: 1,
            window: 2 * GIB,
            cold: Vec::new(),
            memory_devices: Vec::new(),
            bridges: &[],
            nvdimms: Vec::new(),
            has_nvdimms: false,
            nodes: 0,
            cpu_nodes: Vec::new(),
            distances: Vec::new(),
            globals: &[],
            icount: None,
            words: Vec::new(),
            module: None,
            disk: None,
            restarts: false,
            gdb: None,
            timeout: Some(Duration::from_secs(120)),
            patience: Duration::from_secs(120),
        }
    }

    /// Makes room for exactly these DIMMs.
    pub(crate) fn room_for(mut self, dimms: &[DimmSpec]) -> Self {
        self.slots = u32::try_from(dimms.len().max(1)).unwrap_or(u32::MAX);
        self.window = region::window(dimms.iter().map(|dimm| dimm.size.bytes()), self.alignment());
        let highest = dimms.iter().filter_map(|dimm| dimm.node).max();
        self.nodes = highest.map_or(0, |node| node + 1);
        self
    }

    /// Adds memory devices whose memory grows up to these sizes, and room for them.
    pub(crate) fn memory_devices(mut self, devices: &[DimmSpec]) -> Self {
        let sizes = devices.iter().map(|device| device.size.bytes());
        self.window += region::window(sizes, self.alignment());
        let highest = devices.iter().filter_map(|device| device.node).max();
        self.nodes = highest.map_or(self.nodes, |node| self.nodes.max(node + 1));
        self.memory_devices = devices.to_vec();
        self
    }

    /// Adds NVDIMMs, and room for them.
    pub(crate) fn nvdimms(self, nvdimms: Vec<Nvdimm>) -> Self {
        Self { nvdimms: nvdimms.clone(), ..self.room_for_nvdimms(&nvdimms) }
    }

    /// Makes room for NVDIMMs that are plugged later, too.
    pub(crate) fn room_for_nvdimms(mut self, nvdimms: &[Nvdimm]) -> Self {
        self.has_nvdimms = true;
        self.slots += u32::try_from(nvdimms.len()).unwrap_or(u32::MAX);
        self.window += region::window(nvdimms.iter().map(|one| one.bytes), self.alignment());
        let highest = nvdimms.iter().filter_map(|one| one.node).max();
        self.nodes = highest.map_or(self.nodes, |node| self.nodes.max(node + 1));
        self
    }

    /// Where a DIMM starts is a multiple of this many bytes.
    pub(crate) const fn alignment(&self) -> u64 {
        self.image.arch.about().dimm_alignment
    }

    /// QEMU's arguments to run `image` with its QMP at the socket `qmp`.
    pub(crate) fn arguments(&self, image: &Path, qmp: &Path) -> Vec<OsString> {
        let mut line = Line::default();
        let about = self.image.arch.about();
        (about.machine)(self, &mut line);
        self.globals.iter().for_each(|&global| _ = line.add("-global", global));
        line.add("-accel", self.accel.to_string());
        if let Some(shift) = self.icount {
            line.add("-icount", format!("shift={shift},sleep=off"));
        }
        if self.cpus > 1 {
            let most = self.most_cpus.map_or(String::new(), |most| format!(",maxcpus={most}"));
            line.add("-smp", format!("{}{most}", self.cpus));
        }
        self.memory(&mut line);

        line.add("-display", "none").flag("-nodefaults");
        if !self.restarts {
            line.flag("-no-reboot");
        }
        line.add("-serial", "stdio");
        line.add("-qmp", joined("unix:", qmp, ",server,nowait")).flag("-S");
        if let Some(port) = self.gdb {
            line.add("-gdb", format!("tcp:127.0.0.1:{port}"));
        }
        match &self.disk {
            None => (about.start)(self, image, &mut line),
            Some(disk) => Self::start_from(disk, &mut line),
        }
        if let Some(module) = &self.module {
            let place = format!(",addr={:#x},force-raw=on", module.at);
            line.add("-device", joined("loader,file=", &module.path, &place));
        }
        line.0
    }

    /// Has a PC's firmware start what it finds on `disk`.
    fn start_from(disk: &Disk, line: &mut Line) {
        let drive = match disk {
            Disk::Folder(folder) => {
                line.add(
                    "-bios",
                    Program::OVMF.find().unwrap_or_else(|| Program::OVMF.name.into()),
                );
                joined("if=virtio,format=raw,readonly=on,file=fat:", folder, "")
            }
            Disk::Sectors(file) => joined("format=raw,snapshot=on,file=", file, ""),
        };
        line.add("-drive", drive);
    }

    /// The least boot memory that such a machine can have, in bytes.
    pub(crate) fn least_memory(&self) -> u64 {
        let about = self.image.arch.about();
        if about.empty_nodes { 0 } else { u64::from(self.nodes) * about.memory_unit }
    }

    /// Bytes of boot memory in each node: all of it in the first, or, where none can be without, shared out,
    /// with what is left over in the first.
    fn shares(&self) -> Vec<u64> {
        let about = self.image.arch.about();
        let (memory, nodes) = (self.memory.bytes(), u64::from(self.nodes));
        let each = match nodes {
            0 => 0,
            _ if about.empty_nodes => 0,
            _ => memory / about.memory_unit / nodes * about.memory_unit,
        };
        let first = |node| if node == 0 { memory - each * (nodes - 1) } else { each };
        (0..nodes).map(first).collect()
    }

    /// The node of a CPU. QEMU complains of one that is in no node.
    fn node_of(&self, cpu: u32) -> u32 {
        self.cpu_nodes.get(cpu as usize).copied().unwrap_or(0)
    }

    fn memory(&self, line: &mut Line) {
        let memory = self.memory.bytes();
        let page_aligned = (memory + self.window).next_multiple_of(4 * KIB);
        line.add(
            "-m",
            // QEMU takes plain digits for MiB.
            format!("size={memory}B,slots={},maxmem={page_aligned}B", self.slots),
        );

        for (node, share) in (0..).zip(self.shares()) {
            let mut words = format!("node,nodeid={node}");
            if share > 0 {
                line.add("-object", format!("memory-backend-ram,id=ram{node},size={share}B"));
                words.push_str(&format!(",memdev=ram{node}"));
            }
            for cpu in (0..self.cpus).filter(|&cpu| self.node_of(cpu) == node) {
                words.push_str(&format!(",cpus={cpu}"));
            }
            line.add("-numa", words);
        }
        for (from, row) in self.distances.iter().enumerate() {
            for (to, distance) in row.iter().enumerate() {
                line.add("-numa", format!("dist,src={from},dst={to},val={distance}"));
            }
        }
        for (index, dimm) in self.cold.iter().enumerate() {
            let size = dimm.size.bytes();
            line.add(
                "-object",
                format!("memory-backend-ram,id=coldmem{index},size={size}B,reserve=off"),
            );
            let node = dimm.node.map_or(String::new(), |node| format!(",node={node}"));
            line.add("-device", format!("pc-dimm,id=cold{index},memdev=coldmem{index}{node}"));
        }
        if self.has_nvdimms {
            line.add("-machine", "nvdimm=on");
        }
        for (index, nvdimm) in self.nvdimms.iter().enumerate() {
            add_nvdimm(nvdimm, index, line);
        }
        for (index, device) in self.memory_devices.iter().enumerate() {
            let size = device.size.bytes();
            line.add(
                "-object",
                format!("memory-backend-ram,id=vm{index},size={size}B,reserve=off"),
            );
            let node = device.node.map_or(String::new(), |node| format!(",node={node}"));
            let bus = self.add_bridges(index, line);
            let name = format!("virtio-mem-pci,id=vmem{index},memdev=vm{index}{node}{bus}");
            line.add("-device", format!("{name},requested-size=0"));
        }
    }
}

impl Config {
    /// Adds the bridges before a memory device; returns what puts a device behind them.
    fn add_bridges(&self, device: usize, line: &mut Line) -> String {
        let mut bus = String::new();
        for (depth, kind) in self.bridges.iter().enumerate() {
            let id = format!("bridge{device}.{depth}");
            // QEMU wants another number of each slot.
            let slot = match *kind {
                "pcie-root-port" => format!(",chassis={}", device + 1),
                "pci-bridge" => format!(",chassis_nr={}", device + 1),
                _ => String::new(),
            };
            line.add("-device", format!("{kind},id={id}{slot}{bus}"));
            // The first slot of a bus that is not PCI Express is the bridge's own.
            let slot = if *kind == "pcie-root-port" { "" } else { ",addr=3" };
            bus = format!(",bus={id}{slot}");
        }
        bus
    }
}

/// Adds an NVDIMM.
fn add_nvdimm(nvdimm: &Nvdimm, index: usize, line: &mut Line) {
    let Nvdimm { labels, file, node, .. } = nvdimm;
    let (kind, size, place) = match file {
        None => ("ram", nvdimm.memory(), "".into()),
        Some(path) => ("file", nvdimm.memory(), joined(",share=on,mem-path=", path, "")),
    };
    let mut object =
        OsString::from(format!("memory-backend-{kind},id=nvmem{index},size={size}B,reserve=off"));
    object.push(place);
    line.add("-object", object);
    let node = node.map_or(String::new(), |node| format!(",node={node}"));
    let labels = match labels {
        0 => String::new(),
        labels => format!(",label-size={labels}"),
    };
    line.add("-device", format!("nvdimm,id=nvdimm{index},memdev=nvmem{index}{labels}{node}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual() -> Config {
        Config::of(Arch::X86_64)
    }

    fn line(config: &Config) -> String {
        let arguments = config.arguments(Path::new("/k.elf"), Path::new("/tmp/q"));
        let words: Vec<_> =
            arguments.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        words.join(" ")
    }

    #[test]
    fn the_default_machine_is_a_q35_with_room_for_one_dimm() {
        let line = line(&usual());
        assert!(
            line.contains(
                "-machine q35 -cpu max -device isa-debug-exit,iobase=0xf4,iosize=4 -accel tcg -m size=536870912B,slots=1,maxmem=2684354560B"
            ),
            "{line}"
        );
        assert!(line.contains("-qmp unix:/tmp/q,server,nowait -S -kernel /k.elf"), "{line}");
        assert!(!line.contains("-append") && !line.contains("-gdb") && !line.contains("-icount"));
    }

    #[test]
    fn memory_of_an_odd_size_reaches_qemu_in_bytes() {
        let config = Config { memory: Size::new(512 * MIB + 1), ..usual() };
        assert!(line(&config).contains("-m size=536870913B,slots=1,"), "{}", line(&config));
    }

    #[test]
    fn a_disk_takes_the_place_of_the_kernel() {
        let line_of = |disk| line(&Config { disk: Some(disk), ..usual() });
        let line = line_of(Disk::Folder("/d,1".into()));
        assert!(line.contains("-S -bios ") && !line.contains("-kernel"), "{line}");
        assert!(line.ends_with("-drive if=virtio,format=raw,readonly=on,file=fat:/d,,1"), "{line}");
        let line = line_of(Disk::Sectors("/d,1".into()));
        assert!(line.ends_with("-S -drive format=raw,snapshot=on,file=/d,,1"), "{line}");
    }

    #[test]
    fn counting_instructions_needs_a_processor_without_erms() {
        let line = line(&Config { icount: Some(0), ..usual() });
        assert!(line.contains("-cpu max,la57=off,erms=off "), "{line}");
    }

    #[test]
    fn nodes_come_from_the_dimms_that_name_them() {
        let dimms = ["1G@2".parse().unwrap(), "1G".parse().unwrap()];
        let config = usual().room_for(&dimms);
        assert_eq!((config.slots, config.nodes, config.window), (2, 3, 4 * GIB));
        let line = line(&config);
        assert!(
            line.contains(
                "-numa node,nodeid=0,memdev=ram0,cpus=0 -numa node,nodeid=1 -numa node,nodeid=2"
            ),
            "{line}"
        );
    }

    #[test]
    fn cpus_are_in_the_first_node_unless_they_are_placed() {
        let config = Config { cpus: 3, ..usual() }.room_for(&["1G@1".parse().unwrap()]);
        let usual = line(&config);
        assert!(usual.contains("-smp 3 "), "{usual}");
        assert!(
            usual.contains(",memdev=ram0,cpus=0,cpus=1,cpus=2 -numa node,nodeid=1 "),
            "{usual}"
        );
        let placed = line(&Config { cpu_nodes: vec![1, 0], ..config });
        let nodes = "nodeid=0,memdev=ram0,cpus=1,cpus=2 -numa node,nodeid=1,cpus=0 ";
        assert!(placed.contains(nodes), "{placed}");
    }

    #[test]
    fn distances_are_described_for_each_pair() {
        let distances = vec![vec![10, 15], vec![15, 10]];
        let config = Config { distances, ..usual() }.room_for(&["1G@1".parse().unwrap()]);
        let pairs = "-numa dist,src=0,dst=0,val=10 -numa dist,src=0,dst=1,val=15 \
                     -numa dist,src=1,dst=0,val=15 -numa dist,src=1,dst=1,val=10 ";
        assert!(line(&config).contains(pairs), "{}", line(&config));
    }

    #[test]
    fn where_no_node_can_be_without_boot_memory_each_has_a_share_of_whole_units() {
        let dimms = ["1G@2".parse().unwrap()];
        let config = Config::of(Arch::Ppc64).room_for(&dimms);
        assert_eq!(config.least_memory(), 768 * MIB);
        let config = Config { memory: Size::new(GIB), ..config };
        assert_eq!(config.shares(), [512 * MIB, 256 * MIB, 256 * MIB]);
        let line = line(&config);
        assert!(line.contains("id=ram2,size=268435456B -numa node,nodeid=2,memdev=ram2"), "{line}");
        assert_eq!(usual().room_for(&dimms).least_memory(), 0);
    }

    #[test]
    fn cold_dimms_are_there_at_power_on_and_reserve_nothing() {
        let config = Config { cold: vec!["128M@1".parse().unwrap()], ..usual() };
        let line = line(&config);
        assert!(line.contains("id=coldmem0,size=134217728B,reserve=off -device pc-dimm,id=cold0,memdev=coldmem0,node=1"), "{line}");
    }

    #[test]
    fn memory_devices_start_without_memory_and_have_room_beside_dimms() {
        let devices = ["4G".parse().unwrap(), "1G@1".parse().unwrap()];
        let config = usual().room_for(&["1G".parse().unwrap()]).memory_devices(&devices);
        assert_eq!((config.slots, config.nodes, config.window), (1, 2, 8 * GIB));
        let line = line(&config);
        let first = "-object memory-backend-ram,id=vm0,size=4294967296B,reserve=off -device virtio-mem-pci,id=vmem0,memdev=vm0,requested-size=0";
        assert!(line.contains(first), "{line}");
        assert!(line.contains("id=vmem1,memdev=vm1,node=1,requested-size=0"), "{line}");
    }

    #[test]
    fn a_window_of_a_tebibyte_gets_more_address_bits() {
        let config = usual().room_for(&["1T".parse().unwrap()]);
        assert!(line(&config).contains("-cpu max,phys-bits=46"));
    }

    #[test]
    fn words_reach_the_kernel_in_their_order_and_a_debugger_stops_it() {
        let config = Config { gdb: Some(1234), ..usual() }.word("placement=block").word("icount");
        assert!(
            line(&config).ends_with(
                "-S -gdb tcp:127.0.0.1:1234 -kernel /k.elf -append placement=block icount"
            )
        );
    }
}
