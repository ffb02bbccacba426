//! The session that a shell is: its context, kept in a file from one command to the next.
//!
//! Causality is a promise to a session, and on a command line the session is the terminal's: every
//! command that is started from one terminal, in a sub-shell, a pipe or a script, has the same
//! POSIX session id. So by default the file carries that id, and two terminals do not wait for each
//! other. Programs that detach every command from the terminal name a file of their own.
//!
//! A context is worth something to one cluster only, and each cluster tells its own: a node refuses
//! every other, and does nothing then. So the file has a line for each of the clusters that were
//! used, the last one first, and a command that is refused goes on with the next one.

use super::failure::{Failure, note};
use crate::protocol::payload::decode_unverified;
use std::env;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longer than a command takes, so that only a suspended one makes another give up.
const LOCK_WAIT: Duration = Duration::from_secs(15);
const LOCK_POLL: Duration = Duration::from_millis(20);
/// Clusters whose payloads a session keeps; those that were not used for the longest time go first.
const CLUSTERS: usize = 8;

/// Which context a command goes by: shared by all commands that read or write keys.
#[derive(clap::Args)]
pub struct SessionArgs {
    /// Where the session's context is kept [default: a file of this terminal's in $XDG_RUNTIME_DIR
    /// (or $XDG_STATE_HOME, or ~/.local/state) /causeway]
    #[arg(long, env = "CAUSEWAY_SESSION", value_name = "FILE")]
    session: Option<PathBuf>,
    /// The context to use instead of the session's, which is then left alone
    #[arg(long, value_name = "CAUSAL_PAYLOAD")]
    payload: Option<String>,
}

/// The context of one command: the session's, or a given one.
pub enum Seen {
    Session(SessionFile),
    Given(String),
}

impl SessionArgs {
    /// Opens the session, unless a context is given.
    pub fn open(&self) -> Result<Seen, Failure> {
        Ok(match &self.payload {
            Some(given) => Seen::Given(given.clone()),
            None => Seen::Session(SessionFile::open(self.session.as_deref())?),
        })
    }
}

impl Seen {
    pub fn payload(&self) -> &str {
        match self {
            Self::Session(session) => session.payload(),
            Self::Given(payload) => payload,
        }
    }

    /// Goes on with the session's context for another cluster, for the one that was asked has not
    /// made this one. The last one is empty. Whether there is one left.
    pub fn turn(&mut self) -> bool {
        match self {
            Self::Session(session) => session.turn(),
            Self::Given(_) => false,
        }
    }

    /// Keeps what a reply adds to the session.
    pub fn keep(&self, new: &str) -> Result<(), Failure> {
        match self {
            Self::Session(session) if new != session.payload() || session.at > 0 => {
                session.save(new)
            }
            Self::Session(_) | Self::Given(_) => Ok(()),
        }
    }
}

/// An open session, to the exclusion of other commands until dropped.
pub struct SessionFile {
    path: PathBuf,
    /// The session's payload, for each cluster.
    payloads: Vec<String>,
    /// The one that is used.
    at: usize,
    _lock: File,
}

impl SessionFile {
    /// Opens the session in `path`, or the terminal's own.
    pub fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => default_path()?,
        };
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(|e| cannot("create", dir, &e))?;
        }
        // A file beside it: the session's own is replaced as a whole, and a lock on it with it.
        let lock = lock(&beside(&path, ".lock"))?;
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
            Err(e) => return Err(cannot("read", &path, &e)),
        };
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let payloads: Vec<String> = lines.map(str::to_owned).collect();
        for payload in &payloads {
            decode_unverified(payload).map_err(|e| {
                Failure::usage(format!(
                    "the session file {} holds no causal_payload ({e}): delete it to start a new session",
                    path.display()
                ))
            })?;
        }
        Ok(Self {
            path,
            payloads,
            at: 0,
            _lock: lock,
        })
    }

    /// The session's payload; empty for a new one.
    pub fn payload(&self) -> &str {
        self.payloads.get(self.at).map_or("", String::as_str)
    }

    fn turn(&mut self) -> bool {
        let left = self.at < self.payloads.len();
        self.at += usize::from(left);
        if left && self.at == self.payloads.len() {
            note(
                "the cluster of this node made none of the session's payloads: a new session begins there. What was \
                 seen before belongs to another cluster, or to one that exists no more",
            );
        }
        left
    }

    /// Keeps what the session has seen now. The file is never seen half written.
    pub fn save(&self, payload: &str) -> Result<(), Failure> {
        let new = beside(&self.path, ".new");
        let write = || {
            let mut file = File::create(&new)?;
            writeln!(file, "{payload}")?;
            let others = self.payloads.iter().enumerate();
            let others = others.filter(|(i, _)| *i != self.at).take(CLUSTERS - 1);
            for (_, other) in others {
                writeln!(file, "{other}")?;
            }
            // Before the rename: an empty file would be a session that has forgotten everything.
            file.sync_data()?;
            fs::rename(&new, &self.path)
        };
        write().map_err(|e| cannot("write", &self.path, &e))
    }
}

