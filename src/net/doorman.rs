//! Places for accepted connections that have not proven anything yet. Anybody can open such
//! connections and say nothing on them, so nobody may keep a place for long that others need.
//!
//! The address of a member has places of its own, which no connection from elsewhere takes: a
//! member is let in however many strangers stand at the door. All other addresses share the rest,
//! few each. Where there is no place left the one goes that has been there the longest, of the
//! address that has the most: an honest hello is over within milliseconds, so the newcomer is the
//! more likely to be one.

use super::config::NetLimits;
use std::{
    cmp::Reverse,
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio_util::sync::CancellationToken;

/// Gives out the places.
#[derive(Debug)]
pub struct Doorman {
    /// Places of each address.
    per_address: usize,
    /// Places of all addresses together that no member has.
    strangers: usize,
    guests: Mutex<Guests>,
}

/// The connections that have a place, by their age: the smallest number is the oldest.
#[derive(Debug, Default)]
struct Guests {
    next: u64,
    waiting: BTreeMap<u64, Guest>,
}

#[derive(Debug)]
struct Guest {
    origin: IpAddr,
    of_member: bool,
    sent_away: CancellationToken,
}

impl Doorman {
    /// A doorman with so many places.
    pub fn new(limits: &NetLimits) -> Arc<Self> {
        Arc::new(Self {
            per_address: limits.hellos_per_address.max(1),
            strangers: limits.hellos.max(1),
            guests: Mutex::default(),
        })
    }

    /// A place for a connection from an address, which may be a member's. Takes it from another
    /// connection if need be.
    pub fn admit(self: &Arc<Self>, from: IpAddr, of_member: bool) -> HelloPlace {
        let origin = origin(from);
        let guest = Guest {
            origin,
            of_member,
            sent_away: CancellationToken::new(),
        };
        let sent_away = guest.sent_away.clone();
        let mut guests = self.guests();
        guests.make_room_of(self.per_address, origin, of_member);
        if !of_member {
            guests.make_room(self.strangers);
        }
        let number = guests.next;
        guests.next += 1;
        guests.waiting.insert(number, guest);
        HelloPlace {
            number,
            sent_away,
            doorman: Arc::clone(self),
        }
    }

    /// How many have a place now.
    pub fn count(&self) -> usize {
        self.guests().waiting.len()
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        // Nothing panics while it is locked; the map is whole between any two calls in any case.
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guests {
    /// Leaves an address, with what it has as a member's or without, fewer than so many places.
    fn make_room_of(&mut self, places: usize, origin: IpAddr, of_member: bool) {
        let of_address = |g: &Guest| g.of_member == of_member && g.origin == origin;
        let mut counted = self.waiting.iter().filter(|(_, guest)| of_address(guest));
        let oldest = counted.next().map(|(number, _)| *number);
        if 1 + counted.count() >= places {
            self.send_away(oldest);
        }
    }

    /// Leaves all addresses without a member fewer than so many places.
    fn make_room(&mut self, places: usize) {
        let mut addresses: BTreeMap<IpAddr, (usize, Reverse<u64>)> = BTreeMap::new();
        let strangers = self.waiting.iter().filter(|(_, guest)| !guest.of_member);
        for (number, guest) in strangers {
            let counted = addresses.entry(guest.origin);
            counted.or_insert((0, Reverse(*number))).0 += 1;
        }
        let count: usize = addresses.values().map(|(count, _)| count).sum();
        if count >= places {
            let most = addresses.into_values().max();
            self.send_away(most.map(|(_, Reverse(oldest))| oldest));
        }
    }

    fn send_away(&mut self, number: Option<u64>) {
        if let Some(guest) = number.and_then(|number| self.waiting.remove(&number)) {
            guest.sent_away.cancel();
        }
    }
}

/// What counts as one address: of IPv6 the first 64 bits, since a single host may have all of the
/// rest.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64))
        }
        other => other,
    }
}

