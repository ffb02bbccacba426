//! What a member says of its replica, its views, its stores and its connections.

use super::samples::{counters, gauges, seconds};
use crate::http::words::name as name_of;
use crate::net::{LinkStatus, Stats};
use crate::node::{Member, ViewGauges};
use crate::storage::{CommitterStats, EngineGauges};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Everything that only a member has.
pub fn encode(encoder: &mut DescriptorEncoder, member: &Member) -> fmt::Result {
    replica(encoder, member)?;
    views(encoder, member.membership().gauges())?;
    commits(encoder, member.counters())?;
    if let Some(found) = member.engine() {
        engine(encoder, &found)?;
    }
    match member.membership().peers().links() {
        Some(links) => {
            net(encoder, links.stats())?;
            peers(encoder, member, &links.peers())
        }
        None => Ok(()),
    }
}

fn replica(encoder: &mut DescriptorEncoder, member: &Member) -> fmt::Result {
    let (gauges, (queued, bytes)) = (member.gauges(), member.queue());
    let gauges = [
        (
            "replica_queue",
            "What waits for the replica's thread",
            None,
            i64::try_from(queued).unwrap_or(i64::MAX),
        ),
        (
            "replica_queue",
            "Clients' requests among that, of the 64 MiB that they may",
            Some(Unit::Bytes),
            i64::try_from(bytes).unwrap_or(i64::MAX),
        ),
        (
            "index_dots",
            "Writes that the index holds for replicas that may lack them",
            None,
            i64::try_from(gauges.indexed).unwrap_or(i64::MAX),
        ),
        (
            "clock_offset",
            "How far the wall clock is ahead of most other nodes', when it is too far to be gone by",
            Some(Unit::Seconds),
            gauges.clock_off_ms / 1_000,
        ),
    ];
    for (name, help, unit, value) in gauges {
        let gauge = ConstGauge::new(value);
        let metric = encoder.encode_descriptor(name, help, unit.as_ref(), gauge.metric_type())?;
        gauge.encode(metric)?;
    }
    Ok(())
}

fn views(encoder: &mut DescriptorEncoder, views: ViewGauges) -> fmt::Result {
    let values = [
        ("view_number", "The view in force", views.number),
        (
            "view_change_running",
            "Whether a change of the view is under way",
            u64::from(views.changing),
        ),
        (
            "view_slots_to_come",
            "Slots that this node is to hold and does not have in full",
            views.slots_to_come as u64,
        ),
        (
            "view_members_leaving",
            "Removed nodes that still hand over what they have",
            views.leaving as u64,
        ),
        (
            "slots_without_live_holder",
            "Slots that no live node holds the data of",
            views.unheld_slots as u64,
        ),
        (
            "keys_without_live_holder",
            "Keys in these slots, as far as the nodes that may have them last said",
            views.unheld_keys,
        ),
        (
            "view_change_given_up",
            "Whether the node that the latest change removed was not waited for",
            u64::from(views.given_up),
        ),
    ];
    gauges(
        encoder,
        values.map(|(name, help, value)| (name, help, None, value)),
    )
}

fn commits(encoder: &mut DescriptorEncoder, stats: &CommitterStats) -> fmt::Result {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    counters(
        encoder,
        [
            (
                "commits",
                "Commits, one fsync each",
                None,
                read(&stats.commits),
            ),
            (
                "commit_batches",
                "Batches that went into commits",
                None,
                read(&stats.batches),
            ),
            (
                "commit_operations",
                "Operations in those batches",
                None,
                read(&stats.ops),
            ),
            (
                "commit_data",
                "Keys and values in those batches",
                Some(Unit::Bytes),
                read(&stats.bytes),
            ),
        ],
    )?;
    let nanoseconds = read(&stats.nanoseconds);
    let spent = Duration::from_nanos(nanoseconds);
    seconds(encoder, "commit", "Time spent in commits", spent)
}

