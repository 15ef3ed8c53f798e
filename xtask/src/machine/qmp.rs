//! A small client for QMP, QEMU's machine protocol: JSON objects, one a line, over a Unix socket.
//!
//! Source: QEMU's docs/interop/qmp-spec. The server greets, expects `qmp_capabilities`, replies to each
//! command with `return` or `error`, and sends events at any time.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};

use super::inbox::{End, Inbox};

fn locked(refusals: &Mutex<Refusals>) -> MutexGuard<'_, Refusals> {
    refusals.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Events that came in and were not asked for yet.
type Events = Arc<Inbox<Vec<Value>>>;

/// A connection to one QEMU.
pub(crate) struct Qmp {
    input: Box<dyn Write + Send>,
    replies: mpsc::Receiver<Value>,
    events: Events,
    refusals: Arc<Mutex<Refusals>>,
    next_id: u64,
}

/// How an error begins if QEMU has replied.
const REFUSES: &str = "QEMU refuses";

/// Whether QEMU has refused the command, in its words.
pub(super) fn is_refusal(error: &anyhow::Error) -> bool {
    error.to_string().starts_with(REFUSES)
}

impl Qmp {
    /// Connects to the socket that a QEMU makes at `path`, waiting for it until `deadline` while the
    /// QEMU is `alive`.
    ///
    /// # Errors
    /// When there is no such socket in time, or what replies there is not a QMP server.
    pub(crate) fn connect(
        path: &Path,
        deadline: Instant,
        mut alive: impl FnMut() -> bool,
    ) -> Result<Self> {
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(error) if Instant::now() >= deadline || !alive() => {
                    return Err(error).context("QEMU opened no QMP socket");
                }
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        };
        let input = stream.try_clone().context("cannot use the QMP socket")?;
        Self::new(stream, input, deadline)
    }

    /// Greets the server behind `output` and `input`.
    ///
    /// # Errors
    /// When it does not reply as a QMP server before `deadline`.
    pub(crate) fn new(
        output: impl Read + Send + 'static,
        input: impl Write + Send + 'static,
        deadline: Instant,
    ) -> Result<Self> {
        let events = Events::default();
        let (sender, replies) = mpsc::channel();
        let refusals = Arc::<Mutex<Refusals>>::default();
        let theirs = (Arc::clone(&events), Arc::clone(&refusals));
        thread::spawn(move || sort(BufReader::new(output), &sender, &theirs.0, &theirs.1));

        let mut qmp = Self { input: Box::new(input), replies, events, refusals, next_id: 1 };
        let greeting = qmp.next_reply(deadline).context("QMP: no greeting")?;
        if greeting.get("QMP").is_none() {
            bail!("QMP: not a greeting: {greeting}");
        }
        qmp.execute("qmp_capabilities", json!({}), deadline)?;
        Ok(qmp)
    }

    /// Executes a command; returns its value.
    ///
    /// # Errors
    /// When QEMU refuses it (in QEMU's words) or does not reply before `deadline`.
    pub(crate) fn execute(
        &mut self,
        command: &str,
        arguments: Value,
        deadline: Instant,
    ) -> Result<Value> {
        let id = self.next_id;
        self.next_id += 1;
        locked(&self.refusals).note(id, command, &arguments);
        // Written as one piece: QEMU acts on the closing brace, and a guest that ends at once takes it away
        // before a line end that is sent on its own.
        let line = format!("{}\n", json!({"execute": command, "arguments": arguments, "id": id}));
        self.input
            .write_all(line.as_bytes())
            .and_then(|()| self.input.flush())
            .with_context(|| format!("QMP: cannot send {command}"))?;

        loop {
            let mut reply =
                self.next_reply(deadline).with_context(|| format!("QMP: no reply to {command}"))?;
            // The reply to a command that timed out may still arrive.
            if reply.get("id").is_some_and(|theirs| *theirs != json!(id)) {
                continue;
            }
            if let Some(error) = reply.get("error") {
                let why = error["desc"].as_str().map_or_else(|| error.to_string(), str::to_owned);
                return Err(anyhow!("{REFUSES} {command}: {why}"));
            }
            return Ok(reply["return"].take());
        }
    }

    /// Waits for the first event, in order of arrival, that `wanted` accepts, and takes it out of the inbox.
    ///
    /// # Errors
    /// When none comes before `deadline`; the error lists what did.
    pub(crate) fn wait_event<T>(
        &self,
        deadline: Instant,
        what: &str,
        mut wanted: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        let waited = self.events.wait(deadline, |events| {
            let mut numbered = events.iter().enumerate();
            let (at, value) = numbered.find_map(|(at, event)| Some((at, wanted(event)?)))?;
            events.remove(at);
            Some(value)
        });
        waited.map_err(|end| {
            let name = |event: &Value| event["event"].to_string();
            let names = self.events.with(|events| events.iter().map(name).collect::<Vec<_>>());
            let end = if end == End::Closed { "QEMU is gone" } else { "timed out" };
            anyhow!("{end} waiting for the event {what}; seen: [{}]", names.join(", "))
        })
    }

    /// Takes the first event that `wanted` accepts out of the inbox, if it has arrived.
    pub(crate) fn take_event(&self, wanted: impl FnMut(&Value) -> bool) -> Option<Value> {
        self.events.with(|events| {
            let at = events.iter().position(wanted)?;
            Some(events.remove(at))
        })
    }

    fn next_reply(&self, deadline: Instant) -> Result<Value> {
        let patience = deadline.saturating_duration_since(Instant::now());
        self.replies.recv_timeout(patience).map_err(|error| match error {
            mpsc::RecvTimeoutError::Timeout => anyhow!("timed out"),
            mpsc::RecvTimeoutError::Disconnected => anyhow!("QEMU is gone"),
        })
    }
}

