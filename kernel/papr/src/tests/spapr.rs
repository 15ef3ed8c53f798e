//! Connectors as QEMU 7.2 keeps them (`hw/ppc/spapr_drc.c`, `spapr.c`), its assertions included, and
//! DIMMs that are plugged and unplugged at any moment.

use super::log_entry::log;
use super::tree::FIRST;
use std::collections::{BTreeMap, VecDeque};

const OK: u32 = 0;
const HARDWARE_ERROR: u32 = (-1_i32).cast_unsigned();
const PARAMETER_ERROR: u32 = (-3_i32).cast_unsigned();
const NOT_CONFIGURABLE: u32 = (-9003_i32).cast_unsigned();

/// `SPAPR_DRC_STATE_LOGICAL_*`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    #[default]
    Unusable,
    Available,
    Unisolated,
    Configured,
}

/// A connector: `drc->state`, `drc->dev`, `drc->unplug_requested`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drc {
    pub(super) state: State,
    pub(super) dimm: Option<u32>,
    pub(super) wanted: bool,
}

/// What the host does while the kernel is at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// `device_add` of so many blocks.
    Add(u32),
    /// `device_del` of what is there.
    Del,
}

/// The machine: one slot, whose DIMM begins at the first connector.
#[derive(Default)]
pub(super) struct Spapr {
    pub(super) drcs: BTreeMap<u32, Drc>,
    pub(super) logs: VecDeque<Vec<u8>>,
    /// The DIMM in the slot: its number and its blocks.
    pub(super) dimm: Option<(u32, u32)>,
    /// Whether an unplug is under way (`spapr_pending_dimm_unplugs_find`).
    pub(super) pending: bool,
    /// What the host does before the service call with this number.
    pub(super) host: VecDeque<(usize, Host)>,
    pub(super) calls: usize,
    /// DIMMs that were plugged, unplugs that were cancelled, DIMMs that went.
    pub(super) plugged: u32,
    pub(super) cancelled: u32,
    pub(super) deleted: u32,
}

impl Spapr {
    fn drc(&mut self, number: u32) -> &mut Drc {
        self.drcs.entry(number).or_default()
    }

    fn numbers(&self) -> std::ops::Range<u32> {
        FIRST..FIRST + self.dimm.map_or(0, |(_, blocks)| blocks)
    }

    /// What the host does; a request that QEMU refuses does nothing.
    pub(super) fn act(&mut self, host: Host) {
        match host {
            Host::Add(blocks) if self.dimm.is_none() => {
                self.plugged += 1;
                self.dimm = Some((self.plugged, blocks));
                let dimm = Some(self.plugged);
                for number in self.numbers() {
                    let drc = self.drc(number);
                    assert_eq!(drc.dimm, None, "spapr_drc_attach: g_assert(!drc->dev)");
                    assert_eq!(drc.state, State::Unusable, "spapr_drc_attach: empty state");
                    (drc.dimm, drc.wanted) = (dimm, false);
                }
                self.logs.push_back(log(1, 4, [blocks, FIRST]));
            }
            Host::Del if self.dimm.is_some() && !self.pending => {
                let (_, blocks) = self.dimm.unwrap();
                self.pending = true;
                for number in self.numbers() {
                    let drc = self.drc(number);
                    assert!(drc.dimm.is_some(), "spapr_drc_unplug_request: g_assert(drc->dev)");
                    drc.wanted = true;
                    if drc.state == State::Unusable {
                        self.release(number);
                    }
                }
                self.logs.push_back(log(2, 4, [blocks, FIRST]));
            }
            Host::Add(_) | Host::Del => {}
        }
    }

    /// `spapr_drc_release`, and `spapr_lmb_release` behind it.
    fn release(&mut self, number: u32) {
        let drc = self.drc(number);
        (drc.dimm, drc.wanted) = (None, false);
        let numbers = self.numbers();
        let mut left = self.drcs.range(numbers).map(|(_, drc)| drc);
        if left.all(|drc| drc.dimm.is_none()) {
            (self.dimm, self.pending) = (None, false);
            self.deleted += 1;
        }
    }

    /// The kernel refuses (`spapr_memory_unplug_rollback`).
    fn roll_back(&mut self) {
        self.cancelled += 1;
        self.pending = false;
        for number in self.numbers() {
            self.drc(number).wanted = false;
        }
    }

    /// Before each call the host may do something.
    pub(super) fn called(&mut self) {
        while let Some((_, host)) = self.host.pop_front_if(|(at, _)| *at <= self.calls) {
            self.act(host);
        }
        self.calls += 1;
    }

    /// `set-indicator`
    pub(super) fn set(&mut self, args: &[u32]) -> u32 {
        let &[indicator, number, value] = args else { return PARAMETER_ERROR };
        let drc = *self.drc(number);
        let (state, next) = (drc.state, |state| Drc { state, ..drc });
        let changed = match (indicator, value) {
            (9001, 0) => match state {
                State::Available | State::Unusable => return OK,
                State::Unisolated => return PARAMETER_ERROR,
                State::Configured if !drc.wanted => return HARDWARE_ERROR,
                State::Configured => next(State::Available),
            },
            (9001, 1) => match state {
                State::Unusable => return PARAMETER_ERROR,
                State::Unisolated | State::Configured => {
                    if drc.wanted && drc.dimm.is_some() {
                        self.roll_back();
                    }
                    return OK;
                }
                State::Available => {
                    assert!(drc.dimm.is_some(), "drc_unisolate_logical: g_assert(drc->dev)");
                    next(State::Unisolated)
                }
            },
            (9003, 1) => match state {
                State::Unusable if drc.dimm.is_none() || drc.wanted => return PARAMETER_ERROR,
                State::Unusable => next(State::Available),
                _ => return OK,
            },
            (9003, 0) => match state {
                State::Unusable => return OK,
                State::Available => next(State::Unusable),
                State::Unisolated | State::Configured => return PARAMETER_ERROR,
            },
            _ => return PARAMETER_ERROR,
        };
        *self.drc(number) = changed;
        if (indicator, value) == (9003, 0) && drc.wanted {
            self.release(number);
        }
        OK
    }

    /// `ibm,configure-connector`, in one step.
    pub(super) fn configure(&mut self, number: u32) -> u32 {
        let drc = self.drc(number);
        if drc.state != State::Unisolated {
            return NOT_CONFIGURABLE;
        }
        drc.state = State::Configured;
        if drc.wanted {
            // Taken for the reconfiguration of a block whose unplug failed.
            self.roll_back();
        }
        OK
    }
}
