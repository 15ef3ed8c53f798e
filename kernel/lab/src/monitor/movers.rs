//! Commands on the kernel's owners of movable pages.

use super::life::{CacheCommand, PoolCommand};
use super::refused::Refused;
use crate::fault::Faults;
use crate::movers::{Cache, CacheStatus, Pool, PoolStatus, Shared};
use alloc::sync::Arc;
use core::fmt::Write;
use hotmem::{Mm, TooManyOwners};

/// The owners, which live as long as the kernel.
#[derive(Debug)]
pub(super) struct Movers<M: Shared> {
    /// Shared with other CPUs.
    pub(super) pool: Arc<Pool<M>>,
    cache: Cache<M>,
}

impl<M: Shared> Movers<M> {
    pub(super) fn new(mm: &'static Mm<M>, faults: &'static Faults) -> Result<Self, TooManyOwners> {
        Ok(Self { pool: Arc::new(Pool::register(mm, faults)?), cache: Cache::register(mm)? })
    }

    pub(super) fn pool(
        &self,
        command: PoolCommand,
        out: &mut dyn Write,
    ) -> Result<(), Refused<'static>> {
        match command {
            PoolCommand::Grow(count, order) => {
                let grown = self.pool.grow(count, order);
                grown.map_err(|(taken, error)| Refused::Grow(taken, error))?;
            }
            PoolCommand::Shrink(count) => {
                writeln!(out, "{} extents freed", self.pool.shrink(count)?)?;
            }
            PoolCommand::Free(handle) => self.pool.release(handle)?,
            PoolCommand::Check => {
                writeln!(out, "{} extents hold what was written", self.pool.check()?)?;
            }
            PoolCommand::Sum => {
                let (extents, sum) = self.pool.sum();
                writeln!(out, "{extents} extents have the checksum {sum:#018x}")?;
            }
            PoolCommand::Pin(handle, pinned) => self.pool.pin(handle, pinned)?,
            PoolCommand::Status { json } => {
                let PoolStatus { extents, pages, pinned, moved, .. } = self.pool.status();
                if json {
                    writeln!(
                        out,
                        "{{\"extents\":{extents},\"pages\":{pages},\"pinned\":{pinned},\"moved\":{moved}}}"
                    )?;
                } else {
                    let pages = format_args!("{extents} extents of {pages} pages");
                    writeln!(out, "{pages}, {pinned} pinned, {moved} moved so far")?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn cache(
        &self,
        command: CacheCommand,
        out: &mut dyn Write,
    ) -> Result<(), Refused<'static>> {
        match command {
            CacheCommand::Write { object, offset, byte, count } => {
                self.cache.write(object, offset, count, |_| byte)?;
            }
            CacheCommand::Read { object, offset } => {
                let mut byte = [0];
                self.cache.read(object, offset, &mut byte)?;
                let [byte] = byte;
                writeln!(out, "{byte}")?;
            }
            CacheCommand::Flush => {
                writeln!(out, "{} pages written back", self.cache.write_back()?)?
            }
            CacheCommand::Drop => writeln!(out, "{} pages dropped", self.cache.drop_pages()?)?,
            CacheCommand::Check => {
                writeln!(out, "{} pages hold what was written", self.cache.check()?)?;
            }
            CacheCommand::Status { json } => {
                let CacheStatus { stored, cached, dirty, moved, .. } = self.cache.status();
                if json {
                    writeln!(
                        out,
                        "{{\"stored\":{stored},\"cached\":{cached},\"dirty\":{dirty},\"moved\":{moved}}}"
                    )?;
                } else {
                    let pages = format_args!("{stored} pages stored, {cached} cached");
                    writeln!(out, "{pages}, {dirty} dirty, {moved} moved so far")?;
                }
            }
        }
        Ok(())
    }
}
