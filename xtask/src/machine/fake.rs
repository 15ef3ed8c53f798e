//! A guest made of two threads that speaks both protocols, so that everything around a real one is tested
//! without one: the tour, the steps, the verdicts, and above all how failures are reported.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, PipeWriter, Write, pipe};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use super::process::End;
use super::{Config, Console, Machine, Process, Qmp};
use crate::size::{GIB, Size};

const MIB: u64 = 1 << 20;
/// The size a DIMM has to be a multiple of.
const BLOCK: u64 = 128 * MIB;
/// DIMMs that this machine has memory for.
const BACKENDS: usize = 8;

/// How a fake kernel behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Habit {
    /// It does everything right.
    Good,
    /// It cannot start, and says why.
    Declines,
    /// It exits with another code than the one that was typed.
    ExitsWrong,
    /// It is killed instead of exiting.
    Killed,
    /// It claims a success that it did not report to the firmware.
    LiesToUs,
    /// Its add takes a page elsewhere that its remove does not give back.
    Keeps4K,
    /// Its DIMMs share a table, which the first add takes and the last remove gives back.
    Shares,
    /// Its snapshot differs at the end.
    Leaks,
    /// Its second CPU allocates nothing.
    Lazy,
    /// Its second CPU did not come.
    Alone,
    /// It panics when it should use memory.
    Panics,
    /// It exits without a message when it should use memory.
    Vanishes,
}

/// The end of a fake machine.
struct FakeProcess {
    end: mpsc::Receiver<End>,
    /// What came in: a process goes on having ended.
    ended: Option<End>,
}

impl Process for FakeProcess {
    fn wait(&mut self, deadline: Instant) -> Result<End> {
        let patience = deadline.saturating_duration_since(Instant::now());
        let end = self.ended.map_or_else(|| self.end.recv_timeout(patience), Ok)?;
        self.ended = Some(end);
        Ok(end)
    }

    fn complaints(&self) -> String {
        String::new()
    }
}

impl Machine {
    /// How many memory backends QEMU has.
    pub(crate) fn backends(&mut self) -> Result<usize> {
        let reply = self.qmp("query-memdev", json!({}))?;
        Ok(reply.as_array().map_or(0, Vec::len))
    }
}

/// A fake guest; both of its threads own one.
pub(crate) struct Fake {
    habit: Habit,
    serial: PipeWriter,
    offline_policy: bool,
    whole_blocks: bool,
    /// Bytes in a memory block.
    block: u64,
    /// Shared by both threads: a refused DIMM changes it.
    verdict: Arc<Mutex<String>>,
}

impl Fake {
    /// Starts a machine that only seems to be one.
    pub(crate) fn start(habit: Habit, config: &Config) -> Result<Machine> {
        let (output, serial) = pipe()?;
        let (typed, input) = pipe()?;
        let (ours, theirs) = UnixStream::pair()?;
        let (ended, end) = mpsc::channel();
        let offline_policy = config.words.iter().any(|word| word == "policy=offline");
        let whole_blocks = config.words.iter().any(|word| word == "blocks=whole");
        let sizes = config.words.iter().filter_map(|word| word.strip_prefix("block="));
        let block = sizes.filter_map(|size| size.parse::<Size>().ok()).next_back();
        let block = block.map_or(BLOCK, Size::bytes);

        let verdict = Arc::new(Mutex::new(String::from("pass")));
        let theirs_too = Arc::clone(&verdict);
        let mut console = Self {
            habit,
            serial: serial.try_clone()?,
            offline_policy,
            whole_blocks,
            block,
            verdict,
        };
        let mut firmware =
            Self { habit, serial, offline_policy, whole_blocks, block, verdict: theirs_too };
        console.say(match habit {
            Habit::Declines => "booting\nhotmem: cannot start: no such pages\n",
            _ => "booting\nhotmem: ready\nhotmem> ",
        });
        // The console thread has to close the firmware's side too, or the client would not see the guest go.
        let hang_up = theirs.try_clone()?;
        thread::spawn(move || firmware.serve(theirs));
        let qmp = Qmp::new(ours.try_clone()?, ours, Instant::now() + Duration::from_secs(5))?;
        thread::spawn(move || {
            let exit = console.monitor(BufReader::new(typed));
            let _ = hang_up.shutdown(std::net::Shutdown::Both);
            let _ = ended.send(exit);
        });

        let console = Console::new(output, input, None);
        let process = Box::new(FakeProcess { end, ended: None });
        Ok(Machine::assemble(console, qmp, process, config))
    }

