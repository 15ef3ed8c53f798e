//! Listeners over whole operations: which are notified, in which order, and that a veto changes nothing.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::sync::Mutex;

use hotmem::testing::{Bench, FakeMachine, Holder, Tiny, range};
use hotmem::{
    BlockId, BlockState, Change, Event, ListInUse, Listen, Listener, Mm, News, NodeId,
    OfflineError, OnlineError, Order, Pfn, PhysRange, Placement, Quarantined, Stepped, Veto,
    ZoneKind,
};
use hotmem_tests::memory::{MIB, TINY_WINDOW, assert_same, tiny};

type Manager = Mm<FakeMachine<Tiny>>;
type Heard = Mutex<Vec<(usize, Event, Change)>>;

/// Records its notifications, and objects to one kind of event if it is configured so.
struct Ear {
    number: usize,
    objects: &'static Mutex<Option<(usize, Event)>>,
    heard: &'static Heard,
}

impl Listen for Ear {
    fn notify(&self, event: Event, change: &Change) -> Result<(), &'static str> {
        self.heard.lock().unwrap().push((self.number, event, *change));
        if *self.objects.lock().unwrap() == Some((self.number, event)) {
            return Err("not this one");
        }
        Ok(())
    }
}

const NAMES: [&str; 4] = ["first", "second", "third", "fourth"];

struct Rig {
    bench: &'static Bench<Tiny>,
    heard: &'static Heard,
    objects: &'static Mutex<Option<(usize, Event)>>,
    listeners: Vec<&'static Listener>,
    dimm: PhysRange,
}

/// Three blocks on a machine with four listeners, registered in an arbitrary order.
fn rig() -> Rig {
    let bench: &'static Bench<Tiny> = Box::leak(Box::new(tiny(MIB)));
    let heard: &'static Heard = Box::leak(Box::default());
    let objects: &'static Mutex<_> = Box::leak(Box::new(Mutex::new(None)));
    let dimm = range(TINY_WINDOW, 3 * MIB);
    bench.plug(dimm);
    bench.add(dimm, Placement::PerBlock);
    let listeners = NAMES.iter().enumerate().map(|(number, name)| {
        let ear: &'static Ear = Box::leak(Box::new(Ear { number, objects, heard }));
        let listener: &'static Listener =
            Box::leak(Box::new(Listener::new(name, -10 * number as i32, ear)));
        listener
    });
    let listeners: Vec<_> = listeners.collect();
    [2, 0, 3, 1].iter().for_each(|&number: &usize| bench.mm.listen(listeners[number]).unwrap());
    Rig { bench, heard, objects, listeners, dimm }
}

impl Rig {
    fn id(&self) -> BlockId {
        self.bench.blocks(self.dimm)[1]
    }

    fn mm(&self) -> &'static Manager {
        &self.bench.mm
    }

    fn object(&self, objection: Option<(usize, Event)>) {
        *self.objects.lock().unwrap() = objection;
    }

    /// The notifications since the last call, without the change, which is the block's every time.
    #[track_caller]
    fn heard(&self, kind: ZoneKind) -> Vec<(usize, Event)> {
        let all: Vec<_> = self.heard.lock().unwrap().drain(..).collect();
        let (block, start) = (self.id(), self.id().get() * 256);
        // Four pages of memmap never belong to the allocator.
        let pfns = hotmem::PfnRange { start: Pfn::new(start + 4), end: Pfn::new(start + 256) };
        for (_, _, change) in &all {
            assert_eq!(*change, Change { block, pfns, node: NodeId::ZERO, kind });
        }
        all.into_iter().map(|(number, event, _)| (number, event)).collect()
    }
}

/// The notifications of `event` to the listeners with these numbers.
fn calls(event: Event, numbers: impl IntoIterator<Item = usize>) -> Vec<(usize, Event)> {
    numbers.into_iter().map(|number| (number, event)).collect()
}

#[test]
fn all_are_notified_by_priority_of_a_block_that_goes_online_and_offline() {
    let rig = rig();
    rig.mm().online(rig.id(), ZoneKind::Movable).unwrap();
    let expected = [calls(Event::GoingOnline, 0..4), calls(Event::Online, 0..4)].concat();
    assert_eq!(rig.heard(ZoneKind::Movable), expected);
    rig.mm().offline(rig.id()).unwrap();
    let expected = [calls(Event::GoingOffline, 0..4), calls(Event::Offline, 0..4)].concat();
    assert_eq!(rig.heard(ZoneKind::Movable), expected);
    rig.bench.check();
}

