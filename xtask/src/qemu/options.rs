//! The tour's options, and the machine they describe.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use super::guest_options::GuestOptions;
use crate::arch::{Arch, Choices, OptionSize, pick};
use crate::machine::{Accel, Config, Placement};
use crate::size::{DimmSpec, GIB, Size};

/// CPUs of a tour. Where instructions are counted, those of all CPUs are: then there is one.
const CPUS: u32 = 2;

/// The longest timeout there is, in seconds.
const A_YEAR: u64 = 365 * 24 * 3600;

/// Boots the kernel in QEMU, plugs memory, uses it, unplugs it, and explains each step.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Architecture to run
    #[arg(long, value_enum, default_value_t = Arch::X86_64)]
    pub(crate) arch: Arch,

    /// Memory at boot
    #[arg(long, value_name = "SIZE", default_value = "512M")]
    pub(crate) memory: Size,

    /// A DIMM to plug, on a NUMA node if one is named; may be given several times
    #[arg(long = "dimm", value_name = "SIZE[@NODE]", default_value = "1G")]
    pub(crate) dimms: Vec<DimmSpec>,

    /// Where the page descriptors of plugged memory go: the start of the range, of each block, or boot memory
    #[arg(long, value_enum, default_value_t = Placement::Device)]
    pub(crate) placement: Placement,

    /// Size of a memory block, the unit of online, offline and removal: 128M, 1G or 2G on x86_64
    /// [default: the smallest]
    #[arg(long, value_name = "SIZE")]
    block_size: Option<Size>,

    #[command(flatten)]
    choices: Choices,

    /// What executes the guest
    #[arg(long, value_enum, default_value_t = Accel::Tcg)]
    pub(crate) accel: Accel,

    /// Count guest instructions exactly (slower)
    #[arg(long)]
    pub(crate) icount: bool,

    /// More words for the kernel's command line
    #[arg(long, value_name = "WORDS")]
    pub(crate) cmdline: Option<String>,

    /// Seconds the whole run may take [default: 120 and more for large DIMMs]
    #[arg(long, value_name = "SECONDS", conflicts_with_all = ["interactive", "gdb"],
          value_parser = clap::value_parser!(u64).range(1..=A_YEAR))]
    pub(crate) timeout: Option<u64>,

    /// Wait for a debugger, and print the line to attach one with symbols
    #[arg(long)]
    pub(crate) gdb: bool,

    /// The kernel's monitor in this terminal; `plug SIZE[@NODE]` and `unplug N` are done by QMP
    #[arg(long)]
    pub(crate) interactive: bool,

    /// Write a report to this file; with --interactive, and without a file, show events as JSON
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    json: Option<Option<PathBuf>>,

    /// How much of the memory to write and read back: `all` of it, also beyond 4 GiB
    #[arg(long, value_enum)]
    pub(crate) touch: Option<Touch>,

    #[command(flatten)]
    pub(super) guest: GuestOptions,

    /// A virtio-mem device instead of DIMMs, whose memory grows up to this size (x86_64, aarch64)
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["guest", "dimms"])]
    pub(crate) virtio_mem: Option<Size>,

    /// An NVDIMM instead of DIMMs, whose persistent memory of this size is used as RAM (x86_64, aarch64)
    #[arg(long, value_name = "SIZE", conflicts_with_all = ["guest", "dimms", "virtio_mem"])]
    pub(crate) nvdimm: Option<Size>,

    /// Fill each DIMM's memory with this byte before it is plugged
    #[arg(long, value_name = "BYTE", value_parser = byte)]
    pub(crate) fill: Option<u8>,
}

/// The size up to which all memory is written and read back; beyond it a sample is.
const TOUCHED: u64 = 4 * GIB;

/// How much memory to touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Touch {
    /// Every page
    All,
}

impl Args {
    /// Finds out before anything starts what cannot work.
    fn check(&self) -> Result<()> {
        // QEMU refuses this as well, but with its whole command line.
        ensure!(
            !(self.icount && self.accel == Accel::Kvm),
            "--icount needs --accel tcg: KVM counts nothing"
        );
        match &self.json {
            Some(None) if !self.interactive => bail!("--json needs a file for the report"),
            Some(Some(_)) if self.interactive => bail!("--json has no file with --interactive"),
            _ => {}
        }
        let dir = self.report().and_then(Path::parent);
        if let Some(dir) = dir.filter(|dir| !dir.as_os_str().is_empty()) {
            ensure!(dir.is_dir(), "no directory {} for the report", dir.display());
        }
        Ok(())
    }

    /// The file for the report.
    pub(crate) fn report(&self) -> Option<&Path> {
        self.json.as_ref()?.as_deref()
    }

    /// Are events shown as the kernel writes them?
    pub(crate) fn raw_events(&self) -> bool {
        self.json == Some(None)
    }

