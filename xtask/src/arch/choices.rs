//! Options that not every architecture has: one that it lacks, or a value that it does not know, is
//! refused by name before anything starts.

use std::fmt;

use anyhow::{Context, Result, bail};
use clap::Parser;

use super::{Arch, Firmware, Image, MOST_CPUS, image};
use crate::machine::QemuDir;
use crate::machine::config::Config;
use crate::size::Size;

/// Options that choose the kernel image.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct BuildChoices {
    /// Size of a page: 4K, 16K or 64K on aarch64, 64K or 4K on ppc64
    #[arg(long, value_name = "SIZE")]
    page_size: Option<Size>,

    /// What runs before the kernel: bare or uefi on aarch64, vof or slof on ppc64
    #[arg(long, value_enum, value_name = "NAME", hide_possible_values = true)]
    firmware: Option<Firmware>,

    /// Leave out the monitor, and all else that only people and tests need; the tour needs it
    #[arg(long)]
    pub(crate) no_lab: bool,
}

/// Options that choose the machine it runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
struct MachineChoices {
    /// Mainboard: q35 or pc on x86_64
    #[arg(long, value_name = "NAME")]
    machine: Option<String>,

    /// Processor, by QEMU's name and with its options: neoverse-n1 by default on aarch64, power9 on ppc64, max on
    /// x86_64
    #[arg(long, value_name = "NAME")]
    cpu: Option<String>,

    /// Exception level that the kernel is entered at: 2 or 1 on aarch64
    #[arg(long, value_name = "LEVEL")]
    el: Option<u8>,

    /// Version of the interrupt controller: 3 or 2 on aarch64
    #[arg(long, value_name = "VERSION")]
    gic: Option<u8>,

    /// CPUs, 1 to 16 [default: 2 on a tour, 1 if it counts instructions; 4 in tests]
    #[arg(long, value_name = "N", value_parser = cpus)]
    smp: Option<u32>,
}

impl BuildChoices {
    /// The options as they are typed.
    fn words(&self) -> Vec<String> {
        let page = self.page_size.map(Size::word);
        let firmware = self.firmware.as_ref().map(image::typed);
        let mut words = typed([("--page-size", page), ("--firmware", firmware)]);
        words.extend(self.no_lab.then(|| "--no-lab".to_owned()));
        words
    }

    /// The image of `arch` that these options describe.
    ///
    /// # Errors
    /// When `arch` has no such page size or firmware.
    pub(crate) fn image(&self, arch: Arch) -> Result<Image> {
        let about = arch.about();
        let firmwares: Vec<_> = about.boots.iter().map(|boot| boot.firmware).collect();
        let pages: Vec<_> = about.pages.iter().map(|&page| OptionSize(page)).collect();
        let page = self.page_size.map(|size| OptionSize(size.bytes()));
        let usual = Image::of(arch);
        Ok(Image {
            arch,
            firmware: pick("--firmware", arch, self.firmware, &firmwares)?
                .unwrap_or(usual.firmware),
            page: pick("--page-size", arch, page, &pages)?.map_or(usual.page, |page| page.0),
            lab: !self.no_lab,
            holds: false,
        })
    }
}

impl MachineChoices {
    /// The options as they are typed.
    fn words(&self) -> Vec<String> {
        let number = |value: Option<u8>| value.map(|value| value.to_string());
        typed([
            ("--machine", self.machine.clone()),
            ("--cpu", self.cpu.clone()),
            ("--el", number(self.el)),
            ("--gic", number(self.gic)),
            ("--smp", self.smp.map(|count| count.to_string())),
        ])
    }