/// The refusals of guests: each request that QEMU accepted has at most one, however many events report it.
///
/// QEMU sends several events for one refusal: `MEM_UNPLUG_ERROR` and `DEVICE_UNPLUG_GUEST_ERROR` until 9.0, later the
/// latter alone; on pseries twice if the guest unisolates a connector, once if it configures it again (hw/ppc/spapr.c,
/// spapr_memory_unplug_rollback, and its two callers in hw/ppc/spapr_drc.c). Requests, replies and events come in one
/// order: all events before the next accepted request are about the same refusal. A second event that comes between
/// a request and its reply is taken for a refusal of that request. If that is wrong, QEMU refuses the next request
/// because this one is pending, and the event that follows counts.
#[derive(Default)]
struct Refusals {
    /// Requests to unplug that QEMU has not replied to yet, and their devices.
    sent: HashMap<u64, String>,
    /// Devices with a request that QEMU has accepted, or calls pending, and whose refusal was not reported yet.
    open: HashSet<String>,
}

impl Refusals {
    /// Notes a command that is about to be sent.
    fn note(&mut self, id: u64, command: &str, arguments: &Value) {
        if let ("device_del", Some(device)) = (command, arguments["id"].as_str()) {
            self.sent.insert(id, device.to_owned());
        }
    }

    /// Whether `message` repeats the refusal of an earlier event.
    fn are_repeated_by(&mut self, message: &Value) -> bool {
        if let Some(device) = message["id"].as_u64().and_then(|id| self.sent.remove(&id)) {
            self.open.insert(device);
            return false;
        }
        let named = message["event"].as_str();
        let refusal = matches!(named, Some("MEM_UNPLUG_ERROR" | "DEVICE_UNPLUG_GUEST_ERROR"));
        let device = message["data"]["device"].as_str().unwrap_or_default();
        if !refusal || self.open.remove(device) {
            return false;
        }
        // The guest may be quicker than QEMU's reply to the request.
        let early = self.sent.iter().find(|(_, sent)| *sent == device).map(|(&id, _)| id);
        early.and_then(|id| self.sent.remove(&id)).is_none()
    }
}

