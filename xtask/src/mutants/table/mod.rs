//! The faults, and the test that fails by each.

mod acpi;
mod alloc;
mod aml;
mod guests;
mod hotplug;
mod mm;
mod need;
mod paging;
mod papr;
mod parts;
mod virtio_mem;
mod vm;

use super::mutant::Mutant;

/// All of them. Each was tried, and its test failed.
pub(super) fn all() -> impl Iterator<Item = &'static Mutant> {
    let hotplug =
        [acpi::MUTANTS, aml::MUTANTS, hotplug::MUTANTS, papr::MUTANTS, virtio_mem::MUTANTS];
    let memory = [
        mm::MUTANTS,
        alloc::MUTANTS,
        parts::MUTANTS,
        need::MUTANTS,
        paging::MUTANTS,
        vm::MUTANTS,
        guests::MUTANTS,
    ];
    memory.into_iter().chain(hotplug).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutants::program::is_machine;
    use crate::root::workspace_root;
    use std::collections::{HashMap, HashSet};
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Everything below a folder, except what is built.
    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                found.extend(files(&path));
            } else if name == "Cargo.toml" || name.ends_with(".rs") {
                found.push(path);
            }
        }
        found
    }

    /// The code of the package of this name.
    fn code(all: &[PathBuf], package: &str) -> String {
        let line = format!("name = \"{package}\"");
        let is_it = |manifest: &&PathBuf| {
            manifest.ends_with("Cargo.toml")
                && fs::read_to_string(manifest).unwrap().lines().any(|other| other == line)
        };
        let home = all.iter().find(is_it).unwrap_or_else(|| panic!("no package {package}"));
        let home = home.parent().unwrap();
        let code =
            all.iter().filter(|path| path.starts_with(home) && !path.ends_with("Cargo.toml"));
        code.map(|path| fs::read_to_string(path).unwrap()).collect()
    }

    #[test]
    fn each_text_is_in_its_file_exactly_once_and_is_changed() {
        let root = workspace_root().unwrap();
        for mutant in all() {
            let right = mutant.read(&root).unwrap();
            let wrong = mutant.apply(&right).unwrap_or_else(|error| panic!("{error:#}"));
            assert_ne!(wrong, right, "{}", mutant.what);
        }
    }

    #[test]
    fn each_test_is_in_the_package_that_is_named_with_it() {
        let all_files = files(&workspace_root().unwrap());
        let mut known = HashMap::new();
        for Mutant { suite, test, what, .. } in all() {
            let mut words = suite.split_whitespace().skip_while(|&word| word != "-p");
            let test = test.rsplit("::").next().unwrap();
            // A scenario is in the list of its file.
            let (package, texts) = match is_machine(suite) {
                true => (Some("xtask"), vec![format!("\n    {test},"), format!("\n    {test} ")]),
                false => (words.nth(1), vec![format!("fn {test}(")]),
            };
            let package = package.unwrap_or_else(|| panic!("{what}: {suite} names no package"));
            let code = known.entry(package).or_insert_with(|| code(&all_files, package));
            let is_there = texts.iter().any(|text| code.contains(text));
            assert!(is_there, "{what}: {package} has no test {test}");
        }
    }

    #[test]
    fn no_two_have_the_same_description() {
        let mut seen = HashSet::new();
        all().for_each(|mutant| assert!(seen.insert(mutant.what), "{}", mutant.what));
    }
}