    /// A machine for `image` that these options describe, with so many `cpus` unless they say otherwise.
    ///
    /// # Errors
    /// When the image's architecture lacks an option, or knows no such value.
    fn config(&self, image: Image, cpus: u32) -> Result<Config> {
        let arch = image.arch;
        let about = arch.about();
        let usual = Config::of(arch);
        let board = pick("--machine", arch, self.machine.as_deref(), about.boards)?;
        let cpu = match (&self.cpu, about.cpu) {
            (Some(_), None) => bail!("{arch} has no option --cpu"),
            (Some(name), _) => name.clone(),
            (None, _) => usual.cpu,
        };
        let config = Config {
            image,
            board: board.unwrap_or(usual.board),
            cpu,
            level: pick("--el", arch, self.el, about.levels)?,
            gic: pick("--gic", arch, self.gic, about.gics)?,
            cpus: self.smp.unwrap_or(cpus),
            ..usual
        };
        check_cpus(&config)?;
        Ok(config)
    }
}

/// Reads a number of CPUs.
fn cpus(word: &str) -> Result<u32, String> {
    word.parse().map_err(|_| format!("a machine has 1 to {MOST_CPUS} CPUs"))
}

/// Finds out whether such a machine can have that many CPUs.
fn check_cpus(config: &Config) -> Result<()> {
    let (arch, count) = (config.image.arch, config.cpus);
    let (most, why) = (arch.about().cpus)(config);
    if (1..=most).contains(&count) {
        return Ok(());
    }
    let with = why.map_or(String::new(), |why| format!(" with {why}"));
    bail!("--smp {count}: {arch}{with} has 1 to {most} CPUs")
}

/// Those of `options` that have a value, each with its value behind it.
fn typed<const N: usize>(options: [(&str, Option<String>); N]) -> Vec<String> {
    let given = options.into_iter().filter_map(|(option, value)| Some((option, value?)));
    given.flat_map(|(option, value)| [option.to_owned(), value]).collect()
}

/// Options that choose the image, the machine, and QEMU.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct Choices {
    #[command(flatten)]
    pub(crate) build: BuildChoices,
    #[command(flatten)]
    machine: MachineChoices,
    #[command(flatten)]
    pub(crate) qemu: QemuDir,
}

impl Choices {
    /// All options as they are typed.
    pub(crate) fn words(&self) -> Vec<String> {
        [self.wishes(), self.qemu.words()].concat()
    }

    /// The options that choose another machine than the usual one, as they are typed.
    pub(crate) fn wishes(&self) -> Vec<String> {
        [self.build.words(), self.machine.words()].concat()
    }

    /// The machine of `arch` that they describe, with so many `cpus` unless they say otherwise.
    ///
    /// # Errors
    /// When `arch` lacks an option or knows no such value.
    pub(crate) fn config(&self, arch: Arch, cpus: u32) -> Result<Config> {
        let config = self.machine.config(self.build.image(arch)?, cpus)?;
        Ok(Config { qemu: self.qemu.clone(), ..config })
    }
}

/// Options on a line of their own.
#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct Line<A: clap::Args> {
    #[command(flatten)]
    args: A,
}

/// Reads options as they are typed.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn parsed<A: clap::Args>(words: &[&str]) -> Result<A, clap::Error> {
    Line::try_parse_from(words).map(|line| line.args)
}

/// The machine of `arch` that the options `words` describe, with so many `cpus` unless they say otherwise.
///
/// # Errors
/// When `arch` lacks an option or knows no such value.
pub(crate) fn read(arch: Arch, words: &[&str], cpus: u32) -> Result<Config> {
    parsed::<Choices>(words)?.config(arch, cpus)
}

/// The value of `option`: the one asked for if `arch` offers it, or else the first that it offers.
pub(crate) fn pick<'a, T, U>(
    option: &str,
    arch: Arch,
    asked: Option<U>,
    offered: &'a [T],
) -> Result<Option<T>>
where
    T: Copy + PartialEq<U> + fmt::Display,
    U: fmt::Display + 'a,
{
    let Some(value) = asked else {
        return Ok(offered.first().copied());
    };
    if offered.is_empty() {
        bail!("{arch} has no option {option}");
    }
    let found = offered.iter().copied().find(|one| *one == value);
    let names = || offered.iter().map(T::to_string).collect::<Vec<_>>().join(", ");
    found.map(Some).with_context(|| format!("{option} {value}: {arch} has {}", names()))
}

/// A size, shown as options have it.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct OptionSize(pub(crate) u64);

