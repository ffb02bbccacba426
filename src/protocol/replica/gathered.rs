//! Parts of logs that are gathered from several peers.
//!
//! [`Gathering`] is the only one that knows how much of such a part has come from whom. A part
//! counts for a log only as long as the log is where it was when the part was begun.

use super::super::ids::{Dot, LogId, MemberId};
use super::super::record::Seal;
use super::super::version::Key;
use std::collections::BTreeMap;

/// The parts that are being gathered, by their logs.
#[derive(Default)]
pub(super) struct Gathering(BTreeMap<LogId, Part>);

/// A part of a log that is being gathered.
#[derive(Default)]
struct Part {
    /// Where the log was when that began.
    after: u64,
    /// How far each peer's versions have come.
    upto: BTreeMap<MemberId, u64>,
    /// The keys of those versions.
    keys: BTreeMap<u64, Key>,
    /// Some came without their dots.
    unnamed: bool,
    /// The seals that its first write has to wait for.
    seals: Vec<(u64, Seal)>,
    /// All of it up to here has come.
    end: Option<u64>,
}

/// All that is left of a part of a log.
pub(super) struct Whole {
    /// The dots, with the keys that they wrote; `None` where nobody has the write, or where it came
    /// without its dot.
    pub(super) dots: Vec<(Dot, Option<Key>)>,
    /// Some of the writes came without their dots.
    pub(super) unnamed: bool,
}

impl Gathering {
    /// Begins a part of a log that is here up to `received`, unless it is begun already.
    pub(super) fn begin(&mut self, log: LogId, received: u64) {
        let fresh = || Part {
            after: received,
            ..Part::default()
        };
        let part = self.0.entry(log).or_insert_with(fresh);
        if part.after != received {
            *part = fresh();
        }
    }

    /// Gathers nothing of a log any more.
    pub(super) fn drop_part(&mut self, log: LogId) {
        self.0.remove(&log);
    }

    /// How far a peer's versions have come, of a log that is here up to `received`; `None` if no
    /// such part is begun.
    pub(super) fn come(&self, log: LogId, received: u64, peer: MemberId) -> Option<u64> {
        let part = self.0.get(&log).filter(|part| part.after == received)?;
        Some(part.upto.get(&peer).copied().unwrap_or(received))
    }

    /// A peer's versions after `after` have come, with the keys that the dots wrote: empty ones
    /// where the peer has no version.
    pub(super) fn add(
        &mut self,
        log: LogId,
        peer: MemberId,
        after: u64,
        keys: Vec<Key>,
        seals: Vec<(u64, Seal)>,
    ) {
        let Some(part) = self.0.get_mut(&log) else {
            return;
        };
        part.upto.insert(peer, after + keys.len() as u64);
        part.seals.extend(seals);
        let dots = (after + 1..).zip(keys);
        part.keys.extend(dots.filter(|(_, key)| !key.is_empty()));
    }

    /// All that a peer has of some logs has come without dots, up to where `upto` says that the
    /// peer was; `None` where it says nothing of a log.
    pub(super) fn add_unnamed(&mut self, peer: MemberId, upto: impl Fn(LogId) -> Option<u64>) {
        for (log, part) in &mut self.0 {
            if let Some(upto) = upto(*log) {
                let known = part.upto.entry(peer).or_insert(part.after);
                *known = upto.max(*known);
                part.unnamed = true;
            }
        }
    }

    /// All that is left of a part has come, which ends here; `None` if nothing is left.
    pub(super) fn ends(&mut self, log: LogId, end: Option<u64>) {
        if let Some(part) = self.0.get_mut(&log) {
            part.end = end;
        }
    }

    /// Where a part ends of which all that is left has come.
    pub(super) fn end(&self, log: LogId) -> Option<u64> {
        self.0.get(&log)?.end
    }

    /// The seals that came with a part.
    pub(super) fn seals(&self, log: LogId) -> &[(u64, Seal)] {
        self.0.get(&log).map_or(&[], |part| &part.seals)
    }

    /// Takes a part out of which all that is left has come.
    pub(super) fn take(&mut self, log: LogId) -> Option<Whole> {
        let end = self.end(log)?;
        let mut part = self.0.remove(&log)?;
        let dots = part.after + 1..=end;
        Some(Whole {
            dots: dots
                .map(|seq| (Dot { log, seq }, part.keys.remove(&seq)))
                .collect(),
            unnamed: part.unnamed,
        })
    }