    fn verdict(&self) -> MutexGuard<'_, String> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&mut self, text: &str) {
        let _ = self.serial.write_all(text.as_bytes());
    }

    fn step(&mut self, step: &Value) {
        self.say(&format!("\nhotmem: step {step}\nhotmem> "));
    }

    /// Replies to typed commands until one ends the guest.
    fn monitor(&mut self, typed: impl BufRead) -> End {
        if self.habit == Habit::Declines {
            return End::Code(33 + 2);
        }
        for line in typed.lines().map_while(Result::ok) {
            let reply = match line.as_str() {
                "stats --json" => format!(
                    "{}\nok",
                    json!({
                        "page_size": 4096, "section_size": BLOCK, "block_size": self.block,
                        "reserved_for_hotplug": 135168,
                    })
                ),
                "blocks --json" | "shares --json" => "[]\nok".into(),
                "cpus --json" => format!("{}\nok", cpus(self.habit)),
                "snapshot check" if self.habit == Habit::Leaks => {
                    "error: section 32 differs".into()
                }
                "snapshot save" | "snapshot check" | "verify" => "ok".into(),
                "verdict" => format!("hotmem: verdict {}\nok", self.verdict()),
                "use" | "use all" => match self.habit {
                    Habit::Panics => "hotmem: panic: out of luck\n  0: main".into(),
                    Habit::Vanishes => return End::Code(0),
                    _ => format!(
                        "hotmem: step {}\nok",
                        json!({"operation": "use", "touched_bytes": 4096})
                    ),
                },
                "exit 0" => break,
                other => match other.split_once(' ') {
                    Some(("online", number)) => {
                        format!(
                            "hotmem: step {}\nok",
                            online(number.parse().unwrap_or_default(), self.block, self.block)
                        )
                    }
                    Some(("mapping", words)) => mapping(words),
                    _ => format!("error: unknown command `{other}`"),
                },
            };
            self.say(&format!("{line}\n{reply}\nhotmem> "));
        }
        match self.habit {
            Habit::ExitsWrong => End::Code(33 + 2 * 7),
            Habit::Killed => End::Signal(9),
            _ => End::Code(33),
        }
    }

    /// Plays QEMU, its firmware and the kernel's replies to hotplug events.
    fn serve(&mut self, mut stream: UnixStream) {
        let Ok(input) = stream.try_clone() else {
            return;
        };
        let mut dimms: HashMap<String, Value> = HashMap::new();
        let mut sizes: HashMap<String, Value> = HashMap::new();
        let _ = writeln!(stream, "{}", json!({"QMP": {}}));

        for line in BufReader::new(input).lines().map_while(Result::ok) {
            let Ok(command) = serde_json::from_str::<Value>(&line) else {
                return;
            };
            let arguments = &command["arguments"];
            let text = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
            let mut events = Vec::new();
            let mut value = json!({});
            let mut refusal = None;
            match command["execute"].as_str().unwrap_or_default() {
                "qom-get" if text("path") == "/machine/device-memory[0]" => {
                    value = json!(if text("property") == "addr" { 4 * GIB } else { 64 * GIB });
                }
                "qom-get" => refusal = Some("there is no such object"),
                "object-add" if sizes.len() == BACKENDS => refusal = Some("no memory left"),
                "object-add" => drop(sizes.insert(text("id"), arguments["size"].clone())),
                "query-memdev" => value = sizes.keys().map(|id| json!({"id": id})).collect(),
                "object-del" => drop(sizes.remove(&text("id"))),
                "query-memory-devices" => {
                    value =
                        dimms.values().map(|data| json!({"type": "dimm", "data": data})).collect();
                }
                "device_add" => {
                    let data = json!({
                        "id": text("id"), "memdev": text("memdev"), "addr": arguments["addr"],
                        "size": sizes[&text("memdev")], "node": 0, "slot": dimms.len(),
                    });
                    events = self.insert(&data, dimms.len());
                    dimms.insert(text("id"), data);
                }
                "device_del" => {
                    let dimm = dimms.remove(&text("id")).unwrap_or_default();
                    events = self.eject(&dimm, dimms.len());
                }
                _ => {}
            }
            let reply = match refusal {
                Some(why) => json!({"error": {"desc": why}, "id": command["id"]}),
                None => json!({"return": value, "id": command["id"]}),
            };
            let _ = writeln!(stream, "{reply}");
            for event in events {
                let _ = writeln!(stream, "{event}");
            }
        }
    }

    /// The kernel takes a DIMM beside `others`, or refuses one that is not a whole number of blocks if only these are
    /// wanted.
    fn insert(&mut self, dimm: &Value, others: usize) -> Vec<Value> {
        let (start, size) =
            (dimm["addr"].as_u64().unwrap_or_default(), dimm["size"].as_u64().unwrap_or_default());
        let odd = self.whole_blocks && !size.is_multiple_of(self.block);
        let reported = u64::from(odd || self.habit == Habit::LiesToUs);
        let system_bytes = self.elsewhere(others);
        let error = odd.then(|| format!("size {size:#x} is not a whole number of blocks"));
        if let Some(why) = &error {
            *self.verdict() = format!("refused: {why}");
        }
        self.step(&json!({
            "operation": "add", "start": start, "size": size, "node": 0, "placement": "boot", "groups": [],
            "system_bytes": system_bytes, "ost": u64::from(odd), "error": error,
        }));
        if !odd && !self.offline_policy {
            self.step(&online(start / self.block, size, self.block));
        }
        vec![ost(dimm, 1, reported)]
    }

    /// Bytes that the add of a DIMM beside `others` takes elsewhere.
    fn elsewhere(&self, others: usize) -> i64 {
        match self.habit {
            Habit::Keeps4K => 4096,
            Habit::Shares if others == 0 => 8192,
            Habit::Shares => 4096,
            _ => 0,
        }
    }

    /// The kernel gives up a DIMM beside `others`.
    fn eject(&mut self, dimm: &Value, others: usize) -> Vec<Value> {
        let kept = self.habit == Habit::Keeps4K;
        let system_bytes = if kept { 0 } else { -self.elsewhere(others) };
        self.step(&json!({"operation": "offline", "instructions": null, "error": null}));
        self.step(&json!({"operation": "scrub", "start": dimm["addr"], "size": dimm["size"], "scrubbed_bytes": 4096, "skipped_blocks": 0, "instructions": null, "error": null}));
        self.step(&json!({"operation": "remove", "system_bytes": system_bytes, "instructions": null, "ost": 0, "error": null}));
        let deleted =
            json!({"event": "DEVICE_DELETED", "data": {"device": dimm["id"], "path": "/"}});
        vec![ost(dimm, 3, 0x84), deleted, ost(dimm, 3, 0)]
    }
}