#[test]
fn an_objection_to_going_online_at_any_place_changes_nothing_and_cancels_who_agreed() {
    for (place, by) in NAMES.into_iter().enumerate() {
        let rig = rig();
        rig.object(Some((place, Event::GoingOnline)));
        let before = rig.bench.snapshot();
        let veto = Veto { by, why: "not this one" };
        let refused = rig.mm().online(rig.id(), ZoneKind::Normal);
        assert_eq!(refused.unwrap_err(), OnlineError::Vetoed(rig.id(), veto));
        let going = calls(Event::GoingOnline, 0..=place);
        let cancel = calls(Event::CancelOnline, (0..place).rev());
        assert_eq!(rig.heard(ZoneKind::Normal), [going, cancel].concat());
        rig.bench.check();
        assert_same(&before, &rig.bench.snapshot());
        rig.object(None);
        rig.mm().online(rig.id(), ZoneKind::Normal).unwrap();
    }
}

#[test]
fn an_objection_to_going_offline_at_any_place_changes_nothing_and_cancels_who_agreed() {
    for (place, by) in NAMES.into_iter().enumerate() {
        let rig = rig();
        rig.mm().online(rig.id(), ZoneKind::Movable).unwrap();
        rig.heard(ZoneKind::Movable);
        rig.object(Some((place, Event::GoingOffline)));
        let before = rig.bench.snapshot();
        let veto = Veto { by, why: "not this one" };
        let refused = rig.mm().offline(rig.id());
        assert_eq!(refused.unwrap_err(), OfflineError::Vetoed(rig.id(), veto));
        let going = calls(Event::GoingOffline, 0..=place);
        let cancel = calls(Event::CancelOffline, (0..place).rev());
        assert_eq!(rig.heard(ZoneKind::Movable), [going, cancel].concat());
        rig.bench.check();
        assert_same(&before, &rig.bench.snapshot());
        rig.object(None);
        rig.mm().offline(rig.id()).unwrap();
    }
}

#[test]
fn an_objection_to_what_has_happened_changes_nothing() {
    let rig = rig();
    rig.object(Some((1, Event::Online)));
    rig.mm().online(rig.id(), ZoneKind::Movable).unwrap();
    assert_eq!(rig.heard(ZoneKind::Movable).len(), 8);
    rig.object(Some((1, Event::Offline)));
    rig.mm().offline(rig.id()).unwrap();
    assert_eq!(rig.mm().block(rig.id()).unwrap().state, BlockState::Offline);
    assert_eq!(rig.heard(ZoneKind::Movable).len(), 8);
    rig.bench.check();
}

#[test]
fn a_cancelled_a_dropped_and_a_failed_offline_each_notify_of_the_cancel_once() {
    let rig = rig();
    let holder = Holder::register(rig.bench);
    rig.mm().online(rig.id(), ZoneKind::Movable).unwrap();
    rig.heard(ZoneKind::Movable);
    let both =
        [calls(Event::GoingOffline, 0..4), calls(Event::CancelOffline, (0..4).rev())].concat();
    for dropped in [false, true] {
        let mut op = rig.mm().start_offline(rig.id()).unwrap();
        while rig.heard.lock().unwrap().is_empty() {
            let Stepped::Going(more) = op.step(1).unwrap() else { panic!("done too soon") };
            op = more;
        }
        if dropped {
            drop(op)
        } else {
            op.cancel()
        }
        assert_eq!(rig.heard(ZoneKind::Movable), both);
    }

    // Cancelled before any listener was notified: none is notified of the cancel.
    rig.mm().start_offline(rig.id()).unwrap().cancel();
    assert_eq!(rig.heard(ZoneKind::Movable), []);

    let handle = holder.take_in_zone(rig.bench, Order::ZERO).unwrap();
    holder.pin(handle, true);
    assert!(matches!(rig.mm().offline(rig.id()), Err(OfflineError::InUse { .. })));
    assert_eq!(rig.heard(ZoneKind::Movable), both);
    rig.bench.check();
}

/// Allocates a page at each notification, and frees the previous one.
struct Busybody {
    mm: &'static Manager,
    page: Mutex<Option<Pfn>>,
}

