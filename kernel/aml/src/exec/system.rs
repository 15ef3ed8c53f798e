//! Notifications, mutexes, events, time and other dealings with the machine.

use crate::code::Cursor;
use crate::error::ErrorKind;
use crate::name::NodeId;
use crate::object::{GLOBAL_LOCK, Obj};
use crate::opcode as op;

use super::{Exec, Res};

impl Exec<'_> {
    /// Runs the operator. Returns an error with the code if it is not such an operator.
    pub(super) fn system(&mut self, code: u16, cur: &mut Cursor) -> Res<Obj> {
        match code {
            op::NOTIFY => self.notify(cur)?,
            op::SLEEP => self.sleep(cur)?,
            op::STALL => self.stall(cur)?,
            op::ACQUIRE => {
                let timed_out = self.acquire(cur)?;
                return Ok(Obj::Int(if timed_out { self.cut(u64::MAX) } else { 0 }));
            }
            op::RELEASE => self.release(cur)?,
            op::SIGNAL | op::RESET => self.signal(code, cur)?,
            op::WAIT => {
                let timed_out = self.wait(cur)?;
                return Ok(Obj::Int(if timed_out { self.cut(u64::MAX) } else { 0 }));
            }
            op::TIMER => {
                let now = self.host.io().timer();
                return Ok(Obj::Int(self.cut(now)));
            }
            // The level of AML this evaluator speaks: that of ACPI 2.0 and later.
            op::REVISION => return Ok(Obj::Int(2)),
            op::FATAL => {
                let kind = self.m.code.byte(cur)?;
                let code = self.m.code.number(cur, 4)? as u32;
                let argument = self.int(cur)?;
                return Err(ErrorKind::Fatal { kind, code, argument });
            }
            // Tables are loaded once, before anything runs.
            op::LOAD | op::LOAD_TABLE | op::UNLOAD => return Err(ErrorKind::Opcode(code)),
            _ => return Err(ErrorKind::Opcode(code)),
        }
        Ok(Obj::Nothing)
    }

    /// `Notify`: handed to the host, which queues it.
    fn notify(&mut self, cur: &mut Cursor) -> Res<()> {
        let node = self.node_target(cur)?;
        let value = self.int(cur)?;
        match self.m.names.obj(node) {
            Some(Obj::Device | Obj::Processor | Obj::ThermalZone) => {
                self.m.lookers = self.lookers;
                self.host.notify(node, value);
                Ok(())
            }
            _ => Err(ErrorKind::WrongType("a device, processor or thermal zone")),
        }
    }

    /// `Sleep`, in milliseconds.
    fn sleep(&mut self, cur: &mut Cursor) -> Res<()> {
        let time = self.int(cur)?;
        self.spend(time.saturating_mul(1000))?;
        self.host.io().sleep(time);
        Ok(())
    }

    /// `Stall`, in microseconds.
    fn stall(&mut self, cur: &mut Cursor) -> Res<()> {
        let time = self.int(cur)?;
        self.spend(time)?;
        self.host.io().stall(time);
        Ok(())
    }

    /// Counts microseconds against the limit, before they are spent.
    pub(super) fn spend(&mut self, time: u64) -> Res<()> {
        self.slept = self.slept.saturating_add(time);
        let limit = self.m.most_sleep();
        let spent = self.slept > u64::from(limit) * 1000;
        if spent { Err(ErrorKind::TooSleepy(limit)) } else { Ok(()) }
    }

    /// Takes a super name that has to stand for a mutex.
    fn mutex_target(&mut self, cur: &mut Cursor) -> Res<u32> {
        let node = self.node_target(cur)?;
        match self.m.names.obj(node) {
            Some(Obj::Mutex(mutex)) => Ok(mutex),
            _ => Err(ErrorKind::WrongType("a mutex")),
        }
    }

    /// `Acquire`; true if it timed out. Nothing runs beside an evaluation, so only the lock that firmware
    /// shares has to be waited for. The order of sync levels is kept all the same (ACPI 6.5, 19.6.2).
    fn acquire(&mut self, cur: &mut Cursor) -> Res<bool> {
        let index = self.mutex_target(cur)?;
        let timeout = self.m.code.number(cur, 2)?;
        let mut mutex = self.m.syncs.get(index)?;
        if mutex.count == 0 {
            if mutex.level < self.level {
                return Err(ErrorKind::MutexOrder);
            }
            if index == GLOBAL_LOCK && !self.wait_for_firmware(timeout)? {
                return Ok(true);
            }
            mutex.before = self.level;
            self.level = mutex.level;
        }
        mutex.count = mutex.count.checked_add(1).ok_or(ErrorKind::TooDeep)?;
        self.m.syncs.set(index, mutex)?;
        Ok(false)
    }

    /// `Release`.
    fn release(&mut self, cur: &mut Cursor) -> Res<()> {
        let index = self.mutex_target(cur)?;
        let mut mutex = self.m.syncs.get(index)?;
        mutex.count = mutex.count.checked_sub(1).ok_or(ErrorKind::NotHeld)?;
        if mutex.count == 0 {
            self.level = mutex.before;
            if index == GLOBAL_LOCK {
                self.host.release_global_lock();
            }
        }
        self.m.syncs.set(index, mutex)
    }

    /// Takes a super name that has to stand for an event.
    fn event_target(&mut self, cur: &mut Cursor) -> Res<u32> {
        let node: NodeId = self.node_target(cur)?;
        match self.m.names.obj(node) {
            Some(Obj::Event(event)) => Ok(event),
            _ => Err(ErrorKind::WrongType("an event")),
        }
    }

    /// `Signal` and `Reset`.
    fn signal(&mut self, code: u16, cur: &mut Cursor) -> Res<()> {
        let index = self.event_target(cur)?;
        let mut event = self.m.syncs.get(index)?;
        event.count = if code == op::SIGNAL { event.count.saturating_add(1) } else { 0 };
        self.m.syncs.set(index, event)
    }

    /// `Wait`; true if it timed out. No other method runs that could signal the event meanwhile, so an event
    /// that was not signalled times out at once.
    fn wait(&mut self, cur: &mut Cursor) -> Res<bool> {
        let index = self.event_target(cur)?;
        self.int(cur)?;
        let mut event = self.m.syncs.get(index)?;
        let Some(left) = event.count.checked_sub(1) else {
            return Ok(true);
        };
        event.count = left;
        self.m.syncs.set(index, event)?;
        Ok(false)
    }
}
