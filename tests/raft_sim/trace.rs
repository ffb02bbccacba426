//! The log of a run, with simulated times, for a seed that is looked at.

use super::exec::Exec;
use std::cell::RefCell;

thread_local! {
    static CLOCK: RefCell<Option<Exec>> = const { RefCell::new(None) };
}

struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let us = CLOCK.with_borrow(|clock| clock.as_ref().map_or(0, Exec::now_us));
        let target = record.target().rsplit("::").next().unwrap_or_default();
        println!(
            "{:>10.3} ms {target}: {}",
            us as f64 / 1000.0,
            record.args()
        );
    }

    fn flush(&self) {}
}

/// Shows what happens, from a level on.
pub fn show(level: log::LevelFilter) {
    // An error says that it is shown already.
    let _ = log::set_logger(&Lines);
    log::set_max_level(level);
}

/// From now on times are those of this world.
pub fn follow(exec: &Exec) {
    CLOCK.with_borrow_mut(|clock| *clock = Some(exec.clone()));
}
