//! Counters and flags of the simulation: a switch is possible before every operation. Their order
//! is total; weaker ones are for loom.

use super::may_switch;

pub use std::sync::atomic::Ordering;

fn touch() {
    may_switch(|run| run.atomics);
}

macro_rules! atomic {
    ($name:ident, $value:ty, { $($method:ident($($arg:ident: $of:ty),*) -> $out:ty;)* }) => {
        #[derive(Debug, Default)]
        pub struct $name(std::sync::atomic::$name);

        impl $name {
            pub const fn new(value: $value) -> $name {
                $name(std::sync::atomic::$name::new(value))
            }

            $(pub fn $method(&self, $($arg: $of),*) -> $out {
                touch();
                self.0.$method($($arg),*)
            })*
        }
    };
}

atomic!(AtomicBool, bool, {
    load(order: Ordering) -> bool;
    store(value: bool, order: Ordering) -> ();
    swap(value: bool, order: Ordering) -> bool;
    compare_exchange(from: bool, to: bool, ok: Ordering, not: Ordering) -> Result<bool, bool>;
});

atomic!(AtomicU64, u64, {
    load(order: Ordering) -> u64;
    store(value: u64, order: Ordering) -> ();
    swap(value: u64, order: Ordering) -> u64;
    fetch_add(value: u64, order: Ordering) -> u64;
    fetch_sub(value: u64, order: Ordering) -> u64;
    fetch_max(value: u64, order: Ordering) -> u64;
    compare_exchange(from: u64, to: u64, ok: Ordering, not: Ordering) -> Result<u64, u64>;
});