impl Listen for Busybody {
    fn notify(&self, _: Event, change: &Change) -> Result<(), &'static str> {
        let next = self.mm.take_pages(Order::ZERO).map_err(|_| "no page for notes")?;
        if let Some(last) = self.page.lock().unwrap().replace(next) {
            self.mm.free_pages(last).map_err(|_| "the last page is lost")?;
        }
        assert!(self.mm.block(change.block).is_some() && self.mm.page_info(next).is_some());
        Ok(())
    }
}

#[test]
fn a_listener_may_allocate_free_and_look_up_during_a_notification() {
    let rig = rig();
    let mm = rig.mm();
    let hook: &'static Busybody = Box::leak(Box::new(Busybody { mm, page: Mutex::new(None) }));
    mm.listen(Box::leak(Box::new(Listener::new("busybody", 5, hook)))).unwrap();
    for kind in [ZoneKind::Movable, ZoneKind::Normal] {
        mm.online(rig.id(), kind).unwrap();
        rig.bench.check();
        mm.offline(rig.id()).unwrap();
        rig.bench.check();
    }
    assert!(hook.page.lock().unwrap().is_some());
}

#[test]
fn a_listener_that_left_is_not_notified_and_one_registered_twice_is_notified_once() {
    let rig = rig();
    rig.mm().unlisten(rig.listeners[1]).unwrap();
    rig.mm().unlisten(rig.listeners[1]).unwrap();
    rig.mm().listen(rig.listeners[2]).unwrap();
    rig.mm().online(rig.id(), ZoneKind::Movable).unwrap();
    let who = [0, 2, 3];
    let expected = [calls(Event::GoingOnline, who), calls(Event::Online, who)].concat();
    assert_eq!(rig.heard(ZoneKind::Movable), expected);
    rig.mm().listen(rig.listeners[1]).unwrap();
    rig.mm().offline(rig.id()).unwrap();
    let expected = [calls(Event::GoingOffline, 0..4), calls(Event::Offline, 0..4)].concat();
    assert_eq!(rig.heard(ZoneKind::Movable), expected);
}

#[test]
fn the_list_stays_as_it_is_while_a_block_goes_offline_in_steps() {
    let rig = rig();
    rig.mm().unlisten(rig.listeners[3]).unwrap();
    rig.mm().online(rig.id(), ZoneKind::Movable).unwrap();
    for cancelled in [true, false] {
        rig.heard(ZoneKind::Movable);
        let mut op = rig.mm().start_offline(rig.id()).unwrap();
        while rig.heard.lock().unwrap().is_empty() {
            let Stepped::Going(more) = op.step(1).unwrap() else { panic!("done too soon") };
            op = more;
        }
        assert_eq!(rig.mm().unlisten(rig.listeners[0]), Err(ListInUse));
        assert_eq!(rig.mm().listen(rig.listeners[3]), Err(ListInUse));
        let end = if cancelled {
            op.cancel();
            calls(Event::CancelOffline, (0..3).rev())
        } else {
            while let Stepped::Going(more) = op.step(1).unwrap() {
                op = more;
            }
            calls(Event::Offline, 0..3)
        };
        let expected = [calls(Event::GoingOffline, 0..3), end].concat();
        assert_eq!(rig.heard(ZoneKind::Movable), expected);
    }
    rig.mm().listen(rig.listeners[3]).unwrap();
    rig.mm().unlisten(rig.listeners[0]).unwrap();
    rig.mm().online(rig.id(), ZoneKind::Movable).unwrap();
    let expected = [calls(Event::GoingOnline, 1..4), calls(Event::Online, 1..4)].concat();
    assert_eq!(rig.heard(ZoneKind::Movable), expected);
}

/// Tries to unregister, and to register another listener, at each notification.
struct Restless {
    mm: &'static Manager,
    own: Mutex<Option<&'static Listener>>,
    seen: Mutex<Vec<Event>>,
}

impl Listen for Restless {
    fn notify(&self, event: Event, _: &Change) -> Result<(), &'static str> {
        let own = self.own.lock().unwrap().unwrap();
        assert_eq!((self.mm.unlisten(own), self.mm.listen(own)), (Err(ListInUse), Err(ListInUse)));
        self.seen.lock().unwrap().push(event);
        Ok(())
    }
}

