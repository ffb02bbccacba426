//! From the errors and panics of the storage engine to the errors of a store.

use std::error::Error;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::protocol::store::StoreError;

/// Runs a call into the engine. A panic in there is met only on data that fails its assumptions, so
/// it becomes `Corrupt`: the process goes on, and the data is not believed.
pub fn guard<T>(what: &str, call: impl FnOnce() -> fjall::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(from_engine(what, &error)),
        Err(panic) => {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            Err(StoreError::Corrupt {
                what: what.to_owned(),
                detail: format!("the storage engine gave up: {text}"),
            })
        }
    }
}

/// The store's error for an error of the operating system. `what` names the action.
pub fn from_io(what: &str, error: &std::io::Error) -> StoreError {
    let (what, detail) = (what.to_owned(), error.to_string());
    match error.kind() {
        // A quota and a limit on the size of files are full devices to us: space must be made.
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            StoreError::Full { what, detail }
        }
        // A file that ends early or is gone was cut or removed by someone else.
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData => StoreError::Corrupt { what, detail },
        _ => StoreError::Io { what, detail },
    }
}

/// The store's error for an error of the engine, which carries the operating system's error
/// somewhere inside.
fn from_engine(what: &str, error: &fjall::Error) -> StoreError {
    let mut source: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return from_io(what, io);
        }
        source = inner.source();
    }
    let (what, detail) = (what.to_owned(), error.to_string());
    match error {
        fjall::Error::Locked => StoreError::Locked { what, detail },
        fjall::Error::Poisoned | fjall::Error::KeyspaceDeleted => StoreError::Io { what, detail },
        fjall::Error::InvalidVersion(found) => StoreError::Format {
            what,
            found: found.map_or_else(|| "unreadable".to_owned(), |version| version.to_string()),
            known: "3".to_owned(),
        },
        _ => StoreError::Corrupt { what, detail },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_device_is_found_inside_the_engines_errors() {
        let full = || std::io::Error::from_raw_os_error(28);
        for error in [
            fjall::Error::Io(full()),
            fjall::Error::Storage(fjall::LsmError::Io(full())),
        ] {
            assert!(matches!(
                from_engine("a test", &error),
                StoreError::Full { .. }
            ));
        }
    }

    #[test]
    fn a_panic_is_an_error_that_tells_what_it_said() {
        let result: Result<(), _> = guard("a test", || panic!("block {} is odd", 7));
        let text = result.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text.contains("block 7 is odd"), "{text}");
    }
}