/// Two CPUs, as the monitor shows them.
fn cpus(habit: Habit) -> Value {
    let state = if habit == Habit::Alone { "missing" } else { "up" };
    let pages = if habit == Habit::Lazy { 0 } else { 7 };
    json!([
        {"number": 0, "hardware": 0, "node": 0, "state": "up", "allocated": 7, "freed": 7, "flushes": 0, "ticks": 0},
        {"number": 1, "hardware": 1, "node": 0, "state": state, "allocated": pages, "freed": pages, "flushes": 3, "ticks": 0},
    ])
}

/// The blocks of `size` bytes from block `first` on.
fn online(first: u64, size: u64, block: u64) -> Value {
    let managed = |index: u64| block.min(size - index * block);
    let blocks: Vec<_> = (0..size.div_ceil(block))
        .map(|index| json!({"block": first + index, "state": "online", "managed_bytes": managed(index)}))
        .collect();
    json!({"operation": "online", "blocks": blocks, "instructions": null, "error": null})
}

/// The translations of a page in a linear map, and of its descriptor in boot memory.
fn mapping(words: &str) -> String {
    let pfn = words.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_default();
    let leaf =
        |virt: u64, phys| json!({"virt": virt, "phys": phys, "leaf": 2 * MIB, "rights": "read"});
    let (page, descriptor) = (leaf(1 << 40, pfn * 4096), leaf(1 << 41, 16 * MIB));
    format!("{}\nok", json!({"cpu": "fake", "page": page, "descriptor": descriptor}))
}

fn ost(dimm: &Value, source: u64, status: u64) -> Value {
    let slot = dimm["slot"].to_string();
    json!({"event": "ACPI_DEVICE_OST", "data": {"info": {"source": source, "status": status, "slot": slot}}})
}
