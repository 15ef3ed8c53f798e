//! Registered owners: owners of movable pages, and users that only have a name. Both stay for ever.

use crate::addr::Order;
use crate::alloc::migrate::MovableOps;
use crate::memmap::page::{MAX_MOVERS, MAX_USERS, MoverId, Owner, UserId};
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};
use spin::Once;

/// The number of managers that have registered an owner.
static MANAGERS: AtomicU32 = AtomicU32::new(0);

hotmem_paging::errors! {
    /// The table of owners of this kind is full.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TooManyOwners {
        /// The number of registered owners.
        pub count: usize,
    } => "{count} owners have registered already";
}

/// A registered owner of movable pages: the handle to allocate and free memory for that owner.
/// [`Mm::register`](crate::Mm::register) returns one for each owner and it cannot be copied, so it proves that the
/// caller acts for the owner. Another manager refuses it.
#[derive(Debug, PartialEq, Eq)]
pub struct Mover(MoverId, ManagerId);

impl Mover {
    /// The owner's number in its pages.
    pub const fn id(&self) -> MoverId {
        self.0
    }
}

/// A name for unmovable pages: see [`Mm::register_user`](crate::Mm::register_user). Another manager refuses it.
#[derive(Debug, PartialEq, Eq)]
pub struct User(UserId, ManagerId);

impl User {
    /// The user's number in its pages.
    pub const fn id(&self) -> UserId {
        self.0
    }

    /// The manager that the user has registered with.
    pub(crate) const fn manager(&self) -> ManagerId {
        self.1
    }
}

/// The manager that an owner has registered with: managers count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ManagerId(u32);

impl ManagerId {
    /// The number.
    pub(crate) const fn get(self) -> u32 {
        self.0
    }
}

/// The registered values, by their numbers.
struct Registry<T, const N: usize>([Once<T>; N]);

impl<T: Copy, const N: usize> Registry<T, N> {
    const fn new() -> Self {
        Self([const { Once::new() }; N])
    }

    fn get(&self, index: usize) -> Option<T> {
        self.0.get(index)?.get().copied()
    }

    /// Keeps `value` for ever. Returns its number.
    fn add(&self, value: T) -> Result<usize, TooManyOwners> {
        let takes = |slot: &Once<T>| {
            let mut mine = false;
            slot.call_once(|| {
                mine = true;
                value
            });
            mine
        };
        self.0.iter().position(takes).ok_or(TooManyOwners { count: N })
    }
}

/// The owners that have registered.
pub(crate) struct Owners {
    movers: Registry<&'static dyn MovableOps, MAX_MOVERS>,
    users: Registry<&'static str, MAX_USERS>,
    /// A bit for each owner that divides its extents.
    splitters: AtomicU32,
    /// A bit for each order of extents that owners who do not divide them have asked for.
    whole: AtomicU32,
    /// The manager's number; 0 until the first owner registers.
    manager: AtomicU32,
}

impl Owners {
    pub(crate) const fn new() -> Self {
        let [splitters, whole, manager] = [const { AtomicU32::new(0) }; 3];
        Self { movers: Registry::new(), users: Registry::new(), splitters, whole, manager }
    }

    /// The manager's number.
    fn manager(&self) -> ManagerId {
        ManagerId(self.manager.load(Ordering::Relaxed))
    }

    /// The same, for a registration.
    pub(crate) fn number(&self) -> ManagerId {
        if self.manager() == ManagerId(0) {
            let number = MANAGERS.fetch_add(1, Ordering::Relaxed) + 1;
            // Another CPU may have been faster: its number counts.
            let _ = self.manager.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
        }
        self.manager()
    }

    pub(crate) fn mover(&self, mover: MoverId) -> Option<&'static dyn MovableOps> {
        self.movers.get(mover.index())
    }

    /// Whether an owner divides its extents.
    pub(crate) fn splits(&self, mover: MoverId) -> bool {
        self.splitters.load(Ordering::Relaxed) >> mover.index() & 1 != 0
    }

    /// Notes that an owner asks for an extent of `order`.
    pub(crate) fn note_size(&self, mover: &Mover, order: Order) {
        let bit = 1 << order.get();
        if self.whole.load(Ordering::Relaxed) & bit == 0 && !self.splits(mover.0) {
            self.whole.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Whether there may be an extent larger than `order` that moves in one piece only.
    pub(crate) fn may_have_larger(&self, order: Order) -> bool {
        self.whole.load(Ordering::Relaxed) >> order.get() > 1
    }

    /// See [`Mm::register`](crate::Mm::register).
    pub(crate) fn register(&self, ops: &'static dyn MovableOps) -> Result<Mover, TooManyOwners> {
        let index = self.movers.add(ops)?;
        let id = MoverId::new(index).ok_or(TooManyOwners { count: MAX_MOVERS })?;
        if ops.splits() {
            self.splitters.fetch_or(1 << index, Ordering::Relaxed);
        }
        Ok(Mover(id, self.number()))
    }

    /// See [`Mm::register_user`](crate::Mm::register_user).
    pub(crate) fn register_user(&self, name: &'static str) -> Result<User, TooManyOwners> {
        let index = self.users.add(name)?;
        let id = UserId::new(index).ok_or(TooManyOwners { count: MAX_USERS })?;
        Ok(User(id, self.number()))
    }

    /// The owner of the memory of `mover`, if it has registered here.
    pub(crate) fn owner_of(&self, mover: &Mover) -> Option<Owner> {
        self.is_here(mover.1).then_some(Owner::Movable(mover.0))
    }

    /// Whether this is the manager that an owner has registered with.
    pub(crate) fn is_here(&self, manager: ManagerId) -> bool {
        let here = self.manager() == manager;
        if !here {
            log::error!("an owner of memory called a manager that it has not registered with");
        }
        here
    }

    /// Whether extents can have this owner: if it has to register, it did.
    pub(crate) fn knows(&self, owner: Owner) -> bool {
        match owner {
            Owner::Movable(mover) => self.mover(mover).is_some(),
            Owner::Named(user) => self.users.get(user.index()).is_some(),
            _ => true,
        }
    }

    /// The name of an owner, for messages: that of a movable owner or a user is its own.
    pub(crate) fn name(&self, owner: Owner) -> &'static str {
        let own = match owner {
            Owner::Movable(mover) => self.mover(mover).map(|ops| ops.name()),
            Owner::Named(user) => self.users.get(user.index()),
            _ => None,
        };
        own.unwrap_or(owner.name())
    }
}

impl fmt::Debug for Owners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let movers = (0..MAX_MOVERS).filter_map(|index| Some(self.movers.get(index)?.name()));
        let users = (0..MAX_USERS).filter_map(|index| self.users.get(index));
        f.debug_list().entries(movers.chain(users)).finish()
    }
}