    /// Finds out what no machine of this architecture can be given, though the options are in order: QEMU
    /// would refuse it.
    ///
    /// # Errors
    /// The refusal, which names the option and the size.
    pub(crate) fn check_sizes(&self, config: &Config) -> Result<()> {
        let about = self.arch.about();
        let slots = about.slots;
        ensure!(
            u32::try_from(self.dimms.len()).is_ok_and(|count| count <= slots),
            "--dimm: {} are more than the {slots} slots of {}",
            self.dimms.len(),
            self.arch
        );
        about.check_memory("--memory", self.memory)?;
        self.dimms.iter().try_for_each(|dimm| about.check_memory("--dimm", dimm.size))?;
        let firmware = config.image.boot();
        ensure!(
            self.memory.bytes() >= firmware.memory,
            "--memory {}: the firmware {} needs {} or more for itself",
            self.memory.word(),
            firmware.firmware,
            Size::new(firmware.memory).word()
        );
        let least = Size::new(config.least_memory());
        ensure!(
            self.memory >= least,
            "--memory {}: {} nodes of {} need {} or more, since each has boot memory",
            self.memory.word(),
            config.nodes,
            self.arch,
            least.word()
        );
        Ok(())
    }

    /// The machine these options describe.
    ///
    /// # Errors
    /// When options exclude each other or the architecture lacks them, or the report has nowhere to go.
    pub(crate) fn config(&self) -> Result<Config> {
        self.check()?;
        let chosen = self.choices.config(self.arch, if self.icount { 1 } else { CPUS })?;
        let image = chosen.image;
        self.guest.check(self.arch, self.dimms.len())?;
        ensure!(image.lab, "--no-lab: a tour needs the monitor; `cargo xtask test --no-lab` runs");
        let blocks: Vec<_> =
            (self.arch.about().blocks)(image.page).iter().copied().map(OptionSize).collect();
        let asked = self.block_size.map(|size| OptionSize(size.bytes()));
        let block = pick("--block-size", self.arch, asked, &blocks)?;
        let accel = pick("--accel", self.arch, Some(self.accel), self.arch.about().accels)?;
        let timeout = self.timeout.map_or_else(|| self.default_timeout(), Duration::from_secs);
        let config = Config {
            accel: accel.unwrap_or(self.accel),
            memory: self.memory,
            icount: self.icount.then_some(0),
            timeout: (!self.interactive).then_some(timeout),
            patience: timeout,
            ..chosen
        };
        self.guest.check_cpus(config.cpus)?;
        let mut config =
            config.room_for(&self.dimms).word(format_args!("placement={}", self.placement.word()));
        config = self.add_nvdimm(self.add_memory_device(config)?)?;
        if let Some(block) = block {
            config = config.word(format_args!("block={block}"));
        }
        if self.icount {
            config = config.word("icount");
        }
        if !self.clears() {
            config = config.word("scrub=off");
        }
        if self.interactive {
            // Room to play.
            config.slots = 16.max(config.slots);
            config.window += 64 * GIB;
        }
        Ok(self.words().fold(config, Config::word))
    }

    /// The words of `--cmdline`.
    fn words(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.cmdline.iter().flat_map(|words| words.split_whitespace())
    }

    /// Does the kernel leave plugged memory offline until an operator brings it online?
    pub(crate) fn stays_offline(&self) -> bool {
        self.words().filter_map(|word| word.strip_prefix("policy=")).next_back() == Some("offline")
    }

    /// Whether memory is cleared before it is unplugged. Not beyond the size up to which all of it is touched: QEMU gives
    /// a DIMM memory of this machine as it is written.
    pub(crate) fn clears(&self) -> bool {
        let bytes: u64 = self.dimms.iter().map(|dimm| dimm.size.bytes()).sum();
        let said = self.words().filter_map(|word| word.strip_prefix("scrub=")).next_back();
        said.map_or(bytes <= TOUCHED || self.touch == Some(Touch::All), |said| said == "all")
    }

    /// Two minutes, and half a minute for each GiB that is allocated and touched; twice that when counting.
    fn default_timeout(&self) -> Duration {
        let bytes: u64 = self.dimms.iter().map(|dimm| dimm.size.bytes()).sum();
        let seconds = 120 + bytes / GIB * 30;
        Duration::from_secs(if self.icount { 2 * seconds } else { seconds })
    }
}