fn engine(encoder: &mut DescriptorEncoder, engine: &EngineGauges) -> fmt::Result {
    let bytes = || Some(Unit::Bytes);
    gauges(
        encoder,
        [
            ("engine_tables", "Tables on disk", None, engine.tables),
            (
                "engine_fresh_tables",
                "Tables that no compaction has taken yet",
                None,
                engine.fresh_tables,
            ),
            ("engine_journals", "Journals on disk", None, engine.journals),
            (
                "engine_journal",
                "Disk space that journals take",
                bytes(),
                engine.journal_bytes,
            ),
            (
                "engine_memtable",
                "What is in memory until it is a table, the journals have it too",
                bytes(),
                engine.memtable_bytes,
            ),
            (
                "engine_flushes_waiting",
                "Full memtables that are not tables yet",
                None,
                engine.flushes_waiting,
            ),
            (
                "engine_compactions_running",
                "Compactions under way",
                None,
                engine.compactions_running,
            ),
            (
                "cache_blocks",
                "Memory of the cache of blocks read from tables",
                bytes(),
                engine.block_cache_bytes,
            ),
            (
                "cache_records",
                "Memory of the cache of records, which is asked first",
                bytes(),
                engine.record_cache_bytes,
            ),
        ],
    )?;
    counters(
        encoder,
        [
            (
                "engine_compactions",
                "Compactions that were done",
                None,
                engine.compactions,
            ),
            (
                "cache_record_hits",
                "Reads that found their record in memory",
                None,
                engine.record_hits,
            ),
            (
                "cache_record_misses",
                "Reads that had to ask the engine",
                None,
                engine.record_misses,
            ),
        ],
    )?;
    seconds(
        encoder,
        "engine_compaction",
        "Time spent in compactions",
        engine.compacting,
    )
}

fn net(encoder: &mut DescriptorEncoder, stats: &Stats) -> fmt::Result {
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let bytes = || Some(Unit::Bytes);
    counters(
        encoder,
        [
            (
                "net_received",
                "From other nodes",
                bytes(),
                read(&stats.bytes_in),
            ),
            (
                "net_sent",
                "To other nodes",
                bytes(),
                read(&stats.bytes_out),
            ),
            (
                "net_frames_received",
                "Frames from other nodes, signs of life included",
                None,
                read(&stats.frames_in),
            ),
            (
                "net_frames_sent",
                "Frames to other nodes, signs of life included",
                None,
                read(&stats.frames_out),
            ),
            (
                "net_dropped",
                "Messages to other nodes that were dropped: the protocol sends them again",
                None,
                read(&stats.dropped),
            ),
            (
                "net_reconnects",
                "Connections to other nodes beyond the first to each",
                None,
                read(&stats.reconnects),
            ),
            (
                "net_hellos_refused",
                "Connections between nodes that either end refused, dialled ones too",
                None,
                read(&stats.refused),
            ),
            (
                "net_bad_frames",
                "Connections that ended since what came was no frame, or none for them",
                None,
                read(&stats.bad_frames),
            ),
        ],
    )
}

/// What waits to be sent to other nodes.
fn peers(encoder: &mut DescriptorEncoder, member: &Member, links: &[LinkStatus]) -> fmt::Result {
    type Read = fn(&LinkStatus) -> u64;
    let values: [(&str, &str, Option<Unit>, Read); 3] = [
        (
            "net_peer_up",
            "Whether this node is connected to the peer",
            None,
            |link| u64::from(link.up.is_some()),
        ),
        (
            "net_peer_queued",
            "What waits to be sent to the peer",
            Some(Unit::Bytes),
            |link| link.queued_bytes as u64,
        ),
        (
            "net_peer_requests",
            "Requests that wait for the peer's answer",
            None,
            |link| link.pending as u64,
        ),
    ];
    for (name, help, unit, read) in values {
        let kind = ConstGauge::new(0u64).metric_type();
        let mut family = encoder.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for link in links {
            let peer = name_of(member, link.member);
            let labels = [("peer", peer.as_str())];
            ConstGauge::new(read(link)).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
