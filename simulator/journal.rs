//! Crashes: what is left of the batches that were on their way to a disk: exactly what a real one
//! may.
//!
//! The batches are in a journal, each framed by length and checksum. Any of its sectors may be on
//! the medium or not, whatever their order. The next start reads the journal up to the first frame
//! that is not whole.

use super::rng::Rng;
use causeway::protocol::store::Batch;

const SECTOR: usize = 512;

/// How many of these batches, which were not synced, the next start finds.
pub fn survivors(unsynced: &[Batch], rng: &mut Rng) -> usize {
    let mut journal = Vec::new();
    for batch in unsynced {
        let frame = payload(batch);
        journal.extend((frame.len() as u32).to_le_bytes());
        journal.extend(crc32fast::hash(&frame).to_le_bytes());
        journal.extend(frame);
    }
    // Written up to somewhere; of that, some sectors did not get there.
    let written = rng.index(journal.len() + 1);
    let lost = [0, 0, 5, 50][rng.index(4)];
    for (i, sector) in journal.chunks_mut(SECTOR).enumerate() {
        let there = written.saturating_sub(i * SECTOR).min(sector.len());
        let from = if rng.percent(lost) { 0 } else { there };
        sector[from..].fill(0);
    }
    whole_frames(&journal)
}

fn payload(batch: &Batch) -> Vec<u8> {
    let mut bytes = vec![1];
    for (key, value) in &batch.ops {
        bytes.extend(&key[..]);
        bytes.extend(value.iter().flat_map(|v| v.iter()));
    }
    bytes
}

/// The frames of a journal up to the first that is not whole.
fn whole_frames(mut journal: &[u8]) -> usize {
    let mut frames = 0;
    while let Some((head, rest)) = journal.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let sum = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        match rest.split_at_checked(length) {
            Some((frame, after)) if length > 0 && crc32fast::hash(frame) == sum => journal = after,
            _ => break,
        }
        frames += 1;
    }
    frames
}