fn default_path() -> Result<PathBuf, Failure> {
    let dir = |name: &str| {
        env::var_os(name)
            .filter(|d| !d.is_empty())
            .map(PathBuf::from)
    };
    let base = dir("XDG_RUNTIME_DIR")
        .or_else(|| dir("XDG_STATE_HOME"))
        .or_else(|| dir("HOME").map(|home| home.join(".local/state")))
        .ok_or_else(|| {
            Failure::usage("there is no home for the session file: name one with --session FILE")
        })?;
    let id = rustix::process::getsid(None)
        .map_err(|e| Failure::not_done(format!("cannot tell the terminal's session: {e}")))?;
    Ok(base
        .join("causeway")
        .join(format!("session-{}", id.as_raw_nonzero())))
}

fn lock(path: &Path) -> Result<File, Failure> {
    let file = File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|e| cannot("open", path, &e))?;
    let since = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(e)) => return Err(cannot("lock", path, &e)),
            Err(TryLockError::WouldBlock) if since.elapsed() > LOCK_WAIT => {
                return Err(Failure::not_done(format!(
                    "another command is using this session ({}): wait for it, or use another --session",
                    path.display()
                )));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_POLL),
        }
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::not_done(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::failure::Code;
    use crate::protocol::cluster::{Cluster, ClusterId, PayloadKey};
    use crate::protocol::context::Context;
    use crate::protocol::payload::Codec;

    fn cluster() -> Cluster {
        Cluster {
            id: ClusterId([1; 16]),
            key: PayloadKey([1; 32]),
            former: None,
        }
    }

    #[test]
    fn a_session_remembers_and_is_held_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/session");
        let payload = Codec::new(&cluster(), None).encode(&Context::default());
        let session = SessionFile::open(Some(&path)).unwrap();
        assert_eq!(session.payload(), "");
        session.save(&payload).unwrap();
        let other = File::open(beside(&path, ".lock")).unwrap();
        assert!(matches!(other.try_lock(), Err(TryLockError::WouldBlock)));
        drop(session);
        assert_eq!(SessionFile::open(Some(&path)).unwrap().payload(), payload);
    }

    #[test]
    fn a_session_keeps_what_it_has_seen_of_each_cluster_the_last_one_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("session");
        let payload = |n: u8| {
            let cluster = Cluster {
                id: ClusterId([n; 16]),
                ..cluster()
            };
            Codec::new(&cluster, None).encode(&Context::default())
        };
        for n in 1..=10 {
            let mut session = SessionFile::open(Some(&path)).unwrap();
            while session.turn() {}
            assert_eq!(session.payload(), "");
            session.save(&payload(n)).unwrap();
        }
        let mut session = SessionFile::open(Some(&path)).unwrap();
        let first = session.payload().to_owned();
        assert!(session.turn());
        let second = session.payload().to_owned();
        assert_eq!([first, second], [payload(10), payload(9)]);
        session.save(&payload(11)).unwrap();
        drop(session);
        let session = SessionFile::open(Some(&path)).unwrap();
        assert_eq!(session.payloads.len(), CLUSTERS);
        assert_eq!(
            session.payloads[..3],
            [payload(11), payload(10), payload(8)]
        );
    }

    #[test]
    fn a_file_that_is_no_session_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.txt");
        fs::write(&path, "my notes\n").unwrap();
        let refused = SessionFile::open(Some(&path)).err().map(|f| f.code);
        assert_eq!(refused, Some(Code::Usage));
        assert_eq!(fs::read_to_string(&path).unwrap(), "my notes\n");
    }
}