/// Reads lines until the end: events go to the inbox, everything else is a reply.
fn sort(
    mut output: impl BufRead,
    replies: &mpsc::Sender<Value>,
    events: &Events,
    refusals: &Mutex<Refusals>,
) {
    let mut line = Vec::new();
    while matches!(output.read_until(b'\n', &mut line), Ok(count) if count > 0) {
        if let Ok(message) = serde_json::from_slice::<Value>(&line) {
            if locked(refusals).are_repeated_by(&message) {
                // The inbox has it.
            } else if message.get("event").is_some() {
                events.with(|events| events.push(message));
            } else if replies.send(message).is_err() {
                break;
            }
        }
        line.clear();
    }
    events.close();
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: &str =
        "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n{\"return\": {}, \"id\": 1}\r\n";

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    /// A client and the server's end of its socket.
    fn connected(script: &str) -> (Qmp, UnixStream) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(GREETING.as_bytes()).unwrap();
        theirs.write_all(script.as_bytes()).unwrap();
        let input = ours.try_clone().unwrap();
        (Qmp::new(ours, input, soon()).unwrap(), theirs)
    }

    #[test]
    fn a_command_is_one_line_and_gets_the_reply_with_its_number() {
        let (mut qmp, theirs) =
            connected("{\"return\": 1, \"id\": 77}\r\n{\"return\": 2, \"id\": 2}\r\n");
        assert_eq!(qmp.execute("query-x", json!({"a": 1}), soon()).unwrap(), 2);
        let mut lines = BufReader::new(theirs).lines();
        assert!(lines.next().unwrap().unwrap().contains("qmp_capabilities"));
        let sent: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(sent, json!({"execute": "query-x", "arguments": {"a": 1}, "id": 2}));
    }

    #[test]
    fn a_server_that_goes_at_the_closing_brace_has_the_whole_line() {
        /// A server that is gone once it has an object: it takes what ends a line, and breaks before.
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let whole = bytes.ends_with(b"}\n");
                if whole { Ok(bytes.len()) } else { Err(std::io::ErrorKind::BrokenPipe.into()) }
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let script = format!("{GREETING}{}", "{\"return\": {}, \"id\": 2}\r\n");
        let mut qmp = Qmp::new(std::io::Cursor::new(script), Gone, soon()).unwrap();
        qmp.execute("cont", json!({}), soon()).unwrap();
    }

    #[test]
    fn a_guests_refusal_counts_once_for_each_accepted_request_however_often_it_is_reported() {
        #[derive(Clone, Copy)]
        enum Line {
            Asked(u64, &'static str),
            Accepted(u64),
            Refused(u64),
            Event(&'static str, &'static str),
        }
        use Line::{Accepted, Asked, Event, Refused};
        let counted = |lines: &[Line]| {
            let mut refusals = Refusals::default();
            let counts = lines.iter().filter(|line| match line {
                Asked(id, device) => {
                    refusals.note(*id, "device_del", &json!({"id": device}));
                    false
                }
                Accepted(id) => refusals.are_repeated_by(&json!({"return": {}, "id": id})),
                Refused(id) => refusals.are_repeated_by(&json!({"error": {}, "id": id})),
                Event(name, device) => {
                    !refusals.are_repeated_by(&json!({"event": name, "data": {"device": device}}))
                }
            });
            counts.count()
        };
        let (old, new) = ("MEM_UNPLUG_ERROR", "DEVICE_UNPLUG_GUEST_ERROR");
        // By a connector that is unisolated, on old and on new versions, and by one that is configured again.
        assert_eq!(counted(&[Asked(2, "a"), Accepted(2), Event(old, "a"), Event(new, "a")]), 1);
        assert_eq!(counted(&[Asked(2, "a"), Accepted(2), Event(new, "a"), Event(new, "a")]), 1);
        let twice = |between: &[Line]| {
            let first = [Asked(2, "a"), Accepted(2), Event(new, "a")];
            let second = [Asked(3, "a"), Accepted(3), Event(new, "a")];
            counted(&[&first, between, &second].concat())
        };
        assert_eq!((twice(&[]), twice(&[Event(new, "a")])), (2, 2));
        // The second event of a refusal comes while the next request is on its way: the one after that finds it pending.
        let late = [Asked(2, "a"), Accepted(2), Event(old, "a"), Asked(3, "a"), Event(new, "a")];
        let pending = [Accepted(3), Asked(4, "a"), Refused(4), Event(old, "a"), Event(new, "a")];
        assert_eq!(counted(&[late, pending].concat()), 3);
        // Each device has its own.
        let two = [Asked(2, "a"), Asked(3, "b"), Accepted(2), Accepted(3)];
        let both = [Event(new, "a"), Event(new, "b"), Event(new, "a"), Event(new, "b")];
        assert_eq!(counted(&[two, both].concat()), 2);
        // The guest is quicker than QEMU's reply.
        let early = [Asked(2, "a"), Event(new, "a"), Accepted(2), Event(new, "a")];
        assert_eq!(counted(&early), 1);
        let gone = [Event("DEVICE_DELETED", "a"), Event("DEVICE_DELETED", "a")];
        assert_eq!(counted(&gone), 2);
    }

    #[test]
    fn a_refusal_is_reported_in_qemus_words() {
        let (mut qmp, _theirs) = connected(
            "{\"id\": 2, \"error\": {\"class\": \"GenericError\", \"desc\": \"no slot\"}}\n",
        );
        let error = qmp.execute("device_add", json!({}), soon()).unwrap_err().to_string();
        assert_eq!(error, "QEMU refuses device_add: no slot");
    }

    #[test]
    fn events_between_replies_are_kept_until_asked_for() {
        let (mut qmp, _theirs) = connected(
            "{\"event\": \"A\", \"data\": 1}\n{\"event\": \"B\"}\n{\"return\": {}, \"id\": 2}\n{\"event\": \"A\", \"data\": 2}\n",
        );
        qmp.execute("x", json!({}), soon()).unwrap();
        let data = |event: &Value| (event["event"] == "A").then(|| event["data"].as_u64().unwrap());
        assert_eq!(qmp.wait_event(soon(), "A", data).unwrap(), 1);
        assert_eq!(qmp.wait_event(soon(), "A", data).unwrap(), 2);
        let error = qmp.wait_event(Instant::now(), "A", data).unwrap_err().to_string();
        assert!(error.contains("waiting for the event A; seen: [\"B\"]"), "{error}");
    }

    #[test]
    fn a_server_that_goes_away_ends_all_waiting() {
        let (mut qmp, theirs) = connected("");
        drop(theirs);
        assert!(qmp.execute("x", json!({}), soon()).is_err());
        assert!(qmp.wait_event(soon(), "A", |_| Some(())).is_err());
    }

    #[test]
    fn something_that_is_not_a_qmp_server_is_refused() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"{\"hello\": 1}\n").unwrap();
        let input = ours.try_clone().unwrap();
        assert!(
            Qmp::new(ours, input, soon())
                .is_err_and(|error| error.to_string().contains("not a greeting"))
        );
    }
}
