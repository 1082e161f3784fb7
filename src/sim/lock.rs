//! Locks of the simulation. The data lies in a lock of the standard library that is never waited
//! for: who finds it taken waits as a task.

use std::collections::VecDeque;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, LockResult, PoisonError, TryLockError, TryLockResult};
use std::time::Duration;

use super::time::Waiter;
use super::touch;

/// Tasks that wait for a lock or a condition.
#[derive(Default)]
struct Waiters(std::sync::Mutex<VecDeque<Arc<Waiter>>>);

impl Waiters {
    fn list(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Waiter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self) {
        let waiter = Waiter::here();
        self.list().push_back(Arc::clone(&waiter));
        waiter.wait();
    }

    fn wake_all(&self) {
        // Taken out first: waking is a switch.
        let all = std::mem::take(&mut *self.list());
        all.iter().for_each(|waiter| waiter.wake());
    }

    fn wake_one(&self) {
        loop {
            let Some(waiter) = self.list().pop_front() else { return };
            if !waiter.is_woken() {
                waiter.wake();
                return;
            }
        }
    }
}

macro_rules! guard {
    ($guard:ident, $lock:ident) => {
        pub struct $guard<'a, T> {
            inner: Option<std::sync::$guard<'a, T>>,
            lock: &'a $lock<T>,
        }

        impl<T> Deref for $guard<'_, T> {
            type Target = T;

            fn deref(&self) -> &T {
                self.inner.as_ref().expect("held until it is dropped")
            }
        }

        impl<T> Drop for $guard<'_, T> {
            fn drop(&mut self) {
                self.inner = None;
                self.lock.waiters.wake_all();
            }
        }
    };
}

macro_rules! writes {
    ($guard:ident) => {
        impl<T> DerefMut for $guard<'_, T> {
            fn deref_mut(&mut self) -> &mut T {
                self.inner.as_mut().expect("held until it is dropped")
            }
        }
    };
}

macro_rules! acquire {
    ($lock:expr, $guard:ident, $try:ident) => {{
        let lock = $lock;
        touch();
        loop {
            match lock.inner.$try() {
                Ok(inner) => return Ok($guard { inner: Some(inner), lock }),
                Err(TryLockError::Poisoned(poisoned)) => {
                    let inner = Some(poisoned.into_inner());
                    return Err(PoisonError::new($guard { inner, lock }));
                }
                Err(TryLockError::WouldBlock) => lock.waiters.wait(),
            }
        }
    }};
}

#[derive(Default)]
pub struct Mutex<T> {
    inner: std::sync::Mutex<T>,
    waiters: Waiters,
}

guard!(MutexGuard, Mutex);
writes!(MutexGuard);

impl<T> Mutex<T> {
    pub fn new(value: T) -> Mutex<T> {
        Mutex { inner: std::sync::Mutex::new(value), waiters: Waiters::default() }
    }

    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        acquire!(self, MutexGuard, try_lock)
    }

    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        touch();
        match self.inner.try_lock() {
            Ok(inner) => Ok(MutexGuard { inner: Some(inner), lock: self }),
            Err(TryLockError::Poisoned(poisoned)) => {
                let inner = Some(poisoned.into_inner());
                Err(TryLockError::Poisoned(PoisonError::new(MutexGuard { inner, lock: self })))
            }
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
        }
    }
}

#[derive(Default)]
pub struct RwLock<T> {
    inner: std::sync::RwLock<T>,
    waiters: Waiters,
}

guard!(RwLockReadGuard, RwLock);
guard!(RwLockWriteGuard, RwLock);
writes!(RwLockWriteGuard);

impl<T> RwLock<T> {
    pub fn new(value: T) -> RwLock<T> {
        RwLock { inner: std::sync::RwLock::new(value), waiters: Waiters::default() }
    }

    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        acquire!(self, RwLockReadGuard, try_read)
    }

    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        acquire!(self, RwLockWriteGuard, try_write)
    }
}

#[derive(Default)]
pub struct Condvar {
    waiters: Waiters,
}

impl Condvar {
    pub fn new() -> Condvar {
        Condvar::default()
    }

    pub fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let lock = guard.lock;
        let waiter = Waiter::here();
        self.waiters.list().push_back(Arc::clone(&waiter));
        drop(guard);
        waiter.wait();
        lock.lock()
    }

    /// As [`Condvar::wait`], but not longer than `timeout`; the second value is whether it passed.
    pub fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        let lock = guard.lock;
        let waiter = Waiter::here();
        self.waiters.list().push_back(Arc::clone(&waiter));
        drop(guard);
        let is_late = !waiter.wait_for(timeout);
        self.waiters.list().retain(|other| !Arc::ptr_eq(other, &waiter));
        match lock.lock() {
            Ok(guard) => Ok((guard, is_late)),
            Err(poisoned) => Err(PoisonError::new((poisoned.into_inner(), is_late))),
        }
    }

    pub fn notify_one(&self) {
        touch();
        self.waiters.wake_one();
    }

    pub fn notify_all(&self) {
        touch();
        self.waiters.wake_all();
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mutex")
    }
}
