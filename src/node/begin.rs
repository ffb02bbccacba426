//! How a node begins: it finds out from its disk, its settings and the other nodes what it is.

use super::config::Config;
use super::damage;
use super::error::StartError;
use super::identity::{self, Place, member_at};
use super::role::{Role, RoleWork};
use super::serve;
use super::start::{Lasting, start};
use super::suspect;
use crate::net::STRANGER;
use crate::protocol::replica::OpenError;
use crate::protocol::view::View;
use crate::protocol::views::Views;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::{Arc, Weak};

/// Finds out what the node is, and begins as that. Data that is damaged is put aside, if others can
/// have it.
pub async fn begin(node: &Lasting) -> Result<(RoleWork, Role), StartError> {
    let dir = &node.config.data_dir;
    loop {
        let damage = match begin_with_what_is_here(node).await {
            Err(error) if error.is_damage() => error,
            begun => return begun,
        };
        let Some(Place { member, views }) = Place::load(dir)? else {
            return Err(damage);
        };
        if !damage::put_aside_damaged(dir, &views, member).await? {
            return Err(damage);
        }
    }
}

async fn begin_with_what_is_here(node: &Lasting) -> Result<(RoleWork, Role), StartError> {
    let config = &node.config;
    identity::finish_putting_aside(&config.data_dir)?;
    let place = Place::load(&config.data_dir)?;
    if let Some(place) = &place {
        check(config, place)?;
    }
    let known = place.as_ref().map(|p| Arc::clone(&p.views));
    identity::check_cluster::<StartError>(&config.data_dir, known.as_deref())?;
    // Others may be starting as well, and ask this node what it asks them.
    let standby = serve::as_standby(config, known).await?;
    let first = || {
        let view = config.view.clone()?;
        view.member_at(config.address)?;
        Some(Arc::new(Views::first(view)))
    };
    let had = place.as_ref().map(|p| p.member);
    let Some(known) = place.map(|p| p.views).or_else(first) else {
        if let Err(unusable) = can_store(&config.data_dir) {
            standby.stop().await;
            return Err(unusable);
        }
        log::info!("{} is in no view: standing by", config.address);
        return Ok((RoleWork::Waiting(standby, Weak::new()), Role::Standby));
    };
    let members = known.members().into_values();
    let others: Vec<_> = members.filter(|a| *a != config.address).collect();
    let newer = standby.seek(&others, &known, had.is_none()).await;
    let views = newer.unwrap_or(known);
    let named = match had {
        Some(member) => Some(member).filter(|m| views.members().contains_key(m)),
        None => member_at(&views, config.address),
    };
    match named {
        Some(member) => {
            standby.stop().await;
            let place = Place { member, views };
            if had.is_some() {
                suspect::count_as_lost(config, &place).await?;
            }
            let member = start(node, place).await?;
            Ok((RoleWork::Working(Arc::clone(&member)), Role::Member(member)))
        }
        None => {
            let view = views.view.number;
            // A client that asks this node all the same keeps its payload.
            if let Some(cluster) = &views.cluster {
                node.seal.learn(cluster, config);
            }
            if let Some(member) = had {
                // The next start knows it, whether anybody answers then or not.
                Place { member, views }.save(&config.data_dir)?;
            }
            log::warn!(
                "{} was removed (it is view {view} now): standing by",
                config.address
            );
            Ok((
                RoleWork::Waiting(standby, Weak::new()),
                Role::Removed { view },
            ))
        }
    }
}

/// Whether the data is this node's, and of the cluster that `VIEW` describes.
fn check(config: &Config, place: &Place) -> Result<(), StartError> {
    let Place { member, views } = place;
    let address = views.members().get(member).copied();
    if address.is_some_and(|a| a != config.address) {
        let me = member_at(views, config.address).unwrap_or(STRANGER);
        let found = *member;
        return Err(OpenError::OtherNode { found, me }.into());
    }
    let other = |view: &View| view.fingerprint() != views.view.fingerprint();
    if config.view.as_ref().is_some_and(other) {
        if !views.is_born() {
            return Err(OpenError::OtherView.into());
        }
        // After changes of the view an operator may well start the node with the present members.
        log::warn!(
            "VIEW and K are not those of the first view; what is on disk counts: view {}",
            views.view.number
        );
    }
    Ok(())
}

/// Whether files can be written to a directory. A standby stores nothing yet: without this it would
/// find out when it is added, and the cluster would only see that it ends. A disk that is full now
/// may have room by then.
fn can_store(dir: &Path) -> Result<(), StartError> {
    let tried = fs::create_dir_all(dir).and_then(|()| tempfile::tempfile_in(dir).map(drop));
    match tried {
        Err(error) if error.kind() != ErrorKind::StorageFull => Err(StartError::DataDir {
            directory: dir.to_owned(),
            error,
        }),
        _ => Ok(()),
    }
}