impl fmt::Display for OptionSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Size::new(self.0).word())
    }
}

impl fmt::Display for Firmware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&image::typed(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arch: Arch, words: &[&str]) -> Result<Config> {
        super::read(arch, words, 2)
    }

    fn refusal(arch: Arch, words: &[&str]) -> String {
        read(arch, words).unwrap_err().to_string()
    }

    #[test]
    fn without_options_each_architecture_has_its_own_default() {
        let config = read(Arch::X86_64, &[]).unwrap();
        assert_eq!((config.image, config.board), (Image::of(Arch::X86_64), "q35"));
        let config = read(Arch::Aarch64, &[]).unwrap();
        assert_eq!((config.level, config.gic), (Some(2), Some(3)));
        assert_eq!((config.cpu.as_str(), config.image.page), ("neoverse-n1", 4096));
        let config = read(Arch::Ppc64, &[]).unwrap();
        assert_eq!((config.cpu.as_str(), config.image.page), ("power9", 65536));
        assert_eq!(config.image.firmware, Firmware::Vof);
    }

    #[test]
    fn options_reach_the_machine() {
        let words = ["--cpu", "max", "--el", "1", "--gic", "2", "--page-size", "16K"];
        let config = read(Arch::Aarch64, &words).unwrap();
        assert_eq!((config.cpu.as_str(), config.level, config.gic), ("max", Some(1), Some(2)));
        assert_eq!(config.image.page, 16384);
        assert_eq!(read(Arch::X86_64, &["--machine", "pc"]).unwrap().board, "pc");
        let slof = read(Arch::Ppc64, &["--firmware", "slof"]).unwrap();
        assert_eq!(slof.image.firmware, Firmware::Slof);
    }

    #[test]
    fn an_option_that_an_architecture_lacks_is_refused_by_name() {
        assert_eq!(refusal(Arch::X86_64, &["--el", "1"]), "x86_64 has no option --el");
        assert_eq!(refusal(Arch::Ppc64, &["--el", "2"]), "ppc64 has no option --el");
        assert_eq!(refusal(Arch::X86_64, &["--gic", "3"]), "x86_64 has no option --gic");
    }

    #[test]
    fn a_value_that_an_architecture_does_not_know_is_refused_with_those_it_does() {
        assert_eq!(
            refusal(Arch::Ppc64, &["--page-size", "16K"]),
            "--page-size 16K: ppc64 has 64K, 4K"
        );
        assert_eq!(
            refusal(Arch::X86_64, &["--firmware", "bare"]),
            "--firmware bare: x86_64 has bios, uefi"
        );
        assert_eq!(
            refusal(Arch::X86_64, &["--machine", "virt"]),
            "--machine virt: x86_64 has q35, pc"
        );
        assert_eq!(refusal(Arch::Aarch64, &["--el", "3"]), "--el 3: aarch64 has 2, 1");
    }

    #[test]
    fn more_cpus_than_a_machine_can_have_are_refused_with_what_limits_them() {
        for count in ["0", "17"] {
            let refused = refusal(Arch::X86_64, &["--smp", count]);
            assert_eq!(refused, format!("--smp {count}: x86_64 has 1 to 16 CPUs"));
        }
        for count in ["abc", "4294967296", "1.5"] {
            let refused = refusal(Arch::Ppc64, &["--smp", count]);
            let expected =
                format!("invalid value '{count}' for '--smp <N>': a machine has 1 to 16 CPUs");
            assert!(refused.contains(&expected), "{refused}");
        }
        let refused = refusal(Arch::Aarch64, &["--gic", "2", "--smp", "9"]);
        assert_eq!(refused, "--smp 9: aarch64 with --gic 2 has 1 to 8 CPUs");
        assert_eq!(read(Arch::Aarch64, &["--smp", "16"]).unwrap().cpus, 16);
        assert_eq!(read(Arch::Aarch64, &["--gic", "2", "--smp", "8"]).unwrap().cpus, 8);
        assert_eq!(read(Arch::Ppc64, &[]).unwrap().cpus, 2);
    }
}