/// A connection's place. It is free again when this is dropped.
#[derive(Debug)]
pub struct HelloPlace {
    number: u64,
    sent_away: CancellationToken,
    doorman: Arc<Doorman>,
}

impl HelloPlace {
    /// Waits until the place has gone to another connection.
    pub async fn lost(&self) {
        self.sent_away.cancelled().await;
    }
}

impl Drop for HelloPlace {
    fn drop(&mut self) {
        self.doorman.guests().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doorman(hellos: usize, hellos_per_address: usize) -> Arc<Doorman> {
        Doorman::new(&NetLimits {
            hellos,
            hellos_per_address,
            ..NetLimits::default()
        })
    }

    fn from(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Which of these places have been lost, by their index.
    fn lost(places: &[HelloPlace]) -> Vec<usize> {
        let is_lost = |i: &usize| places[*i].sent_away.is_cancelled();
        (0..places.len()).filter(is_lost).collect()
    }

    #[test]
    fn the_oldest_of_an_address_goes_when_it_has_all_of_its_places() {
        let door = doorman(100, 3);
        let other = door.admit(from("10.0.0.9"), false);
        let places: Vec<_> = (0..5)
            .map(|_| door.admit(from("10.0.0.1"), false))
            .collect();
        assert_eq!(lost(&places), [0, 1]);
        assert!(!other.sent_away.is_cancelled());
        assert_eq!(door.count(), 4);
    }

    #[test]
    fn the_oldest_of_all_strangers_goes_when_all_places_are_taken() {
        let door = doorman(4, 3);
        let places: Vec<_> = (0..6)
            .map(|n| door.admit(from(&format!("10.0.0.{n}")), false))
            .collect();
        assert_eq!(lost(&places), [0, 1]);
        assert_eq!(door.count(), 4);
    }

    #[test]
    fn an_address_that_has_most_places_gives_way_first() {
        let door = doorman(4, 3);
        let one = door.admit(from("10.0.0.1"), false);
        let crowd: Vec<_> = (0..9)
            .map(|_| door.admit(from("10.0.0.2"), false))
            .collect();
        let other = door.admit(from("10.0.0.3"), false);
        assert!(!one.sent_away.is_cancelled() && !other.sent_away.is_cancelled());
        assert_eq!(lost(&crowd), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn strangers_and_members_take_no_places_of_each_other() {
        let door = doorman(2, 2);
        let member = door.admit(from("10.0.0.1"), true);
        let strangers: Vec<_> = (0..9)
            .map(|n| door.admit(from(&format!("10.0.0.{n}")), false))
            .collect();
        assert!(!member.sent_away.is_cancelled());
        assert_eq!(lost(&strangers), [0, 1, 2, 3, 4, 5, 6]);
        let more: Vec<_> = (0..3).map(|_| door.admit(from("10.0.0.1"), true)).collect();
        assert!(member.sent_away.is_cancelled());
        assert_eq!(lost(&more), [0]);
        assert_eq!(lost(&strangers), [0, 1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_place_that_is_given_back_is_free() {
        let door = doorman(1, 1);
        drop(door.admit(from("10.0.0.1"), false));
        assert_eq!(door.count(), 0);
        let first = door.admit(from("10.0.0.1"), false);
        let second = door.admit(from("10.0.0.2"), false);
        // The place of the first is the second's by now: that the first leaves frees nothing.
        assert!(first.sent_away.is_cancelled());
        drop(first);
        assert_eq!(door.count(), 1);
        assert!(!second.sent_away.is_cancelled());
    }

    #[test]
    fn one_host_has_many_addresses_in_version_6() {
        assert_eq!(origin(from("2001:db8::1")), origin(from("2001:db8::2:1")));
        assert_ne!(origin(from("2001:db8::1")), origin(from("2001:db9::1")));
        assert_eq!(origin(from("::ffff:10.0.0.1")), from("10.0.0.1"));
        assert_ne!(origin(from("10.0.0.1")), origin(from("10.0.0.2")));
    }
}