    /// Whether a write is among those that others have, of a part of which all that is left has
    /// come.
    pub(super) fn has(&self, dot: Dot) -> bool {
        self.holds(dot) == Some(true)
    }

    /// Whether a write is among those that no other has, of a part of which all that is left has
    /// come.
    pub(super) fn lacks(&self, dot: Dot) -> bool {
        self.holds(dot) == Some(false)
    }

    fn holds(&self, dot: Dot) -> Option<bool> {
        let part = self.0.get(&dot.log).filter(|p| p.end >= Some(dot.seq))?;
        Some(part.keys.contains_key(&dot.seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: MemberId = MemberId(1);
    const TWO: MemberId = MemberId(2);
    const LOG: LogId = LogId {
        member: MemberId(0),
        incarnation: 3,
    };

    fn dot(seq: u64) -> Dot {
        Dot { log: LOG, seq }
    }

    fn keys(names: &[&'static str]) -> Vec<Key> {
        names.iter().map(|name| Key::from(*name)).collect()
    }

    /// A log that is here up to 4, of which one peer has 5 and the other one 7.
    fn gathering() -> Gathering {
        let mut gathering = Gathering::default();
        gathering.begin(LOG, 4);
        gathering.add(LOG, ONE, 4, keys(&["a", ""]), Vec::new());
        gathering.add(LOG, TWO, 4, keys(&["", "", "c"]), Vec::new());
        gathering
    }

    #[test]
    fn what_several_peers_have_becomes_one_part() {
        let mut gathering = gathering();
        let come = [ONE, TWO, MemberId(3)].map(|peer| gathering.come(LOG, 4, peer));
        assert_eq!(come, [Some(6), Some(7), Some(4)]);
        assert!(
            !gathering.has(dot(5)) && !gathering.lacks(dot(6)),
            "not all"
        );
        assert!(gathering.take(LOG).is_none());
        gathering.ends(LOG, Some(7));
        let had = [5, 6, 7, 8].map(|seq| (gathering.has(dot(seq)), gathering.lacks(dot(seq))));
        let (has, lacks, beyond) = ((true, false), (false, true), (false, false));
        assert_eq!(had, [has, lacks, has, beyond]);
        let whole = gathering.take(LOG).unwrap();
        let named = [(5, Some("a")), (6, None), (7, Some("c"))];
        assert_eq!(
            whole.dots,
            named.map(|(seq, key)| (dot(seq), key.map(Key::from)))
        );
        assert!(!whole.unnamed);
        assert_eq!(gathering.come(LOG, 4, ONE), None);
    }

    #[test]
    fn a_part_is_begun_anew_when_its_log_has_gone_on() {
        let mut gathering = gathering();
        gathering.begin(LOG, 4);
        assert_eq!(gathering.come(LOG, 4, ONE), Some(6), "it goes on");
        assert_eq!(gathering.come(LOG, 5, ONE), None);
        gathering.begin(LOG, 5);
        assert_eq!(gathering.come(LOG, 5, ONE), Some(5));
        gathering.ends(LOG, Some(7));
        assert!(gathering.lacks(dot(7)), "what had come does not count");
        gathering.drop_part(LOG);
        assert_eq!(gathering.end(LOG), None);
    }

    #[test]
    fn a_snapshot_brings_versions_without_their_dots() {
        let mut gathering = gathering();
        gathering.add_unnamed(ONE, |_| Some(9));
        assert_eq!(gathering.come(LOG, 4, ONE), Some(9));
        gathering.add_unnamed(TWO, |_| None);
        gathering.add_unnamed(TWO, |_| Some(5));
        assert_eq!(gathering.come(LOG, 4, TWO), Some(7), "it is no less far");
        gathering.ends(LOG, Some(9));
        let whole = gathering.take(LOG).unwrap();
        assert!(whole.unnamed && whole.dots.len() == 5);
    }

    #[test]
    fn seals_are_kept_with_their_part() {
        let mut gathering = gathering();
        assert_eq!(gathering.seals(LOG), []);
        let seal = (2, Seal { by: 3, upto: 8 });
        gathering.add(LOG, TWO, 7, Vec::new(), vec![seal]);
        assert_eq!(gathering.seals(LOG), [seal]);
        gathering.drop_part(LOG);
        assert_eq!(gathering.seals(LOG), []);
    }
}