/// Reads a byte in decimal or, behind 0x, in hexadecimal.
fn byte(text: &str) -> std::result::Result<u8, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("`{text}` is not a byte such as 255 or 0xff"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::parsed;

    #[test]
    fn large_dimms_are_cleared_only_if_that_is_asked_for() {
        assert!(read(&["--dimm", "1G"]).clears());
        assert!(!read(&["--dimm", "32G"]).clears());
        assert!(read(&["--dimm", "32G", "--touch", "all"]).clears());
        assert!(read(&["--dimm", "32G", "--cmdline", "scrub=all"]).clears());
        assert!(!read(&["--dimm", "1G", "--cmdline", "scrub=off"]).clears());
    }

    fn read(words: &[&str]) -> Args {
        parsed(words).unwrap()
    }

    #[test]
    fn without_options_it_is_one_gibibyte_on_the_device() {
        let args = read(&[]);
        assert_eq!(args.config().unwrap().words, ["placement=device", "block=128M"]);
        assert_eq!((args.dimms.len(), args.dimms[0].size.bytes()), (1, GIB));
        assert_eq!(args.config().unwrap().timeout, Some(Duration::from_secs(150)));
    }

    #[test]
    fn a_tour_has_two_cpus_and_one_if_it_counts_and_as_many_as_it_is_given() {
        let cpus = |words: &[&str]| read(words).config().unwrap().cpus;
        assert_eq!((cpus(&[]), cpus(&["--icount"])), (2, 1));
        assert_eq!(cpus(&["--icount", "--smp", "3"]), 3);
    }

    #[test]
    fn dimms_given_replace_the_default_one() {
        let args = read(&["--dimm", "128M", "--dimm", "2G@1"]);
        assert_eq!(args.config().unwrap().slots, 2);
        assert_eq!(args.config().unwrap().nodes, 2);
    }

    #[test]
    fn words_of_the_user_come_last() {
        let args =
            read(&["--block-size", "1G", "--icount", "--cmdline", "policy=offline log=debug"]);
        assert_eq!(
            args.config().unwrap().words,
            ["placement=device", "block=1G", "icount", "policy=offline", "log=debug"]
        );
        assert!(args.stays_offline());
        assert!(!read(&["--cmdline", "policy=offline policy=online"]).stays_offline());
    }

    fn refusal(words: &[&str]) -> String {
        parsed::<Args>(words).unwrap_err().to_string()
    }

    #[test]
    fn figures_that_no_machine_has_are_refused_with_their_option() {
        let huge = u64::MAX.to_string();
        assert!(refusal(&["--timeout", &huge]).contains("--timeout"));
        assert!(refusal(&["--timeout", "0"]).contains("--timeout"));
        assert_eq!(
            read(&["--timeout", "31536000"]).config().unwrap().patience.as_secs(),
            31_536_000
        );
        assert!(refusal(&["--dimm", &huge]).contains("--dimm"));
        assert!(refusal(&["--memory", "5000T"]).contains("--memory"));

        let largest = ["--dimm", "4096T"].repeat(256);
        let largest = read(&[&["--memory", "4096T", "--icount"], largest.as_slice()].concat());
        assert_eq!(largest.config().unwrap().window, 256 << 52);
    }

    /// What the options are refused with, though they are in order.
    fn size_refusal(words: &[&str]) -> String {
        let args = read(words);
        let config = args.config().unwrap();
        args.check_sizes(&config).unwrap_err().to_string()
    }

    #[test]
    fn sizes_that_a_machine_cannot_have_are_refused_before_it_starts() {
        let many = ["--dimm", "1G"].repeat(257);
        assert_eq!(size_refusal(&many), "--dimm: 257 are more than the 256 slots of x86_64");
        let many = [&["--arch", "ppc64"], ["--dimm", "256M"].repeat(33).as_slice()].concat();
        assert_eq!(size_refusal(&many), "--dimm: 33 are more than the 32 slots of ppc64");
        for (option, size) in [("--dimm", "100M"), ("--memory", "300M")] {
            let refusal = size_refusal(&["--arch", "ppc64", option, size]);
            let whole = "memory of ppc64 comes in multiples of 256 MiB";
            assert_eq!(refusal, format!("{option} {size}: {whole}"));
        }
        assert_eq!(
            size_refusal(&["--arch", "ppc64", "--dimm", "1G@2"]),
            "--memory 512M: 3 nodes of ppc64 need 768M or more, since each has boot memory"
        );
    }

    #[test]
    fn sizes_that_only_the_kernel_refuses_reach_it() {
        for words in [&["--dimm", "100M"][..], &["--dimm", "1G@2"], &["--memory", "300M"]] {
            let args = read(words);
            args.check_sizes(&args.config().unwrap()).unwrap();
        }
    }

    #[test]
    fn a_tour_of_an_image_without_a_monitor_is_refused() {
        let error = read(&["--no-lab"]).config().unwrap_err().to_string();
        assert!(error.starts_with("--no-lab: a tour needs the monitor"), "{error}");
    }

    #[test]
    fn options_that_wait_for_a_person_refuse_a_timeout() {
        assert!(refusal(&["--interactive", "--timeout", "5"]).contains("--interactive"));
        assert!(refusal(&["--gdb", "--timeout", "5"]).contains("--gdb"));
    }

    #[test]
    fn counting_instructions_is_refused_where_nothing_counts() {
        assert!(read(&["--icount", "--accel", "kvm"]).config().is_err());
        read(&["--icount"]).config().unwrap();
    }

    #[test]
    fn a_report_needs_a_directory_that_is_there() {
        assert!(read(&["--json", "/no/such/dir/r.json"]).config().is_err());
        read(&["--json", "r.json"]).config().unwrap();
        read(&["--json", "/tmp/r.json"]).config().unwrap();
    }

    #[test]
    fn a_fill_byte_is_read_in_both_bases() {
        assert_eq!(read(&["--fill", "0xFF"]).fill, Some(255));
        assert_eq!(read(&["--fill", "7"]).fill, Some(7));
        assert!(byte("256").is_err() && byte("0x").is_err());
    }
}
