//! The newest views that a member knows, whether its replica goes by them yet or not. They only
//! grow, and only views of its own cluster are taken.

use crate::protocol::ids::MemberId;
use crate::protocol::replica::GIVEN_UP;
use crate::protocol::views::Views;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// A member's knowledge of views.
pub struct Knowledge {
    me: MemberId,
    known: watch::Sender<Arc<Views>>,
    /// Somebody seems to know newer ones.
    ask: Notify,
    /// The views say that this member is given up. That is for good.
    given_up: AtomicBool,
    /// Cancelled when they do not name this member any more.
    out: CancellationToken,
    /// The last log line about views of another cluster.
    strange: Mutex<String>,
}

impl Knowledge {
    /// The knowledge of a member with these views.
    pub fn new(me: MemberId, views: Arc<Views>) -> Self {
        Self {
            me,
            given_up: AtomicBool::new(views.given_up.contains(&me)),
            known: watch::Sender::new(views),
            ask: Notify::new(),
            out: CancellationToken::new(),
            strange: Mutex::default(),
        }
    }

    /// The newest views.
    pub fn views(&self) -> Arc<Views> {
        Arc::clone(&self.known.borrow())
    }

    /// Their version.
    pub fn version(&self) -> u64 {
        self.known.borrow().version
    }

    /// The newest views, and whenever there are newer ones.
    pub fn follow(&self) -> watch::Receiver<Arc<Views>> {
        self.known.subscribe()
    }

    /// Takes note of newer views, if they are of this cluster.
    pub fn learned(&self, views: &Arc<Views>) {
        let mut foreign = false;
        self.known.send_if_modified(|known| {
            if views.version <= known.version {
                return false;
            }
            foreign = !known.may_become(views);
            if !foreign {
                let given_up = views.given_up.contains(&self.me);
                if given_up && !self.given_up.swap(true, Ordering::Relaxed) {
                    log::warn!("this node serves nobody any more: {GIVEN_UP}");
                }
                *known = Arc::clone(views);
            }
            !foreign
        });
        if foreign {
            self.warn_of(&foreign_views(views));
        }
    }

    /// Says something of another cluster, once.
    fn warn_of(&self, text: &str) {
        let mut said = self.strange.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != text {
            log::warn!("{text}");
            text.clone_into(&mut said);
        }
    }

    /// Somebody may know newer views: they are to be asked for soon.
    pub fn ask_soon(&self) {
        self.ask.notify_one();
    }

    /// Waits until newer views are to be asked for: when somebody may know some, and `at_last` in
    /// any case.
    pub async fn to_be_asked(&self, at_last: Duration) {
        let _ = tokio::time::timeout(at_last, self.ask.notified()).await;
    }

    /// Whether the others are known to go on without this member, be the replica told already or
    /// not.
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// Newer views do not name this member any more.
    pub fn leave(&self) {
        self.out.cancel();
    }

    /// Whether they do not.
    pub fn has_left(&self) -> bool {
        self.out.is_cancelled()
    }

    /// Resolves when they do not.
    pub async fn left(&self) {
        self.out.cancelled().await;
    }

    /// A member by its address, or by its number where that is not known.
    pub fn name(&self, member: MemberId) -> String {
        let members = self.known.borrow().members();
        let address = members.get(&member);
        address.map_or_else(|| member.to_string(), SocketAddr::to_string)
    }

    /// The addresses of several members, as a list.
    pub fn names<'a>(&self, members: impl IntoIterator<Item = &'a MemberId>) -> Vec<String> {
        members.into_iter().map(|m| self.name(*m)).collect()
    }
}

/// The log line about views of another cluster.
pub fn foreign_views(views: &Views) -> String {
    let cluster = views.cluster.map(|cluster| cluster.id.to_string());
    format!(
        "a node told of view {} of another cluster ({}), which is not taken over: it was started with another VIEW or \
         K, or is at an address that was a member's of this one",
        views.view.number,
        cluster.as_deref().unwrap_or("not born yet")
    )
}
