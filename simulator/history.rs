//! The run as its clients saw it, for the checker that also judges real clusters: one that knows
//! nothing of what happened inside must come to the same verdict.

use super::client::Kind as Client;
use super::world::{Failed, World};
use causeway::check::history::{Completion, Kind, Operation};
use causeway::protocol::op::{Answer, Consistency, Op};
use serde_json::value::RawValue;

impl World {
    /// Writes down how an operation ended; `None`: its client heard nothing.
    pub fn record(&mut self, op: usize, answer: Option<&Answer>) -> Result<(), Failed> {
        if self.measure.is_some() {
            return Ok(());
        }
        let o = &self.ops[op];
        let written = o.write.map(|w| w.to_string());
        let (kind, value, status) = match (&o.what, answer) {
            (
                Op::Get {
                    consistency: Consistency::Eventual,
                    ..
                },
                _,
            ) => return Ok(()),
            (Op::Get { .. }, Some(Answer::Read(read))) => {
                let value = read.found.as_ref().map(|f| &f.value[..]);
                let value = value.map(|v| String::from_utf8_lossy(v).into_owned());
                (Kind::Get, value, Completion::Ok)
            }
            (Op::Get { .. }, _) => (Kind::Get, None, Completion::Fail),
            (Op::Write { value: None, .. }, Some(Answer::NothingToDelete(_))) => {
                // The delete read that nothing is there; an attempt before may have been done all
                // the same.
                self.put_down(op, Kind::Delete, None, Completion::Unknown)?;
                (Kind::Get, None, Completion::Ok)
            }
            (Op::Write { value, .. }, answer) => {
                let (kind, value) = match value {
                    Some(_) => (Kind::Put, written),
                    None => (Kind::Delete, None),
                };
                let status = match answer {
                    Some(Answer::Written(_)) => Completion::Ok,
                    _ => Completion::Unknown,
                };
                (kind, value, status)
            }
        };
        self.put_down(op, kind, value, status)
    }

    /// A write gets another stamp, and a value with it: the attempt before may have been done.
    pub fn record_before_restamp(&mut self, op: usize) -> Result<(), Failed> {
        let value = self.ops[op].write.map(|w| w.to_string());
        match &self.ops[op].what {
            Op::Write { value: Some(_), .. } => {
                self.put_down(op, Kind::Put, value, Completion::Unknown)
            }
            _ => self.put_down(op, Kind::Delete, None, Completion::Unknown),
        }
    }

    fn put_down(
        &mut self,
        op: usize,
        kind: Kind,
        value: Option<String>,
        status: Completion,
    ) -> Result<(), Failed> {
        // A put that never got as far as its stamp wrote nothing.
        if kind == Kind::Put && value.is_none() {
            return Ok(());
        }
        let o = &self.ops[op];
        let value = value.map(RawValue::from_string).transpose();
        let value = value.map_err(|e| e.to_string())?;
        let shared = |s: &super::client::Session| s.kind == Client::Shared(o.session);
        let faithful =
            self.sessions[o.session].kind == Client::Faithful && !self.sessions.iter().any(shared);
        // Where contexts are shared, old or thrown away, one operation says nothing of the next.
        let session = if faithful {
            format!("s{}", o.session)
        } else {
            format!("o{op}")
        };
        let operation = Operation {
            session: session.into(),
            op: kind,
            key: String::from_utf8_lossy(&o.key),
            value: value.as_deref(),
            status,
            node: format!("m{}", o.entry).into(),
            start_us: o.asked_us,
            end_us: self.now,
        };
        self.history
            .push(&operation)
            .map_err(|e| format!("history: {e}"))
    }

    /// Checks everything that clients saw.
    pub fn check_history(&self) -> Result<(), Failed> {
        // Writes that only one disk had go with the disk; clients that have seen them cannot be
        // told from clients that have seen wrong.
        if self.oracle.writes.iter().any(|w| w.gone) {
            return Ok(());
        }
        let checked = self.history.check();
        checked
            .map(|_| ())
            .map_err(|violation| format!("history: {violation}"))
    }
}