#[test]
fn a_listener_that_tries_to_leave_during_a_notification_is_refused_and_notified_of_the_end() {
    let rig = rig();
    let mm = rig.mm();
    let hook = Restless { mm, own: Mutex::default(), seen: Mutex::default() };
    let hook: &'static Restless = Box::leak(Box::new(hook));
    let listener: &'static Listener = Box::leak(Box::new(Listener::new("restless", 5, hook)));
    *hook.own.lock().unwrap() = Some(listener);
    mm.listen(listener).unwrap();
    mm.online(rig.id(), ZoneKind::Movable).unwrap();
    mm.offline(rig.id()).unwrap();
    let all = [Event::GoingOnline, Event::Online, Event::GoingOffline, Event::Offline];
    assert_eq!(*hook.seen.lock().unwrap(), all);
    mm.unlisten(listener).unwrap();
}

/// Records the news, and queries.
struct Reader {
    mm: &'static Manager,
    news: Mutex<Vec<News>>,
}

impl Listen for Reader {
    fn notify(&self, _: Event, _: &Change) -> Result<(), &'static str> {
        Ok(())
    }

    fn heard(&self, news: &News) {
        self.mm.dump(&mut |_| ());
        self.news.lock().unwrap().push(*news);
    }
}

impl Reader {
    #[track_caller]
    fn expect(&self, news: &[News]) {
        assert_eq!(core::mem::take(&mut *self.news.lock().unwrap()), news);
    }
}

#[test]
fn listeners_hear_on_which_node_memory_is_that_joins_a_block() {
    let bench: &'static Bench<Tiny> = Box::leak(Box::new(tiny(MIB)));
    let mm = &bench.mm;
    let reader: &'static Reader = Box::leak(Box::new(Reader { mm, news: Mutex::default() }));
    mm.listen(Box::leak(Box::new(Listener::new("reader", 0, reader)))).unwrap();
    let [first, second] = [2, 3].map(|node| NodeId::new(node).unwrap());
    let (placement, unit) = (Placement::PerRange, MIB / 4);
    bench.plug(range(TINY_WINDOW, 2 * MIB));
    let added = |range, node| News::Added { range, node, placement };

    let below = range(TINY_WINDOW, unit);
    mm.hot_add(below, first, placement).unwrap();
    reader.expect(&[News::NodeCame(first), added(below, first)]);
    // The second node has no block yet: nothing of it came.
    let inside = range(TINY_WINDOW + unit, unit);
    mm.hot_add(inside, second, placement).unwrap();
    reader.expect(&[added(inside, first)]);
    let past = range(TINY_WINDOW + 2 * unit, 4 * unit);
    mm.hot_add(past, second, placement).unwrap();
    reader.expect(&[News::NodeCame(second), added(past, second)]);
}

#[test]
fn listeners_are_notified_of_memory_and_nodes_and_bad_pages() {
    let bench: &'static Bench<Tiny> = Box::leak(Box::new(tiny(MIB)));
    let mm = &bench.mm;
    let reader: &'static Reader = Box::leak(Box::new(Reader { mm, news: Mutex::default() }));
    mm.listen(Box::leak(Box::new(Listener::new("reader", 0, reader)))).unwrap();
    let (dimm, node) = (range(TINY_WINDOW, 2 * MIB), NodeId::new(3).unwrap());
    let more = range(TINY_WINDOW + 2 * MIB, MIB);
    bench.plug(range(TINY_WINDOW, 3 * MIB));

    let placement = Placement::PerRange;
    let added = News::Added { range: dimm, node, placement };
    mm.hot_add(dimm, node, placement).unwrap();
    reader.expect(&[News::NodeCame(node), added]);
    mm.hot_add(more, node, Placement::Boot).unwrap();
    reader.expect(&[News::Added { range: more, node, placement: Placement::Boot }]);
    assert!(mm.hot_add(more, node, placement).is_err() && mm.remove(range(0, MIB)).is_err());
    reader.expect(&[]);

    mm.convert(dimm).unwrap();
    reader.expect(&[News::Converted(dimm)]);
    let id = bench.blocks(more)[0];
    mm.online(id, ZoneKind::Movable).unwrap();
    let op = mm.start_offline(id).unwrap();
    let bad = Pfn::new(more.start().get() / 4096 + 5);
    mm.poison(bad).unwrap();
    reader.expect(&[News::Poisoned(bad, Quarantined::Page)]);
    op.cancel();
    mm.offline(id).unwrap();

    mm.remove(more).unwrap();
    reader.expect(&[News::Removed(more)]);
    mm.remove(dimm).unwrap();
    reader.expect(&[News::Removed(dimm), News::NodeWent(node)]);
    bench.check();
}
